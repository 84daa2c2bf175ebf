/** What a thread of the quantiser is asked for. */
import { closeSync, openSync, readSync } from 'node:fs';
import { errors } from '../errors.js';
import { decode } from './decode.js';
import { encode, FORMATS, type QuantType } from './encode.js';
import type { Extent } from './source.js';

/** Whole rows of a tensor. */
export interface Piece {
  /** Of the tensor, for errors. */
  name: string;
  /** Where the rows lie, in the order in which they are wanted. */
  parts: Extent[];
  type: string;
  /** Added to each value. */
  add: number;
  /** Instead of parts of the file. */
  made?: Float32Array;
  /** Values. */
  count: number;
  /** What they become: their own type, F32, or a type of `FORMATS`. */
  to: string;
}

export type Calls = { piece: { args: Piece; result: Uint8Array } };

/** @throws bad_model_file, io_error */
export function work(piece: Piece): Uint8Array {
  const { parts, name, type, add, count, to, made } = piece;
  if (made) return new Uint8Array(made.buffer.slice(made.byteOffset, made.byteOffset + made.byteLength));
  const from = read(piece);
  if (to === type && add === 0) return from;
  const values = decode(type, from, count);
  if (add !== 0) for (let i = 0; i < count; i++) values[i]! += add;
  if (!Object.hasOwn(FORMATS, to)) return new Uint8Array(values.buffer);
  const out = encode(to as QuantType, values);
  if (!out)
    throw errors.badModelFile(parts[0]!.file, `tensor '${name}' holds a value that is infinite or not a number`);
  return out;
}

function read({ name, parts }: Piece): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, p) => sum + p.bytes, 0));
  const files = new Map<string, number>();
  let have = 0;
  try {
    for (const { file, offset, bytes } of parts) {
      const fd = files.get(file) ?? openSync(file, 'r');
      files.set(file, fd);
      const end = have + bytes;
      for (let at = offset; have < end; ) {
        const got = readSync(fd, out, have, end - have, at);
        if (got === 0) throw errors.badModelFile(file, `it became shorter while tensor '${name}' was read`);
        have += got;
        at += got;
      }
    }
    return out;
  } catch (e) {
    throw e instanceof Error && 'syscall' in e ? errors.io(`reading '${parts[0]!.file}'`, e.message) : e;
  } finally {
    for (const fd of files.values()) closeSync(fd);
  }
}
