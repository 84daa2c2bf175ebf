/** Bugs that other cache managers had: each is a test here. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InvariantError, LongmindError } from '../../src/errors.js';
import { type Reference, World } from './world.js';

const POLICIES = ['lru'] as const;
const text = (n: number, start = 0) => Array.from({ length: n }, (_, i) => start + i);

/** Computes all known tokens. */
function serve(w: World, r: Reference): number {
  const hit = w.match(r);
  assert.ok(w.reserve(r, r.tokens.length), 'it fits');
  w.step('no');
  w.check();
  return hit;
}

function session(w: World, tokens: number[], owner: number | null = null): Reference {
  const r = w.create(owner, tokens)!;
  assert.ok(r);
  return r;
}

for (const policy of POLICIES) {
  test(`${policy}: no use after free: under eviction pressure a running sequence keeps its blocks`, () => {
    const w = new World({ policy, blocks: 6 });
    const running = session(w, text(9));
    serve(w, running);
    const table = w.table(running);
    for (let i = 0; i < 20; i++) {
      const other = session(w, text(10, 100 * (i + 1)));
      serve(w, other);
      w.release(other, 'keep');
    }
    assert.deepEqual(w.table(running), table);
    w.append(running, [50]);
    serve(w, running);
  });

  test(`${policy}: a block that a step in flight writes is not shared by a fork`, () => {
    const w = new World({ policy, blocks: 8 });
    const { manager } = w;
    const r = session(w, text(10));
    manager.match(r.id);
    // steps n (10 tokens) and n + 1 (one more) are on their way when n is committed
    assert.ok(manager.reserve(r.id, 10) && manager.reserve(r.id, 11));
    manager.commit(r.id, 10, 11);
    const { blockLen } = manager.config;
    const early = manager.fork(r.id, 10);
    assert.equal(manager.computed(early), 10 - (10 % blockLen), 'the partly filled block is still written');
    manager.appendOne(r.id, 77);
    manager.commit(r.id, 11);
    const late = manager.fork(r.id, 11);
    assert.equal(manager.computed(late), 11);
    manager.check();
  });

  test(`${policy}: copies of a step that did not run are handed out again, those of one that ran are not`, () => {
    const w = new World({ policy, blocks: 12 });
    const { manager } = w;
    const first = session(w, text(10));
    serve(w, first);
    w.release(first, 'keep');
    const out = new Int32Array(30);
    // two sequences that share a part of a block, each in a step of its own
    const [a, b] = [session(w, [...text(9), 50]), session(w, [...text(9), 60])];
    manager.match(a.id);
    assert.ok(manager.reserve(a.id, 10));
    assert.equal(manager.takeCopies(out), 1);
    const copyOfA = [...out.subarray(0, 3)];
    manager.match(b.id);
    assert.ok(manager.reserve(b.id, 10));
    assert.equal(manager.takeCopies(out), 1);
    const copyOfB = [...out.subarray(0, 3)];
    // the second did not run
    manager.copiesLost(1);
    assert.equal(manager.takeCopies(out), 1);
    assert.deepEqual([...out.subarray(0, 3)], copyOfB);
    // the first was cancelled, and the second with it
    manager.copiesLost(2);
    assert.equal(manager.takeCopies(out), 2);
    assert.deepEqual([...out.subarray(0, 6)], [...copyOfA, ...copyOfB]);
    manager.copiesRan();
    manager.check();
    manager.copiesLost(0);
    assert.equal(manager.takeCopies(out), 0);
    // a sequence that leaves takes its copy along
    manager.copiesLost(1);
    manager.release(a.id, 'keep');
    manager.release(b.id, 'keep');
    manager.check();
  });

  test(`${policy}: a pool pinned at 100% refuses, changes nothing, and works on`, () => {
    const w = new World({ policy, blocks: 4 });
    const [a, b] = [session(w, text(8)), session(w, text(8, 100))];
    serve(w, a);
    serve(w, b);
    assert.equal(w.manager.available(), 0);
    w.append(a, [90]);
    assert.equal(w.reserve(a, 9), false);
    w.check();
    w.release(b, 'keep');
    assert.ok(w.reserve(a, 9));
    w.step('no');
    w.check();
  });

  test(`${policy}: no deadlock: a sequence that fits alone always gets its blocks, whatever is cached or shared`, () => {
    for (const blocks of [1, 2, 3]) {
      const w = new World({ policy, blocks, sessionLen: 4 * blocks });
      const a = session(w, text(4 * blocks - 2));
      serve(w, a);
      w.release(a, 'keep');
      // shares the partial block with a, and needs the whole pool itself
      const f = w.fork(a, 4 * blocks - 2)!;
      w.append(f, [70, 71]);
      serve(w, f);
      w.release(f, 'keep');
      w.append(a, [80, 81]);
      serve(w, a);
      w.release(a, 'keep');
      const other = session(w, text(4 * blocks, 50));
      serve(w, other);
    }
  });

  test(`${policy}: evicting never orphans descendants: what is left of a sequence is its beginning`, () => {
    const w = new World({ policy, blocks: 6 });
    const long = session(w, text(20));
    serve(w, long);
    w.release(long, 'keep');
    for (let n = 1; n <= 5; n++) {
      const other = session(w, text(4, 100 * n));
      serve(w, other);
      w.release(other, 'drop');
      w.check();
      const left = w.manager.computed(long.id);
      assert.equal(left % 4, 0);
      w.checkMemory(long);
    }
    assert.ok(w.manager.computed(long.id) < 20);
  });

  test(`${policy}: hits are never counted past a hole`, () => {
    const w = new World({ policy, blocks: 12 });
    const first = session(w, text(16));
    serve(w, first);
    w.release(first, 'drop');
    // the same tokens later in another text have another beginning: not a hit
    const other = session(w, [77, ...text(15, 1)]);
    assert.equal(w.match(other), 0);
    w.release(other, 'drop');
    while (w.manager.stats().blocks.cached > 2) w.manager.pool.give(w.manager.tree.evict());
    const again = session(w, text(16));
    assert.equal(w.match(again), 8);
    w.check();
  });

  test(`${policy}: an aborted stream leaks no block, at any point of its life`, () => {
    const w = new World({ policy, blocks: 8 });
    for (const mode of ['keep', 'drop'] as const) {
      for (let point = 0; point < 5; point++) {
        const r = session(w, text(11, 20));
        if (point > 0) w.match(r);
        if (point > 1) w.reserve(r, 6);
        if (point > 2) w.step('no');
        if (point > 3) w.reserve(r, 11);
        w.release(r, mode);
        w.check();
        assert.equal(w.manager.stats().blocks.active, 0);
        if (mode === 'keep') w.release(r, 'drop');
      }
    }
  });

  test(`${policy}: a session that comes back is reused in fact, by id and by prefix`, () => {
    const w = new World({ policy, blocks: 8 });
    const s = session(w, text(13));
    serve(w, s);
    w.append(s, [60, 61, 62]);
    w.release(s, 'keep');
    assert.equal(w.match(s), 13);
    w.release(s, 'keep');
    assert.equal(w.match(session(w, [...text(13), 99, 98])), 13);
    const { tokensReused, tokensRecomputed } = w.manager.stats();
    assert.deepEqual([tokensReused, tokensRecomputed], [0, 0], 'matched, but not yet run');
    w.match(s);
    assert.ok(w.reserve(s, 16));
    assert.equal(w.manager.stats().tokensReused, 13);
  });
}

