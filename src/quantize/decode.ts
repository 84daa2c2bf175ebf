/** Tensors' bytes as f32: what can be quantised. */
import { fromHalf } from './half.js';

const u16 = (b: Uint8Array, at: number): number => b[at]! | (b[at + 1]! << 8);
const scale = (b: Uint8Array, at: number): number => fromHalf(u16(b, at));

type Decode = (bytes: Uint8Array, out: Float32Array) => void;

/** Blocks of 32; `block` writes the values of the one at `at` to out[to …]. */
function blocks(size: number, block: (b: Uint8Array, at: number, out: Float32Array, to: number) => void): Decode {
  return (bytes, out) => {
    for (let at = 0, to = 0; to < out.length; at += size, to += 32) block(bytes, at, out, to);
  };
}

/** Nibbles at `at`, and a fifth bit of each from `fifth`: (value - offset) · d + m. */
function nibbles(b: Uint8Array, at: number, fifth: number, d: number, m: number, out: Float32Array, to: number): void {
  for (let k = 0; k < 16; k++) {
    out[to + k] = ((b[at + k]! & 15) | (((fifth >>> k) & 1) << 4)) * d + m;
    out[to + k + 16] = ((b[at + k]! >> 4) | (((fifth >>> (k + 16)) & 1) << 4)) * d + m;
  }
}

const u32 = (b: Uint8Array, at: number): number => u16(b, at) | (u16(b, at + 2) << 16);

const DECODERS: Readonly<Record<string, Decode>> = {
  F32: (bytes, out) => new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(bytes),
  F16: (bytes, out) => {
    for (let i = 0; i < out.length; i++) out[i] = scale(bytes, 2 * i);
  },
  BF16: (bytes, out) => {
    const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
    for (let i = 0; i < out.length; i++) bits[i] = u16(bytes, 2 * i) << 16;
  },
  Q8_0: blocks(34, (b, at, out, to) => {
    const d = scale(b, at);
    for (let k = 0; k < 32; k++) out[to + k] = ((b[at + 2 + k]! << 24) >> 24) * d;
  }),
  Q4_0: blocks(18, (b, at, out, to) => nibbles(b, at + 2, 0, scale(b, at), -8 * scale(b, at), out, to)),
  Q4_1: blocks(20, (b, at, out, to) => nibbles(b, at + 4, 0, scale(b, at), scale(b, at + 2), out, to)),
  Q5_0: blocks(22, (b, at, out, to) => nibbles(b, at + 6, u32(b, at + 2), scale(b, at), -16 * scale(b, at), out, to)),
  Q5_1: blocks(24, (b, at, out, to) => nibbles(b, at + 8, u32(b, at + 4), scale(b, at), scale(b, at + 2), out, to)),
};

export const DECODED_TYPES: readonly string[] = Object.keys(DECODERS);

/** @param count values, a whole number of blocks */
export function decode(type: string, bytes: Uint8Array, count: number): Float32Array {
  const out = new Float32Array(count);
  DECODERS[type]!(bytes, out);
  return out;
}
