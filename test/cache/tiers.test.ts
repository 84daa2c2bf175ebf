/** What the places below the device promise. World and FakeMover remember the text behind every position. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { CacheConfig, TransferOrder } from '../../src/cache/types.js';
import { LongmindError } from '../../src/errors.js';
import { command, run } from './commands.js';
import { type Reference, World } from './world.js';

const text = (n: number, start = 0) => Array.from({ length: n }, (_, i) => start + i);
const PLACES = [
  { host: 0, disk: 40 },
  { host: 40, disk: 0 },
  { host: 40, disk: 40 },
];

/** Blocks of 4 tokens. */
function world(config: Partial<CacheConfig> = {}): World {
  return new World({ blocks: 12, tiers: { host: 0, disk: 40 }, ...config });
}

function session(w: World, tokens: number[], owner: number | null = null): Reference {
  return w.create(owner, tokens)!;
}

/** Computes all known tokens. */
function serve(w: World, r: Reference): void {
  w.match(r);
  assert.ok(w.reserve(r, r.tokens.length), 'it fits');
  w.step('no');
}

/** A whole turn, saved, and pushed out of the device. */
function away(w: World, r: Reference): void {
  serve(w, r);
  w.release(r, 'keep');
  w.mover!.drain();
  w.evict(Infinity);
  w.check();
  assert.equal(w.manager.computed(r.id), 0);
}

/** Brings back all there is. */
function back(w: World, r: Reference): number {
  w.restore(r, 1);
  w.check();
  w.mover!.drain();
  const computed = w.match(r);
  w.check();
  return computed;
}

for (const tiers of PLACES) {
  const name = `${tiers.host} host slots, ${tiers.disk} on disk`;

  test(`${name}: what was saved and evicted comes back without being computed, its partly filled block, too`, () => {
    const w = world({ tiers });
    const r = session(w, text(15));
    away(w, r);
    w.append(r, text(3, 90));
    assert.equal(back(w, r), 15, 'three blocks and three tokens');
    assert.ok(w.reserve(r, 18));
    w.step('no');
    w.check();
    const { below, host, disk } = w.manager.snapshot().tiers!;
    const first = below[w.table(r)[0]!]!;
    assert.equal(first, Number(tiers.host > 0) + 2 * Number(tiers.disk > 0));
    const used = (slots: Uint8Array) => slots.reduce((n, state) => n + Number(state === 1), 0);
    const { tiers: stats } = w.manager.stats();
    assert.deepEqual([used(host), used(disk)], [stats!.host.used, stats!.disk.used]);
    const { tokensComputed, tokensRestored, hits } = w.manager.stats();
    assert.deepEqual([tokensComputed, tokensRestored, hits], [15 + 3, 15, 1]);
  });

  test(`${name}: evicted again, a restored text costs nothing: its copies are still there`, () => {
    const w = world({ tiers });
    const r = session(w, text(16));
    away(w, r);
    back(w, r);
    w.release(r, 'keep');
    const { saves, demotions } = w.manager.stats().tiers!;
    w.evict(Infinity);
    w.mover!.drain();
    assert.equal(back(w, r), 15);
    const after = w.manager.stats().tiers!;
    assert.deepEqual([after.saves, after.demotions], [saves, demotions]);
  });

  test(`${name}: what one saved is restored for another with the same beginning`, () => {
    const w = world({ tiers });
    const r = session(w, text(15));
    away(w, r);
    w.release(r, 'drop');
    const other = session(w, [...text(10), 70, 71, 72]);
    assert.equal(back(w, other), 10, 'two blocks, and two tokens of a third');
  });
}

test('a block that is needed before its turn came is dropped: no order, no waiting, nothing below', () => {
  const w = world();
  const r = session(w, text(16));
  serve(w, r);
  w.release(r, 'keep');
  assert.equal(w.manager.ordersWaiting(), 4);
  w.evict(2);
  assert.equal(w.manager.stats().tiers!.savesCancelled, 2);
  w.mover!.drain();
  w.evict(Infinity);
  assert.equal(back(w, r), 8);
});

