/** Requests whose KV is brought back: they wait in the queue, with blocks reserved for them, and nobody waits for ever. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestBatch, type TestBatchOptions, tokens } from '../support/batch.js';

const HOST = { hostBlocks: 64, blocks: 8, blockLen: 16, sessionLen: 128 };
const greedy = { maxTokens: 4, ignoreEos: true };

/** Session `b` has said 80 tokens, which lie in host memory; what the device holds is another's. */
function evicted(more: TestBatchOptions = {}): TestBatch {
  const b = new TestBatch({ ...HOST, ...more });
  b.complete(tokens(80, 1), { sessionId: 'b', limits: greedy });
  b.complete(tokens(120, 2), { sessionId: 'other', limits: greedy });
  assert.ok(b.cache.stats().tiers!.saves >= 5);
  return b;
}

/** The answers of the same requests with room for all. */
function expected(): { b: number[]; a: number[] } {
  const all = new TestBatch({ blocks: 64, sessionLen: 128 });
  all.complete(tokens(80, 1), { sessionId: 'b', limits: greedy });
  const b = all.complete(tokens(8, 3), { sessionId: 'b', append: true, limits: greedy }).tokens;
  return { b, a: all.complete(tokens(100, 4), { limits: greedy }).tokens };
}

test('KV comes back instead of being computed, and the answer is the same', () => {
  const batch = evicted({ transferDelay: 3 });
  const { tokensComputed } = batch.cache.stats();
  assert.deepEqual(batch.complete(tokens(8, 3), { sessionId: 'b', append: true, limits: greedy }).tokens, expected().b);
  const after = batch.cache.stats();
  assert.ok(after.tokensRestored >= 80, `${after.tokensRestored} restored`);
  assert.ok(after.tokensComputed - tokensComputed <= 16, `${after.tokensComputed - tokensComputed} computed`);
});

test('who comes first is let in though another one, whose KV is back, holds the blocks that it needs', () => {
  const batch = evicted();
  const b = batch.submit(tokens(8, 3), { sessionId: 'b', append: true, limits: greedy });
  batch.batch.step(); // its KV is on its way, into blocks that are kept for it
  assert.equal(batch.batch.running, 0);
  assert.equal(batch.batch.watching, true);
  const a = batch.submit(tokens(100, 4), { priority: 1, limits: greedy });
  assert.deepEqual(
    batch.batch.view().waiting.map((r) => r.request.id),
    [a, b],
  );
  assert.ok(batch.cache.available() < 7, 'there is room for both');
  batch.run(true, 1000);
  assert.deepEqual([batch.outcomes.get(a)!.tokens, batch.outcomes.get(b)!.tokens], [expected().a, expected().b]);
});

test('a disk that does not answer: what does not come is computed, in the blocks that were kept for it', () => {
  let now = 0;
  const batch = evicted({ hostBlocks: 0, diskBlocks: 64, now: () => now });
  batch.disk.silent = true;
  const b = batch.submit(tokens(8, 3), { sessionId: 'b', append: true, limits: greedy });
  for (let i = 0; i < 100; i++) assert.equal(batch.batch.step(), false, 'it waits');
  assert.equal(batch.batch.running, 0);
  now += 30_001; // the longest that anybody waits
  for (let i = 0; i < 20 && !batch.outcomes.get(b)!.finished; i++) batch.batch.step();
  assert.deepEqual(batch.outcomes.get(b)!.tokens, expected().b);
  batch.disk.silent = false;
  batch.run();
  assert.equal(batch.cache.ordersOutstanding(), 0);
});

test('who runs alone gets the blocks of what does not come, and no error', () => {
  const batch = evicted({ hostBlocks: 0, diskBlocks: 64 });
  const a = batch.submit(tokens(16, 4), { limits: { maxTokens: 100, ignoreEos: true } });
  batch.batch.step();
  batch.disk.silent = true;
  const b = batch.submit(tokens(8, 3), { sessionId: 'b', append: true, limits: greedy });
  for (let i = 0; i < 200 && !batch.outcomes.get(a)!.finished; i++) batch.batch.step();
  assert.equal(batch.outcomes.get(a)!.error, null);
  assert.equal(batch.outcomes.get(a)!.tokens.length, 100);
  batch.disk.silent = false;
  batch.run();
  assert.deepEqual(batch.outcomes.get(b)!.tokens, expected().b);
});