test('a block freed twice is noticed, not put on the free list twice', () => {
  const w = new World({});
  const r = session(w, text(4));
  serve(w, r);
  w.release(r, 'drop');
  const b = w.manager.tree.evict();
  w.manager.pool.give(b);
  assert.throws(() => w.manager.pool.give(b), InvariantError);
  w.manager.check();
});

test('a stale sequence id is noticed, also when its slot is used again', () => {
  const w = new World({});
  const r = session(w, text(4));
  w.release(r, 'drop');
  session(w, text(4));
  assert.equal(w.manager.exists(r.id), false);
  assert.throws(() => w.manager.match(r.id), InvariantError);
});

test('a text longer than the session length is refused, never cut', () => {
  const w = new World({ sessionLen: 24 });
  const r = session(w, text(20));
  assert.throws(
    () => w.manager.append(r.id, text(5)),
    (e: LongmindError) => e.code === 'prompt_too_long' && e.message.includes('25') && e.message.includes('24'),
  );
  assert.equal(w.manager.known(r.id), 20);
});

test('two requests with one long prompt compute it once, also when the first aborts half-way', () => {
  const w = new World({ blocks: 100, blockLen: 16, sessionLen: 512 });
  const [a, b, c] = [session(w, text(400)), session(w, text(400)), session(w, text(400))];
  w.match(a);
  w.reserve(a, 100);
  for (const r of [b, c]) {
    w.match(r);
    assert.equal(w.manager.leader(r.id), a.id);
    w.release(r, 'keep');
  }
  w.step('no');
  w.release(a, 'drop');
  assert.equal(w.match(b), 100, 'what the first computed is kept, its partial block too');
  assert.equal(w.manager.leader(b.id), -1, 'b takes over');
  assert.equal(w.match(c), 100);
  assert.equal(w.manager.leader(c.id), b.id);
  w.release(c, 'keep');
  serve(w, b);
  assert.equal(w.match(c), 399);
  w.reserve(c, 400);
  w.step('no');
  assert.equal(w.manager.stats().tokensComputed, 100 + 300 + 1);
});

