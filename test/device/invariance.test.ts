/** A token's result depends on its own sequence alone: the same bits whatever else changes. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { availableIsas } from '../../src/device/cpu/index.js';
import { loadNative } from '../../src/device/cpu/native.js';
import {
  MIXTURES,
  type ModelOptions,
  type Row,
  Runner,
  type RunnerOptions,
  randomModel,
  sequence,
  type TestModel,
  testLibrary,
} from './support.js';

const isas = availableIsas(loadNative(testLibrary()));
const LENGTH = 301; // more than a softmax span
const tokens = sequence(LENGTH, 7);
/** Positions whose logits are compared: span and tile edges among them. */
const WATCHED = [0, 1, 15, 16, 17, 63, 100, 255, 256, 257, 299, 300];

/** Logits at the watched positions, the sequence computed in pieces that end where `cuts` says. */
function inPieces(
  runner: Runner,
  cuts: number[],
  slot = 0,
  company: (i: number) => Row[] = () => [],
): Map<number, Float32Array> {
  const found = new Map<number, Float32Array>();
  let at = 0;
  [...cuts, LENGTH].forEach((end, i) => {
    const others = company(i);
    // the sequence goes last, so that it lies at another place of the step than when it is alone
    const rows: Row[] = [...others, { slot, position: at, tokens: tokens.slice(at, end), logits: 'all' }];
    const logits = runner.logits(rows);
    for (const p of WATCHED) if (p >= at && p < end) found.set(p, logits[others.length + p - at]);
    at = end;
  });
  return found;
}

function same(a: Map<number, Float32Array>, b: Map<number, Float32Array>): void {
  assert.equal(a.size, WATCHED.length);
  for (const [p, x] of a) {
    const y = b.get(p)!;
    for (let i = 0; i < x.length; i++) {
      if (x[i] !== y[i]) assert.fail(`position ${p}, token ${i}: ${x[i]} and ${y[i]}`);
    }
  }
}

const singly = Array.from({ length: LENGTH - 1 }, (_, i) => i + 1);
const whole = (model: TestModel, options: RunnerOptions, cuts: number[] = [], company?: (i: number) => Row[]) => {
  const runner = new Runner(model, { maxTokens: 512, maxLogits: 512, ...options });
  try {
    return inPieces(runner, cuts, 0, company);
  } finally {
    runner.close();
  }
};

function checks(model: ModelOptions, base: RunnerOptions): void {
  const m = randomModel(model);
  const reference = whole(m, base);
  it('prefill in chunks', () => {
    same(whole(m, base, [100, 200]), reference);
    same(whole(m, base, [1, 2, 18, 19, 257, 299]), reference);
    same(whole(m, base, [254, 258, 297]), reference); // few tokens, of which not all see the last span
  });
  it('token by token', () => same(whole(m, base, singly), reference));
  it('other sequences in the step', () => {
    const company = (i: number): Row[] => [
      { slot: 2, position: 3 * i, tokens: sequence(3, 40 + i) },
      { slot: 5, position: i, tokens: sequence(1, 80 + i) },
    ];
    same(whole(m, base, [5, 50, 51, 280], company), reference);
  });
  it('one thread, three threads', () => {
    same(whole(m, { ...base, threads: 1 }, [150]), reference);
    same(whole(m, { ...base, threads: 3 }, [290, 300]), reference);
  });
  it('another block length, blocks in any order', () => {
    same(whole(m, { ...base, blockLen: 64, shuffle: 3 }, [70]), reference);
    same(whole(m, { ...base, blockLen: 640 }), reference);
  });
  it('debug mode, operation by operation', () => same(whole(m, { ...base, debug: true }, [299]), reference));
  it('recomputed over what other sequences left in the blocks', () => {
    const runner = new Runner(m, { maxTokens: 512, maxLogits: 512, ...base });
    runner.run([{ slot: 0, position: 0, tokens: sequence(400, 99), logits: 'none' }]);
    same(inPieces(runner, [33]), reference);
    runner.close();
  });
}

for (const isa of isas) {
  for (const type of ['Q8_0', 'Q4_1', 'F16']) {
    describe(`the same bits on ${isa}, ${type}`, () => checks({ type, layers: 1 }, { isa }));
  }
}
for (const type of ['Q4_0', 'Q4_K', 'Q5_K', 'Q6_K', 'Q2_K', 'Q3_K', 'IQ4_XS', 'MXFP4']) {
  describe(`the same bits, ${type}`, () => checks({ type, layers: 1, heads: 8, kvHeads: 2, ffDim: 256 }, {}));
}
for (const bits of [8, 4] as const) {
  describe(`the same bits, KV in ${bits} bits`, () => checks({ type: 'Q8_0', layers: 2 }, { bits }));
}
const rope = {
  dims: 32,
  freqBase: 10_000,
  neox: true,
  magnitude: 1,
  inverseFrequencies: Float32Array.from({ length: 16 }, (_, i) => 10_000 ** ((-2 * i) / 32)),
};
for (const bits of [16, 8] as const) {
  describe(`the same bits, sliding windows and bounds, KV in ${bits} bits`, () => {
    const perLayer = [5, 40, 290].map((window, i) => ({ rope: i === 1 ? null : rope, window }));
    const flags = { perLayer, attentionSoftcap: 4, logitSoftcap: 9, norms: 'both', qkNorm: 'head' } as const;
    checks({ type: 'Q8_0', layers: 3, flags: { ...flags, activation: 'geluTanh', residualScale: 0.3 } }, { bits });
  });
}
for (const isa of isas) {
  describe(`the same bits, experts, on ${isa}`, () => {
    const experts = MIXTURES['six of forty, weights over all, and one for every token'];
    checks({ type: 'Q8_0', layers: 2, flags: { experts } }, { isa });
  });
}
for (const type of ['F16', 'Q4_0'])
  describe(`the same bits, experts, ${type}`, () => {
    checks({ type, layers: 2, flags: { experts: MIXTURES['two of eight'] } }, {});
  });
describe('the same bits, other head shapes', () => {
  checks({ type: 'Q8_0', layers: 1, heads: 9, kvHeads: 3, headDim: 64 }, {});
});
