/** GGUF's formats of blocks of 32 values: one scale from the largest value, or scale and minimum from the range. */
import { toHalf } from './half.js';

/** To single precision, in which llama.cpp computes: where a value lies between two integers, the last bit decides. */
const f = Math.fround;

/** Writes the block of x[from …] to out[at …], which is zero. */
export type Encode = (x: Float32Array, from: number, out: Uint8Array, at: number) => void;

function putHalf(out: Uint8Array, at: number, x: number): void {
  const h = toHalf(x);
  out[at] = h;
  out[at + 1] = h >> 8;
}

/** The value of the largest magnitude. */
function extreme(x: Float32Array, from: number): number {
  let most = 0;
  let value = 0;
  for (let k = from; k < from + 32; k++) {
    const a = Math.abs(x[k]!);
    if (a > most) {
      most = a;
      value = x[k]!;
    }
  }
  return value;
}

export const encodeQ8: Encode = (x, from, out, at) => {
  const d = f(Math.abs(extreme(x, from)) / 127);
  const inverse = d > 0 ? f(1 / d) : 0;
  putHalf(out, at, d);
  for (let k = 0; k < 32; k++) {
    const y = f(x[from + k]! * inverse);
    out[at + 2 + k] = y < 0 ? -Math.floor(0.5 - y) : Math.floor(y + 0.5);
  }
};

/** Values of `bits` bits: nibbles at `nibbles`, and where there are five the last ones before them. */
function putBits(out: Uint8Array, nibbles: number, bits: number, k: number, q: number): void {
  const at = nibbles + (k & 15);
  out[at] = out[at]! | ((q & 15) << (k < 16 ? 0 : 4));
  if (bits === 5) out[nibbles - 4 + (k >> 3)] = out[nibbles - 4 + (k >> 3)]! | ((q >> 4) << (k & 7));
}

/** Q4_0, Q5_0: the value of the largest magnitude becomes the lowest number. */
const symmetric =
  (bits: 4 | 5): Encode =>
  (x, from, out, at) => {
    const middle = 2 ** (bits - 1);
    const d = f(extreme(x, from) / -middle);
    const inverse = d ? f(1 / d) : 0;
    putHalf(out, at, d);
    for (let k = 0; k < 32; k++) {
      const q = Math.min(2 * middle - 1, Math.floor(f(f(x[from + k]! * inverse) + middle + 0.5)));
      putBits(out, at + (bits === 5 ? 6 : 2), bits, k, q);
    }
  };

/** Q4_1, Q5_1: from the least value to the greatest. */
const ranged =
  (bits: 4 | 5): Encode =>
  (x, from, out, at) => {
    let least = x[from]!;
    let most = least;
    for (let k = from; k < from + 32; k++) {
      least = Math.min(least, x[k]!);
      most = Math.max(most, x[k]!);
    }
    const top = 2 ** bits - 1;
    const d = f(f(most - least) / top);
    const inverse = d ? f(1 / d) : 0;
    putHalf(out, at, d);
    putHalf(out, at + 2, least);
    for (let k = 0; k < 32; k++) {
      const q = Math.min(top, Math.floor(f(f(f(x[from + k]! - least) * inverse) + 0.5)));
      putBits(out, at + (bits === 5 ? 8 : 4), bits, k, q);
    }
  };

export const encodeQ40 = symmetric(4);
export const encodeQ50 = symmetric(5);
export const encodeQ41 = ranged(4);
export const encodeQ51 = ranged(5);
