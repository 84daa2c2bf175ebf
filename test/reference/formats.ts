/** GGUF's tensor types in plain TypeScript, written for clarity: block sizes and exact dequantising. */

type Round = (x: number) => number;
interface Format {
  /** Values a block. */
  block: number;
  /** Bytes a block. */
  bytes: number;
  /** Values of the block at `at`, written to out[to …]. `round`: of scales and minima that are products themselves. */
  decode(data: DataView, at: number, out: Float32Array, to: number, round: Round): void;
}

const buffer = new DataView(new ArrayBuffer(4));

/** Bits of an IEEE half → number, exact. */
function computeHalf(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const e = (h >> 10) & 31;
  const m = h & 1023;
  if (e === 31) return m ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return e === 0 ? sign * m * 2 ** -24 : sign * (1024 + m) * 2 ** (e - 25);
}

/** All of them: references read millions. */
const halves = Float64Array.from({ length: 65536 }, (_, h) => computeHalf(h));
export const halfToNumber = (h: number): number => halves[h]!;

/** Number → bits of the nearest half, ties to even. */
export function numberToHalf(x: number): number {
  buffer.setFloat32(0, x);
  const bits = buffer.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const a = bits & 0x7fffffff;
  if (a > 0x7f800000) return sign | 0x7e00;
  if (a >= 0x477ff000) return sign | 0x7c00;
  if (a < 0x38800000) {
    buffer.setUint32(0, a);
    const units = buffer.getFloat32(0) * 2 ** 24;
    const floor = Math.floor(units);
    const rest = units - floor;
    return sign | (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor);
  }
  return sign | ((a + 0xfff + ((a >>> 13) & 1) - 0x38000000) >>> 13);
}

const half = (d: DataView, at: number) => halfToNumber(d.getUint16(at, true));
const nibbles = (d: DataView, at: number, k: number) =>
  k < 16 ? d.getUint8(at + k) & 15 : d.getUint8(at + k - 16) >> 4;

/** 6-bit scale and minimum k of a Q4_K or Q5_K superblock. */
function superScale(d: DataView, at: number, k: number): [number, number] {
  const s = (i: number) => d.getUint8(at + i);
  if (k < 4) return [s(k) & 63, s(k + 4) & 63];
  return [(s(k + 4) & 15) | ((s(k - 4) >> 6) << 4), (s(k + 4) >> 4) | ((s(k) >> 6) << 4)];
}

function decodeK(five: boolean): Format['decode'] {
  return (d, at, out, to, round) => {
    const scale = half(d, at);
    const minimum = half(d, at + 2);
    const quants = at + (five ? 48 : 16);
    for (let k = 0; k < 256; k++) {
      const sub = k >> 5;
      const [s, m] = superScale(d, at + 4, sub);
      let q = (d.getUint8(quants + 32 * (sub >> 1) + (k & 31)) >> (4 * (sub & 1))) & 15;
      if (five) q += ((d.getUint8(at + 16 + (k & 31)) >> sub) & 1) << 4;
      out[to + k] = round(scale * s) * q - round(minimum * m);
    }
  };
}

function decodeQ6K(d: DataView, at: number, out: Float32Array, to: number, round: Round): void {
  const scale = half(d, at + 208);
  for (let k = 0; k < 256; k++) {
    const part = k >> 7;
    const l = k & 31;
    const quarter = (k >> 5) & 3;
    const low = d.getUint8(at + 64 * part + 32 * (quarter & 1) + l);
    const high = (d.getUint8(at + 128 + 32 * part + l) >> (2 * quarter)) & 3;
    const q = ((quarter & 2 ? low >> 4 : low & 15) | (high << 4)) - 32;
    out[to + k] = round(scale * d.getInt8(at + 192 + (k >> 4))) * q;
  }
}

/** Q5_0 and Q5_1 behind their scales: 32 fifth bits, then nibbles. */
const five = (d: DataView, at: number, k: number) => nibbles(d, at + 4, k) + (((d.getUint32(at, true) >>> k) & 1) << 4);

/** Two bits of value k of a Q2_K or Q3_K superblock: four planes of 32 values, twice. */
const twoBits = (d: DataView, at: number, k: number) =>
  (d.getUint8(at + 32 * (k >> 7) + (k & 31)) >> (2 * ((k >> 5) & 3))) & 3;

function decodeQ2K(d: DataView, at: number, out: Float32Array, to: number): void {
  const scale = half(d, at + 80);
  const minimum = half(d, at + 82);
  for (let k = 0; k < 256; k++) {
    const s = d.getUint8(at + (k >> 4));
    out[to + k] = scale * (s & 15) * twoBits(d, at + 16, k) - minimum * (s >> 4);
  }
}