test('a block that is being saved is neither written nor given away; its eviction takes effect when it is saved', () => {
  const w = world({ blocks: 2, sessionLen: 8, tiers: { host: 0, disk: 4, maxWrites: 2 } });
  const r = session(w, text(6));
  serve(w, r);
  w.release(r, 'keep');
  assert.equal(w.mover!.take(Infinity), 2);
  assert.equal(w.manager.available(), 0);
  const other = session(w, text(8, 50));
  w.match(other);
  assert.equal(w.reserve(other, 8), false, 'it does not fit now');
  w.append(r, [80]);
  assert.equal(w.manager.probe(r.id).copies, 1, 'it would go on in a copy');
  w.match(r);
  assert.equal(w.reserve(r, 7), false, 'its own last block cannot be written on now');
  w.release(r, 'keep');
  w.check();
  w.mover!.end(1, true);
  assert.equal(w.manager.available(), 1);
  w.mover!.end(0, true);
  assert.ok(w.reserve(other, 8));
  w.step('no');
  w.check();
  w.release(other, 'keep');
  w.evict(Infinity);
  assert.equal(back(w, r), 6, 'what was read was the text');
});

test('a block that a save has read is free to go, however long the disk takes', () => {
  const w = world({ blocks: 2, sessionLen: 8, tiers: { host: 0, disk: 4, maxWrites: 2 } });
  const r = session(w, text(6));
  serve(w, r);
  w.release(r, 'keep');
  w.mover!.take(Infinity);
  assert.equal(w.manager.held(), 2);
  w.mover!.read(0);
  w.mover!.read(0);
  w.check();
  assert.deepEqual([w.manager.held(), w.manager.available(), w.manager.ordersOutstanding()], [0, 2, 2]);
  const other = session(w, text(8, 50));
  serve(w, other);
  w.check();
  while (w.mover!.pending.length > 0) w.mover!.end(0, true);
  w.release(other, 'keep');
  w.evict(Infinity);
  w.check();
  assert.equal(back(w, r), 5);
});

test('nothing is computed twice and nothing is lost when a load fails: what lies behind it comes back later', () => {
  const w = world();
  const r = session(w, text(20));
  away(w, r);
  w.restore(r, 1);
  w.mover!.take(Infinity);
  assert.equal(w.mover!.pending.length, 5);
  w.mover!.end(1, false);
  while (w.mover!.pending.length > 0) w.mover!.end(3, true);
  w.check();
  assert.equal(w.match(r), 4, 'what is left is its beginning');
  const { loadFailures, diskLoads } = w.manager.stats().tiers!;
  assert.deepEqual([loadFailures, diskLoads], [1, 4]);
  assert.equal(w.manager.restorable(r.id), 0);
  assert.ok(w.reserve(r, 8));
  w.step('no');
  w.check();
  assert.equal(w.manager.restorable(r.id), 11, 'behind the block that was computed again');
  assert.equal(back(w, r), 19);
});

test('a copy in host memory that cannot be read is looked for on disk', () => {
  const w = world({ tiers: { host: 8, disk: 8 } });
  const r = session(w, text(8));
  away(w, r);
  w.restore(r, 1);
  w.mover!.take(Infinity);
  w.mover!.end(0, false);
  assert.ok(w.manager.restoring(r.id));
  w.mover!.drain();
  w.check();
  assert.equal(w.match(r), 7);
  const { hostLoads, diskLoads, loadFailures } = w.manager.stats().tiers!;
  assert.deepEqual([hostLoads, diskLoads, loadFailures], [1, 1, 1]);
});

