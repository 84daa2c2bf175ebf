import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Budget, fixedBudget, StepBudget } from '../../src/engine/step-budget.js';

const TARGET = 250;
/** Long enough that it matters little how the last step comes out. */
const LENGTH = 6144;

/** What a machine really takes for n rows, the first of them behind `context` tokens. */
type Machine = (n: number, context: number) => number;

const linear =
  (fixed: number, each: number, perContext = 0): Machine =>
  (n, context) =>
    fixed + n * (each + perContext * (context + n / 2));

const machines: Record<string, Machine> = {
  'a 1 B model on two cores': linear(20, 2.38),
  'a small model': linear(3, 0.3),
  'fixed cost only': linear(180, 0.1),
  'no fixed cost': linear(0, 1),
  'a context that costs': linear(20, 0.5, 0.5 / 1024),
  'a context that costs most': linear(5, 0.25, 0.5 / 1024),
  'rows that are free while the weights are read': (n) => Math.max(40, 2.4 * n) + 2,
  'a large model on a slow machine': linear(60, 12),
};

/** Reproducible, normal. */
function noise(seed: number): () => number {
  let s = seed;
  const uniform = () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return (s + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

interface Run {
  /** Milliseconds of the longest step, before noise. */
  worst: number;
  steps: number;
  ms: number;
}

/** Computes a prompt by the budget's steps, then decodes. */
function prefill(b: Budget, machine: Machine, length: number, decode = 0, shaken = () => 1): Run {
  const run: Run = { worst: 0, steps: 0, ms: 0 };
  const step = (n: number, context: number) => {
    const ms = machine(n, context);
    b.observe(n, context + n / 2, ms * shaken());
    return ms;
  };
  for (let done = 0; done < length; run.steps++) {
    const n = Math.min(length - done, b.tokens(done));
    const ms = step(n, done);
    run.worst = Math.max(run.worst, ms);
    run.ms += ms;
    done += n;
  }
  for (let i = 0; i < decode; i++) step(1, length + i);
  return run;
}

/** The same by steps of one size, the best of those that stay within the target. */
function bestFixed(machine: Machine, length: number): number {
  let best = Number.POSITIVE_INFINITY;
  for (let size = 1; size <= 1024; size++) {
    let ms = 0;
    let worst = 0;
    for (let done = 0; done < length; done += size) {
      const one = machine(Math.min(size, length - done), done);
      ms += one;
      worst = Math.max(worst, one);
    }
    if (worst <= TARGET) best = Math.min(best, ms);
  }
  return best;
}

for (const [name, machine] of Object.entries(machines)) {
  for (const decode of [0, 64]) {
    // where the rows cost next to nothing, a step that aims a little lower holds far fewer of them
    const slack = name === 'fixed cost only' ? 1.1 : 1.03;
    test(`the step budget finds the largest step within the target in few steps: ${name}, ${decode} tokens decoded`, () => {
      const b = new StepBudget(1024, TARGET, 1);
      const first = prefill(b, machine, LENGTH, decode);
      assert.ok(first.worst <= 1.1 * TARGET, `a step of ${first.worst} ms while it learns`);
      for (let i = 0; i < 10; i++) {
        const run = prefill(b, machine, LENGTH, decode);
        assert.ok(run.worst <= 1.02 * TARGET, `prompt ${i}: a step of ${run.worst} ms`);
        const best = bestFixed(machine, LENGTH);
        assert.ok(run.ms <= slack * best, `prompt ${i}: ${run.ms} ms, best ${best}`);
      }
    });
  }

  test(`times that vary neither stop the step budget nor make it shrink: ${name}`, () => {
    for (let seed = 1; seed <= 20; seed++) {
      const b = new StepBudget(1024, TARGET, 1);
      const normal = noise(seed);
      let i = 0;
      // 5%, and now and then somebody else has the processor
      const shaken = () => (++i % 23 === 0 ? 3 : 1) * Math.exp(0.05 * normal());
      let total = 0;
      for (let k = 0; k < 20; k++) {
        const run = prefill(b, machine, LENGTH, k % 2 ? 16 : 0, shaken);
        assert.ok(run.worst <= 1.3 * TARGET, `seed ${seed}, prompt ${k}: a step of ${run.worst} ms`);
        if (k >= 5) total += run.ms;
      }
      const best = 15 * bestFixed(machine, LENGTH);
      assert.ok(total <= 1.2 * best, `seed ${seed}: ${total} ms, best ${best}`);
    }
  });
}

test('what a step costs without rows, and what a row costs, is known from prefills alone', () => {
  for (const [name, machine] of Object.entries(machines)) {
    if (name.startsWith('rows that are free')) continue;
    const b = new StepBudget(1024, TARGET, 1);
    assert.ok(b.fixedMs() === 0 && Number.isNaN(b.rowMs(0)) && b.prefillMs(9, 0) === Number.POSITIVE_INFINITY);
    prefill(b, machine, LENGTH);
    const row = machine(1, 0) - machine(0, 0);
    assert.ok(Math.abs(b.fixedMs() - machine(0, 0)) <= 0.02 * machine(1, 0) + 0.1, `${name}: fixed ${b.fixedMs()} ms`);
    assert.ok(Math.abs(b.rowMs(0) - row) <= 0.05 * row, `${name}: ${b.rowMs(0)} ms a row, ${row} in truth`);
  }
});

test('however much is decoded, and whatever size the caller fixed, the cost of a prefill stays known', () => {
  const machine = linear(20, 2.38);
  for (const b of [new StepBudget(1024, TARGET, 1), fixedBudget(512)]) {
    prefill(b, machine, 700, 5000);
    assert.ok(Math.abs(b.fixedMs() - 20) < 1 && Math.abs(b.rowMs(0) - 2.38) < 0.1);
    const n = b.tokens(0);
    assert.ok(Math.abs(b.prefillMs(n, 0) - machine(n, 0)) < 0.05 * machine(n, 0));
  }
  const caller = fixedBudget(512);
  prefill(caller, machine, 2048);
  assert.equal(caller.tokens(0), 512);
});

test('prompts that are computed alone, one token drawn of each, do not make the steps smaller', () => {
  const machine = linear(20, 2.38);
  const b = new StepBudget(1024, TARGET, 1);
  for (let i = 0; i < 100; i++) prefill(b, machine, 512);
  assert.ok(machine(b.tokens(0), 0) > 0.8 * TARGET, `${b.tokens(0)} tokens`);
});
