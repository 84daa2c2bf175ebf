/** Low-rank adapters from their files: PEFT folders and GGUF. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { errors, LongmindError } from '../../errors.js';
import type { Adapter, TensorInfo } from '../../types.js';
import { readGgufAdapter } from './gguf.js';
import { readPeft } from './peft.js';
import { type AdaptedModel, partsOf } from './shape.js';

/** Its weights are not read yet. @throws bad_adapter, file_missing, io_error */
export function openAdapter(path: string, name: string, model: AdaptedModel): Adapter {
  try {
    const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
    if (!isFolder && path.endsWith('.safetensors'))
      throw errors.badAdapter(name, `name the folder that '${path}' lies in, with its adapter_config.json`);
    const { pairs, pairwise } = isFolder
      ? { pairs: readPeft(path, name).pairs, pairwise: false }
      : readGgufAdapter(path, name, model);
    const parts = partsOf(name, pairs, model, pairwise);
    const bytes = pairs.reduce((sum, { a, b }) => sum + a.byteLength + b.byteLength, 0);
    return { name, path, rank: Math.max(...parts.map((p) => p.rank)), bytes, parts };
  } catch (e) {
    // what is wrong with a file of it is wrong with the adapter
    if (e instanceof LongmindError && ['bad_gguf', 'bad_model_file'].includes(e.code))
      throw errors.badAdapter(name, e.message);
    throw e;
  }
}

/** Hash of all that it adds: KV of another must never be taken for its own. */
export function adapterKeyOf({ parts }: Adapter): string {
  const hash = createHash('sha256');
  for (const { weight, rank, scale, a, b, rows } of parts) {
    hash.update(JSON.stringify([weight, rank, scale, a.type, b.type]));
    if (rows) hash.update(new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength));
    for (const t of [a, b]) hash.update(bytesOf(t));
  }
  return hash.digest('hex');
}

function bytesOf(t: TensorInfo): Uint8Array {
  const bytes = new Uint8Array(t.byteLength);
  const fd = openSync(t.file!, 'r');
  try {
    readSync(fd, bytes, 0, bytes.length, t.offset);
    return bytes;
  } finally {
    closeSync(fd);
  }
}
