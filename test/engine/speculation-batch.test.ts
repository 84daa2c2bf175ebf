import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileJsonSchema, type Grammar } from 'longmind-grammar';
import { greedySampling } from '../../src/config.js';
import type { LongmindError } from '../../src/errors.js';
import { EOS, TestBatch, type TestBatchOptions } from '../support/batch.js';

/** Numbers that look random, the same each time. */
function random(seed: number) {
  let x = seed >>> 0;
  return (below: number) => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return Math.floor((x / 2 ** 32) * below);
  };
}

const schema: Grammar = compileJsonSchema({
  type: 'object',
  properties: { a: { type: 'array', items: { type: 'integer' }, maxItems: 12 }, b: { type: 'string', maxLength: 30 } },
  required: ['a', 'b'],
});

/** Requests of every kind, among them sessions of several turns; what came out of each, and how much was guessed right. */
function play(seed: number, o: TestBatchOptions) {
  const pick = random(seed);
  const b = new TestBatch({ blocks: 40, budget: 48, drawn: 6, vocab: 'bytes', ...o });
  const outcomes: unknown[] = [];
  for (let turn = 0; turn < 3; turn++) {
    const ids = [];
    for (let n = 0; n < 12; n++) {
      const sampling = {
        ...greedySampling,
        temperature: pick(2),
        seed: pick(1000),
        logprobs: pick(3) === 0 ? 2 : null,
        frequencyPenalty: pick(4) === 0 ? 0.5 : 0,
        repetitionPenalty: pick(4) === 0 ? 1.3 : 1,
        logitBias: (pick(5) === 0 ? { 4: -100 } : {}) as Record<number, number>,
      };
      const limits = {
        maxTokens: 1 + pick(60),
        minTokens: pick(4) === 0 ? pick(20) : 0,
        stop: pick(4) === 0 ? ['aba', 'bb'] : [],
      };
      const grammar = pick(6) === 0 ? schema : undefined;
      const tokens = Array.from({ length: 2 + pick(50) }, () => 3 + pick(3));
      const sessionId = n < 5 ? `s${n}` : null;
      const stopTokens = grammar ? [EOS] : pick(3) === 0 ? [EOS, 5] : [];
      const append = sessionId !== null;
      const request = { append, sessionId, stopTokens, sampling, grammar, limits, priority: pick(2) };
      try {
        ids.push(b.submit(tokens, request));
      } catch (e) {
        // a session that has become too long
        outcomes.push((e as LongmindError).code);
      }
      for (let s = pick(4); s > 0; s--) b.batch.step();
    }
    b.run();
    for (const id of ids) {
      const { tokens, logprobs, finished, error } = b.outcomes.get(id)!;
      outcomes.push([tokens, logprobs, finished?.reason, finished?.stopString, error?.code]);
    }
  }
  const drafts = b.batch.speculator?.counts() ?? { verified: 0, accepted: 0 };
  return { outcomes, ...drafts, steps: b.batch.counters.steps };
}

test('what comes out is the same with and without guesses: greedy and drawn, grammars, penalties, stops, little room', () => {
  let accepted = 0;
  let wrong = 0;
  for (let seed = 1; seed <= 8; seed++) {
    for (const options of [
      {},
      { blocks: 12, sessionLen: 192 },
      { depth: 2 },
      { depth: 2, blocks: 12, sessionLen: 192 },
    ]) {
      const without = play(seed, { ...options, speculation: 'off' });
      const withGuesses = play(seed, options);
      assert.deepEqual(withGuesses.outcomes, without.outcomes, `seed ${seed}, ${JSON.stringify(options)}`);
      accepted += withGuesses.accepted;
      wrong += withGuesses.verified - withGuesses.accepted;
    }
  }
  assert.ok(accepted > 300 && wrong > 300, `${accepted} guesses were right, ${wrong} wrong`);
});

test('a text that repeats itself takes fewer steps, and says how many tokens were guessed', () => {
  const b = new TestBatch({ drawn: 1 });
  const id = b.submit([5, 6, 7, 8, 9], { limits: { maxTokens: 100 } });
  b.run();
  const { finished, tokens } = b.outcomes.get(id)!;
  assert.equal(tokens.length, 100);
  assert.ok(finished!.acceptedDraftTokens > 80, `${finished!.acceptedDraftTokens}`);
  assert.ok(b.batch.counters.steps < 20, `${b.batch.counters.steps} steps`);
});

test('a batch too large to guess in goes on as before, and guesses again when it is small', () => {
  const b = new TestBatch({ drawn: 1, maxRows: 32, blocks: 400 });
  const long = b.submit([5, 6, 7, 8, 9], { limits: { maxTokens: 200 } });
  for (let i = 0; i < 20; i++) b.submit([50 + i, 60 + i], { limits: { maxTokens: 40 } });
  b.run();
  assert.equal(b.outcomes.get(long)!.tokens.length, 200);
  assert.ok(b.outcomes.get(long)!.finished!.acceptedDraftTokens > 100);
});
