/** IEEE half precision ⇄ numbers. */

const f32 = new Float32Array(1);
const bits = new Uint32Array(f32.buffer);

/** Bits of the half nearest to a number, ties to even. */
export function toHalf(x: number): number {
  f32[0] = x;
  const sign = (bits[0]! >>> 16) & 0x8000;
  const a = bits[0]! & 0x7fffffff;
  if (a > 0x7f800000) return sign | 0x7e00;
  if (a >= 0x477ff000) return sign | 0x7c00;
  if (a >= 0x38800000) return sign | ((a - 0x38000000 + 0xfff + ((a >>> 13) & 1)) >>> 13);
  // subnormal: adding one half rounds to a multiple of 2^-24
  bits[0] = a;
  f32[0] = f32[0]! + 0.5;
  return sign | (bits[0]! - 0x3f000000);
}

/** All 65,536 halves as numbers: weights are decoded by looking them up. */
const HALVES = Float32Array.from({ length: 65_536 }, (_, h) => {
  const sign = h & 0x8000 ? -1 : 1;
  const exponent = (h >> 10) & 31;
  const mantissa = h & 1023;
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1024 + mantissa) * 2 ** (exponent - 25);
});

export const fromHalf = (h: number): number => HALVES[h]!;
