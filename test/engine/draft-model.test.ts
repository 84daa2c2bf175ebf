import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileJsonSchema } from 'longmind-grammar';
import { greedySampling } from '../../src/config.js';
import type { LongmindError } from '../../src/errors.js';
import { EOS, random, TestBatch, type TestBatchOptions, tokens } from '../support/batch.js';

const schema = compileJsonSchema({
  type: 'object',
  properties: { a: { type: 'array', items: { type: 'integer' }, maxItems: 8 }, b: { type: 'string', maxLength: 20 } },
  required: ['a', 'b'],
});

/** Requests of every kind, some aborted, among them sessions of several turns; what came out of each. */
function play(seed: number, o: TestBatchOptions) {
  const pick = random(seed);
  const b = new TestBatch({ blocks: 40, budget: 48, drawn: 40, vocab: 'bytes', ...o });
  const outcomes: unknown[] = [];
  for (let turn = 0; turn < 3; turn++) {
    const ids: { id: number; abort: boolean }[] = [];
    for (let n = 0; n < 5; n++) {
      const sampling = {
        ...greedySampling,
        temperature: pick(2),
        seed: pick(1000),
        logprobs: pick(2) === 0 ? 2 : null,
        frequencyPenalty: pick(4) === 0 ? 0.5 : 0,
        repetitionPenalty: pick(4) === 0 ? 1.3 : 1,
      };
      const limits = { maxTokens: 1 + pick(60), minTokens: pick(4) === 0 ? pick(20) : 0, stop: pick(4) ? [] : ['ab'] };
      const grammar = pick(5) === 0 ? schema : undefined;
      const sessionId = n < 3 ? `s${n}` : null;
      const stopTokens = grammar ? [EOS] : pick(3) === 0 ? [EOS, 5] : [];
      const prompt = Array.from({ length: 2 + pick(50) }, () => 3 + pick(40));
      const request = { append: sessionId !== null, sessionId, stopTokens, sampling, grammar, limits };
      try {
        ids.push({ id: b.submit(prompt, request), abort: n === 4 && pick(2) === 0 });
      } catch (e) {
        outcomes.push((e as LongmindError).code);
      }
      for (let s = pick(20); s > 0; s--) b.batch.step();
    }
    for (const { id, abort } of ids) if (abort) b.batch.abort(id);
    b.run();
    for (const { id, abort } of ids) {
      const { tokens, logprobs, finished, error } = b.outcomes.get(id)!;
      // how far one came that was aborted is a matter of speed
      if (!abort) outcomes.push([tokens, logprobs, finished?.reason, finished?.stopString, error?.code]);
    }
  }
  const drafts = b.batch.speculator?.counts().byModel ?? { verified: 0, accepted: 0 };
  return { outcomes, ...drafts };
}

test('what comes out is the same with and without a draft model, a good and a bad one: drawn, grammars, penalties, aborts', () => {
  const seen = { good: 0, bad: 0, wrong: 0 };
  for (let seed = 1; seed <= 6; seed++) {
    for (const options of [{}, { blocks: 12, sessionLen: 192 }, { depth: 2 }]) {
      const without = play(seed, { ...options, speculation: 'off' });
      const good = play(seed, { ...options, draft: {} });
      const bad = play(seed, { ...options, draft: { drawn: 37 } });
      const cramped = play(seed, { ...options, draft: { blocks: 5 } });
      for (const run of [good, bad, cramped]) assert.deepEqual(run.outcomes, without.outcomes, `seed ${seed}`);
      seen.good += good.accepted;
      seen.bad += bad.accepted;
      seen.wrong += bad.verified - bad.accepted;
    }
  }
  assert.ok(seen.good > 300 && seen.wrong > 50 && seen.bad < seen.good / 4, JSON.stringify(seen));
});

test('a draft model that is always right saves most steps, for a greedy request and a drawn one', () => {
  for (const temperature of [0, 1]) {
    const b = new TestBatch({ draft: {} });
    const prompt = tokens(100, 1);
    const sampling = { ...greedySampling, temperature };
    const { tokens: out, finished } = b.complete(prompt, { limits: { maxTokens: 120 }, sampling });
    assert.equal(out.length, 120);
    const { verified, accepted } = b.batch.speculator!.counts().byModel;
    assert.equal(accepted, verified);
    assert.ok(finished!.acceptedDraftTokens >= 80, `${finished!.acceptedDraftTokens} accepted`);
    assert.ok(b.batch.counters.steps < 40, `${b.batch.counters.steps} steps`);
  }
});

