import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileJsonSchema } from 'longmind-grammar';
import { greedySampling } from '../../src/config.js';
import { LongmindError } from '../../src/errors.js';
import { EOS, type Outcome, random, TestBatch, type TestBatchOptions, tokens } from '../support/batch.js';

/** Several sessions of several turns, all submitted round by round; what came out by session and turn. */
function conversations(o: TestBatchOptions, sessions: number, turns: number, together: boolean) {
  const t = new TestBatch(o);
  const out: number[][] = [];
  const history = Array.from({ length: sessions }, () => [] as number[]);
  for (let turn = 0; turn < turns; turn++) {
    const ids = history.map((h, s) => {
      h.push(...tokens(20 + ((s * 7 + turn * 13) % 40), s * 100 + turn));
      const id = t.submit(h, { sessionId: `s${s}`, limits: { maxTokens: 12 }, sampling: sampling(s) });
      if (!together) t.run();
      return id;
    });
    t.run();
    ids.forEach((id, s) => {
      const outcome = t.outcomes.get(id)!;
      assert.equal(outcome.finished?.reason, 'length');
      history[s]!.push(...outcome.tokens);
      out.push(outcome.tokens);
    });
  }
  return { out, stats: t.cache.stats(), counters: t.batch.counters };
}

const sampling = (s: number) => (s % 2 ? { ...greedySampling, temperature: 1, seed: s } : greedySampling);

test('a hit and a miss give the same tokens, whatever the room, the chunks, the blocks and the company', () => {
  const all = conversations({ blocks: 1000 }, 8, 4, true);
  const variants: [string, TestBatchOptions, boolean][] = [
    ['one at a time', { blocks: 1000 }, false],
    ['an eighth of the room', { blocks: 24 }, true],
    ['room for one', { blocks: 18 }, true],
    ['room for one, alone', { blocks: 18 }, false],
    ['small chunks', { blocks: 40, budget: 9 }, true],
    ['large blocks', { blocks: 8, blockLen: 64, budget: 33 }, true],
    ['slots', { blocks: 2, blockLen: 512 }, true],
    ['no prefix cache', { blocks: 24, prefixCaching: false }, true],
    ['memory by and by', { blocks: 24, chunkSize: 5 }, true],
    ['one row', { blocks: 24, maxRows: 1 }, true],
  ];
  for (const [name, options, together] of variants) {
    const v = conversations(options, 8, 4, together);
    assert.deepEqual(v.out, all.out, name);
    if (name.startsWith('room for one') || name.startsWith('an eighth')) {
      assert.ok(v.stats.blocksEvicted > 0, `${name}: nothing was evicted`);
      assert.ok(v.stats.tokensRecomputed > 0, `${name}: nothing was recomputed`);
    }
    if (name === 'an eighth of the room') assert.ok(v.counters.preemptions > 0, `${name}: nothing was preempted`);
  }
  assert.equal(all.stats.tokensRecomputed, 0);
});

test('after random aborts at every moment nothing is active and every invariant holds', () => {
  const t = new TestBatch({ blocks: 40, budget: 24, maxRows: 6 });
  const r = random(7);
  let submitted = 0;
  while (submitted < 2000 || !t.batch.idle) {
    if (submitted < 2000 && r(3) > 0) {
      const session = r(3) === 0 ? { sessionId: `s${r(20)}` } : {};
      try {
        t.submit(tokens(1 + r(120), r(12)), { ...session, limits: { maxTokens: 1 + r(30) } });
      } catch (e) {
        assert.equal((e as LongmindError).code, 'session_busy');
      }
      submitted++;
    }
    if (r(4) === 0) t.batch.abort(1 + r(submitted + 1));
    t.batch.step();
    if (r(20) === 0) t.batch.check();
  }
  t.batch.check();
  const stats = t.cache.stats();
  assert.equal(stats.blocks.active, 0);
  assert.equal(stats.sequences.active, 0);
  assert.ok(t.batch.counters.aborted > 100 && t.batch.counters.finished > 100);
});

