/** A session that speaks with a LoRA adapter goes on with it on another server. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startRedis } from '../../bench/store-servers.js';
import { createEngine, type Engine } from '../../src/index.js';
import { readAdapterFixture, writePeft } from '../models/adapters.js';
import { readFixture, writeFolder } from '../models/tiny.js';

test('a session keeps its adapter on every server, and is refused by one that has not got it', async (t) => {
  const store = await startRedis();
  t.after(() => store.close());
  const fixture = readAdapterFixture('all');
  const [model, lora] = [writeFolder(readFixture('llama')), { all: writePeft(fixture) }];
  const options = { model, threads: 1, cacheMaxEntryCount: 40, cacheBlockSeqLen: 16 } as const;
  const open = async (more: object): Promise<Engine> => {
    const engine = await createEngine({ ...options, ...more });
    t.after(() => engine.close());
    return engine;
  };
  const shared = { sessionStore: store.address, lora };
  const [a, b, without, alone] = await Promise.all([
    ...[open(shared), open(shared)],
    ...[open({ sessionStore: store.address }), open({ lora })],
  ]);
  const turn = async (engine: Engine, prompt: number[], adapter?: string | null) => {
    const request = { prompt, sessionId: 's', sessionAppend: true, temperature: 0, ignoreEos: true, maxTokens: 8 };
    return (await engine.complete({ ...request, adapter }).result()).tokenIds;
  };
  const [first, second] = [fixture.ids.slice(0, 30), fixture.ids.slice(30, 45)];
  assert.deepEqual(await turn(a!, first, 'all'), await turn(alone!, first, 'all'));
  assert.deepEqual(await turn(b!, second), await turn(alone!, second));
  assert.equal((await a!.sessions.get('s')).adapter, 'all');
  await assert.rejects(turn(without!, second), { code: 'adapter_not_found' });
  assert.deepEqual(
    (await without!.sessions.list()).map((s) => [s.id, s.adapter]),
    [['s', 'all']],
  );
  await assert.rejects(turn(a!, second, null), { code: 'session_adapter' });
  assert.deepEqual(await turn(a!, second), await turn(alone!, second));
});
