import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { createJournal, type JournalOptions } from '../../src/journal/journal.js';
import { compacted, crc32c, encode, replay, type SavedMark, seal, WRITE } from '../../src/journal/journal-format.js';

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

test('a session comes back with its adapter, also when it was rewritten and compacted, and is not without it when torn', async (t) => {
  const options: JournalOptions = { dir: folder(t), fingerprint: 'm' };
  const j = createJournal(options);
  j.append('plain', 0, 0, [1]);
  j.adapter('s', 7, 'poet');
  j.append('s', 7, 0, [1, 2, 3]);
  j.append('s', 7, 1, [4]);
  await j.close();
  const file = readFileSync(path.join(options.dir, FILE));
  const adapters = (bytes: Uint8Array) =>
    [...replay(bytes).sessions.values()].map((s) => [s.sessionId, s.adapter, [...s.ids]]);
  const whole = [
    ['plain', null, [1]],
    ['s', 'poet', [1, 4]],
  ];
  assert.deepEqual(adapters(file), whole);
  assert.deepEqual(adapters(Buffer.concat(compacted('m', replay(file).sessions.values()))), whole);
  for (let cut = 0; cut < file.length; cut++) {
    for (const [id, adapter] of adapters(file.subarray(0, cut))) assert.equal(adapter, id === 's' ? 'poet' : null);
    // what was torn gives nothing to a session that begins after it
    const start = file.subarray(0, replay(file.subarray(0, cut)).validBytes);
    if (start.length > 0) {
      const begun = Buffer.concat([start, seal(encode(WRITE, 's', 7, 0, [9]))]);
      assert.equal(replay(begun).sessions.get('7:s')!.adapter, null, `cut at ${cut}`);
    }
    // compacted anywhere, it says the same with what follows
    const { validBytes, fingerprint, sessions, given } = replay(file.subarray(0, cut));
    if (fingerprint !== null)
      assert.deepEqual(
        adapters(Buffer.concat([...compacted('m', sessions.values(), given), file.subarray(validBytes)])),
        whole,
      );
  }
});

test('a session that is begun anew without an adapter has not the one of the session that had its name', async (t) => {
  const options: JournalOptions = { dir: folder(t), fingerprint: 'm' };
  const j = createJournal(options);
  const saved = () => createJournalAgain(options).then((all) => all.map((s) => [s.adapter, [...s.ids]]));
  j.adapter('s', 7, 'poet');
  j.append('s', 7, 0, [1, 2]);
  // of another session, between the two records of this one
  j.append('t', 7, 0, [5]);
  j.append('s', 7, 0, [3]);
  j.append('s', 7, 1, [4]);
  await j.close();
  assert.deepEqual(await saved(), [
    [null, [5]],
    [null, [3, 4]],
  ]);
});

async function createJournalAgain(options: JournalOptions) {
  const j = createJournal(options);
  await j.close();
  return j.recovered;
}