test('an abort frees the blocks by the next step, also in the middle of a prefill', () => {
  const t = new TestBatch({ budget: 16, blocks: 64 });
  const id = t.submit(tokens(300, 1));
  t.batch.step();
  t.batch.step();
  assert.ok(t.cache.stats().blocks.active > 0);
  t.batch.abort(id);
  t.batch.step();
  assert.equal(t.cache.stats().blocks.active, 0);
  assert.equal(t.outcomes.get(id)?.finished?.reason, 'abort');
});

test('a request that can never fit is refused with the numbers, and nothing is lost', () => {
  const t = new TestBatch({ blocks: 4, blockLen: 16 });
  assert.throws(() => t.submit(tokens(60, 1), { sessionId: 'a', limits: { maxTokens: 20 } }), {
    code: 'never_fits',
    message: /80 tokens = 5 KV blocks of 16.* has 4/,
  });
  assert.equal(t.batch.sessions.size, 0);
  assert.throws(() => t.submit(tokens(600, 1)), { code: 'prompt_too_long', message: /600 tokens.*512/ });
  assert.equal(t.complete(tokens(55, 1), { limits: { maxTokens: 10 } }).tokens.length, 10);
});

test('a request of exactly the capacity runs alone', () => {
  const t = new TestBatch({ blocks: 4, blockLen: 16 });
  assert.equal(t.complete(tokens(50, 1), { limits: { maxTokens: 15 } }).tokens.length, 15);
  assert.equal(t.complete(tokens(50, 2), { limits: { maxTokens: null } }).tokens.length, 15);
});

test('a session in use answers with a conflict', () => {
  const t = new TestBatch();
  t.submit(tokens(10, 1), { sessionId: 'a' });
  assert.throws(() => t.submit(tokens(10, 1), { sessionId: 'a' }), { code: 'session_busy', status: 409 });
  t.run();
  t.complete(tokens(10, 1), { sessionId: 'a' });
});

test('the queue is bounded', () => {
  const t = new TestBatch({ maxQueue: 3 });
  for (let i = 0; i < 3; i++) t.submit(tokens(10, i));
  assert.throws(() => t.submit(tokens(10, 9)), { code: 'queue_full', status: 429 });
  t.run();
});

test('a diverging history keeps the common part only', () => {
  const t = new TestBatch();
  const base = tokens(64, 1);
  const first = t.complete(base, { sessionId: 'a' });
  const grown = [...base, ...first.tokens, ...tokens(5, 2)];
  assert.equal(t.complete(grown, { sessionId: 'a' }).finished?.cachedTokens, base.length + first.tokens.length - 1);
  const edited = [...base.slice(0, 50), ...tokens(30, 3)];
  assert.equal(t.complete(edited, { sessionId: 'a' }).finished?.cachedTokens, 50);
  assert.deepEqual(t.complete(edited, {}).tokens, new TestBatch().complete(edited, {}).tokens);
});

test('an appended turn follows what the session holds, and its leading end of turn is not doubled', () => {
  const t = new TestBatch();
  const prompt = tokens(20, 1);
  const first = t.complete(prompt, { sessionId: 'a', stopTokens: [] });
  const turn = [EOS, ...tokens(6, 2)];
  const second = t.complete(turn, { sessionId: 'a', append: true });
  const whole = [...prompt, ...first.tokens, ...turn];
  assert.deepEqual(second.tokens, new TestBatch().complete(whole).tokens);
  assert.equal(second.finished?.promptTokens, whole.length);
  // the session now ends with EOS: an appended turn that begins with EOS adds no second one
  t.cache.appendOne(t.batch.sessions.get('a', 0).sequence, EOS);
  const third = t.complete([EOS, ...tokens(4, 3)], { sessionId: 'a', append: true });
  assert.deepEqual(third.tokens, new TestBatch().complete([...whole, ...second.tokens, EOS, ...tokens(4, 3)]).tokens);
});

