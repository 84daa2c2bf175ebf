import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { tokens } from '../support/batch.js';
import { openCore, request } from '../support/core.js';

test('after a restart a session continues as if it had been evicted', async () => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'longmind-store-'));
  try {
    const options = { cacheMaxEntryCount: 50, sessionStore: dir };
    const prompt = tokens(40, 1);
    const before = openCore(options);
    const first = before.run(request(1, prompt, 'a'));
    before.run(request(2, tokens(20, 2), 'b'));
    before.core.batch.sessions.delete('b', 0);
    await before.core.close();

    const after = openCore(options);
    const session = after.core.batch.sessions.get('a', 0);
    assert.equal(after.core.batch.sessions.info(session).state, 'evicted');
    assert.equal(after.core.batch.sessions.find('b', 0), null);
    const turn = [...prompt, ...first, 7, 8, 9];
    const again = after.run(request(3, turn, 'a'));
    assert.deepEqual(again, openCore({ cacheMaxEntryCount: 50 }).run(request(1, turn, null)));
    await after.core.close();

    const other = openCore({ ...options }, 'another model');
    assert.equal(other.core.batch.sessions.size, 0);
    await other.core.close();
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('the least recently used idle session is forgotten beyond maxSessions, a busy one never', () => {
  const { core, run, out } = openCore({ cacheMaxEntryCount: 50, maxSessions: 2 });
  run(request(1, tokens(10, 1), 'a'));
  run(request(2, tokens(10, 2), 'b'));
  run(request(3, tokens(10, 3), 'a'));
  run(request(4, tokens(10, 4), 'c'));
  assert.deepEqual(
    [...core.batch.sessions.all()].map((s) => s.id),
    ['c', 'a'],
  );
  for (const [id, name] of [
    [5, 'a'],
    [6, 'c'],
  ] as const) {
    out.set(id, []);
    core.batch.submit(request(id, tokens(10, id), name));
  }
  assert.throws(() => core.batch.submit(request(7, tokens(10, 7), 'd')), { code: 'too_many_sessions', status: 429 });
  while (core.batch.step());
  core.batch.check();
});
