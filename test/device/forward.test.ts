/** Whole steps of random models against the plain f64 forward pass. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { availableIsas } from '../../src/device/cpu/index.js';
import { loadNative } from '../../src/device/cpu/native.js';
import { Reference } from '../reference/forward.js';
import {
  FLAGS,
  MIXTURES,
  type ModelOptions,
  type Row,
  Runner,
  type RunnerOptions,
  randomModel,
  relativeError,
  sequence,
  testLibrary,
} from './support.js';

const isas = availableIsas(loadNative(testLibrary()));

/** Prefill of two sequences at once, then a mixed step of decode and more prefill. */
const STEPS: Row[][] = [
  [
    { slot: 0, position: 0, tokens: sequence(37, 1), logits: 'all' },
    { slot: 3, position: 0, tokens: sequence(5, 2), logits: 'last' },
  ],
  [
    { slot: 3, position: 5, tokens: sequence(1, 3), logits: 'last' },
    { slot: 0, position: 37, tokens: sequence(20, 4), logits: 'all' },
  ],
];

function compare(model: ModelOptions, options: RunnerOptions): number {
  const m = randomModel(model);
  const runner = new Runner(m, options);
  const reference = new Reference(m.program, m.tensors, { bits: options.bits ?? 16 });
  let worst = 0;
  for (const rows of STEPS) {
    const got = runner.logits(rows);
    const want = reference.step(runner.step);
    assert.equal(got.length, want.length);
    got.forEach((x, i) => {
      worst = Math.max(worst, relativeError(x, want[i]));
    });
  }
  runner.close();
  return worst;
}

/** Activations and K, V are rounded; an f32 sum that differs in its last bit may round to the next step. */
function agrees(model: ModelOptions, options: RunnerOptions, limit: number): void {
  const error = compare(model, options);
  assert.ok(error < limit, `relative error ${error.toExponential(2)}, limit ${limit}`);
}

for (const isa of isas) {
  describe(`a step on ${isa} agrees with the f64 forward pass`, () => {
    for (const type of ['F32', 'F16', 'BF16']) {
      it(`${type} weights`, () => agrees({ type }, { isa }, 1e-3));
    }
    for (const type of ['Q8_0', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'IQ4_NL', 'MXFP4']) {
      it(`${type} weights`, () => agrees({ type }, { isa }, 0.05));
    }
    for (const type of ['Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K', 'IQ4_XS']) {
      it(`${type} weights`, () => agrees({ type, heads: 8, kvHeads: 2, ffDim: 512 }, { isa }, 0.05));
    }
    for (const bits of [8, 4] as const) {
      it(`KV in ${bits} bits`, () => agrees({ type: 'F32' }, { isa, bits }, bits === 8 ? 0.01 : 0.1));
    }
    it('one head of queries for each of K and V, odd sizes', () =>
      agrees({ type: 'F32', heads: 3, kvHeads: 3, headDim: 48, ffDim: 80, dim: 144 }, { isa }, 1e-3));
    for (const headDim of [16, 64, 80, 96, 128]) {
      it(`heads of ${headDim}`, () => agrees({ type: 'F32', heads: 2, kvHeads: 1, headDim }, { isa }, 1e-3));
    }
    it('many query heads for one of K and V', () =>
      agrees({ type: 'F32', heads: 32, kvHeads: 1, headDim: 16 }, { isa }, 1e-3));
    for (const [name, flags] of Object.entries(FLAGS)) {
      it(name, () => agrees({ type: 'F32', flags }, { isa }, 1e-3));
      it(`${name}, Q8_0`, () => agrees({ type: 'Q8_0', flags }, { isa }, 0.06));
    }
    for (const [name, experts] of Object.entries(MIXTURES)) {
      it(`experts: ${name}`, () => agrees({ type: 'F32', flags: { experts } }, { isa }, 1e-3));
      it(`experts: ${name}, Q8_0`, () => agrees({ type: 'Q8_0', flags: { experts } }, { isa }, 0.06));
    }
    it('experts of K-quants', () => {
      const experts = { ...MIXTURES['two of eight'], width: 256 };
      agrees({ type: 'Q4_K', heads: 8, kvHeads: 2, ffDim: 512, flags: { experts } }, { isa }, 0.06);
    });
    it('a window and bounds of scores with quantised KV', () =>
      agrees({ type: 'F32', flags: { ...FLAGS.window, attentionSoftcap: 2 } }, { isa, bits: 8 }, 0.01));
    it('rotation of half-dimension pairs, part of the head, scaled', () => {
      const inverseFrequencies = Float32Array.from({ length: 8 }, (_, i) => 0.7 ** i);
      const rope = { dims: 16, freqBase: 1e4, neox: true, magnitude: 1.1, inverseFrequencies };
      agrees({ type: 'F32', rope }, { isa }, 1e-3);
    });
  });
}