test('two requests with one long prompt compute it once, also when the first aborts half-way', () => {
  for (const abort of [false, true]) {
    const t = new TestBatch({ budget: 64, blocks: 400, sessionLen: 4096 });
    const prompt = tokens(2000, 5);
    const a = t.submit(prompt);
    const b = t.submit([...prompt, 77]);
    for (let i = 0; i < 15; i++) t.batch.step();
    if (abort) t.batch.abort(a);
    t.run();
    const computed = t.cache.stats().tokensComputed;
    assert.ok(computed < 2000 + 150, `${computed} tokens computed${abort ? ' (abort)' : ''}`);
    assert.deepEqual(
      t.outcomes.get(b)!.tokens,
      new TestBatch({ sessionLen: 4096, blocks: 400 }).complete([...prompt, 77]).tokens,
    );
  }
});

test('decode goes on while a long prompt is prefilled, and one prefill is left partial at most', () => {
  const t = new TestBatch({ budget: 32, blocks: 400, sessionLen: 2048 });
  const a = t.submit(tokens(10, 1), { limits: { maxTokens: 40 } });
  t.batch.step();
  t.submit(tokens(1000, 2));
  t.submit(tokens(1000, 3));
  const before = t.outcomes.get(a)!.tokens.length;
  for (let i = 0; i < 10; i++) t.batch.step();
  assert.equal(t.outcomes.get(a)!.tokens.length, before + 10);
  assert.equal(t.batch.running, 2);
  t.run();
});

test('stop tokens, stop strings, minimum and maximum lengths end a generation where they should', () => {
  const prompt = tokens(30, 4);
  const free = new TestBatch().complete(prompt, { limits: { maxTokens: 20 } }).tokens;
  const run = (o: Parameters<TestBatch['submit']>[1]): Outcome => new TestBatch().complete(prompt, o);
  const third = free[2]!;
  const stopped = run({ stopTokens: [third], limits: { maxTokens: 20 } });
  assert.deepEqual(stopped.tokens, free.slice(0, free.indexOf(third) + 1));
  assert.equal(stopped.finished?.reason, 'stop');
  const late = run({ stopTokens: [third], limits: { maxTokens: 20, minTokens: 6 } });
  assert.ok(late.tokens.length >= 6 && !late.tokens.slice(0, 6).includes(third));
  const letter = (t: number) => String.fromCharCode(97 + (t % 26));
  const text = free.map(letter).join('');
  const stop = text.slice(4, 7);
  const byString = run({ limits: { maxTokens: 20, stop: [stop] } });
  assert.equal(byString.finished?.stopString, stop);
  assert.equal(byString.tokens.length, text.indexOf(stop) + 3);
});

test('a stop string that comes before the minimum is text; one that ends after it ends the generation', () => {
  const prompt = tokens(30, 4);
  const free = new TestBatch().complete(prompt, { limits: { maxTokens: 20 } }).tokens;
  const text = free.map((t) => String.fromCharCode(97 + (t % 26))).join('');
  const run = (stop: string[], minTokens: number) =>
    new TestBatch().complete(prompt, { limits: { maxTokens: 20, stop, minTokens } });
  const [early, straddling, late] = [text.slice(2, 5), text.slice(8, 12), text.slice(14, 17)];
  assert.deepEqual(
    [early, straddling, late].map((s) => text.indexOf(s)),
    [2, 8, 14],
  );
  assert.equal(run([early], 0).tokens.length, 5);
  assert.equal(run([early], 5).tokens.length, 5);
  assert.deepEqual(run([early], 6).tokens, free);
  assert.deepEqual([run([early, late], 10).tokens.length, run([early, late], 10).finished?.stopString], [17, late]);
  assert.deepEqual([run([straddling], 10).tokens.length, run([straddling], 10).finished?.stopString], [12, straddling]);
});

