/** A request's own account of its KV: cached, restored, recomputed. All requests together say what the cache's counters say. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { tokens } from '../support/batch.js';
import { openCore, request } from '../support/core.js';

const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);

test('what was evicted is recomputed by the request that comes back, and by nobody else', () => {
  const { core, run, finished } = openCore({
    cacheMaxEntryCount: 10,
    cacheBlockSeqLen: 16,
    enablePrefixCaching: false,
  });
  const turn = [...tokens(64, 1)];
  const first = run(request(1, turn, 'a'));
  run(request(2, tokens(140, 2), 'b'));
  const again = [...turn, ...first, ...tokens(20, 3)];
  run(request(3, again, 'a'));
  const [one, two, three] = finished;
  assert.deepEqual([one!.recomputedTokens, two!.recomputedTokens], [0, 0]);
  // the last token drawn never had its KV
  assert.equal(three!.recomputedTokens, 64 + first.length - 1 - three!.cachedTokens);
  assert.ok(three!.cachedTokens < 64, 'something was evicted');
  assert.equal(three!.restoredTokens, 0);
  assert.equal(sum(finished.map((f) => f.recomputedTokens)), core.cache.stats().tokensRecomputed);
});

test('requests that were preempted count what they compute again', () => {
  const { core, finished, out } = openCore({ cacheMaxEntryCount: 8, cacheBlockSeqLen: 16, enablePrefixCaching: false });
  for (const id of [1, 2, 3]) {
    out.set(id, []);
    const r = request(id, tokens(30, id), null);
    core.batch.submit({ ...r, limits: { ...r.limits, maxTokens: 40, ignoreEos: true } });
  }
  while (core.batch.step());
  assert.ok(core.batch.counters.preemptions > 0, 'somebody was preempted');
  assert.equal(sum(finished.map((f) => f.recomputedTokens)), core.cache.stats().tokensRecomputed);
  assert.ok(sum(finished.map((f) => f.recomputedTokens)) > 0);
});

test('what came back from the disk is cached and restored, not recomputed', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'longmind-sources-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const { core, finished, out } = openCore({
    cacheMaxEntryCount: 12,
    cacheBlockSeqLen: 16,
    cacheDisk: { dir, bytes: 16 * 2 ** 20 },
    maxPrefillTokenNum: 16,
  });
  t.after(() => core.close());
  const drain = async () => {
    while (core.batch.step() || core.batch.watching || core.cache.ordersWaiting() + core.cache.ordersOutstanding() > 0)
      await new Promise(setImmediate);
  };
  const run = async (id: number, prompt: number[], session: string) => {
    out.set(id, []);
    core.batch.submit(request(id, prompt, session));
    await drain();
    return out.get(id)!;
  };
  const turn = tokens(100, 1);
  const first = await run(1, turn, 'a');
  await run(2, tokens(150, 2), 'b');
  await run(3, [...turn, ...first, ...tokens(20, 3)], 'a');
  const three = finished[2]!;
  const { tokensRestored, tokensRecomputed } = core.cache.stats();
  assert.equal(sum(finished.map((f) => f.restoredTokens)), tokensRestored);
  assert.equal(sum(finished.map((f) => f.recomputedTokens)), tokensRecomputed);
  assert.ok(three.restoredTokens > 0 && three.restoredTokens <= three.cachedTokens, JSON.stringify(three));
});

test('a fork tells where it comes from, also when it is rewound', () => {
  const { core, run } = openCore({ cacheMaxEntryCount: 50, cacheBlockSeqLen: 16 });
  run(request(1, tokens(40, 1), 'root'));
  const { sessions } = core.batch;
  const root = sessions.get('root', 0);
  assert.equal(sessions.info(root).forkedFrom, null);
  const fork = sessions.adopt('fork', 0, () => core.cache.fork(root.sequence, 30), { id: 'root', tokens: 30 });
  assert.deepEqual(sessions.info(fork).forkedFrom, { id: 'root', tokens: 30 });
  core.cache.truncate(fork.sequence, 10);
  assert.deepEqual(sessions.info(fork).forkedFrom, { id: 'root', tokens: 10 });
});
