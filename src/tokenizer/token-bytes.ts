/** The bytes that each token stands for. */

import type { TokenBytes } from '../types.js';
import { charsToBytes } from './byte-chars.js';
import { byteOf, Kind, type Vocabulary } from './vocabulary.js';

/** What of a vocabulary says which bytes its tokens are. */
type Spellings = Pick<Vocabulary, 'model' | 'tokens' | 'size' | 'kinds'>;

/** `padTo`: ids up to there exist in the model, though not in the vocabulary; they stand for nothing. */
export function makeTokenBytes(v: Spellings, padTo: number): TokenBytes {
  const size = Math.max(v.size, padTo);
  const offsets = new Int32Array(size + 1);
  const special = new Uint8Array(size).fill(1);
  // no token stands for more bytes than its spelling has
  const room = new Uint8Array(v.tokens.lengths.reduce((a, b) => a + b, 0));
  let end = 0;
  for (let id = 0; id < size; id++) {
    if (id < v.size) {
      const kind = v.kinds[id];
      if (kind === Kind.normal || kind === Kind.userDefined || kind === Kind.byte) special[id] = 0;
      end = put(v, id, room, end);
    }
    offsets[id + 1] = end;
  }
  return { bytes: room.slice(0, end), offsets, special };
}

/** Puts the token's bytes at `at`; returns their end. Unused tokens stand for nothing, special ones for their names. */
function put(v: Spellings, id: number, out: Uint8Array, at: number): number {
  const { bytes, starts, lengths } = v.tokens;
  const from = starts[id]!;
  const to = from + lengths[id]!;
  switch (v.kinds[id]) {
    case Kind.normal:
      return v.model === 'gpt2' ? charsToBytes(bytes, from, to, out, at) : spaced(bytes, from, to, out, at);
    case Kind.byte: {
      const byte = byteOf(v.tokens, id);
      if (byte < 0) return at;
      out[at] = byte;
      return at + 1;
    }
    case Kind.control:
    case Kind.unknown:
    case Kind.userDefined:
      out.set(bytes.subarray(from, to), at);
      return at + to - from;
    default:
      return at;
  }
}

/** U+2581 (E2 96 81) is a space. */
function spaced(bytes: Uint8Array, from: number, to: number, out: Uint8Array, at: number): number {
  let end = at;
  for (let i = from; i < to; i++) {
    if (bytes[i] === 0xe2 && i + 2 < to && bytes[i + 1] === 0x96 && bytes[i + 2] === 0x81) {
      out[end++] = 0x20;
      i += 2;
    } else out[end++] = bytes[i]!;
  }
  return end;
}