test('two that wait for the same KV load it once; one that gives up takes nothing from the other', () => {
  const w = world();
  const a = session(w, text(16));
  away(w, a);
  const b = session(w, text(16));
  w.restore(a, 1);
  w.restore(b, 1);
  w.mover!.take(Infinity);
  assert.equal(w.mover!.pending.length, 4, 'one load a block');
  w.mover!.end(0, true);
  w.cancelRestore(a);
  assert.equal(w.match(a), 4, 'what arrived counts');
  w.check();
  w.release(a, 'drop');
  w.check();
  assert.ok(w.manager.restoring(b.id));
  w.mover!.drain();
  assert.equal(w.match(b), 15);
  w.check();
});

test('what is shared by those who wait stays on the device for each of them, though the first leaves at once', () => {
  const w = world({ blocks: 8 });
  const a = session(w, text(8));
  away(w, a);
  const b = session(w, text(8));
  w.restore(a, 1);
  w.restore(b, 1);
  w.mover!.drain();
  w.match(a);
  w.release(a, 'drop');
  w.evict(Infinity);
  assert.equal(w.match(b), 7);
  w.check();
});

test('orders that end late do no harm: given up, dropped, truncated, the pool used by others', () => {
  for (const how of ['cancel', 'drop', 'keep', 'truncate'] as const) {
    const w = world({ blocks: 6 });
    const r = session(w, text(20));
    away(w, r);
    w.restore(r, 1);
    w.mover!.take(2);
    if (how === 'cancel') w.cancelRestore(r);
    else if (how === 'truncate') w.truncate(r, 3);
    else w.release(r, how);
    w.check();
    assert.equal(w.manager.ordersOutstanding(), 2);
    const other = session(w, text(16, 50));
    serve(w, other);
    w.check();
    while (w.mover!.pending.length > 0) w.mover!.end(1, true);
    w.check();
    w.append(other, text(4, 80));
    if (how === 'cancel' || how === 'truncate') w.release(r, 'drop');
    w.append(other, [84, 85].slice(0, 24 - other.tokens.length));
    assert.ok(w.reserve(other, other.tokens.length), 'all blocks are free again');
    w.step('no');
    w.check();
  }
});

test('the text that was used least recently makes room, its end first; one that is too long keeps its beginning', () => {
  const w = world({ tiers: { host: 0, disk: 4 } });
  const [a, b] = [session(w, text(8)), session(w, text(8, 50))];
  away(w, a);
  away(w, b);
  const c = session(w, text(4, 90));
  away(w, c);
  assert.equal(back(w, a), 4, 'one of its two blocks made room');
  w.release(a, 'keep');
  w.evict(Infinity);
  assert.equal(back(w, b), 7);
  w.release(b, 'drop');
  const long = session(w, text(24, 200));
  away(w, long);
  assert.equal(back(w, long), 16, 'four slots');
});

test('a partly filled block whose text goes on needs no slot any more: its record is erased', () => {
  const w = world();
  const r = session(w, text(6));
  away(w, r);
  assert.equal(w.mover!.disk.size, 2);
  back(w, r);
  w.append(r, text(6, 6));
  assert.ok(w.reserve(r, 12));
  w.step('no');
  w.release(r, 'keep');
  const seen: TransferOrder[] = [];
  while (w.manager.ordersWaiting() > 0) {
    w.mover!.take(1);
    seen.push(...w.mover!.pending.map((p) => p.order));
    w.mover!.end(0, true);
    w.check();
  }
  assert.deepEqual(
    seen.map((o) => o.kind),
    ['save', 'forget', 'save'],
  );
  assert.equal(w.mover!.disk.size, 3);
  assert.equal(w.manager.stats().tiers!.disk.used, 3);
});

test('a save that fails makes no copy and costs no slot', () => {
  const w = world({ tiers: { host: 0, disk: 4 } });
  const r = session(w, text(16));
  serve(w, r);
  w.release(r, 'keep');
  w.mover!.drain(false);
  w.check();
  const { disk, saves, saveFailures } = w.manager.stats().tiers!;
  assert.deepEqual([disk.used, saves], [0, 0]);
  assert.ok(saveFailures >= 1);
  w.match(r);
  w.release(r, 'keep');
  w.mover!.drain();
  w.evict(Infinity);
  assert.equal(back(w, r), 15, 'it is tried again after the next turn');
});

