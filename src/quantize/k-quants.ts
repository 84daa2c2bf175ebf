/**
 * K-quants: superblocks of 256 values whose sub-blocks have scales (and minimums) of 6 or 8 bits. The scale of a sub-block is
 * searched: for each of several first guesses, the values are rounded, and the least squares for those integers give the
 * scale (and minimum) that is kept if the weighted error is smaller.
 */
import type { Encode } from './blocks.js';
import { fromHalf, toHalf } from './half.js';

const clamp = (q: number, low: number, high: number): number => Math.min(Math.max(q, low), high);
/**
 * To single precision, in which llama.cpp computes, as its files are the measure: where a search meets a tie (the largest value
 * of a sub-block does in each), the last bit decides.
 */
const f = Math.fround;
/** 1.5 · 2^23: what is added to it is rounded to an integer, halves to the even one. */
const ROUNDER = 12_582_912;
/** `x`: single precision, below 2^22. */
const nearest = (x: number): number => f(x + ROUNDER) - ROUNDER;

interface Search {
  /** Greatest integer; 0 is the least. */
  top: number;
  /** Guesses: the range becomes top + first, top + first + 0.1, …, `steps` + 1 of them. */
  first: number;
  steps: number;
}

/** What a search has found: x ≈ scale · q - minimum. */
interface Fit {
  scale: number;
  minimum: number;
}

const STEP = f(0.1);
const guess = new Uint8Array(32);
const weights = new Float32Array(32);

/** Large values count more: the root of the mean square, and the magnitude. */
function weigh(x: Float32Array, from: number): void {
  let squares = 0;
  for (let k = 0; k < 32; k++) squares = f(squares + f(x[from + k]! * x[from + k]!));
  const root = f(Math.sqrt(f(squares / 32)));
  for (let k = 0; k < 32; k++) weights[k] = root + Math.abs(x[from + k]!);
}

/** Scale and minimum of 32 values; their integers go to q[to …]. */
function searchRange(x: Float32Array, from: number, q: Uint8Array, to: number, { top, first, steps }: Search): Fit {
  weigh(x, from);
  let least = x[from]!;
  let most = x[from]!;
  let sumW = weights[0]!;
  let sumX = f(sumW * x[from]!);
  for (let k = 1; k < 32; k++) {
    const v = x[from + k]!;
    if (v < least) least = v;
    if (v > most) most = v;
    sumW = f(sumW + weights[k]!);
    sumX = f(sumX + f(weights[k]! * v));
  }
  if (least > 0) least = 0;
  if (!(most > least)) {
    q.fill(0, to, to + 32);
    return { scale: 0, minimum: -least };
  }
  const plain = f(top / f(most - least));
  let scale = f(1 / plain);
  let minimum = least;
  let error = 0;
  for (let k = 0; k < 32; k++) {
    const l = clamp(nearest(f(plain * f(x[from + k]! - least))), 0, top);
    q[to + k] = l;
    const off = f(f(f(scale * l) + least) - x[from + k]!);
    error = f(error + f(weights[k]! * f(off * off)));
  }
  for (let step = 0; step <= steps; step++) {
    // from the best minimum so far: the range moves with it
    const base = minimum;
    const inverse = f(f(f(first + f(STEP * step)) + top) / f(most - base));
    let sumL = 0;
    let sumLL = 0;
    let sumXL = 0;
    for (let k = 0; k < 32; k++) {
      const l = clamp(nearest(f(inverse * f(x[from + k]! - base))), 0, top);
      const wl = f(weights[k]! * l);
      guess[k] = l;
      sumL = f(sumL + wl);
      sumLL = f(sumLL + f(wl * l));
      sumXL = f(sumXL + f(wl * x[from + k]!));
    }
    const determinant = f(f(sumW * sumLL) - f(sumL * sumL));
    if (!(determinant > 0)) continue;
    let d = f(f(f(sumW * sumXL) - f(sumX * sumL)) / determinant);
    let m = f(f(f(sumLL * sumX) - f(sumL * sumXL)) / determinant);
    if (m > 0) {
      m = 0;
      d = f(sumXL / sumLL);
    }
    let e = 0;
    for (let k = 0; k < 32; k++) {
      const off = f(f(f(d * guess[k]!) + m) - x[from + k]!);
      e = f(e + f(weights[k]! * f(off * off)));
    }
    if (e >= error) continue;
    error = e;
    scale = d;
    minimum = m;
    for (let k = 0; k < 32; k++) q[to + k] = guess[k]!;
  }
  return { scale, minimum: -minimum };
}

function putHalf(out: Uint8Array, at: number, x: number): number {
  const h = toHalf(x);
  out[at] = h;
  out[at + 1] = h >> 8;
  return fromHalf(h);
}

/** 8 scales and 8 minimums of 6 bits in 12 bytes. */
function putScales(out: Uint8Array, at: number, scales: Uint8Array, minimums: Uint8Array): void {
  for (let j = 0; j < 4; j++) {
    out[at + j] = scales[j]! | ((scales[j + 4]! >> 4) << 6);
    out[at + j + 4] = minimums[j]! | ((minimums[j + 4]! >> 4) << 6);
    out[at + j + 8] = (scales[j + 4]! & 15) | ((minimums[j + 4]! & 15) << 4);
  }
}

