/** What is told of a session store when an engine starts. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { createEngine, type EngineOptions } from '../../src/index.js';
import { checkServerOptions } from '../../src/server/index.js';
import { readAdapterFixture, writePeft } from '../models/adapters.js';
import { readFixture, temporaryFolder, writeFolder } from '../models/tiny.js';

const model = writeFolder(readFixture('llama'));
const open = (options: EngineOptions) => createEngine({ model, device: 'null', ...options });

test('a store that is away when the engine starts is told to who listens when it has started', async () => {
  await using engine = await open({ sessionStore: 'redis://127.0.0.1:1/0' });
  const problem = await new Promise<string>((resolve) => engine.onProblem(resolve));
  assert.match(problem, /session store \(Redis at 127\.0\.0\.1:1\/0\) does not answer/);
});

test('without the store a session is not taken for one of the model alone where it may be of an adapter', async () => {
  const lora = { all: writePeft(readAdapterFixture('all')) };
  await using engine = await open({ sessionStore: 'redis://127.0.0.1:1/0', lora });
  const ask = (adapter?: string | null) =>
    engine.complete({ prompt: [5, 6, 7], maxTokens: 2, sessionId: 's', adapter }).result();
  await assert.rejects(ask(), { code: 'session_store_unavailable', status: 503 });
  for (const adapter of [null, 'all']) assert.equal((await ask(adapter)).kept, false);
});

test('options of a shared store are refused without one, and a file without an address says so', async () => {
  for (const [name, value] of [
    ['sessionLease', 30],
    ['sessionTtl', 60],
  ] as const)
    for (const sessionStore of ['', temporaryFolder()])
      await assert.rejects(open({ sessionStore, [name]: value }), { code: 'invalid_option', param: name });
  for (const conversationStore of ['', temporaryFolder()])
    assert.throws(() => checkServerOptions({ conversationStore, conversationLease: 30 }), {
      param: 'conversationLease',
    });
  const file = path.join(temporaryFolder(), 'address');
  writeFileSync(file, 'hunter2\n');
  await assert.rejects(open({ sessionStore: `@${file}` }), (e: Error) => {
    assert.match(e.message, /a file that holds one address/);
    assert.ok(!e.message.includes('hunter2'));
    return true;
  });
});
