/** On two GPUs: the logits of one, to the bit, whatever the step looks like. */
import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { createCudaDevice } from '../../../src/device/cuda/index.js';
import { type ModelOptions, Runner, randomModel, sequence } from '../support.js';
import { gpusHere } from './here.js';
import { logitsOf } from './pieces.js';

const VOCAB = 300;
const text = sequence(960, 3, VOCAB);
const shapes: Record<string, ModelOptions> = {
  'heads of 32': { heads: 8, kvHeads: 4, headDim: 32, ffDim: 512 },
  'heads of 64, groups of 4': { heads: 8, kvHeads: 2, headDim: 64, ffDim: 1536 },
  'heads of 128': { heads: 8, kvHeads: 2, headDim: 128, ffDim: 2048, tiedOutput: false },
  'heads of 64, biases': { heads: 8, kvHeads: 4, headDim: 64, ffDim: 1024, flags: { biases: everyBias() } },
};
const types = ['F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_K', 'Q6_K'];

function everyBias() {
  return { qkv: true, output: true, gateUp: true, down: true };
}

/** Tokens that are drawn one after another from a text on, each step before the one before it has ended. */
function drawn(runner: Runner, count: number): number[] {
  const tokens = [runner.run([{ slot: 0, position: 0, tokens: text.slice(0, 100) }]).tokens[0]!];
  for (let i = 0; i < count; i++)
    tokens.push(runner.run([{ slot: 0, position: 100 + i, tokens: [tokens.at(-1)!] }]).tokens[0]!);
  return tokens;
}

/** Tokens of steps of so many rows: from 65 on each GPU draws those that it owns. */
function drawnOfMany(runner: Runner): number[] {
  return [1, 64, 65, 128, 129, 200].flatMap((rows) => {
    const beginnings = Array.from({ length: rows }, (_, slot) => ({
      slot,
      position: 0,
      tokens: sequence(3, slot + 1, VOCAB),
    }));
    const first = [...runner.run(beginnings).tokens].slice(0, rows);
    const next = runner.run(first.map((token, slot) => ({ slot, position: 3, tokens: [token] })));
    return [...first, ...[...next.tokens].slice(0, rows)];
  });
}

describe('two GPUs', { skip: gpusHere >= 2 ? false : 'no second NVIDIA GPU' }, () => {
  // a turn of the event loop, so that each case is reported when it ends
  afterEach(() => setImmediate());
  it('draw the tokens of one, however many rows a step has', () => {
    const model = randomModel({ vocab: VOCAB, type: 'F16', ...shapes['heads of 64, groups of 4'] });
    const [one, two] = [1, 2].map((tp) => {
      const device = createCudaDevice({ tp });
      const runner = new Runner(model, { session: 64, maxTokens: 1024, maxRows: 256, maxLogits: 256, device });
      const tokens = drawnOfMany(runner);
      runner.close();
      return tokens;
    });
    assert.deepEqual(two, one);
    assert.ok(new Set(one).size > 100, 'of many kinds');
  });
  for (const [name, shape] of Object.entries(shapes))
    for (const type of types) {
      const inputs = [(shape.heads! * shape.headDim!) / 2, shape.ffDim! / 2];
      if (/_K/.test(type) && inputs.some((n) => n % 256 !== 0)) continue;
      for (const bits of type === 'F16' ? ([16, 8, 4] as const) : ([16] as const))
        it(`${name}, ${type}, KV of ${bits} bits: the bits of one GPU`, () => {
          const model = randomModel({ vocab: VOCAB, type, ...shape });
          const open = (tp: number) =>
            new Runner(model, {
              ...{ session: 1024, maxTokens: 1024, maxRows: 80, maxLogits: 128, bits },
              device: createCudaDevice({ tp }),
            });
          const one = open(1);
          const whole = logitsOf(one, text, [960], 0, VOCAB);
          const tokens = drawn(one, 20);
          one.close();
          assert.ok(whole.every(Number.isFinite));
          const two = open(2);
          assert.deepEqual(logitsOf(two, text, [960], 0, VOCAB), whole, 'whole');
          const pieces = [1, 100, 299, 64, 260, ...new Array(236).fill(1)];
          assert.deepEqual(logitsOf(two, text, pieces, 0, VOCAB), whole, 'in pieces');
          assert.deepEqual(
            logitsOf(two, text, [300, 650, ...new Array(10).fill(1)], 70, VOCAB),
            whole,
            'beside others',
          );
          assert.deepEqual(drawn(two, 20), tokens, 'drawn tokens');
          two.close();
        });
    }
});
