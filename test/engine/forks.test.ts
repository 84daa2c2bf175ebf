/** Several answers to one prompt: it is computed once, and every answer is what it would have been alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { greedySampling } from '../../src/config.js';
import { random, TestBatch, type TestBatchOptions, tokens } from '../support/batch.js';

const sampling = (seed: number) => ({ ...greedySampling, temperature: 1, seed });

/** `n` answers, those after the first as forks or as requests of their own. */
function answers(o: TestBatchOptions, prompt: number[], n: number, forked: boolean) {
  const t = new TestBatch(o);
  const ids: number[] = [];
  for (let i = 0; i < n; i++) {
    const forkOf = forked && i > 0 ? ids[0]! : null;
    ids.push(t.submit(prompt, { sampling: sampling(i), limits: { maxTokens: 8 }, forkOf }));
  }
  t.run();
  const out = ids.map((id) => t.outcomes.get(id)!);
  assert.ok(out.every((o) => o.finished?.reason === 'length'));
  return { t, out, stats: t.cache.stats(), tokens: out.map((o) => o.tokens) };
}

test('of n answers the prompt is computed once, without a prefix cache too: the others compute its last token alone', () => {
  const prompt = tokens(100, 1);
  const decoded = 7;
  for (const prefixCaching of [true, false]) {
    for (const blockLen of [16, 128]) {
      const o = { prefixCaching, blockLen, budget: 33 };
      const n = 5;
      const { stats, out, tokens: forked } = answers(o, prompt, n, true);
      assert.equal(stats.tokensComputed, 100 + (n - 1) + n * decoded, JSON.stringify(o));
      assert.equal(stats.tokensRecomputed, 0);
      assert.equal(stats.forks, n - 1);
      assert.deepEqual(
        out.map((x) => [x.finished!.promptTokens, x.finished!.cachedTokens]),
        [[100, 0], ...Array.from({ length: n - 1 }, () => [100, 99])],
      );
      assert.deepEqual(forked, answers(o, prompt, n, false).tokens);
      assert.equal(new Set(forked.map(String)).size, n, 'each has its own seed');
    }
  }
});

test('a prompt of one token, and more answers than the batch has rows', () => {
  const { stats } = answers({ maxRows: 3, prefixCaching: false }, [7], 10, true);
  assert.equal(stats.tokensComputed, 10 + 10 * 7);
  const many = answers({ maxRows: 3, prefixCaching: false }, tokens(50, 2), 10, true);
  assert.equal(many.stats.tokensComputed, 50 + 9 + 10 * 7);
  assert.deepEqual(many.tokens, answers({}, tokens(50, 2), 10, false).tokens);
});

test('with little room the answers are the same, at the cost of computing again', () => {
  const prompt = tokens(60, 3);
  const roomy = answers({}, prompt, 6, false);
  for (const prefixCaching of [true, false]) {
    const tight = answers({ blocks: 6, prefixCaching }, prompt, 6, true);
    assert.deepEqual(tight.tokens, roomy.tokens);
    assert.ok(tight.t.batch.counters.preemptions + tight.stats.blocksEvicted > 0, 'there was pressure');
  }
});

test('when the first is aborted in its prefill, the next computes the prompt, once', () => {
  const prompt = tokens(100, 4);
  const t = new TestBatch({ budget: 16, prefixCaching: false });
  const first = t.submit(prompt, { sampling: sampling(0) });
  const others = [1, 2, 3].map((i) => t.submit(prompt, { sampling: sampling(i), forkOf: first }));
  for (let i = 0; i < 3; i++) t.batch.step();
  const before = t.cache.stats().tokensComputed;
  t.batch.abort(first);
  t.batch.abort(others[1]!);
  t.run();
  assert.equal(t.outcomes.get(first)!.finished!.reason, 'abort');
  assert.equal(t.cache.stats().tokensComputed - before, 100 + 1 + 2 * 7);
  const alone = answers({}, prompt, 4, false).tokens;
  assert.deepEqual(
    [others[0]!, others[2]!].map((id) => t.outcomes.get(id)!.tokens),
    [alone[1], alone[3]],
  );
});

test('a fork of what has begun to answer shares its prompt, one of what is gone stands alone', () => {
  const prompt = tokens(50, 5);
  const t = new TestBatch({ prefixCaching: false });
  const first = t.submit(prompt, { sampling: sampling(0), limits: { maxTokens: 8 } });
  for (let i = 0; i < 4; i++) t.batch.step();
  const late = t.submit(prompt, { sampling: sampling(1), forkOf: first });
  const other = t.submit(tokens(50, 6), { sampling: sampling(2), forkOf: first });
  t.run();
  const gone = t.submit(prompt, { sampling: sampling(1), forkOf: first });
  t.run();
  assert.equal(t.outcomes.get(late)!.finished!.cachedTokens, 49);
  assert.equal(t.outcomes.get(other)!.finished!.cachedTokens, 0, 'another prompt is no fork');
  assert.equal(t.outcomes.get(gone)!.finished!.cachedTokens, 0);
  assert.deepEqual(t.outcomes.get(gone)!.tokens, t.outcomes.get(late)!.tokens);
});

test('after random aborts of forks under pressure nothing is left, and every answer is right as far as it came', () => {
  const r = random(11);
  const alone = new Map<string, number[]>();
  for (const prefixCaching of [true, false]) {
    const t = new TestBatch({ blocks: 24, budget: 24, maxRows: 5, prefixCaching });
    const asked: { id: number; prompt: number; seed: number }[] = [];
    for (let round = 0; round < 400 || !t.batch.idle; round++) {
      if (round < 400 && t.batch.waiting < 12) {
        const other = asked.length > 0 && r(3) > 0 ? asked[asked.length - 1 - r(Math.min(8, asked.length))]! : null;
        const prompt = other && r(4) > 0 ? other.prompt : r(6);
        const given = tokens(20 + prompt * 13, prompt);
        const forkOf = other?.id ?? null;
        const seed = r(4);
        const id = t.submit(given, { sampling: sampling(seed), limits: { maxTokens: 12 }, forkOf, priority: r(3) });
        asked.push({ id, prompt, seed });
      }
      if (r(5) === 0 && asked.length > 0) t.batch.abort(asked[asked.length - 1 - r(Math.min(10, asked.length))]!.id);
      t.batch.step();
      t.batch.check();
    }
    let aborted = 0;
    for (const { id, prompt, seed } of asked) {
      const { tokens: out, finished } = t.outcomes.get(id)!;
      if (finished!.reason === 'abort') aborted++;
      const key = `${prompt}/${seed}`;
      if (!alone.has(key)) {
        const fresh = new TestBatch({});
        const same = { sampling: sampling(seed), limits: { maxTokens: 12 } };
        alone.set(key, fresh.complete(tokens(20 + prompt * 13, prompt), same).tokens);
      }
      assert.deepEqual(out, alone.get(key)!.slice(0, out.length));
      if (finished!.reason === 'length') assert.equal(out.length, 12);
    }
    assert.ok(aborted > 20 && asked.length - aborted > 100, `${aborted} of ${asked.length} aborted`);
    assert.ok(t.cache.stats().forks > 50, `${t.cache.stats().forks} forks`);
    assert.equal(t.cache.stats().blocks.active, 0);
  }
});
