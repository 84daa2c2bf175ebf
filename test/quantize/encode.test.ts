/** The quantisers of blocks beside llama.cpp's reference (libggml, `ggml_quantize_chunk` without an importance matrix). */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { encode, FORMATS, type QuantType } from '../../src/quantize/encode.js';
import { normal, random } from '../device/support.js';
import { decodeTensor } from '../reference/formats.js';

const COUNT = 256 * 64;

/** Weights as they are: normal, with some outliers, one block of zeros, one of a single value. */
function weights(): Float32Array {
  const r = random(7);
  const x = Float32Array.from({ length: COUNT }, () => normal(r) * (r() < 0.01 ? 0.08 : 0.02));
  x.fill(0, 0, 256);
  x.fill(0.125, 256, 288);
  return x;
}

function error(type: string, bytes: Uint8Array, x: Float32Array): number {
  const y = decodeTensor(type, bytes, x.length);
  let sum = 0;
  let size = 0;
  for (let i = 0; i < x.length; i++) {
    sum += (y[i] - x[i]) ** 2;
    size += x[i] ** 2;
  }
  return Math.sqrt(sum / size);
}

/** What the reference makes of the same values: relative error, and the bytes' hash. */
const REFERENCE: Record<QuantType, { error: number; sha256: string }> = {
  Q4_0: { error: 0.099818, sha256: 'c559dadea8b93670' },
  Q4_1: { error: 0.082561, sha256: '89c1c6b40921ca2a' },
  Q5_0: { error: 0.0500854, sha256: '3662ac155d1a6d0e' },
  Q5_1: { error: 0.0397803, sha256: 'd8547edc0c83da6c' },
  Q8_0: { error: 0.00620036, sha256: '64eb1360e9cf075c' },
  Q4_K: { error: 0.076398, sha256: 'c66feda1ad902072' },
  Q5_K: { error: 0.0385199, sha256: 'f0d27744c332fabd' },
  Q6_K: { error: 0.0198383, sha256: '0e7d2cc12144c98a' },
};

for (const type of Object.keys(FORMATS) as QuantType[]) {
  test(`${type}: the bytes are those of llama.cpp's quantiser`, () => {
    const x = weights();
    const bytes = encode(type, x)!;
    const { error: wanted, sha256 } = REFERENCE[type];
    const got = error(type, bytes, x);
    assert.ok(Math.abs(got / wanted - 1) < 1e-4, `relative error ${got}, the reference's is ${wanted}`);
    assert.equal(createHash('sha256').update(bytes).digest('hex').slice(0, 16), sha256);
  });
  test(`${type}: values that are no numbers are refused, zeros stay zero`, () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY])
      assert.equal(encode(type, new Float32Array(256).fill(bad, 9, 10)), null);
    const zeros = decodeTensor(type, encode(type, new Float32Array(256))!, 256);
    assert.ok(zeros.every((v) => Math.abs(v) === 0));
  });
}
