/** A write whose answer is lost on the way: what became of it is found out, and it is never done twice. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { answers, startRedis } from '../../bench/store-servers.js';
import { errors } from '../../src/errors.js';
import { type Change, Leases, type MeasuredStore, openStore } from '../../src/store/index.js';
import { WRITERS } from '../../src/store/types.js';

const key = { id: 's', owner: 0 };
const change = (from: number, ids: number[]): Change => ({
  ...{ from, ids: Int32Array.from(ids), adapter: null, keepMarks: 0, marks: [], before: null, goneNames: [] },
});

/** The store, but for the next write: `meanwhile` is done in place of its answer. */
function losesAnAnswer(store: MeasuredStore, meanwhile: (write: () => Promise<void>) => Promise<void>): MeasuredStore {
  let lost = false;
  return Object.assign(Object.create(store), {
    countLost: () => store.countLost(),
    write: async (...args: Parameters<MeasuredStore['write']>) => {
      if (lost) return store.write(...args);
      lost = true;
      await meanwhile(() => store.write(...args));
      throw errors.storeUnavailable('nowhere');
    },
  }) as MeasuredStore;
}

type Meanwhile = (write: () => Promise<void>) => Promise<void>;

async function rig(t: TestContext) {
  const server = await startRedis();
  t.after(() => server.close());
  const store = await openStore(server.address, 'model');
  t.after(() => store.close());
  await answers(() => store.about());
  return {
    store,
    ids: async () => [...(await store.load(key))!.ids],
    /** Another server's. */
    write: async (c: Change) => store.write((await store.acquire(key, 1_000)).lease, c),
    turn: async (meanwhile: Meanwhile, c: Change) => {
      const leases = new Leases(losesAnAnswer(store, meanwhile), 1_000);
      await leases.write(await leases.acquire(key), c);
      await leases.close();
    },
  };
}

const notDone: Meanwhile = async () => {};
const leaseEnds = () => sleep(1_100);

test('a write whose answer is lost stands once, whoever has the session by then', async (t) => {
  const { ids, write, turn } = await rig(t);
  await write(change(0, [1, 2]));
  await turn((done) => done(), change(2, [3, 4]));
  assert.deepEqual(await ids(), [1, 2, 3, 4], 'it was written');
  await turn(notDone, change(4, [5, 6]));
  assert.deepEqual(await ids(), [1, 2, 3, 4, 5, 6], 'it was not');
  const goneOn: Meanwhile = async (done) => {
    await done();
    await write(change(8, [9]));
  };
  await turn(goneOn, change(6, [7, 8]));
  assert.deepEqual(await ids(), [1, 2, 3, 4, 5, 6, 7, 8, 9], 'it was, and another server went on from it');
  const changed: Meanwhile = async (done) => {
    await done();
    await write(change(0, [1]));
  };
  await turn(changed, change(9, [10]));
  assert.deepEqual(await ids(), [1], 'it was, and another server put something else in its place');
});

test('a write that was not done is not taken for done because what was there begins with it', async (t) => {
  const { store, ids, write, turn } = await rig(t);
  await write(change(0, [1, 2, 3, 4]));
  // asked again from the middle, and the same was said, but less
  await turn(notDone, change(2, [3]));
  assert.deepEqual(await ids(), [1, 2, 3]);
  await turn(notDone, change(1, []));
  assert.deepEqual(await ids(), [1]);

  await write(change(1, [2, 3, 4]));
  const stolen: Meanwhile = async () => {
    await leaseEnds();
    await write(change(4, [5]));
  };
  assert.equal(store.stats().leasesLost, 0);
  await assert.rejects(turn(stolen, change(2, [3])), { code: 'session_lease_lost', status: 409 });
  assert.equal(store.stats().leasesLost, 1);
  assert.deepEqual(await ids(), [1, 2, 3, 4, 5]);
});

test('where so many wrote since that nobody knows any more, the caller is told that', async (t) => {
  const { ids, write, turn } = await rig(t);
  const forgotten: Meanwhile = async (done) => {
    await done();
    for (let i = 1; i <= WRITERS; i++) await write(change(i, [i]));
  };
  await assert.rejects(turn(forgotten, change(0, [0])), { code: 'session_store_unavailable', status: 503 });
  assert.equal((await ids()).length, 1 + WRITERS);
});