test('a draft model computes only what is new of a history', () => {
  let computed = 0;
  const b = new TestBatch({ draft: { onStep: (step) => (computed += step.tokenCount) } });
  b.complete(tokens(200, 2), { limits: { maxTokens: 100 } });
  assert.ok(b.batch.speculator!.counts().byModel.accepted > 50);
  assert.ok(computed < 200 + 100 + 60, `${computed} tokens for a history of 300`);
});

test('a draft model that is never right is left alone at once, and tried again rarely', () => {
  let t = 0;
  let steps = 0;
  // a step of it costs a third of the model's
  const onStep = () => {
    t += 0.33;
    steps++;
  };
  const b = new TestBatch({ drawn: 900, sessionLen: 2048, draft: { drawn: 7, onStep, now: () => t } });
  b.complete(tokens(20, 3), { limits: { maxTokens: 1000 } });
  const { verified, accepted } = b.batch.speculator!.counts().byModel;
  assert.ok(verified > 0, 'it was tried');
  assert.ok(accepted <= 10, `${accepted} accepted`);
  // 1000 / 64 tries of 4, and the few of the beginning
  assert.ok(verified <= 110 && steps <= 120, `${verified} verified, ${steps} steps`);
});

test('a draft model whose step costs as much as the model’s is not used', () => {
  let t = 0;
  const b = new TestBatch({ sessionLen: 2048, draft: { onStep: () => (t += 1), now: () => t } });
  b.complete(tokens(20, 3), { limits: { maxTokens: 600 } });
  const { verified } = b.batch.speculator!.counts().byModel;
  assert.ok(verified > 0 && verified < 80, `${verified}`);
});

test('a long history is read by and by, and no request waits for all of it', () => {
  let t = 0;
  let longest = 0;
  let last = 0;
  const draft = { onStep: () => (t += 30), now: () => t };
  const onStep = () => {
    longest = Math.max(longest, t - last);
    last = t;
  };
  const b = new TestBatch({ sessionLen: 2048, budget: 512, draft, onStep });
  b.complete(tokens(1000, 4), { limits: { maxTokens: 200 } });
  assert.ok(t > 300, `it took ${t} ms in all`);
  assert.ok(longest <= 60, `${longest} ms in one step`);
  assert.ok(b.batch.speculator!.counts().byModel.verified > 0);
});

test('a draft model whose device fails costs its guesses, no answer', () => {
  const fail = () => {
    throw new Error('out of order');
  };
  const b = new TestBatch({ draft: { onStep: fail } });
  const want = new TestBatch({ speculation: 'off' }).complete(tokens(30, 5), { limits: { maxTokens: 50 } });
  const got = b.complete(tokens(30, 5), { limits: { maxTokens: 50 } });
  assert.deepEqual(got.tokens, want.tokens);
  assert.equal(got.error, null);
});

test('with many sequences, or told to look things up only, no draft model is asked', () => {
  const count = { steps: 0 };
  const draft = { onStep: () => count.steps++ };
  const many = new TestBatch({ draft });
  for (let i = 0; i < 8; i++) many.submit(tokens(20, i), { limits: { maxTokens: 30 } });
  while (many.batch.running === 8 || many.batch.counters.steps === 0) many.batch.step();
  assert.equal(count.steps, 0);
  many.run();
  count.steps = 0;
  for (const speculation of ['lookup', 'off'] as const)
    new TestBatch({ draft, speculation }).complete(tokens(20, 1), { limits: { maxTokens: 100 } });
  assert.equal(count.steps, 0);
});

test('a draft model guesses for turns that are kept, that go on from kept ones, and that come from a shared store', () => {
  const b = new TestBatch({ draft: {} });
  const accepted = (prompt: number[], request: Parameters<TestBatch['submit']>[1]) => {
    const before = b.batch.speculator!.counts().byModel.accepted;
    const { error } = b.complete(prompt, { append: true, limits: { maxTokens: 60 }, ...request });
    assert.equal(error, null);
    return b.batch.speculator!.counts().byModel.accepted - before;
  };
  const keepAs = (name: string) => ({ name, note: '', head: '' });
  const kept = { ids: Int32Array.from(tokens(30, 3)), adapter: null, lastUsed: 0, marks: [] };
  const runs = {
    first: accepted(tokens(20, 1), { sessionId: 'one', keepAs: keepAs('one') }),
    next: accepted(tokens(20, 2), { after: 'one', keepAs: keepAs('two') }),
    unkept: accepted(tokens(20, 4), { after: 'two' }),
    shared: accepted(tokens(20, 5), { sessionId: 's', shared: { id: 's', kept, branch: false } }),
  };
  for (const [name, count] of Object.entries(runs)) assert.ok(count > 30, `${name}: ${count} accepted`);
});
