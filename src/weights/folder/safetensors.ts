/**
 * safetensors files: the header alone. Every length and offset is checked against the file's size before it is used.
 * Format: an unsigned 64-bit length, so many bytes of JSON, the data.
 */
import { readSync } from 'node:fs';
import { errors } from '../../errors.js';
import type { TensorInfo } from '../../types.js';
import { readModelFile } from '../model-file.js';
import { isObject, parseObject, shown } from './json.js';

/** Bytes; a model of 10,000 tensors needs about 1 MiB. */
const MAX_HEADER = 64 * 2 ** 20;
const MAX_DIMS = 8;

/** dtype → GGML's name of the type where it has one, and bytes a value. */
const DTYPES: Readonly<Record<string, readonly [type: string, bytes: number]>> = {
  F64: ['F64', 8],
  F32: ['F32', 4],
  F16: ['F16', 2],
  BF16: ['BF16', 2],
  I64: ['I64', 8],
  I32: ['I32', 4],
  I16: ['I16', 2],
  I8: ['I8', 1],
  U64: ['U64', 8],
  U32: ['U32', 4],
  U16: ['U16', 2],
  U8: ['U8', 1],
  BOOL: ['BOOL', 1],
  F8_E4M3: ['F8_E4M3', 1],
  F8_E5M2: ['F8_E5M2', 1],
  F8_E8M0: ['F8_E8M0', 1],
};

/**
 * Tensors by the names in the file; `shape[0]` is the contiguous dimension, offsets are from the start of the file.
 * @throws file_missing, bad_model_file, io_error
 */
export function readSafetensors(path: string): Map<string, TensorInfo> {
  const { header, dataOffset, size } = readHeader(path);
  const tensors = new Map<string, TensorInfo>();
  for (const [name, entry] of Object.entries(header)) {
    if (name !== '__metadata__') tensors.set(name, readEntry(path, name, entry, dataOffset, size));
  }
  refuseOverlaps(path, tensors);
  return tensors;
}

function readHeader(path: string): { header: Record<string, unknown>; dataOffset: number; size: number } {
  const bad = (what: string) => errors.badModelFile(path, what);
  return readModelFile(path, bad, (fd, size) => {
    const first = Buffer.alloc(8);
    if (size < 8 || readSync(fd, first, 0, 8, 0) < 8) throw bad(`it has ${size} bytes, too few for a header`);
    const claimed = first.readBigUInt64LE(0);
    if (claimed > BigInt(Math.min(MAX_HEADER, size - 8)))
      throw bad(`its header claims ${claimed} bytes; the file has ${size}, and a header at most ${MAX_HEADER}`);
    const bytes = Buffer.alloc(Number(claimed));
    if (readSync(fd, bytes, 0, bytes.length, 8) < bytes.length) throw bad('it is truncated');
    return { header: parseObject(path, bytes.toString('utf8')), dataOffset: 8 + bytes.length, size };
  });
}

function readEntry(path: string, name: string, entry: unknown, dataOffset: number, size: number): TensorInfo {
  const bad = (what: string) => errors.badModelFile(path, `tensor '${name.slice(0, 200)}' ${what}`);
  if (!isObject(entry)) throw bad('is no object');
  const { dtype, shape, data_offsets: offsets } = entry;
  const type = typeof dtype === 'string' && Object.hasOwn(DTYPES, dtype) ? DTYPES[dtype] : undefined;
  if (!type) throw bad(`has dtype ${shown(dtype)}, which is not known`);
  if (!Array.isArray(shape) || shape.length > MAX_DIMS || !shape.every((n) => Number.isSafeInteger(n) && n >= 1))
    throw bad(`has the impossible shape ${listed(shape)}`);
  const bytes = (shape as number[]).reduce((a, b) => a * b, type[1]);
  const pair =
    Array.isArray(offsets) && offsets.length === 2 && offsets.every((n) => Number.isSafeInteger(n) && n >= 0);
  if (!pair) throw bad('has no data_offsets of two numbers');
  const [from, to] = offsets as [number, number];
  if (!Number.isSafeInteger(bytes) || to - from !== bytes)
    throw bad(`has ${to - from} bytes, its shape and dtype need ${bytes}`);
  if (dataOffset + to > size) throw bad(`ends at byte ${dataOffset + to}, but the file has ${size} (truncated?)`);
  const dims = shape.length === 0 ? [1] : [...(shape as number[])].reverse();
  return { name, type: type[0], shape: dims, offset: dataOffset + from, byteLength: bytes, file: path };
}

const listed = (shape: unknown): string =>
  Array.isArray(shape) ? `(${shape.slice(0, MAX_DIMS).map(shown).join(', ')})` : shown(shape);

function refuseOverlaps(path: string, tensors: ReadonlyMap<string, TensorInfo>): void {
  let last: TensorInfo | null = null;
  for (const t of [...tensors.values()].sort((a, b) => a.offset - b.offset)) {
    if (last && last.offset + last.byteLength > t.offset)
      throw errors.badModelFile(path, `tensors '${last.name}' and '${t.name}' overlap at byte ${t.offset}`);
    last = t;
  }
}
