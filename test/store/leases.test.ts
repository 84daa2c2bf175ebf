/** A write whose answer is lost on the way: what became of it is found out, and it is never done twice. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answers, startRedis } from '../../bench/store-servers.js';
import { errors } from '../../src/errors.js';
import { type Change, Leases, type MeasuredStore, openStore } from '../../src/store/index.js';

const key = { id: 's', owner: 0 };
const change = (from: number, ids: number[]): Change => ({
  ...{ from, ids: Int32Array.from(ids), adapter: null, keepMarks: 0, marks: [], before: null, goneNames: [] },
});

/** The store, but for the next write: `meanwhile` is done in place of its answer. */
function losesAnAnswer(store: MeasuredStore, meanwhile: (write: () => Promise<void>) => Promise<void>): MeasuredStore {
  let lost = false;
  return Object.assign(Object.create(store), {
    write: async (...args: Parameters<MeasuredStore['write']>) => {
      if (lost) return store.write(...args);
      lost = true;
      await meanwhile(() => store.write(...args));
      throw errors.storeUnavailable('nowhere');
    },
  }) as MeasuredStore;
}

test('a write whose answer is lost stands once, whoever has the session by then', async (t) => {
  const server = await startRedis();
  t.after(() => server.close());
  const store = await openStore(server.address, 'model');
  t.after(() => store.close());
  await answers(() => store.about());
  await store.write((await store.acquire(key, 1_000)).lease, change(0, [1, 2]));
  const ids = async () => [...(await store.load(key))!.ids];
  const turn = async (meanwhile: (write: () => Promise<void>) => Promise<void>, c: Change) => {
    const leases = new Leases(losesAnAnswer(store, meanwhile), 1_000);
    await leases.write(await leases.acquire(key), c);
    await leases.close();
  };

  await turn((write) => write(), change(2, [3, 4]));
  assert.deepEqual(await ids(), [1, 2, 3, 4], 'it was written');
  await turn(async () => {}, change(4, [5, 6]));
  assert.deepEqual(await ids(), [1, 2, 3, 4, 5, 6], 'it was not');
  await turn(
    async (write) => {
      await write();
      await store.write((await store.acquire(key, 1_000)).lease, change(8, [9]));
    },
    change(6, [7, 8]),
  );
  assert.deepEqual(await ids(), [1, 2, 3, 4, 5, 6, 7, 8, 9], 'it was, and another server went on from it');

  const stolen = turn(
    async () => {
      // the lease ends, and another server says something else
      await new Promise((resolve) => setTimeout(resolve, 1_100));
      await store.write((await store.acquire(key, 1_000)).lease, change(9, [0]));
    },
    change(9, [10, 11]),
  );
  await assert.rejects(stolen, { code: 'session_lease_lost', status: 409 });
  assert.deepEqual(await ids(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
});
