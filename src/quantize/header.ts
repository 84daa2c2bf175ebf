/** The header of a GGUF file that is written. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import type { TensorInfo } from '../types.js';
import { GGML_TYPES, HeaderReader, readValue } from '../weights/index.js';
import { entryOf, string } from './entries.js';

const ALIGNMENT = 32;
/** What says how the other file was laid out. */
const DROPPED = /^(general\.(alignment|file_type|quantization_version)|split\..*)$/;

const idOf = (type: string): number => [...GGML_TYPES].find(([, t]) => t.name === type)![0];

export const padded = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** A tensor that is written; `offset` counts from the start of the data. */
export type Written = Pick<TensorInfo, 'name' | 'type' | 'shape' | 'byteLength' | 'offset'>;

/** The bytes before the data. `entries`: encoded metadata. */
export function headerOf(metadata: readonly Buffer[], fileType: number, tensors: readonly Written[]): Buffer {
  const entries = [
    ...metadata,
    entryOf.u32('general.quantization_version', 2),
    entryOf.u32('general.file_type', fileType),
  ];
  const counts = Buffer.alloc(24);
  counts.write('GGUF');
  counts.writeUInt32LE(3, 4);
  counts.writeBigUInt64LE(BigInt(tensors.length), 8);
  counts.writeBigUInt64LE(BigInt(entries.length), 16);
  const all = Buffer.concat([counts, ...entries, ...tensors.map(tensorEntry)]);
  return Buffer.concat([all, Buffer.alloc(padded(all.length) - all.length)]);
}

/** Keys with their values, in the bytes of a valid file; without those that a new file has anew. */
export function entriesOf(file: string): Buffer[] {
  const fd = openSync(file, 'r');
  try {
    const r = new HeaderReader(fd, fstatSync(fd).size);
    r.take(16, 'the start');
    const count = r.size('the number of entries');
    const kept: Buffer[] = [];
    for (let i = 0; i < count; i++) {
      const start = r.position;
      const key = r.string('a key', 65_535);
      readValue(r, key);
      if (!DROPPED.test(key)) kept.push(Buffer.from(r.buffer.subarray(start, r.position)));
    }
    return kept;
  } finally {
    closeSync(fd);
  }
}

function tensorEntry({ name, type, shape, offset }: Written): Buffer {
  const rest = Buffer.alloc(4 + 8 * shape.length + 12);
  rest.writeUInt32LE(shape.length, 0);
  for (const [i, n] of shape.entries()) rest.writeBigUInt64LE(BigInt(n), 4 + 8 * i);
  rest.writeUInt32LE(idOf(type), 4 + 8 * shape.length);
  rest.writeBigUInt64LE(BigInt(offset), 8 + 8 * shape.length);
  return Buffer.concat([string(name), rest]);
}