test('when the device fails, the requests of the step fail and sessions continue', () => {
  let fail = false;
  const t = new TestBatch({
    onStep: () => {
      if (fail) throw new LongmindError('native_error', 500, 'boom');
    },
  });
  const prompt = tokens(40, 1);
  const first = t.complete(prompt, { sessionId: 'a' });
  fail = true;
  const turn = [...prompt, ...first.tokens, 9];
  assert.equal(t.complete(turn, { sessionId: 'a' }).error?.code, 'native_error');
  fail = false;
  const again = t.complete(turn, { sessionId: 'a' });
  assert.deepEqual(again.tokens, new TestBatch().complete(turn).tokens);
  assert.ok(again.finished!.cachedTokens >= 32);
});

test('a step that was cancelled commits nothing and is run again', () => {
  let cancel = 3;
  const t: TestBatch = new TestBatch({
    onStep: () => {
      if (--cancel === 0) Atomics.store(t.device.cancel, 0, 1);
    },
  });
  assert.deepEqual(t.complete(tokens(100, 1)).tokens, new TestBatch().complete(tokens(100, 1)).tokens);
});

test('a device that refuses memory ends the request with an error, not the engine', () => {
  const t = new TestBatch({ blocks: 100, blockLimit: 6, chunkSize: 2 });
  assert.equal(t.complete(tokens(60, 1)).finished?.reason, 'length');
  assert.match(t.complete(tokens(200, 2)).error!.message, /only 6 of 100 KV blocks/);
  assert.equal(t.complete(tokens(60, 3)).finished?.reason, 'length');
});

test('within a priority nobody starves under memory pressure; a low priority gets its turn in bounded time', () => {
  let clock = 0;
  const t = new TestBatch({ blocks: 12, maxRows: 2, budget: 32, now: () => clock });
  const low = t.submit(tokens(60, 1), { priority: 0 });
  let done = -1;
  for (let i = 0; i < 3000 && done < 0; i++) {
    clock += 10;
    if (t.batch.waiting < 4) t.submit(tokens(60, i + 2), { priority: 1, limits: { maxTokens: 30 } });
    t.batch.step();
    if (t.outcomes.get(low)!.finished) done = clock;
  }
  assert.ok(done > 0, 'the low priority starved');
  assert.ok(done < 15_000, `it took ${done} ms`);
});

