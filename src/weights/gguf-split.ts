/**
 * GGUF files that gguf-split has cut: MODEL-00001-of-0000N.gguf holds the metadata, every part its tensors and `split.no`,
 * `split.count` and `split.tensors.count`.
 */
import { nameOfPart, partOf } from '../base/split-names.js';
import { errors } from '../errors.js';
import type { TensorInfo } from '../types.js';
import { type GgufFile, readGgufPart } from './gguf.js';

/**
 * A GGUF file; if it is a part of a model, the whole model, whichever part was named.
 * @throws LongmindError file_missing, bad_gguf, io_error
 */
export function readGguf(path: string): GgufFile {
  const file = readGgufPart(path);
  const count = split(file, 'count', 1);
  if (count === 1) return file;
  const name = partOf(path);
  if (name?.count !== count || name.part !== split(file, 'no') + 1) {
    const part = `it is part ${split(file, 'no') + 1} of ${count}`;
    throw errors.badGguf(
      path,
      `${part}, and its name does not say so (…-00001-of-00002.gguf): its others are not found`,
    );
  }
  const parts = Array.from({ length: count }, (_, i) =>
    i + 1 === name.part ? file : readGgufPart(nameOfPart(path, i + 1)),
  );
  return joined(parts);
}

function joined(parts: readonly GgufFile[]): GgufFile {
  const first = parts[0]!;
  const tensors = new Map<string, TensorInfo>();
  for (const [i, part] of parts.entries()) {
    checkPart(first, part, i);
    for (const [name, tensor] of part.tensors) {
      if (tensors.has(name)) throw errors.badGguf(part.path, `tensor '${name}' is in an earlier part too`);
      tensors.set(name, { ...tensor, file: part.path });
    }
  }
  const total = split(first, 'tensors.count', tensors.size);
  if (tensors.size !== total)
    throw errors.badGguf(first.path, `its ${parts.length} parts hold ${tensors.size} tensors, it should be ${total}`);
  return { ...first, size: parts.reduce((sum, p) => sum + p.size, 0), tensors, parts };
}

/** Other parts carry no metadata of the model, or the same. */
function checkPart(first: GgufFile, part: GgufFile, index: number): void {
  for (const [key, wanted] of [
    ['no', index],
    ['count', split(first, 'count')],
    ['tensors.count', split(first, 'tensors.count', 0)],
  ] as const) {
    const found = split(part, key, key === 'tensors.count' ? 0 : undefined);
    if (found !== wanted)
      throw errors.badGguf(
        part.path,
        `its split.${key} is ${found}, in this model it must be ${wanted}: is it a part of another?`,
      );
  }
  for (const key of ['general.architecture', 'general.name']) {
    const [found, wanted] = [part.metadata.get(key), first.metadata.get(key)];
    if (found !== undefined && found !== wanted)
      throw errors.badGguf(part.path, `its ${key} is '${String(found)}', that of the first part '${String(wanted)}'`);
  }
}

/** @throws bad_gguf unless it is there (or `missing` is) and a count */
function split(file: GgufFile, key: string, missing?: number): number {
  const value = file.metadata.get(`split.${key}`) ?? missing;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 100_000)
    return value || (key === 'count' ? 1 : 0);
  throw errors.badGguf(file.path, `metadata 'split.${key}' is ${value === undefined ? 'missing' : String(value)}`);
}
