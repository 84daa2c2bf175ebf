/** What the cache manager promises beyond its invariants: memory, faults at every point, work that is done once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { getHeapStatistics } from 'node:v8';
import { createCacheManager } from '../../src/cache/index.js';
import type { Manager } from '../../src/cache/manager.js';
import type { CacheConfig } from '../../src/cache/types.js';
import { type Reference, World } from './world.js';

const POLICIES = ['lru'] as const;
const text = (n: number, start = 0) => Array.from({ length: n }, (_, i) => start + i);

function manager(config: Partial<CacheConfig>): Manager {
  const defaults: CacheConfig = {
    blocks: 1024,
    blockLen: 64,
    sessionLen: 32_768,
    chunkSize: -1,
    policy: 'lru',
    prefixCaching: true,
    maxSequences: 100_000,
    maxTokens: 2 ** 31,
    grow: () => true,
  };
  return createCacheManager({ ...defaults, ...config }) as Manager;
}

for (const policy of POLICIES) {
  test(`${policy}: in the steady state nothing is allocated, by heap statistics`, () => {
    const cache = manager({ policy, blocks: 256 });
    const ids = Int32Array.from({ length: 700 }, (_, i) => i);
    const sessions = Array.from({ length: 40 }, (_, i) => {
      const s = cache.create();
      ids[0] = i;
      cache.append(s, ids);
      return s;
    });
    const table = new Int32Array(1024);
    const copies = new Int32Array(64);
    // turns of sessions that do not all fit: hits, misses, evictions, forks, rewinds
    const turn = (i: number) => {
      const s = sessions[i % sessions.length]!;
      cache.truncate(s, 700);
      cache.appendOne(s, i & 7);
      cache.match(s);
      cache.reserve(s, 701);
      cache.takeCopies(copies);
      cache.blockTable(s, table, 0);
      cache.commit(s, 701);
      cache.release(s, 'keep');
      cache.release(cache.fork(s, 650), 'drop');
    };
    const turns = 4000;
    const growth = () => {
      const before = getHeapStatistics();
      for (let i = 0; i < turns; i++) turn(i);
      const after = getHeapStatistics();
      const { used_heap_size: heap, external_memory: external } = after;
      // a collection in between would hide what was thrown away: then this attempt says nothing
      if (heap < before.used_heap_size) return Infinity;
      return (heap - before.used_heap_size + Math.max(0, external - before.external_memory)) / turns;
    };
    const attempts = Array.from({ length: 8 }, growth);
    const least = Math.min(...attempts);
    assert.ok(cache.stats().blocksEvicted > 10_000, 'it is not about evictions');
    assert.ok(least < 4, `${least} bytes a turn (${attempts})`);
  });
}

test('an evicted session of n tokens takes at most 4n + 256 bytes, its id included', () => {
  for (const n of [1, 17, 100, 1000, 20_000]) {
    const sessions = n < 1000 ? 5120 : 512;
    const cache = manager({ blocks: 16 });
    const ids = Int32Array.from({ length: n }, (_, i) => i);
    for (let i = 0; i < sessions; i++) {
      ids[0] = i;
      const s = cache.create();
      cache.append(s, ids);
      if (n > 1000) continue;
      cache.match(s);
      cache.reserve(s, n);
      cache.commit(s, n);
      cache.release(s, 'keep');
    }
    const { arena, sequences, runs } = cache;
    // 8 for the id in the caller's hands
    const bytes = (arena.bytes.used + sequences.bytes + runs.bytes) / sessions + 8;
    assert.ok(bytes <= 4 * n + 256, `${n} tokens: ${bytes} bytes`);
  }
});

test('at 10⁵ blocks the manager keeps at most 48 bytes a block', () => {
  const cache = manager({ blocks: 100_000 });
  // and 4 for the block's place in its sequence's table
  const bytes = cache.pool.bytes + cache.tree.index.bytes;
  assert.ok(bytes / 100_000 + 4 <= 48, `${bytes / 100_000 + 4} bytes`);
});

test('probe tells the policy nothing: what is evicted next stays so, and match finds what it said', () => {
  const cache = manager({ blocks: 64 });
  const stored = [0, 1, 2].map((i) => {
    const seq = cache.create();
    cache.append(seq, text(640, 10_000 * i));
    cache.match(seq);
    assert.ok(cache.reserve(seq, 640));
    cache.commit(seq, 640);
    cache.release(seq, 'keep');
    return seq;
  });
  const asks = cache.create();
  cache.append(asks, text(700));
  const order = () => {
    const out = new Int32Array(64);
    return [...out.subarray(0, cache.tree.policy.order(out))];
  };
  const before = order();
  assert.equal(before.length, 30);
  for (let i = 0; i < 5; i++) {
    assert.equal(cache.probe(asks).computed, 640);
    assert.equal(cache.probe(stored[0]!).computed, 639);
  }
  assert.deepEqual(order(), before);
  // the same question asked by taking: the oldest blocks would be the youngest
  assert.equal(cache.match(asks), 640);
  cache.release(asks, 'keep');
  assert.deepEqual(order(), [...before.slice(10), ...before.slice(0, 10)]);
  cache.check();
});

for (const policy of POLICIES) {
  test(`${policy}: two requests with one 2,000-token prompt in flight compute it once, also when the first aborts half-way`, () => {
    for (const abortAt of [0, 1000, 1999]) {
      const w = new World({ policy, blocks: 100, blockLen: 64, sessionLen: 4096 });
      const [a, b] = [w.create(null, text(2000))!, w.create(null, text(2000))!];
      // in steps of at most 512 tokens; the follower looks each time whether it must still wait
      const step = (r: Reference, to: number) => {
        while (w.manager.computed(r.id) < to) {
          assert.ok(w.reserve(r, Math.min(to, w.manager.computed(r.id) + 512)));
          w.step('no');
          w.check();
        }
      };
      w.match(a);
      assert.equal(w.match(b), 0);
      assert.equal(w.manager.leader(b.id), a.id);
      w.release(b, 'keep');
      step(a, abortAt);
      w.release(a, 'drop');
      assert.equal(w.match(b), abortAt, 'what the first computed is not lost');
      assert.equal(w.manager.leader(b.id), -1, 'the follower takes over');
      step(b, 2000);
      assert.equal(w.manager.stats().tokensComputed, 2000);
    }
  });

  test(`${policy}: an allocation that the device refuses half-way rolls back: nothing is held, what was granted is used later`, () => {
    const w = new World({ policy, blocks: 12, chunkSize: 2, sessionLen: 48 });
    const r = w.create(null, text(40))!;
    w.match(r);
    w.grants = 3;
    assert.equal(w.reserve(r, 40), false, 'ten blocks, of which the device gives six');
    w.check();
    const { blocks } = w.manager.stats();
    assert.deepEqual([blocks.grown, blocks.active, w.table(r).length], [6, 0, 0]);
    assert.ok(w.reserve(r, 24), 'six blocks are there');
    w.step('no');
    w.check();
    w.grants = Infinity;
    assert.ok(w.reserve(r, 40));
    w.step('no');
    w.check();
  });

  test(`${policy}: aborted at every point of a life with sharing, copies, forks and rewinds, and with a step that fails there, nothing is lost`, () => {
    const points = life(new World({ policy, blocks: 14, sessionLen: 48 })).length;
    for (let point = 0; point <= points; point++) {
      for (const fault of ['drop', 'keep', 'cancelled', 'broken'] as const) {
        const w = new World({ policy, blocks: 14, sessionLen: 48 });
        const steps = life(w);
        for (const step of steps.slice(0, point)) step();
        if (fault === 'cancelled' || fault === 'broken') w.step(fault);
        else for (const r of w.sequences.filter((x) => x.active)) w.release(r, fault);
        w.check();
        for (const r of [...w.sequences]) if (r.active) w.release(r, 'keep');
        w.check();
        assert.equal(w.manager.stats().blocks.active, 0);
        // the whole pool can be had, and what is left of the others is still right
        const all = w.create(null, text(48, 500))!;
        w.match(all);
        assert.ok(w.reserve(all, 48));
        w.step('no');
        w.check();
      }
    }
  });
}

/** Two talks over a common beginning that is not a multiple of the block, a fork of one, a rewind. */
function life(w: World): (() => void)[] {
  const [a, b] = [w.create(null, text(10))!, w.create(null, [...text(7), 90, 91, 92])!];
  let f: Reference | null = null;
  const reserve = (r: Reference) => () => void w.reserve(r, r.tokens.length);
  const step = () => w.step('no');
  return [
    () => void w.match(a),
    reserve(a),
    step,
    () => void w.match(b),
    reserve(b),
    step,
    () => {
      f = w.fork(a, 9);
    },
    () => w.append(a, text(5, 20)),
    reserve(a),
    () => w.append(f!, text(5, 40)),
    () => void w.match(f!),
    () => void w.reserve(f!, f!.tokens.length),
    step,
    () => w.release(a, 'keep'),
    () => w.truncate(b, 6),
    () => w.append(b, text(6, 60)),
    () => void w.match(b),
    reserve(b),
    step,
  ];
}

test('the shared beginning of a partly filled block is copied, not computed: copy on write, the other’s block untouched', () => {
  const w = new World({ blocks: 8, blockLen: 16, sessionLen: 64 });
  const a = w.create(null, text(30))!;
  w.match(a);
  w.reserve(a, 30);
  w.step('no');
  w.release(a, 'keep');
  const b = w.create(null, [...text(25), 77, 78, 79])!;
  assert.equal(w.match(b), 25, 'a full block and nine tokens of the next');
  assert.equal(w.table(b)[0], w.table(a)[0], 'the full block is shared');
  assert.notEqual(w.table(b)[1], w.table(a)[1], 'the part is a copy');
  w.reserve(b, 28);
  w.step('no');
  w.check();
  assert.equal(w.match(a), 29);
  w.checkMemory(a);
  assert.equal(w.manager.stats().tokensComputed, 30 + 3);
  assert.equal(w.manager.stats().copies, 1);
});