test('a grammar decides what may come, row by row, and only end tokens end a complete document', () => {
  const t = new TestBatch({ vocab: 'bytes' });
  const grammar = compileJsonSchema({
    type: 'object',
    properties: { n: { type: 'integer' } },
    required: ['n'],
    additionalProperties: false,
  });
  const ids = Array.from({ length: 6 }, (_, i) =>
    t.submit(tokens(12, i), i % 2 ? {} : { grammar, stopTokens: [EOS], limits: { maxTokens: 80 } }),
  );
  t.run();
  ids.forEach((id, i) => {
    const { tokens: out, finished, error } = t.outcomes.get(id)!;
    assert.equal(error, null);
    if (i % 2) return;
    const text = out
      .filter((x) => x > EOS)
      .map((x) => String.fromCharCode((x - 3) & 255))
      .join('');
    if (finished!.reason === 'stop') assert.equal(typeof JSON.parse(text).n, 'number');
    else assert.match(text, /^\{\s*"n": ?-?\d*/);
  });
});

test('a grammar that the vocabulary cannot spell fails the request, not the batch', () => {
  const t = new TestBatch();
  const other = t.submit(tokens(10, 2));
  const id = t.submit(tokens(10, 1), { grammar: compileJsonSchema({ const: 5 }), stopTokens: [EOS] });
  t.run();
  assert.equal(t.outcomes.get(id)!.error?.code, 'grammar_dead_end');
  assert.equal(t.outcomes.get(other)!.finished?.reason, 'length');
});

/** Counts the calls of a method of the cache manager. */
function calls(t: TestBatch, name: 'match' | 'probe'): { count: number } {
  const counter = { count: 0 };
  const method = t.cache[name].bind(t.cache) as (seq: number) => never;
  t.cache[name] = (seq: number) => {
    counter.count++;
    return method(seq);
  };
  return counter;
}

test('a cancelled step keeps its block copies: they run with the next step', () => {
  let cancelled = 0;
  const seen = new Set<string>();
  const t: TestBatch = new TestBatch({
    onStep: (step) => {
      // every step with a copy that was not cancelled before
      const copies = String(step.copies.subarray(0, 3 * step.copyCount));
      if (step.copyCount === 0 || seen.has(copies)) return;
      seen.add(copies);
      cancelled++;
      Atomics.store(t.device.cancel, 0, 1);
    },
  });
  const prompt = tokens(40, 1);
  const first = t.submit(prompt);
  const forks = [1, 2, 3].map((seed) => t.submit(prompt, { forkOf: first, sampling: sampling(2 * seed + 1) }));
  t.run();
  const branch = [...prompt.slice(0, 37), ...tokens(9, 2)];
  const shared = t.complete(branch);
  assert.ok(cancelled >= 2, `${cancelled} steps with copies`);
  const fresh = new TestBatch();
  forks.forEach((id, i) => {
    const want = fresh.complete(prompt, { sampling: sampling(2 * i + 3) }).tokens;
    assert.deepEqual(t.outcomes.get(id)!.tokens, want);
  });
  assert.deepEqual(shared.tokens, new TestBatch().complete(branch).tokens);
});

test('a request that waits for room does not take its prefix up at every step: the policy learns of nothing', () => {
  const t = new TestBatch({ blocks: 20, maxRows: 4 });
  const prompt = tokens(100, 1);
  t.complete(prompt);
  const long = t.submit(tokens(150, 2), { limits: { maxTokens: 120 } });
  t.batch.step();
  t.batch.step();
  const match = calls(t, 'match');
  const probe = calls(t, 'probe');
  const waits = t.submit([...prompt, ...tokens(60, 3)], { limits: { maxTokens: 5 } });
  for (let i = 0; i < 60; i++) t.batch.step();
  assert.equal(t.batch.waiting, 1);
  assert.equal(match.count, 0);
  assert.ok(probe.count >= 50, 'it was asked again and again');
  t.run();
  assert.equal(match.count, 1);
  for (const id of [long, waits]) assert.equal(t.outcomes.get(id)!.finished?.reason, 'length');
});

test('who waits for what another computes is asked when it is there, not at every step', () => {
  const t = new TestBatch({ budget: 16, blocks: 400, sessionLen: 4096 });
  const prompt = tokens(1600, 5);
  t.submit(prompt);
  t.batch.step();
  const match = calls(t, 'match');
  const probe = calls(t, 'probe');
  const followers = [1, 2, 3].map((n) => t.submit([...prompt, 70 + n]));
  for (let i = 0; i < 90; i++) t.batch.step();
  assert.equal(t.batch.waiting, 3);
  assert.ok(match.count === 0 && probe.count <= 3, `${match.count} matches, ${probe.count} probes`);
  t.run();
  assert.ok(match.count <= 4 && probe.count <= 12, `${match.count} matches, ${probe.count} probes`);
  for (const id of followers) assert.ok(t.outcomes.get(id)!.finished!.cachedTokens >= 1584);
});

test('who waits for another goes on alone when that one leaves', () => {
  const t = new TestBatch({ budget: 16, blocks: 400, sessionLen: 4096 });
  const prompt = tokens(800, 5);
  const first = t.submit(prompt);
  t.batch.step();
  const others = [1, 2].map((n) => t.submit([...prompt, 70 + n]));
  for (let i = 0; i < 5; i++) t.batch.step();
  t.batch.abort(first);
  t.batch.abort(others[0]!);
  t.run();
  const alone = new TestBatch({ blocks: 400, sessionLen: 4096 }).complete([...prompt, 72]);
  assert.deepEqual(t.outcomes.get(others[1]!)!.tokens, alone.tokens);
});