test('turns with names come back: with their session only, rewound with it, and as they were when the file is compacted', async (t) => {
  const options = { dir: folder(t), fingerprint: 'model a' };
  const j = createJournal(options);
  const mark = (name: string, end: number, head = 'tools ✂'): SavedMark => ({
    name,
    prompt: end - 1,
    end,
    cachedTokens: 0,
    finishReason: 'stop',
    note: `{"of":"${name} 🎈"}`,
    head,
    own: true,
  });
  const marks = [mark('one', 2), mark('two', 4), mark('three', 6, 'others')];
  j.append('a', 7, 0, [1, 2]);
  j.mark('a', 7, marks[0]!);
  j.append('a', 7, 2, [3, 4]);
  j.mark('a', 7, marks[1]!, marks[0]);
  j.append('a', 7, 4, [5, 6]);
  j.mark('a', 7, marks[2]!, marks[1]);
  j.append('b', 7, 0, [1, 2]);
  j.mark('b', 7, mark('gone', 2));
  j.append('b', 7, 1, [9]);
  j.mark('nowhere', 7, mark('lost', 2));
  j.unmark('a', 7, 'two');
  await j.close();
  const again = createJournal(options);
  const expected = [marks[0], { ...marks[1], name: '' }, marks[2]];
  assert.deepEqual(
    again.recovered.map((s) => [s.sessionId, s.marks]),
    [
      ['b', []],
      ['a', expected],
    ],
  );
  // heads that are equal stand there once
  const file = Buffer.concat(compacted('model a', again.recovered));
  assert.equal(file.toString('utf8').split('tools ✂').length, 2);
  assert.deepEqual([...replay(file).sessions.values()], again.recovered);
  await again.close();
  const last = createJournal(options);
  last.unmark('a', 7, 'three');
  await last.close();
  const [, a] = [...replay(readFileSync(path.join(options.dir, FILE))).sessions.values()];
  assert.deepEqual(a!.marks, [marks[0]]);
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

test('nobody else may read its files, also those that an earlier version made', async (t) => {
  const mode = (name: string) => statSync(name).mode & 0o777;
  const dir = path.join(folder(t), 'made', 'here');
  const options = { dir, fingerprint: 'm', compactAbove: 0 };
  const j = createJournal(options);
  for (let i = 0; i < 40; i++) j.append('s', 0, 0, [1, 2, 3]);
  await j.flush();
  assert.deepEqual([mode(dir), ...readdirSync(dir).map((n) => mode(path.join(dir, n)))], [0o700, 0o600, 0o600]);
  await j.close();
  chmodSync(dir, 0o755);
  chmodSync(path.join(dir, FILE), 0o644);
  await reopen(options);
  assert.deepEqual([mode(dir), mode(path.join(dir, FILE))], [0o700, 0o600]);
});

test('a symbolic link in the place of its file, or of the one it compacts into, is not followed', async (t) => {
  const victim = path.join(folder(t), 'victim');
  writeFileSync(victim, 'precious');
  const dir = folder(t);
  symlinkSync(victim, path.join(dir, FILE));
  assert.throws(() => createJournal({ dir, fingerprint: 'm' }), { code: 'io_error', message: /ELOOP|symbolic/ });
  rmSync(path.join(dir, FILE));
  const dangling = path.join(folder(t), 'made by the link');
  symlinkSync(dangling, path.join(dir, FILE));
  assert.throws(() => createJournal({ dir, fingerprint: 'm' }), { code: 'io_error' });
  assert.ok(!existsSync(dangling));
  rmSync(path.join(dir, FILE));

  const j = createJournal({ dir, fingerprint: 'm', compactAbove: 0 });
  symlinkSync(victim, path.join(dir, `${FILE}.new`));
  for (let i = 0; i < 40; i++) j.append('s', 0, 0, [i]);
  await j.close();
  assert.equal(readFileSync(victim, 'utf8'), 'precious');
  assert.ok(!existsSync(path.join(dir, `${FILE}.new`)), 'it was compacted');
  assert.deepEqual((await reopen({ dir, fingerprint: 'm' })).sessions, [['s', 0, [39]]]);
});

test('a disk that failed is written again when it can be, in the order of what was said', async (t) => {
  const limit = (bytes: string) =>
    execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:unlimited`]);
  try {
    limit('unlimited');
  } catch {
    t.skip('there is no prlimit here');
    return;
  }
  t.after(() => limit('unlimited'));
  const news: string[] = [];
  const dir = folder(t);
  const options = {
    dir,
    fingerprint: 'm',
    onFailure: () => news.push('failed'),
    onRecovery: () => news.push('recovered'),
  };
  const j = createJournal(options);
  j.append('before', 0, 0, [1]);
  await j.flush();
  limit('1024');
  const long = Int32Array.from({ length: 1000 }, (_, i) => i);
  j.append('a', 0, 0, long);
  await assert.rejects(j.flush());
  j.append('a', 0, 1000, [7, 8]);
  j.append('a', 0, 500, []);
  j.append('b', 0, 0, [9]);
  await assert.rejects(j.flush());
  assert.deepEqual(news, ['failed']);
  limit('unlimited');
  for (let i = 0; i < 200 && news.length < 2; i++) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(news, ['failed', 'recovered']);
  j.append('b', 0, 1, [10]);
  await j.close();
  assert.deepEqual((await reopen({ dir, fingerprint: 'm' })).sessions, [
    ['before', 0, [1]],
    ['a', 0, [...long.subarray(0, 500)]],
    ['b', 0, [9, 10]],
  ]);
});

test('what waits for a disk is written at the latest when it closes', async (t) => {
  const limit = (bytes: string) =>
    execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:unlimited`]);
  try {
    limit('unlimited');
  } catch {
    t.skip('there is no prlimit here');
    return;
  }
  t.after(() => limit('unlimited'));
  const dir = folder(t);
  const j = createJournal({ dir, fingerprint: 'm' });
  limit('64');
  j.append('a', 0, 0, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  await assert.rejects(j.flush());
  limit('unlimited');
  await j.close().catch(() => {});
  assert.deepEqual((await reopen({ dir, fingerprint: 'm' })).sessions, [['a', 0, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]]);
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