test('owners that do not share never get one another’s KV back, and an order says whose it is', () => {
  const w = world();
  const a = session(w, text(12), 7);
  serve(w, a);
  w.release(a, 'keep');
  const orders: TransferOrder[] = [];
  assert.equal(w.manager.takeOrders(orders), 3);
  for (const o of orders) assert.equal(w.manager.namespaceOf(o.node), 7);
  const tokens = new Int32Array(12);
  assert.equal(w.manager.prefixTokens(orders[1]!.node, tokens), 8);
  assert.deepEqual([...tokens.subarray(0, 8)], text(8));
  for (const o of orders) w.manager.orderDone(o.id, true);
  w.evict(Infinity);
  for (const owner of [8, null]) {
    const r = session(w, text(12), owner);
    w.match(r);
    assert.equal(w.manager.restorable(r.id), 0);
    w.release(r, 'drop');
  }
  w.match(a);
  assert.equal(w.manager.restorable(a.id), 11);
});

test('a process that starts again finds what the disk holds; what cannot be true is left out', () => {
  const config = { tiers: { host: 0, disk: 10 } };
  const old = world(config);
  const talks = [session(old, text(15)), session(old, [...text(8), 60, 61, 62, 63]), session(old, text(6, 30), 5)];
  for (const r of talks) away(old, r);
  const records = old.mover!.records();
  assert.equal(records.length, 7);
  const w = world(config);
  for (const [slot, copy] of old.mover!.disk) w.mover!.disk.set(slot, { ...copy });
  const bad = [
    { disk: records[0]!.disk, parent: -1, namespace: -1, tokens: Int32Array.from([1]) },
    { disk: 10, parent: -1, namespace: -1, tokens: Int32Array.from([1]) },
    { disk: 9, parent: 99, namespace: -1, tokens: Int32Array.from([1]) },
    { disk: 9, parent: -1, namespace: -2, tokens: Int32Array.from([1]) },
    { disk: 9, parent: -1, namespace: -1, tokens: Int32Array.from([]) },
    { disk: 9, parent: -1, namespace: -1, tokens: Int32Array.from([1, 2, 3, 4, 5]) },
    { disk: 9, parent: -1, namespace: -1, tokens: Int32Array.from([-1]) },
    // below a block that is not full
    { disk: 9, parent: records.findIndex((r) => r.tokens.length < 4), namespace: -1, tokens: Int32Array.from([1]) },
  ];
  assert.equal(w.manager.adopt([...records, ...bad]), 7);
  w.check();
  assert.equal(w.manager.adopt(records), 0, 'they are there');
  w.check();
  for (const [r, expected] of [
    [session(w, talks[0]!.tokens), 14],
    [session(w, talks[1]!.tokens), 11],
    [session(w, [...talks[2]!.tokens, 1], 5), 6],
  ] as const) {
    assert.equal(back(w, r), expected);
    assert.ok(w.reserve(r, r.tokens.length));
    w.step('no');
    w.release(r, 'keep');
  }
  assert.equal(w.manager.stats().tokensComputed, 3);
});

test('a conversation that nobody shares comes back in this process, and is never adopted by another', () => {
  const w = world({ prefixCaching: false });
  const r = session(w, text(12));
  serve(w, r);
  w.release(r, 'keep');
  const orders: TransferOrder[] = [];
  w.manager.takeOrders(orders);
  for (const o of orders) assert.equal(w.manager.namespaceOf(o.node), -2);
  for (const o of orders) w.manager.orderDone(o.id, true);
  w.evict(Infinity);
  w.match(r);
  assert.equal(w.manager.restorable(r.id), 11);
  assert.equal(w.manager.adopt([{ disk: 30, parent: -1, namespace: -1, tokens: Int32Array.from([1, 2, 3, 4]) }]), 0);
});

