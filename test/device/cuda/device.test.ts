/** On a GPU: every weight type and KV width against the reference in f64, and the same bits whatever the step looks like. */
import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { createCudaDevice } from '../../../src/device/cuda/index.js';
import { ReferenceDevice } from '../../reference/device.js';
import type { Arithmetic } from '../../reference/forward.js';
import { type ModelOptions, Runner, type RunnerOptions, randomModel, relativeError, sequence } from '../support.js';
import { cudaHere } from './here.js';
import { logitsOf } from './pieces.js';

const VOCAB = 300;
const shapes: Record<string, ModelOptions> = {
  'heads of 32': {},
  'heads of 64, groups of 3': { heads: 9, kvHeads: 3, headDim: 64, ffDim: 1536 },
  'heads of 128, groups of 4': { heads: 8, kvHeads: 2, headDim: 128, ffDim: 1792 },
  'heads of 48': { heads: 4, kvHeads: 2, headDim: 48, ffDim: 520 },
};
const types = ['F32', 'F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1', 'Q4_K', 'Q5_K', 'Q6_K'];
/** In one step quantised weights are dequantised into tiles first, in pieces they are not. */
const length = 960;
/** The reference takes its time. */
const SHORT = 16;
const text = sequence(length, 3, VOCAB);

/** Logits of every token of the beginning of the text. */
const beginning = (runner: Runner) =>
  runner.logits([{ slot: 0, position: 0, tokens: text.slice(0, SHORT), logits: 'all' }]);
/** Median over the tokens, so that one whose attention stands on edge does not decide. */
function errorOf(rows: Float32Array[], exact: Float32Array[]): number {
  const errors = rows.map((row, i) => relativeError(row, exact[i]!)).sort((a, b) => a - b);
  return errors[errors.length >> 1]!;
}

describe('cuda', { skip: cudaHere ? false : 'no NVIDIA GPU' }, () => {
  const open = (model: ReturnType<typeof randomModel>, o: RunnerOptions = {}) =>
    new Runner(model, {
      session: 1024,
      maxTokens: 1024,
      maxRows: 80,
      maxLogits: 128,
      device: createCudaDevice(),
      ...o,
    });

  // cases never wait: without a turn of the event loop all of them are reported at the end, or never if they are cut off
  afterEach(() => setImmediate());
  for (const [name, shape] of Object.entries(shapes)) {
    for (const type of types) {
      if (/_K/.test(type) && ((shape.heads ?? 4) * (shape.headDim ?? 32)) % 256 !== 0) continue;
      if (/_K/.test(type) && (shape.ffDim ?? 256) % 256 !== 0) continue;
      if (/^Q/.test(type) && (shape.ffDim ?? 256) % 32 !== 0) continue;
      for (const bits of type === 'F16' ? ([16, 8, 4] as const) : ([16] as const)) {
        it(`${name}, ${type}, KV of ${bits} bits: the reference's logits, and the same bits in pieces and batches`, (t) => {
          const model = randomModel({ vocab: VOCAB, type, ...shape });
          const runner = open(model, { bits });
          const whole = logitsOf(runner, text, [length], 0, VOCAB);
          const pieces = [1, 100, 299, 64, 260, ...new Array(length - 724).fill(1)];
          assert.deepEqual(logitsOf(runner, text, pieces, 0, VOCAB), whole, 'in pieces');
          assert.deepEqual(
            logitsOf(runner, text, [300, 650, ...new Array(10).fill(1)], 70, VOCAB),
            whole,
            'beside others',
          );
          const ours = beginning(runner);
          runner.close();
          const reference = (arithmetic: Arithmetic) =>
            beginning(
              new Runner(model, { device: new ReferenceDevice(arithmetic), session: 1024, maxTokens: 1024, bits }),
            );
          // what the number formats cost: the same model in f64, rounded to 16 bits where the kernels round
          const exact = reference('exact');
          const expected = errorOf(reference(type === 'BF16' ? 'bf16' : 'f16'), exact);
          const error = errorOf(ours, exact);
          t.diagnostic(`relative error ${error.toExponential(2)}, of rounding alone ${expected.toExponential(2)}`);
          assert.ok(error < 2 * expected + 1e-4, `relative error ${error}, of rounding alone ${expected}`);
        });
      }
    }
  }
});
