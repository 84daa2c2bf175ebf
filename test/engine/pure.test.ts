import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { alignHistory } from '../../src/engine/align.js';
import { createPlan, planAdmission, planRunning, rankOf, type Schedulable } from '../../src/engine/scheduler.js';
import { StepBudget } from '../../src/engine/step-budget.js';
import { StopScanner } from '../../src/engine/stop-scanner.js';
import type { TokenBytes } from '../../src/types.js';

const sequence = (length: number, scheduled: number, blockLen = 16): Schedulable => ({
  length,
  scheduled,
  limit: length + 100,
  needed: (tokens) => Math.max(0, Math.ceil(tokens / blockLen) - Math.ceil(scheduled / blockLen)),
});

test('planning: decode rows go first, then prefills in order, the last of them partly', () => {
  const running = [sequence(100, 0), sequence(33, 32), sequence(50, 0), sequence(50, 0)];
  const plan = planRunning(running, 130, 1000, createPlan(8));
  assert.deepEqual([...plan.tokens.slice(0, 4)], [100, 1, 29, 0]);
  assert.equal(plan.budgetLeft, 0);
});

test('planning: too few blocks ask for the preemption of the last sequence', () => {
  assert.equal(planRunning([sequence(33, 32), sequence(49, 48)], 64, 1, createPlan(8)).preemptLast, true);
  assert.equal(planRunning([sequence(33, 32), sequence(49, 48)], 64, 2, createPlan(8)).preemptLast, false);
});

test('admission looks at the whole need and one block more, not at the first chunk', () => {
  const s = sequence(160, 0);
  assert.equal(planAdmission(s, { budgetLeft: 16, blocksLeft: 10 }, 16, false), 0);
  assert.equal(planAdmission(s, { budgetLeft: 16, blocksLeft: 11 }, 16, false), 16);
  assert.equal(planAdmission(s, { budgetLeft: 16, blocksLeft: 10 }, 16, true), 16);
});

test('property: a plan never spends more than the budget or the blocks', () => {
  const arb = fc.record({ known: fc.integer({ min: 1, max: 300 }), left: fc.integer({ min: 1, max: 300 }) });
  fc.assert(
    fc.property(
      fc.array(arb, { maxLength: 8 }),
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 0, max: 60 }),
      (items, budget, blocks) => {
        const running = items.map((i) => sequence(i.known, Math.max(0, i.known - i.left)));
        const plan = planRunning(running, budget, blocks, createPlan(8));
        if (plan.preemptLast) return;
        let tokens = 0;
        let need = 0;
        let partial = 0;
        running.forEach((s, i) => {
          tokens += plan.tokens[i]!;
          need += plan.tokens[i] ? s.needed(s.scheduled + plan.tokens[i]!) : 0;
          if (plan.tokens[i]! > 0 && plan.tokens[i]! < s.length - s.scheduled) partial++;
        });
        assert.ok(tokens <= budget && need <= blocks && partial <= 1);
        assert.equal(plan.budgetLeft, budget - tokens);
      },
    ),
  );
});

test('a priority is worth ten seconds of waiting', () => {
  assert.ok(rankOf(0, 0) < rankOf(10_001, 1));
  assert.ok(rankOf(0, 0) > rankOf(9_999, 1));
});

test('the step budget settles near the target and never leaves its bounds', () => {
  const budget = new StepBudget(1024, 250, 16);
  let worst = 0;
  for (let i = 0; i < 200; i++) {
    const context = (i * 97) % 4000;
    const n = budget.tokens(context);
    assert.ok(n >= 16 && n <= 1024);
    const ms = 30 + n * (0.5 + context / 2000);
    worst = Math.max(worst, ms);
    budget.observe(n, context, ms);
    budget.observe(1, context, 30.5 + context / 2000);
  }
  assert.ok(worst <= 300, `a step of ${worst} ms`);
  assert.ok(budget.tokens(0) > 200);
});