test('property: after random work and a restart, whatever the disk holds without a gap comes back, letter by letter', () => {
  let restored = 0;
  const property = fc.property(
    fc.record({
      blocks: fc.integer({ min: 3, max: 12 }),
      tiers: fc.constantFrom({ host: 0, disk: 2 }, { host: 0, disk: 6 }, { host: 3, disk: 12 }, { host: 20, disk: 40 }),
    }),
    fc.array(command, { minLength: 30, maxLength: 120, size: 'max' }),
    (config, commands) => {
      const old = new World(config);
      for (const each of commands) run(old, each);
      const w = new World({ ...config, blocks: 12 });
      for (const [slot, copy] of old.mover!.disk) w.mover!.disk.set(slot, { ...copy });
      const records = old.mover!.records();
      assert.equal(w.manager.adopt(records), records.length);
      w.check();
      for (const { tokens, owner } of old.sequences.filter((r) => r.tokens.length > 1)) {
        const r = session(w, tokens, owner);
        const root = -1 - w.manager.namespaces.of(owner);
        for (const copy of w.mover!.disk.values()) {
          if (copy.namespace === (owner ?? -1)) copy.root = root;
        }
        const expected = w.mover!.reach(tokens, root, 0, tokens.length - 1);
        const found = back(w, r);
        assert.ok(found >= expected - (expected % 4), `${found} of ${expected} came back`);
        restored += found;
        w.checkMemory(r);
        w.release(r, 'drop');
        w.mover!.drain();
        w.evict(Infinity);
        w.check();
      }
    },
  );
  fc.assert(property, { numRuns: 150, seed: 20261124 });
  assert.ok(restored > 500, `${restored} tokens came back`);
});

test('slots that are no numbers are refused', () => {
  for (const tiers of [
    { host: -1, disk: 0 },
    { host: 0, disk: 0.5 },
    { host: 1, disk: 1, maxWrites: 0 },
  ])
    assert.throws(() => new World({ tiers }), LongmindError);
});

test('a disk that does not answer keeps no block: given up, its loads end late, for nobody, and are begun anew for who comes again', () => {
  const w = world({ blocks: 6 });
  const r = session(w, text(15));
  away(w, r);
  w.restore(r, 1);
  w.mover!.take(Infinity);
  const late = w.mover!.pending.splice(0);
  assert.equal(late.length, 4);
  assert.equal(w.manager.available(), 2);
  w.release(r, 'keep');
  assert.equal(w.manager.available(), 6, 'the blocks are free');
  w.check();
  const other = session(w, text(24, 50));
  serve(w, other);
  w.release(other, 'drop');
  assert.equal(back(w, r), 14, 'the disk answers again');
  w.release(r, 'keep');
  w.mover!.pending.push(...late);
  w.mover!.drain();
  w.check();
  assert.equal(w.manager.ordersOutstanding(), 0);
  assert.equal(w.manager.stats().tiers!.disk.used, w.mover!.disk.size);
});

test('a copy that a load which was given up found to be bad is not read by the next one: its part is computed', () => {
  const w = world({ blocks: 6 });
  const r = session(w, text(15));
  away(w, r);
  w.restore(r, 1);
  w.mover!.take(Infinity);
  w.release(r, 'keep');
  // begun anew, but not handed out yet
  w.restore(r, 1);
  while (w.mover!.pending.length > 0) w.mover!.end(0, false);
  w.check();
  assert.equal(w.manager.restoring(r.id), false, 'nothing to wait for');
  assert.equal(w.mover!.take(Infinity), 4, 'the records are erased, nothing is read');
  w.mover!.drain();
  w.release(r, 'keep');
  w.check();
  assert.equal(w.manager.stats().tiers!.disk.used, 0);
  assert.equal(w.manager.available(), 6);
});
