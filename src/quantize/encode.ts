/** Floats → the bytes of a type. */
import { type Encode, encodeQ8, encodeQ40, encodeQ41, encodeQ50, encodeQ51 } from './blocks.js';
import { encodeQ4K, encodeQ5K, encodeQ6K } from './k-quants.js';

interface Format {
  /** Values a block; a row is a whole number of blocks. */
  values: number;
  /** Bytes a block. */
  bytes: number;
  encode: Encode;
}

export const FORMATS = {
  Q4_0: { values: 32, bytes: 18, encode: encodeQ40 },
  Q4_1: { values: 32, bytes: 20, encode: encodeQ41 },
  Q5_0: { values: 32, bytes: 22, encode: encodeQ50 },
  Q5_1: { values: 32, bytes: 24, encode: encodeQ51 },
  Q8_0: { values: 32, bytes: 34, encode: encodeQ8 },
  Q4_K: { values: 256, bytes: 144, encode: encodeQ4K },
  Q5_K: { values: 256, bytes: 176, encode: encodeQ5K },
  Q6_K: { values: 256, bytes: 210, encode: encodeQ6K },
} as const satisfies Record<string, Format>;

export type QuantType = keyof typeof FORMATS;

/** Whole rows; null if a value is not finite. */
export function encode(type: QuantType, x: Float32Array): Uint8Array | null {
  for (let i = 0; i < x.length; i++) if (!Number.isFinite(x[i]!)) return null;
  const { values, bytes, encode: block } = FORMATS[type];
  const out = new Uint8Array((x.length / values) * bytes);
  for (let from = 0, at = 0; from < x.length; from += values, at += bytes) block(x, from, out, at);
  return out;
}
