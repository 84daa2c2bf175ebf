/** A server with a disk cache goes on with what it finds there, also of a session that others spoke in meanwhile. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { startRedis } from '../../bench/store-servers.js';
import { createEngine, type Engine } from '../../src/index.js';
import { modelPath, withoutModel } from '../support/server-process.js';

test('a server that was started anew brings back the KV that its disk has, and computes what others said', {
  skip: withoutModel,
}, async (t) => {
  const store = await startRedis();
  const dir = mkdtempSync(path.join(tmpdir(), 'longmind-fleet-disk-'));
  t.after(async () => {
    await store.close();
    rmSync(dir, { recursive: true, force: true });
  });
  // in small steps nothing is measured beforehand: what there is on the disk is tried
  const common = { model: modelPath!, threads: 1, cacheMaxEntryCount: 64, maxPrefillTokenNum: 32 };
  const open = async (more: object): Promise<Engine> => {
    const engine = await createEngine({ ...common, ...more });
    t.after(() => engine.close());
    return engine;
  };
  const shared = { sessionStore: store.address, sessionLease: 1 };
  const withDisk = { ...shared, cacheDisk: `${dir}:16MiB` };
  const turns = [0, 1, 2].map((turn) => Array.from({ length: 200 }, (_, i) => 300 + ((i * 31 + turn * 7) % 500)));
  const turn = (engine: Engine, i: number) => {
    const options = { sessionId: 's', sessionAppend: true, temperature: 0, ignoreEos: true, maxTokens: 8 };
    return engine.complete({ prompt: turns[i]!, ...options }).result();
  };
  const alone = await open({});
  const expected = [await turn(alone, 0), await turn(alone, 1), await turn(alone, 2)].map((r) => r.tokenIds);

  const first = await open(withDisk);
  const said = [await turn(first, 0)];
  // what waits to be saved is saved
  await first.close();
  const other = await open(shared);
  said.push(await turn(other, 1));
  const again = await open(withDisk);
  said.push(await turn(again, 2));
  assert.deepEqual(
    said.map((r) => r.tokenIds),
    expected,
  );
  const { usage, kv } = said[2]!;
  assert.ok(kv.restoredTokens >= 150 && kv.restoredTokens <= 208, JSON.stringify(kv));
  assert.ok(usage.promptTokens - usage.cachedTokens >= 400, JSON.stringify(usage));
  assert.deepEqual(said[1]!.kv.restoredTokens, 0);
});
