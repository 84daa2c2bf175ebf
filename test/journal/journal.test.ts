import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { createJournal, type JournalOptions } from '../../src/journal/journal.js';
import { crc32c, replay } from '../../src/journal/journal-format.js';

const FILE = 'sessions.journal';

function folder(t: { after(f: () => void): void }): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'longmind-journal-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function reopen(options: JournalOptions) {
  const j = createJournal(options);
  const { putAside, cutBytes } = j;
  const sessions = j.recovered.map((s) => [s.sessionId, s.owner, [...s.ids]]);
  await j.close();
  return { sessions, putAside, cutBytes };
}

test('the checksum is CRC-32C', () => {
  assert.equal(crc32c(new TextEncoder().encode('123456789')), 0xe3069283);
});

test('sessions come back after a restart: appended, rewound, dropped, of several owners', async (t) => {
  const options = { dir: folder(t), fingerprint: 'model a' };
  const j = createJournal(options);
  j.append('one', 0, 0, [1, 2, 3]);
  j.append('one', 7, 0, [9]);
  j.append('zwei 🎈', 0, 0, [4, 5]);
  j.append('one', 0, 2, [30, 40]);
  j.append('gone', 0, 0, [6]);
  j.drop('gone');
  j.append('zwei 🎈', 0, 1, []);
  await j.flush();
  await j.close();
  const { sessions } = await reopen(options);
  assert.deepEqual(sessions, [
    ['one', 7, [9]],
    ['one', 0, [1, 2, 30, 40]],
    ['zwei 🎈', 0, [4]],
  ]);
});

test('a journal torn or damaged at any byte of its last record loses that record only, and can go on', async (t) => {
  const options = { dir: folder(t), fingerprint: 'm' };
  const j = createJournal(options);
  j.append('a', 0, 0, [1, 2]);
  await j.flush();
  const before = statSync(path.join(options.dir, FILE)).size;
  j.append('a', 0, 2, [3, 4]);
  await j.close();
  const whole = readFileSync(path.join(options.dir, FILE));
  for (let cut = before; cut < whole.length; cut++) {
    const torn = replay(whole.subarray(0, cut));
    assert.deepEqual([torn.validBytes, [...torn.sessions.get('0:a')!.ids]], [before, [1, 2]], `torn at ${cut}`);
    const damaged = Buffer.from(whole);
    damaged[cut]! ^= 0x40;
    assert.deepEqual([...replay(damaged).sessions.get('0:a')!.ids], [1, 2], `damaged at ${cut}`);
  }
  writeFileSync(path.join(options.dir, FILE), whole.subarray(0, whole.length - 3));
  const again = createJournal(options);
  assert.equal(again.cutBytes, whole.length - 3 - before);
  again.append('a', 0, 2, [7]);
  await again.close();
  assert.deepEqual((await reopen(options)).sessions, [['a', 0, [1, 2, 7]]]);
});

test('a file of another model is put aside, not read and not destroyed', async (t) => {
  const dir = folder(t);
  const j = createJournal({ dir, fingerprint: 'model a' });
  j.append('s', 0, 0, [1]);
  await j.close();
  const other = await reopen({ dir, fingerprint: 'model b' });
  assert.deepEqual(other.sessions, []);
  assert.ok(other.putAside);
  assert.deepEqual([...replay(readFileSync(other.putAside)).sessions.keys()], ['0:s']);
});

test('a record that continues an unknown session costs that session, not the ones after it', async (t) => {
  const options = { dir: folder(t), fingerprint: 'm' };
  const j = createJournal(options);
  j.append('odd', 0, 5, [1]);
  j.append('good', 0, 0, [2]);
  await j.close();
  assert.deepEqual((await reopen(options)).sessions, [['good', 0, [2]]]);
});

test('compaction keeps what is alive and the file small', async (t) => {
  const options = { dir: folder(t), fingerprint: 'm', compactAbove: 4096, fsync: 'off' as const };
  const j = createJournal(options);
  const ids = Int32Array.from({ length: 100 }, (_, i) => i);
  for (let i = 0; i < 300; i++) {
    j.append(`s${i % 5}`, 0, 0, ids);
    if (i % 20 === 0) await j.flush();
  }
  await j.close();
  assert.ok(statSync(path.join(options.dir, FILE)).size < 20_000, 'it was not compacted');
  const { sessions } = await reopen(options);
  assert.equal(sessions.length, 5);
  for (const s of sessions) assert.deepEqual(s[2], [...ids]);
});

for (const [what, compactAbove, turns] of [
  ['', 2 ** 30, 20],
  [', also while it compacts', 0, 150],
] as const) {
  test(`killed at any moment (kill -9)${what}, it loses at most what was in flight`, async (t) => {
    const dir = folder(t);
    const index = new URL('../../src/journal/journal.js', import.meta.url).href;
    const script = `import { createJournal } from '${index}';
      const j = createJournal({ dir: ${JSON.stringify(dir)}, fingerprint: 'm', fsync: 'off', compactAbove: ${compactAbove} });
      for (let n = 0; ; n++) { j.append('s', 0, n, [n]); await j.flush(); process.stdout.write(n + '\\n'); }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    // its pipe closes a moment before it is gone, and until then the folder is in use
    const gone = once(child, 'exit');
    let out = '';
    for await (const chunk of child.stdout) {
      out += chunk;
      if (out.split('\n').length > turns) child.kill('SIGKILL');
    }
    await gone;
    const said = out.split('\n').slice(0, -1).map(Number).at(-1)!;
    const { sessions } = await reopen({ dir, fingerprint: 'm' });
    const ids = sessions[0]![2] as number[];
    assert.ok(ids.length >= said + 1, `${said + 1} turns were confirmed, ${ids.length} came back`);
    assert.deepEqual(
      ids,
      Array.from(ids, (_, i) => i),
    );
  });
}

test('a file whose first record is damaged is put aside, not overwritten', async (t) => {
  const options = { dir: folder(t), fingerprint: 'm' };
  const j = createJournal(options);
  j.append('s', 0, 0, [1, 2, 3]);
  await j.close();
  const name = path.join(options.dir, FILE);
  const damaged = readFileSync(name);
  damaged[9]! ^= 1;
  writeFileSync(name, damaged);
  const { sessions, putAside } = await reopen(options);
  assert.deepEqual(sessions, []);
  assert.deepEqual(readFileSync(putAside!), damaged);
});

test('a folder that cannot be used is a typed error', () => {
  assert.throws(() => createJournal({ dir: '/dev/null/x', fingerprint: 'm' }), { code: 'io_error' });
  assert.ok(readdirSync('/dev').length > 0);
});

test('closing right after a flush fails nobody', async (t) => {
  const failures: Error[] = [];
  const j = createJournal({ dir: folder(t), fingerprint: 'm', onFailure: (e) => failures.push(e) });
  j.append('s', 0, 0, [1]);
  // long enough for the thread to have written, but not yet to have synced
  await new Promise((resolve) => setTimeout(resolve, 300));
  await j.flush();
  await j.close();
  assert.deepEqual(failures, []);
});