// tokens 0…25: letters; 26…: pairs; 200: special, spelt 'ab'
const words = [...'abcdefghijklmnopqrstuvwxyz', 'ab', 'bc', 'abc', 'cd', 'de', 'xyz', 'yz'];
const table: TokenBytes = {
  bytes: Buffer.from(`${words.join('')}ab`),
  offsets: Int32Array.from({ length: words.length + 2 }, (_, i) =>
    i > words.length ? words.join('').length + 2 : words.slice(0, i).join('').length,
  ),
  special: Uint8Array.from({ length: words.length + 1 }, (_, i) => (i === words.length ? 1 : 0)),
};
const special = words.length;
const id = (w: string) => words.indexOf(w);

test('a history cut into other tokens is still recognised by its bytes', () => {
  assert.deepEqual(alignHistory([id('ab'), id('c'), id('d')], [id('abc'), id('d'), id('e')], table), {
    keep: 3,
    from: 2,
  });
  assert.deepEqual(alignHistory([id('ab'), id('cd')], [id('abc'), id('x')], table), { keep: 0, from: 0 });
  assert.deepEqual(alignHistory([id('x'), id('ab'), id('cd')], [id('x'), id('a'), id('bc'), id('d'), id('e')], table), {
    keep: 3,
    from: 4,
  });
});

test('text that spells a special token is not that token', () => {
  assert.deepEqual(alignHistory([special, id('c')], [id('ab'), id('c')], table), { keep: 0, from: 0 });
  assert.deepEqual(alignHistory([id('x'), special], [id('x'), special], table), { keep: 2, from: 2 });
});

test('property: an alignment keeps exactly the same symbols and never reads past either end', () => {
  const ids = fc.array(fc.integer({ min: 0, max: special }), { maxLength: 12 });
  const symbols = (a: number[]) => a.map((t) => (t === special ? '#' : words[t])).join('');
  fc.assert(
    fc.property(ids, ids, (kept, prompt) => {
      const { keep, from } = alignHistory(kept, prompt, table);
      assert.equal(symbols(kept.slice(0, keep)), symbols(prompt.slice(0, from)));
      if (symbols(prompt).startsWith(symbols(kept))) assert.ok(keep >= 0);
    }),
  );
});

test('property: the stop scanner shows exactly the text before the first stop string, however it is cut', () => {
  const text = fc.stringMatching(/^[abc]{0,40}$/);
  const stops = fc.array(fc.stringMatching(/^[abc]{1,4}$/), { maxLength: 3 });
  fc.assert(
    fc.property(
      text,
      stops,
      fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 40, maxLength: 40 }),
      (s, list, cuts) => {
        const scanner = new StopScanner(list);
        let shown = '';
        let at = 0;
        for (const n of cuts) {
          if (at >= s.length || scanner.found !== null) break;
          shown += scanner.push(s.slice(at, at + n));
          at += n;
        }
        shown += scanner.flush();
        const first = list.map((x) => s.indexOf(x)).filter((k) => k >= 0);
        if (first.length === 0) assert.equal(shown, s);
        else if (scanner.found !== null) assert.ok(s.startsWith(shown + scanner.found));
      },
    ),
  );
});

test('the stop scanner: what ends early is shown, what began early and ends later counts', () => {
  const scan = (parts: string[], early: number) => {
    const scanner = new StopScanner(['END']);
    const shown = parts.map((p, i) => scanner.push(p, i < early)).join('') + scanner.flush();
    return [shown, scanner.found];
  };
  assert.deepEqual(scan(['aEN', 'Db', 'c'], 2), ['aENDbc', null]);
  assert.deepEqual(scan(['aEN', 'Db', 'cEND', 'd'], 2), ['aENDbc', 'END']);
  assert.deepEqual(scan(['aEN', 'Db'], 1), ['a', 'END']);
  assert.deepEqual(scan(['aEND', 'b'], 1), ['aENDb', null]);
});
