/** What a thread of the quantiser is asked for. */
import { closeSync, openSync, readSync } from 'node:fs';
import { errors } from '../errors.js';
import { decode } from './decode.js';
import { encode, type QuantType } from './encode.js';

/** Whole rows of a tensor. */
export interface Piece {
  file: string;
  /** Of the tensor, for errors. */
  name: string;
  offset: number;
  bytes: number;
  type: string;
  /** Values. */
  count: number;
  /** What they become; null: their bytes as they are. */
  to: QuantType | null;
}

export type Calls = { piece: { args: Piece; result: Uint8Array } };

/** @throws bad_gguf, io_error */
export function work({ file, name, offset, bytes, type, count, to }: Piece): Uint8Array {
  const from = new Uint8Array(bytes);
  const fd = openSync(file, 'r');
  try {
    for (let have = 0; have < bytes; ) {
      const got = readSync(fd, from, have, bytes - have, offset + have);
      if (got === 0) throw errors.badGguf(file, `it became shorter while tensor '${name}' was read`);
      have += got;
    }
  } finally {
    closeSync(fd);
  }
  if (to === null) return from;
  const out = encode(to, decode(type, from, count));
  if (!out) throw errors.badGguf(file, `tensor '${name}' holds a value that is infinite or not a number`);
  return out;
}
