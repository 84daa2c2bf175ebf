/** One request cannot make others fail: what the device would refuse is refused at admission, and a refused step costs its offender alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { greedySampling } from '../../src/config.js';
import type { Step } from '../../src/device/device.js';
import { LongmindError } from '../../src/errors.js';
import { TestBatch, tokens, VOCAB } from '../support/batch.js';

const POISON = 999;

/** A device that refuses every step in which a row computes the token POISON, as the native one refuses what it checks. */
const refusing = (step: Step): void => {
  for (let t = 0; t < step.tokenCount; t++)
    if (step.tokens[t] === POISON) throw new LongmindError('native_error', 500, 'refused on purpose');
};

test('an id beyond the vocabulary is refused at admission, by the name of its field, and nothing has changed', () => {
  const t = new TestBatch();
  const bias = (id: number) => ({ sampling: { ...greedySampling, logitBias: { [id]: 1 } } });
  for (const [options, param] of [
    [bias(VOCAB), 'logitBias'],
    [bias(-1), 'logitBias'],
    [{ stopTokens: [5, VOCAB], limits: { minTokens: 4 } }, 'stopTokens'],
    [{ stopTokens: [-1] }, 'stopTokens'],
  ] as const) {
    const refused = { code: 'invalid_request', status: 400, param, message: /vocabulary of 1000/ };
    assert.throws(
      () => t.submit(tokens(10, 1), { ...options, stopTokens: [], sessionId: 's', ...options } as never),
      refused,
    );
  }
  assert.equal(t.batch.sessions.size, 0);
  assert.equal(t.cache.stats().sequences.total, 0);
  const last = t.complete(tokens(10, 1), { ...bias(VOCAB - 1), stopTokens: [VOCAB - 1], limits: { minTokens: 4 } });
  assert.equal(last.error, null);
});

test('a step that the device refuses is run row by row: only the offender fails, the others get the tokens they would have had', () => {
  const t = new TestBatch({ onStep: refusing, budget: 256, maxRows: 8 });
  const prompts = Array.from({ length: 6 }, (_, i) => tokens(20 + i, 50 + i).map((x) => (x === POISON ? 7 : x)));
  const options = { limits: { maxTokens: 12 }, sampling: { ...greedySampling, logitBias: { [POISON]: -100 } } };
  const good = prompts.map((p) => t.submit(p, options));
  t.batch.step();
  t.batch.step();
  const offenders = [t.submit([...tokens(9, 1), POISON]), t.submit([...tokens(12, 2), POISON])];
  t.run();
  for (const id of offenders) assert.equal(t.outcomes.get(id)!.error?.message, 'refused on purpose');
  good.forEach((id, i) => {
    const { error, tokens: out } = t.outcomes.get(id)!;
    assert.equal(error, null, `request ${i}`);
    assert.deepEqual(out, new TestBatch().complete(prompts[i]!, options).tokens);
  });
});

test('block copies of a refused step are not lost', () => {
  let refuse = false;
  const copies: number[] = [];
  const t: TestBatch = new TestBatch({
    budget: 256,
    onStep: (step) => {
      if (refuse && step.rowCount > 1) throw new LongmindError('native_error', 500, 'refused on purpose');
      copies.push(step.copyCount);
    },
  });
  const prompt = tokens(40, 1);
  t.complete(prompt, { sessionId: 'a' });
  const turns = [1, 2, 3].map((n) => [...prompt.slice(0, 36), ...tokens(20, 10 + n)]);
  copies.length = 0;
  refuse = true;
  const ids = turns.map((turn) => t.submit(turn));
  t.run();
  assert.ok(Math.max(...copies) > 0, 'no step copied a block: this test checks nothing');
  ids.forEach((id, i) => {
    assert.deepEqual(t.outcomes.get(id)!.tokens, new TestBatch().complete(turns[i]!).tokens);
  });
});

test('a turn that failed is not kept half: the session is as it was before, and the turn can be tried again', () => {
  let fail = false;
  const written: [string, number][] = [];
  const t: TestBatch = new TestBatch({
    onStep: () => {
      if (fail) throw new LongmindError('native_error', 500, 'refused on purpose');
    },
    onSessionChange: (s, from) => written.push([s.id, from]),
  });
  const read = () => {
    const { sequence } = t.batch.sessions.get('a', 0);
    const out = new Int32Array(t.cache.known(sequence));
    t.cache.readTokens(sequence, 0, out.length, out, 0);
    return [...out];
  };
  const prompt = tokens(40, 1);
  const first = t.complete(prompt, { sessionId: 'a' });
  const before = read();
  written.length = 0;
  const turn = tokens(6, 2);
  fail = true;
  assert.equal(t.complete(turn, { sessionId: 'a', append: true }).error?.code, 'native_error');
  assert.deepEqual(read(), before, 'an appended turn');
  const edited = [...prompt.slice(0, 20), ...tokens(9, 3)];
  assert.equal(t.complete(edited, { sessionId: 'a' }).error?.code, 'native_error');
  assert.deepEqual(read(), before, 'a turn that replaced what was there');
  assert.equal(t.complete(prompt, { sessionId: 'new' }).error?.code, 'native_error');
  assert.equal(t.batch.sessions.find('new', 0), null, 'a session that the failed turn would have begun');
  assert.deepEqual(written, [], 'nothing changed, so nothing is written');
  // half-way: tokens came out, then it fails
  fail = false;
  const id = t.submit(turn, { sessionId: 'a', append: true });
  for (let i = 0; i < 3; i++) t.batch.step();
  assert.ok(t.outcomes.get(id)!.tokens.length > 0);
  fail = true;
  t.run();
  assert.deepEqual(read(), before, 'a turn of which some was answered');
  fail = false;
  const again = t.complete(turn, { sessionId: 'a', append: true });
  assert.deepEqual(again.tokens, new TestBatch().complete([...prompt, ...first.tokens, ...turn]).tokens);
});

test('a refused append changes nothing: no token is cut off, no empty session stays', () => {
  const t = new TestBatch({ maxTokens: 120 });
  const prompt = tokens(60, 1);
  t.complete(prompt, { sessionId: 'a' });
  const known = t.cache.known(t.batch.sessions.get('a', 0).sequence);
  const other = t.submit(tokens(20, 9));
  t.batch.step();
  const edited = [...prompt.slice(0, 10), ...tokens(100, 2)];
  assert.throws(() => t.submit(edited, { sessionId: 'a' }), { code: 'too_many_sessions' });
  assert.equal(t.cache.known(t.batch.sessions.get('a', 0).sequence), known);
  assert.throws(() => t.submit(tokens(110, 3), { sessionId: 'b' }), { code: 'too_many_sessions' });
  assert.equal(t.batch.sessions.find('b', 0), null);
  t.run();
  assert.equal(t.outcomes.get(other)!.error, null);
});
