import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { answers, type StoreServer, startPostgres, startRedis } from '../../bench/store-servers.js';
import { type Change, type KeptMark, type MeasuredStore, openStore } from '../../src/store/index.js';
import { WRITERS } from '../../src/store/types.js';

const mark = (name: string, end: number): KeptMark => ({
  name,
  prompt: 1,
  end,
  cachedTokens: 0,
  finishReason: 'stop',
  note: '{}',
  head: 'h',
  own: false,
});
const change = (from: number, ids: number[], marks: KeptMark[] = [], keepMarks = 0): Change => ({
  from,
  ids: Int32Array.from(ids),
  adapter: null,
  keepMarks,
  marks,
  before: null,
  goneNames: [],
});
const code = (expected: string) => (e: unknown) => (e as { code: string }).code === expected;

for (const [name, start] of [
  ['Redis', startRedis],
  ['PostgreSQL', startPostgres],
] as const) {
  describe(`a session store in ${name}`, () => {
    let server: StoreServer;
    let store: MeasuredStore;
    before(async () => {
      server = await start();
      store = await openStore(server.address, 'model');
      await answers(() => store.about());
    });
    after(async () => {
      await store?.close();
      await server?.close();
    });

    it('gives back what was written, and finds a turn by its name', async () => {
      const key = { id: 'kept\0é', owner: 3 };
      const first = await store.acquire(key, 5_000);
      assert.equal(first.kept, null);
      await store.write(first.lease, change(0, [1, 2, -3], [mark('resp_1', 3)]));
      const second = await store.acquire(key, 5_000);
      assert.deepEqual([...second.kept!.ids], [1, 2, -3]);
      assert.deepEqual(second.kept!.marks, [mark('resp_1', 3)]);
      await store.write(second.lease, change(2, [7, 8], [mark('resp_2', 4)], 1));
      const read = await store.load(key);
      assert.deepEqual([...read!.ids], [1, 2, 7, 8]);
      assert.deepEqual(
        read!.marks.map((m) => m.name),
        ['resp_1', 'resp_2'],
      );
      assert.equal(await store.find('resp_2', 3), 'kept\0é');
      assert.equal(await store.find('resp_2', 4), null, 'of another owner');
    });

    it('has one writer at a time', async () => {
      const key = { id: 'busy', owner: 1 };
      const { lease } = await store.acquire(key, 5_000);
      await assert.rejects(store.acquire(key, 5_000), code('session_busy'));
      await store.release(lease);
      await store.release((await store.acquire(key, 5_000)).lease);
    });

    it('refuses a writer whose lease ended and was taken by another', async () => {
      const key = { id: 'slept', owner: 1 };
      const { lease } = await store.acquire(key, 30);
      await sleep(60);
      const other = await store.acquire(key, 5_000);
      await assert.rejects(store.write(lease, change(0, [9])), code('session_lease_lost'));
      assert.deepEqual(await store.renew([lease, other.lease], 5_000), [lease]);
      await store.write(other.lease, change(0, [5]));
      await assert.rejects(store.write(lease, change(0, [9])), code('session_lease_lost'));
      assert.deepEqual([...(await store.load(key))!.ids], [5]);
    });

    it('tells whose writes were the last ones', async () => {
      const key = { id: 'written', owner: 1 };
      assert.deepEqual(await store.writers(key), []);
      const tokens: number[] = [];
      for (let i = 0; i < WRITERS + 2; i++) {
        const { lease } = await store.acquire(key, 5_000);
        assert.deepEqual(await store.writers(key), tokens.slice(0, WRITERS));
        await store.write(lease, change(0, [i]));
        tokens.unshift(lease.token);
      }
    });

    it('leaves a lease that was given back where it is, though it is renewed at that moment', async () => {
      const key = { id: 'renewed', owner: 1 };
      const { lease } = await store.acquire(key, 5_000);
      await Promise.all([store.write(lease, change(0, [1])), store.renew([lease], 5_000)]);
      assert.deepEqual(await store.renew([lease], 5_000), [lease]);
      await store.release((await store.acquire(key, 5_000)).lease);
    });

    it('forgets the least recently used beyond its bounds, never what is held', async () => {
      for (const id of ['a', 'b', 'c'])
        await store.write((await store.acquire({ id, owner: 9 }, 5_000)).lease, change(0, [1]));
      const { lease } = await store.acquire({ id: 'a', owner: 9 }, 5_000);
      await store.trim({ sessions: 1, bytes: 1e9, idleMs: 0 });
      assert.notEqual(await store.load({ id: 'a', owner: 9 }), null);
      assert.equal(await store.load({ id: 'b', owner: 9 }), null);
      await store.drop(lease);
      assert.equal(await store.load({ id: 'a', owner: 9 }), null);
      assert.equal(await store.load({ id: 'slept', owner: 1 }), null);
    });

    it('keeps the adapter of a session, and forgets what nobody used for too long', async () => {
      const key = { id: 'adapted', owner: 5 };
      await store.write((await store.acquire(key, 5_000)).lease, { ...change(0, [1, 2]), adapter: 'pirate' });
      assert.equal((await store.load(key))!.adapter, 'pirate');
      assert.equal((await store.list(5)).find((s) => s.id === 'adapted')!.adapter, 'pirate');
      await sleep(60);
      await store.write((await store.acquire({ id: 'fresh', owner: 5 }, 5_000)).lease, change(0, [1]));
      await store.trim({ sessions: 1e6, bytes: 1e9, idleMs: 50 });
      assert.deepEqual(
        (await store.list(5)).map((s) => [s.id, s.adapter]),
        [['fresh', null]],
      );
    });

    it('tells nothing of a weakness where every write is on the disk', async () => {
      assert.equal(await store.weakness(), null);
    });

    it('is a clear error while the server is away, and has what was acknowledged when it is back', async () => {
      const key = { id: 'crashed', owner: 1 };
      await store.write((await store.acquire(key, 5_000)).lease, change(0, [4, 2]));
      await server.crash();
      await assert.rejects(store.load(key), { code: 'session_store_unavailable', status: 503, retryAfterMs: 1000 });
      assert.notEqual(store.failure, null);
      server.start();
      await answers(() => store.about());
      assert.equal(store.failure, null);
      assert.deepEqual([...(await store.load(key))!.ids], [4, 2]);
    });
  });
}
