/** Python's `openai` and `instructor` against the bundled model. Skipped, loudly, where they cannot be installed. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { client } from '../support/clients.js';
import { memoServer } from '../support/memo-server.js';
import { withoutModel } from '../support/server-process.js';
import { root } from '../support/spawn.js';

const CHECKS = ['responses', 'conversations', 'chat', 'embeddings', 'with_instructor'];
const found = client('python');
const skip = withoutModel || ('reason' in found && found.reason);
if (skip) console.error(skip);

test("Python's openai and instructor: responses, conversations, chats, embeddings, structured output", {
  skip,
}, async () => {
  await using rig = await memoServer();
  const { folder } = found as { folder: string };
  const script = [`${root}test/clients/python/check.py`, `${rig.url}/v1`];
  const env = { ...process.env, PYTHONPATH: folder };
  const { stdout } = await promisify(execFile)('python3', script, { env });
  assert.deepEqual(
    stdout.trim().split('\n'),
    CHECKS.map((name) => `ok ${name}`),
  );
});
