import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { runTraceBench } from '../../src/bench/trace.js';
import { mulberry32 } from '../../src/bench/trace-formats.js';

function file(t: { after(f: () => void): void }, lines: unknown[]): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'longmind-trace-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const name = path.join(dir, 'trace.jsonl');
  writeFileSync(name, lines.map((l) => `${JSON.stringify(l)}\n`).join(''));
  return name;
}

/** Talks of a few turns over a common beginning; those that went on once are likely to go on. */
function talks(requests: number): unknown[] {
  const random = mulberry32(7);
  const open: number[][] = [];
  let id = 1;
  return Array.from({ length: requests }, (_, timestamp) => {
    const i = open.length > 0 && random() < 0.5 ? Math.floor(random() * open.length) : -1;
    const path = i < 0 ? [0] : open[i]!;
    for (let n = 1 + Math.floor(random() * 6); n > 0; n--) path.push(id++);
    if (i < 0 && random() < 0.4) open.push(path);
    else if (i >= 0 && random() < 0.15) open.splice(i, 1);
    if (open.length > 60) open.shift();
    return { timestamp, input_length: 512 * path.length, output_length: 1, hash_ids: [...path] };
  });
}

test('a trace small enough to count by hand', (t) => {
  const name = file(t, [
    { timestamp: 0, hash_ids: [0, 1, 2] },
    { timestamp: 1, hash_ids: [0, 3] },
    { timestamp: 2, hash_ids: [0, 1, 2] },
  ]);
  // four blocks hold all; three: LRU evicts 2 and finds 0, 1 again; MIN must admit 3, so it evicts 2 as well
  const all = runTraceBench({ file: name, policy: 'lru', capacityBlocks: 4 });
  assert.deepEqual([all.hitRatio, all.minHitRatio, all.infiniteHitRatio, all.evictions], [4 / 8, 4 / 8, 4 / 8, 0]);
  const three = runTraceBench({ file: name, policy: 'lru', capacityBlocks: 3 });
  assert.deepEqual([three.hitRatio, three.minHitRatio, three.evictions], [3 / 8, 3 / 8, 2]);
});

test('session traces: histories that are edited, and sub-sessions', (t) => {
  const sub = { t: 5, sub: 'x', requests: [{ t: 0, keep: 0, new: [1, 2, 20, 1] }] };
  const requests = [{ t: 0, keep: 0, new: [1, 4] }, sub, { t: 9, keep: 2, new: [10, 2] }];
  const name = file(t, [{ id: 's', block_size: 64, requests }]);
  const r = runTraceBench({ file: name, policy: 'lru', capacityBlocks: 100 });
  assert.deepEqual([r.requests, r.accesses, r.uniqueBlocks, r.hitRatio], [3, 11, 7, 4 / 11]);
  assert.deepEqual(r.arrivals, { windowHours: 24, seed: 1 });
});

test('MIN is never below the policy, and both grow with the capacity', (t) => {
  const name = file(t, talks(3000));
  let last = { hitRatio: 0, minHitRatio: 0 as number | null };
  for (const capacityBlocks of [30, 60, 120, 300, 1000]) {
    const lru = runTraceBench({ file: name, policy: 'lru', capacityBlocks });
    assert.ok(lru.hitRatio < lru.minHitRatio! && lru.minHitRatio! <= lru.infiniteHitRatio, `${capacityBlocks}`);
    assert.ok(lru.hitRatio > last.hitRatio && lru.minHitRatio! > last.minHitRatio!, `${capacityBlocks}`);
    last = lru;
  }
});

test('an unreadable trace is a typed error', (t) => {
  assert.throws(() => runTraceBench({ file: '/nowhere', policy: 'lru', capacityBlocks: 1 }), { code: 'io_error' });
  const odd = file(t, [{ x: 1 }]);
  assert.throws(() => runTraceBench({ file: odd, policy: 'lru', capacityBlocks: 1 }), { code: 'invalid_request' });
  const good = file(t, [{ timestamp: 0, hash_ids: [1] }]);
  assert.throws(() => runTraceBench({ file: good, policy: 'lru', capacityBlocks: 0 }), { code: 'invalid_option' });
});