test('owners that do not share never see one another, by full blocks, parts, or leaders', () => {
  const w = new World({ blocks: 20 });
  const a = session(w, text(12), 1);
  serve(w, a);
  for (const owner of [2, null]) {
    const r = session(w, text(12), owner);
    assert.equal(w.match(r), 0);
    assert.equal(w.manager.leader(r.id), -1);
    w.release(r, 'drop');
  }
  assert.equal(w.match(session(w, text(12), 1)), 11);
});

test('the device refuses memory: eviction goes on within what there is, and growth is tried again', () => {
  const w = new World({ blocks: 8, chunkSize: 2 });
  const a = session(w, text(8));
  serve(w, a);
  w.release(a, 'keep');
  w.grants = 0;
  const b = session(w, text(8, 50));
  serve(w, b);
  const { blocks, growRefusals, blocksEvicted } = w.manager.stats();
  assert.deepEqual([blocks.grown, blocks.active], [2, 2]);
  assert.ok(growRefusals > 0 && blocksEvicted === 2);
  w.append(b, text(4, 90));
  assert.equal(w.reserve(b, 12), false);
  w.grants = Infinity;
  assert.ok(w.reserve(b, 12));
  w.step('no');
  w.check();
});

test('a device that refuses the whole pool at the start is a clear error', () => {
  const w = () => new World({ blocks: 8, chunkSize: -1, grow: () => false });
  assert.throws(w, LongmindError);
});

test('no block is copied from and to in one step, though the least recently used one is a copy’s source', () => {
  const w = new World({ blocks: 4 });
  const [a, d, e] = [session(w, text(3)), session(w, text(3, 50)), session(w, text(3, 90))];
  for (const r of [a, d, e]) serve(w, r);
  w.release(a, 'keep');
  w.release(d, 'keep');
  const b = session(w, [0, 1, 70]);
  assert.equal(w.match(b), 2);
  w.release(e, 'keep');
  const c = session(w, [50, 51, 71]);
  assert.equal(w.match(c), 2);
  w.check();
  for (const r of [b, c]) assert.ok(w.reserve(r, 3));
  w.step('no');
  w.check();
});

test('slot mode: one block of any length a sequence; parts are shared by copy', () => {
  const w = new World({ blocks: 3, blockLen: 1000, sessionLen: 1000 });
  const a = session(w, text(300));
  serve(w, a);
  w.release(a, 'keep');
  const b = session(w, [...text(200), 5000, 5001]);
  assert.equal(serve(w, b), 200);
  assert.equal(w.table(b).length, 1);
  assert.notDeepEqual(w.table(a), w.table(b));
});

test('when too many sessions are kept, the least recently used go; if all are active, that is an error', () => {
  const w = new World({ maxSequences: 3 });
  const [a, b, c] = [session(w, text(4)), session(w, text(5)), session(w, text(6))];
  w.append(a, [1]);
  session(w, text(7));
  assert.deepEqual(
    [a, b, c].map((r) => w.manager.exists(r.id)),
    [true, false, true],
  );
  for (const r of w.sequences) w.match(r);
  assert.throws(() => w.manager.create(), { code: 'too_many_sessions' });
});
