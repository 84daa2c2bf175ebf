import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { FileLock, type HeldBy, takeLock, withLock, withLockSync } from '../../src/base/lock.js';
import { createJournal } from '../../src/journal/journal.js';

type Context = { after(f: () => void): void };

function folder(t: Context): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'longmind-lock-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A process that opens the session store in `dir`, says what came of it, and stays. */
function opener(t: Context, dir: string): { child: ChildProcess; said: Promise<string> } {
  const index = new URL('../../src/journal/journal.js', import.meta.url).href;
  const script = `import { createJournal } from '${index}';
    try {
      const j = createJournal({ dir: ${JSON.stringify(dir)}, fingerprint: 'm' });
      j.append('s', 0, 0, [process.pid]);
      await j.flush();
      process.stdout.write('open\\n');
    } catch (e) { process.stdout.write(e.code + ' ' + e.message + '\\n'); }
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const said = new Promise<string>((resolve) => child.stdout!.once('data', (d) => resolve(String(d).trim())));
  return { child, said };
}

const lockOf = (dir: string) => path.join(dir, 'sessions.lock');

function take(dir: string, patienceMs?: number): FileLock {
  const lock = takeLock(lockOf(dir), { patienceMs });
  assert.ok(lock instanceof FileLock, 'somebody holds it');
  return lock;
}

test('two processes cannot share a session store: the second is refused and told which process has it; killed (kill -9), its lock is taken over', async (t) => {
  const dir = folder(t);
  const { child, said } = opener(t, dir);
  assert.equal(await said, 'open');
  assert.throws(() => createJournal({ dir, fingerprint: 'm' }), {
    code: 'session_store_in_use',
    message: new RegExp(`process ${child.pid}:.*stop that one`),
  });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await exited;
  const j = createJournal({ dir, fingerprint: 'm' });
  assert.deepEqual(
    j.recovered.map((s) => [...s.ids]),
    [[child.pid]],
  );
  await j.close();
  assert.deepEqual(readdirSync(dir), ['sessions.journal']);
});

test('one process cannot open a session store twice; closed, it can be opened again', async (t) => {
  const dir = folder(t);
  const first = createJournal({ dir, fingerprint: 'm' });
  assert.throws(() => createJournal({ dir, fingerprint: 'm' }), { code: 'session_store_in_use' });
  await first.close();
  await createJournal({ dir, fingerprint: 'm' }).close();
});

test('of many processes that find a dead one’s lock, exactly one takes it over', async (t) => {
  const dir = folder(t);
  const { child, said } = opener(t, dir);
  await said;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await exited;
  const answers = await Promise.all(Array.from({ length: 6 }, () => opener(t, dir).said));
  assert.equal(answers.filter((a) => a === 'open').length, 1, answers.join('\n'));
  assert.equal(answers.filter((a) => a.startsWith('session_store_in_use')).length, 5, answers.join('\n'));
});

test('a dead one’s lock is taken away by one at a time, also when another one was killed while at it', async (t) => {
  const dir = folder(t);
  take(dir).release();
  const lock = take(dir);
  const me = readFileSync(lockOf(dir), 'utf8');
  const gone = JSON.stringify({ ...JSON.parse(me), start: '1' });
  lock.release();
  writeFileSync(lockOf(dir), gone);
  writeFileSync(`${lockOf(dir)}.taking`, me);
  const signal = AbortSignal.timeout(400);
  await assert.rejects(
    withLock(lockOf(dir), { signal }, async () => 'in'),
    { name: 'AbortError' },
  );
  assert.equal(readFileSync(lockOf(dir), 'utf8'), gone);
  writeFileSync(`${lockOf(dir)}.taking`, gone);
  assert.equal(await withLock(lockOf(dir), {}, async () => 'in'), 'in');
  assert.deepEqual(readdirSync(dir), []);
});

test('a lock of a dead process whose number is used again is taken over', (t) => {
  const dir = folder(t);
  take(dir).release();
  const lock = take(dir);
  const content = JSON.parse(readFileSync(lockOf(dir), 'utf8'));
  lock.release();
  writeFileSync(lockOf(dir), JSON.stringify({ ...content, start: '1' }));
  take(dir).release();
});

test('a lock of another container is respected while its holder shows that it lives, and taken over when it does not', async (t) => {
  const dir = folder(t);
  const elsewhere = JSON.stringify({ pid: 1, start: '7', where: 'another boot' });
  writeFileSync(lockOf(dir), elsewhere);
  const script = `setInterval(() => require('node:fs').utimesSync(${JSON.stringify(lockOf(dir))}, new Date(), new Date()), 20)`;
  const child = spawn(process.execPath, ['-e', `${script}; process.stdout.write('x')`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  assert.match(
    (takeLock(lockOf(dir), { patienceMs: 5000 }) as HeldBy).holder,
    /process 1 of another container or machine/,
  );
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await exited;
  take(dir, 300).release();
});

test('a lock that its maker had no time to write (kill -9) is taken over', (t) => {
  const dir = folder(t);
  writeFileSync(lockOf(dir), '');
  utimesSync(lockOf(dir), new Date(), new Date());
  take(dir, 300).release();
  assert.deepEqual(readdirSync(dir), []);
});

test('two who want a lock work one after the other; the second is told once that it waits, and may give up', async (t) => {
  const file = lockOf(path.join(folder(t), 'made', 'on', 'the', 'way'));
  const log: string[] = [];
  let end = () => {};
  const first = withLock(file, {}, async () => {
    log.push('first');
    await new Promise<void>((resolve) => {
      end = resolve;
    });
    log.push('done');
  });
  const second = withLock(file, { onWait: () => log.push('waits') }, async () => log.push('second'));
  const stop = new AbortController();
  const third = withLock(file, { signal: stop.signal }, async () => log.push('third'));
  stop.abort();
  await assert.rejects(third, { name: 'AbortError' });
  end();
  await Promise.all([first, second]);
  assert.deepEqual(log, ['first', 'waits', 'done', 'second']);
  assert.deepEqual(readdirSync(path.dirname(file)), []);
});

test('a lock that a thread left behind is taken over where a holder must beat, though its process lives', (t) => {
  const dir = folder(t);
  const left = take(dir);
  assert.ok(!(takeLock(lockOf(dir)) instanceof FileLock));
  const options = { patienceMs: 300, mustBeat: true };
  assert.equal(
    withLockSync(
      lockOf(dir),
      options,
      () => false,
      () => 'worked',
    ),
    'worked',
  );
  const mine = take(dir);
  // the old holder wakes up: what it releases is not its lock any more
  left.release();
  assert.ok(!(takeLock(lockOf(dir)) instanceof FileLock));
  mine.release();
});

test('who waits with its thread blocked goes on when another one did the work', (t) => {
  const dir = folder(t);
  const lock = take(dir);
  let looks = 0;
  const done = () => looks++ > 1;
  assert.equal(
    withLockSync(lockOf(dir), {}, done, () => assert.fail('worked a second time')),
    null,
  );
  lock.release();
});