const integers = new Uint8Array(256);

/** Integers of a superblock of Q4_K or Q5_K, its scales written. */
function encodeRanges(x: Float32Array, from: number, out: Uint8Array, at: number, search: Search): void {
  const fits: Fit[] = [];
  for (let j = 0; j < 8; j++) fits.push(searchRange(x, from + 32 * j, integers, 32 * j, search));
  const most = Math.max(0, ...fits.map((f) => f.scale));
  const mostMinimum = Math.max(0, ...fits.map((f) => f.minimum));
  const six = (value: number, top: number) => (top > 0 ? clamp(nearest(f(f(63 / top) * value)), 0, 63) : 0);
  const scales = Uint8Array.from(fits, (f) => six(f.scale, most));
  const minimums = Uint8Array.from(fits, (f) => six(f.minimum, mostMinimum));
  const d = putHalf(out, at, f(most / 63));
  const dmin = putHalf(out, at + 2, f(mostMinimum / 63));
  putScales(out, at + 4, scales, minimums);
  for (let j = 0; j < 8; j++) {
    const scale = f(d * scales[j]!);
    if (scale === 0) continue;
    const m = f(dmin * minimums[j]!);
    for (let k = 32 * j; k < 32 * j + 32; k++)
      integers[k] = clamp(nearest(f(f(x[from + k]! + m) / scale)), 0, search.top);
  }
}

export const encodeQ4K: Encode = (x, from, out, at) => {
  encodeRanges(x, from, out, at, { top: 15, first: -1, steps: 20 });
  for (let j = 0; j < 4; j++)
    for (let k = 0; k < 32; k++) out[at + 16 + 32 * j + k] = integers[64 * j + k]! | (integers[64 * j + 32 + k]! << 4);
};

export const encodeQ5K: Encode = (x, from, out, at) => {
  encodeRanges(x, from, out, at, { top: 31, first: -0.5, steps: 15 });
  for (let j = 0; j < 4; j++)
    for (let k = 0; k < 32; k++) {
      const low = integers[64 * j + k]!;
      const high = integers[64 * j + 32 + k]!;
      out[at + 48 + 32 * j + k] = (low & 15) | ((high & 15) << 4);
      out[at + 16 + k] = out[at + 16 + k]! | ((low >> 4) << (2 * j)) | ((high >> 4) << (2 * j + 1));
    }
};

/** Below it a block is zero. */
const EPSILON = 1e-15;

/** Scale of 16 values as integers from -32 to 31, each weighted by its square. */
function searchSymmetric(x: Float32Array, from: number): number {
  let value = 0;
  for (let k = from; k < from + 16; k++) if (Math.abs(x[k]!) > Math.abs(value)) value = x[k]!;
  if (Math.abs(value) < EPSILON) return 0;
  let scale = 0;
  let best = 0;
  // the plain guess first: another must be better
  for (let step = 0; step <= 18; step++) {
    const guess = step === 0 ? 0 : step <= 9 ? step - 10 : step - 9;
    const inverse = f(-f(32 + f(STEP * guess)) / value);
    let sumXL = 0;
    let sumLL = 0;
    for (let k = from; k < from + 16; k++) {
      const v = x[k]!;
      const l = clamp(nearest(f(inverse * v)), -32, 31);
      const w = f(v * v);
      sumXL = f(sumXL + f(f(w * v) * l));
      sumLL = f(sumLL + f(f(w * l) * l));
    }
    if (!(sumLL > 0) || (step > 0 && !(f(sumXL * sumXL) > f(best * sumLL)))) continue;
    scale = f(sumXL / sumLL);
    best = f(scale * sumXL);
  }
  return scale;
}

export const encodeQ6K: Encode = (x, from, out, at) => {
  const found = Array.from({ length: 16 }, (_, j) => searchSymmetric(x, from + 16 * j));
  const largest = found.reduce((most, s) => (Math.abs(s) > Math.abs(most) ? s : most), 0);
  if (Math.abs(largest) < EPSILON) return;
  const inverse = f(-128 / largest);
  const d = putHalf(out, at + 208, f(1 / inverse));
  for (let j = 0; j < 16; j++) {
    const s = Math.min(127, nearest(f(inverse * found[j]!)));
    out[at + 192 + j] = s;
    const scale = f(d * s);
    for (let k = 16 * j; k < 16 * j + 16; k++)
      integers[k] = scale === 0 ? 32 : clamp(nearest(f(x[from + k]! / scale)), -32, 31) + 32;
  }
  for (let half = 0; half < 2; half++)
    for (let k = 0; k < 32; k++) {
      const q = (quarter: number) => integers[128 * half + 32 * quarter + k]!;
      out[at + 64 * half + k] = (q(0) & 15) | ((q(2) & 15) << 4);
      out[at + 64 * half + 32 + k] = (q(1) & 15) | ((q(3) & 15) << 4);
      out[at + 128 + 32 * half + k] = (q(0) >> 4) | ((q(1) >> 4) << 2) | ((q(2) >> 4) << 4) | ((q(3) >> 4) << 6);
    }
};
