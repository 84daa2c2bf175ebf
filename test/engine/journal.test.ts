import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { createJournal } from '../../src/journal/journal.js';
import { tokens, VOCAB } from '../support/batch.js';
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
    assert.match(other.problems.join(), /another model's, or damaged: they are in '.*sessions\.journal\.\d+\.old'/);
    assert.deepEqual(after.problems, []);
    await other.core.close();
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('a record with an id that is no token costs its own session only, and the next start does not see it', async () => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'longmind-store-'));
  try {
    const j = createJournal({ dir, fingerprint: 'a model' });
    j.append('good', 0, 0, tokens(20, 1));
    j.append('negative', 0, 0, [5, -1, 7]);
    j.append('large', 0, 0, [5, VOCAB]);
    j.append('huge', 0, 0, [2 ** 31 - 1]);
    j.append('more than is kept', 0, 0, tokens(400, 1));
    j.append('last', 0, 0, [VOCAB - 1]);
    await j.close();
    const options = { cacheMaxEntryCount: 50, sessionStore: dir, maxSessionTokens: 300 };
    const first = openCore(options);
    const names = () => [...first.core.batch.sessions.all()].map((s) => s.id).sort();
    assert.deepEqual(names(), ['good', 'last']);
    const turn = [...tokens(20, 1), 9];
    assert.deepEqual(
      first.run(request(1, turn, 'good')),
      openCore({ cacheMaxEntryCount: 50 }).run(request(1, turn, null)),
    );
    await first.core.close();
    const again = createJournal({ dir, fingerprint: 'a model' });
    assert.deepEqual(again.recovered.map((s) => s.sessionId).sort(), ['good', 'last', 'more than is kept']);
    await again.close();
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('a session forked before its first token, and one rewound to none, outlive the process', async () => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'longmind-store-'));
  try {
    const options = { cacheMaxEntryCount: 50, sessionStore: dir };
    const before = openCore(options);
    before.run(request(1, tokens(40, 1), 'a'));
    const { cache, batch } = before.core;
    const { sequence } = batch.sessions.get('a', 0);
    batch.sessions.adopt('empty', 0, () => cache.fork(sequence, 0));
    await before.core.close();
    const after = openCore(options);
    assert.equal(after.core.batch.sessions.info(after.core.batch.sessions.get('empty', 0)).tokens, 0);
    assert.deepEqual(
      after.run(request(2, tokens(9, 2), 'empty')),
      openCore({ cacheMaxEntryCount: 50 }).run(request(1, tokens(9, 2), null)),
    );
    await after.core.close();
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('names that are no well-formed text are refused: on the disk they would be one', () => {
  const { core, run } = openCore({ cacheMaxEntryCount: 50 });
  for (const name of ['\ud800', 'a\udfff', '\udc00\ud800', '', 'x'.repeat(257)])
    assert.throws(() => core.batch.submit(request(1, tokens(9, 1), name)), {
      code: 'invalid_request',
      param: 'session_id',
    });
  assert.equal(core.batch.sessions.size, 0);
  assert.equal(core.cache.stats().sequences.total, 0);
  run(request(2, tokens(9, 1), '\u{1f388} kept'));
  core.batch.check();
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
