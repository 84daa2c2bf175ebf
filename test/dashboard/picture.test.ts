/** From the engine's snapshots over the wire to what the page knows, what it says happened, and what it draws. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cellAt, gridFor, shownBlocks } from '../../src/dashboard/engine/layout.js';
import { happenings, tell, wordsOf } from '../../src/dashboard/live/happenings.js';
import { Rates } from '../../src/dashboard/live/history.js';
import { applyMessage, type Picture } from '../../src/dashboard/live/picture.js';
import { planFor, story } from '../../src/dashboard/pressure/plan.js';
import type { LiveMessage } from '../../src/dashboard/wire.js';
import { LiveEncoder } from '../../src/server/live/encode.js';
import type { EngineSnapshot, EngineStats } from '../../src/types.js';

const stats = (steps: number, change: Partial<EngineStats['cache']> = {}): EngineStats => ({
  requests: { waiting: 0, running: 0, finished: 0, aborted: 0, failed: 0 },
  tokens: { prompt: 0, cached: 0, generated: 0, recomputed: 0 },
  steps,
  drafts: { verified: 0, accepted: 0 },
  preemptions: 0,
  lastStepMs: 1,
  stepTimes: { boundsMs: [1], counts: [1, 0], sumMs: 1 },
  sessionStates: { active: 0, cached: 0, evicted: 0 },
  sessionStoreFailure: null,
  lastStepJsMs: 0,
  stepBudget: 64,
  sessions: 0,
  cache: {
    blocks: { total: 40, free: 40, cached: 0, active: 0, grown: 40 },
    sequences: { total: 0, active: 0, cached: 0, evicted: 0 },
    tokensKept: 0,
    hits: 0,
    partialHits: 0,
    misses: 0,
    tokensReused: 0,
    tokensRecomputed: 0,
    tokensComputed: 0,
    tokensPrefixReused: 0,
    blocksEvicted: 0,
    tokensEvicted: 0,
    forks: 0,
    copies: 0,
    sequencesDropped: 0,
    growRefusals: 0,
    tokensRestored: 0,
    tiers: null,
    ...change,
  },
});

const BLOCKS = 40;
const sequence = (place: number) =>
  fc.record({
    sequence: fc.integer({ min: 1, max: 50 }).map((generation) => generation * 2 ** 26 + place),
    sessionId: fc.option(fc.constantFrom('a', 'b', 'c'), { nil: null }),
    owner: fc.constantFrom(0, 7),
    state: fc.constantFrom('active', 'cached', 'evicted') as fc.Arbitrary<'active' | 'cached' | 'evicted'>,
    known: fc.nat(100),
    computed: fc.nat(100),
  });

const snapshots: fc.Arbitrary<EngineSnapshot> = fc
  .tuple(
    fc.array(fc.constantFrom(0, 1, 2, 3), { minLength: BLOCKS, maxLength: BLOCKS }),
    fc.array(fc.integer({ min: -1, max: 5 }), { minLength: BLOCKS, maxLength: BLOCKS }),
    fc.array(fc.nat(64), { minLength: BLOCKS, maxLength: BLOCKS }),
    fc.uniqueArray(fc.nat(BLOCKS - 1), { maxLength: 10 }),
    fc.subarray([0, 1, 2, 3, 4, 5]).chain((slots) => fc.tuple(...slots.map(sequence))),
    fc.nat(9),
    fc.option(fc.array(fc.nat(3), { minLength: BLOCKS, maxLength: BLOCKS }), { nil: undefined }),
  )
  .map(([state, holder, fill, order, sequences, step, below]) => ({
    step,
    blockLen: 64,
    state: Uint8Array.from(state),
    sequence: Float64Array.from(holder, (h) =>
      h < 0 ? -1 : (sequences.find((q) => q.sequence % 2 ** 26 === h)?.sequence ?? 9 * 2 ** 26 + h),
    ),
    fill: Uint16Array.from(fill),
    evictionOrder: Int32Array.from(order),
    sequences,
    batch: [],
    waiting: [],
    stats: stats(step),
    ...(below && { tiers: { below: Uint8Array.from(below), host: new Uint8Array(0), disk: new Uint8Array(3) } }),
  }));

const wire = (text: string): LiveMessage => JSON.parse(text) as LiveMessage;

test('whatever the snapshots are, changes put together equal the whole picture', () => {
  fc.assert(
    fc.property(fc.array(snapshots, { minLength: 1, maxLength: 8 }), fc.constantFrom(0, 7, 9), (series, owner) => {
      const encoder = new LiveEncoder();
      let known: Picture | null = null;
      for (const s of series) {
        const changed = encoder.next(s, { count: 0, sum: 0 });
        const whole = wire(encoder.whole(owner)!);
        if (known === null) known = applyMessage(null, whole);
        else if (changed) known = applyMessage(known, wire(encoder.change(owner)));
        const { at: _a, ...is } = known!;
        const { at: _b, ...should } = applyMessage(null, whole)!;
        const sorted = (p: typeof is) => ({ ...p, sequences: [...p.sequences].sort((x, y) => x[0] - y[0]) });
        assert.deepEqual(sorted(is), sorted(should));
        assert.deepEqual([...is.state], [...s.state.subarray(0, is.high)]);
        assert.deepEqual([...is.below], [...(s.tiers?.below.subarray(0, is.high) ?? new Uint8Array(is.high))]);
        assert.ok(s.state.subarray(is.high).every((b) => b === 0));
        assert.equal(is.sequences.size, s.sequences.length);
        const byNumber = new Map<number, number>();
        for (let b = 0; b < is.high; b++) {
          const number = is.holder[b]!;
          assert.equal(number < 0, s.sequence[b]! < 0);
          if (number < 0) continue;
          assert.equal(byNumber.get(number) ?? s.sequence[b], s.sequence[b], 'one number, one sequence');
          byNumber.set(number, s.sequence[b]!);
          const original = s.sequences.find((o) => o.sequence === s.sequence[b]);
          const q = is.sequences.get(number);
          assert.equal(q?.known, original?.known);
          if (!q || !original) continue;
          assert.equal(q.sessionId, owner === 0 || original.owner === owner ? original.sessionId : null);
        }
      }
    }),
    { numRuns: 200 },
  );
});

test('a change without the picture before it is refused', () => {
  const encoder = new LiveEncoder();
  const [s] = fc.sample(snapshots, 1);
  encoder.next(s!, { count: 0, sum: 0 });
  assert.equal(applyMessage(null, wire(encoder.change(0))), null);
});

function pictureOf(
  change: Partial<EngineStats['cache']>,
  sequences: EngineSnapshot['sequences'],
  batch = [] as EngineSnapshot['batch'],
): Picture {
  const encoder = new LiveEncoder();
  const s: EngineSnapshot = {
    step: 1,
    blockLen: 16,
    state: new Uint8Array(4),
    sequence: new Float64Array(4).fill(-1),
    fill: new Uint16Array(4),
    evictionOrder: new Int32Array(0),
    sequences,
    batch,
    waiting: [],
    stats: stats(1, change),
  };
  encoder.next(s, { count: 0, sum: 0 });
  return applyMessage(null, wire(encoder.whole(0)!))!;
}

const named = (
  place: number,
  sessionId: string,
  known: number,
  computed: number,
): EngineSnapshot['sequences'][number] => ({
  sequence: 2 ** 26 + place,
  sessionId,
  owner: 0,
  state: 'cached',
  known,
  computed,
});

test('an eviction is told with the sessions that lost tokens, a recompute with those that got them back', () => {
  const before = pictureOf({}, [named(0, 'old', 100, 100), named(1, 'new', 10, 0)]);
  const middle = pictureOf({ blocksEvicted: 4, tokensEvicted: 64, misses: 0 }, [
    named(0, 'old', 100, 36),
    named(1, 'new', 80, 80),
  ]);
  const [evicted, ...none] = happenings(before, middle, 5);
  assert.deepEqual(none, []);
  assert.equal(evicted!.id, 5);
  assert.equal(evicted!.kind, 'evict');
  assert.equal(wordsOf(evicted!), '4 blocks evicted, 64 tokens of KV');
  assert.deepEqual(
    evicted!.who.map((w) => [w.sessionId, w.tokens]),
    [['old', -64]],
  );
  const row = { slot: 0, sequence: 2 ** 26, request: 9, known: 100, computed: 99, generated: 0 };
  const after = pictureOf(
    { blocksEvicted: 4, tokensEvicted: 64, partialHits: 1, tokensReused: 36, tokensRecomputed: 63 },
    [named(0, 'old', 100, 99), named(1, 'new', 80, 80)],
    [row],
  );
  const told = happenings(middle, after, 6);
  assert.deepEqual(
    told.map((h) => [h.kind, h.who.map((w) => w.sessionId)]),
    [
      ['partial', ['old']],
      ['recompute', ['old']],
    ],
  );
  assert.deepEqual(happenings(after, after, 0), []);
});

test('evictions that go on are one line; what is far apart in time is not', () => {
  const line = (id: number, at: number, sessionId: string) => ({
    id,
    at,
    kind: 'evict' as const,
    count: 1,
    tokens: 16,
    who: [{ number: 3, sessionId, ours: true, tokens: -16 }],
  });
  const told = tell(
    tell([], [line(1, 1000, 'a'), line(2, 1500, 'a'), line(3, 2000, 'b')], 10),
    [line(4, 9000, 'a')],
    10,
  );
  assert.deepEqual(
    told.map((h) => [h.id, h.count, h.tokens, h.who.map((w) => [w.sessionId, w.tokens])]),
    [
      [4, 1, 16, [['a', -16]]],
      [
        1,
        3,
        48,
        [
          ['a', -32],
          ['b', -16],
        ],
      ],
    ],
  );
  assert.equal(tell(told, [line(5, 20_000, 'c')], 2).length, 2);
});

test('rates are differences of counters over real time, and the history is bounded', () => {
  const rates = new Rates();
  for (let second = 0; second < 300; second++) {
    const p = pictureOf({ tokensComputed: 50 * second }, []);
    rates.add(
      {
        ...p,
        stats: { ...p.stats, tokens: { ...p.stats.tokens, generated: 20 * second } },
        ttft: { count: second, sum: second * 0.5 },
      },
      second * 1000,
    );
  }
  const h = rates.history;
  assert.ok(h.time.length <= 121 && h.time.length >= 119);
  assert.equal(h.generated.at(-1), 20);
  assert.equal(h.prefill.at(-1), 30);
  assert.ok(Math.abs(h.ttft.at(-1)! - 500) < 1e-6);
});

test('every block has a cell of its own, inside the map', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20_000 }), fc.integer({ min: 40, max: 1200 }), (cells, width) => {
      const grid = gridFor(cells, width, 290);
      assert.ok(grid.columns * grid.pitch <= Math.max(width, grid.pitch));
      assert.ok(grid.pitch > grid.gap);
      for (const b of [0, Math.floor(cells / 2), cells - 1]) {
        const x = (b % grid.columns) * grid.pitch + 1;
        const y = Math.floor(b / grid.columns) * grid.pitch + 1;
        assert.equal(cellAt(grid, x, y), b);
        assert.ok(y < grid.height);
      }
      assert.equal(cellAt(grid, -1, 5), -1);
      assert.equal(cellAt(grid, 1, grid.height + 1), -1);
    }),
  );
  assert.equal(shownBlocks(100, 0), 100);
  assert.ok(shownBlocks(100_000, 10) < 1000);
  assert.equal(shownBlocks(5000, 5000), 5000);
});

test('pressure is bounded, fits the sessions, and fills the cache where that can be done in a minute', () => {
  fc.assert(
    fc.property(fc.integer({ min: 256, max: 2_000_000 }), fc.integer({ min: 200, max: 100_000 }), (cache, session) => {
      const plan = planFor({ cache, session });
      assert.ok(plan.sessions >= 4 && plan.sessions <= 24);
      assert.ok(plan.tokens <= 1200 && plan.tokens < session && plan.tokens < cache);
      if (plan.fills) assert.ok(plan.sessions * plan.tokens > cache);
      else assert.ok(plan.sessions <= 8);
    }),
  );
  assert.ok(planFor({ cache: 4096, session: 2048 }).fills);
  assert.ok(!planFor({ cache: 800_000, session: 8192 }).fills);
  assert.notEqual(story(1, 50), story(2, 50));
  const words = story(3, 400).split(' ').length;
  assert.ok(words >= 400 && words < 430);
});