/** Scale k of 16, 6 bits less 32: low nibbles in 8 bytes, then the high pairs in 4. */
function scaleQ3K(d: DataView, at: number, k: number): number {
  const low = (d.getUint8(at + (k & 7)) >> (k < 8 ? 0 : 4)) & 15;
  const high = (d.getUint8(at + 8 + (k & 3)) >> (2 * (k >> 2))) & 3;
  return (low | (high << 4)) - 32;
}

function decodeQ3K(d: DataView, at: number, out: Float32Array, to: number): void {
  const scale = half(d, at + 108);
  for (let k = 0; k < 256; k++) {
    const third = (d.getUint8(at + (k & 31)) >> (k >> 5)) & 1;
    out[to + k] = scale * scaleQ3K(d, at + 96, k >> 4) * (twoBits(d, at + 32, k) + 4 * third - 4);
  }
}

const IQ4 = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/** e2m1: sign, two bits of exponent, one of mantissa. */
const FP4 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];

function decodeIQ4XS(d: DataView, at: number, out: Float32Array, to: number): void {
  for (let k = 0; k < 256; k++) {
    const sub = k >> 5;
    const low = (d.getUint8(at + 4 + (sub >> 1)) >> (4 * (sub & 1))) & 15;
    const high = (d.getUint16(at + 2, true) >> (2 * sub)) & 3;
    out[to + k] = half(d, at) * ((low | (high << 4)) - 32) * IQ4[nibbles(d, at + 8 + 16 * sub, k & 31)];
  }
}

export const FORMATS: Readonly<Record<string, Format>> = {
  F32: { block: 1, bytes: 4, decode: (d, at, out, to) => (out[to] = d.getFloat32(at, true)) },
  F16: { block: 1, bytes: 2, decode: (d, at, out, to) => (out[to] = half(d, at)) },
  BF16: {
    block: 1,
    bytes: 2,
    decode(d, at, out, to) {
      buffer.setUint32(0, d.getUint16(at, true) << 16);
      out[to] = buffer.getFloat32(0);
    },
  },
  Q8_0: {
    block: 32,
    bytes: 34,
    decode(d, at, out, to) {
      for (let k = 0; k < 32; k++) out[to + k] = half(d, at) * d.getInt8(at + 2 + k);
    },
  },
  Q4_0: {
    block: 32,
    bytes: 18,
    decode(d, at, out, to) {
      for (let k = 0; k < 32; k++) out[to + k] = half(d, at) * (nibbles(d, at + 2, k) - 8);
    },
  },
  Q4_1: {
    block: 32,
    bytes: 20,
    decode(d, at, out, to) {
      for (let k = 0; k < 32; k++) out[to + k] = half(d, at) * nibbles(d, at + 4, k) + half(d, at + 2);
    },
  },
  Q5_0: {
    block: 32,
    bytes: 22,
    decode(d, at, out, to) {
      for (let k = 0; k < 32; k++) out[to + k] = half(d, at) * (five(d, at + 2, k) - 16);
    },
  },
  Q5_1: {
    block: 32,
    bytes: 24,
    decode(d, at, out, to) {
      for (let k = 0; k < 32; k++) out[to + k] = half(d, at) * five(d, at + 4, k) + half(d, at + 2);
    },
  },
  IQ4_NL: {
    block: 32,
    bytes: 18,
    decode(d, at, out, to) {
      for (let k = 0; k < 32; k++) out[to + k] = half(d, at) * IQ4[nibbles(d, at + 2, k)];
    },
  },
  MXFP4: {
    block: 32,
    bytes: 17,
    decode(d, at, out, to) {
      for (let k = 0; k < 32; k++) out[to + k] = 2 ** (d.getUint8(at) - 127) * FP4[nibbles(d, at + 1, k)];
    },
  },
  Q2_K: { block: 256, bytes: 84, decode: decodeQ2K },
  Q3_K: { block: 256, bytes: 110, decode: decodeQ3K },
  IQ4_XS: { block: 256, bytes: 136, decode: decodeIQ4XS },
  Q4_K: { block: 256, bytes: 144, decode: decodeK(false) },
  Q5_K: { block: 256, bytes: 176, decode: decodeK(true) },
  Q6_K: { block: 256, bytes: 210, decode: decodeQ6K },
};

/**
 * A whole tensor as f32 (its values are exact in f32 but for the rounding of scale · quant + minimum). `round`: as a device
 * decodes it that keeps the scales and minima of K-quants in fewer bits.
 */
export function decodeTensor(type: string, bytes: Uint8Array, count: number, round: Round = (x) => x): Float32Array {
  const format = FORMATS[type];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out = new Float32Array(count);
  for (let b = 0; b * format.block < count; b++) format.decode(view, b * format.bytes, out, b * format.block, round);
  return out;
}

/** Types whose values share scales: devices multiply them with int8 activations. */
export const isQuantised = (type: string): boolean => FORMATS[type].block > 1;
