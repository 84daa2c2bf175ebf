/** What engines have promised themselves of the machine's memory is known to all of one user, and to nobody for longer than they live. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { type MemoryLevel, MemoryPromises, promisesFolder, withdrawPromise } from '../../src/base/memory-promises.js';

const GIB = 2 ** 30;

function folderFor(t: TestContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'longmind-promises-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return path.join(dir, 'memory');
}

const machine = (free: number): MemoryLevel[] => [{ free, holds: () => true }];

function engine(folder: string | null, name: string, levels = machine(20 * GIB)) {
  const problems: string[] = [];
  const promises = new MemoryPromises({ folder, name, levels: () => levels, onProblem: (p) => problems.push(p) });
  return { promises, problems };
}

/** A process that has promised itself `bytes` under `name`, and stays. */
async function promiser(t: TestContext, folder: string, name: string, bytes: number) {
  const module = new URL('../../src/base/memory-promises.js', import.meta.url).href;
  const script = `import { MemoryPromises } from '${module}';
    const p = new MemoryPromises({ folder: ${JSON.stringify(folder)}, name: '${name}', levels: () => [] });
    p.settle(() => p.promise('model', ${bytes}));
    console.log('promised');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  t.after(() => child.kill('SIGKILL'));
  await new Promise((resolve) => child.stdout!.once('data', resolve));
  return {
    pid: child.pid!,
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

test('what another process has promised counts as taken, until it says otherwise or is gone (kill -9)', async (t) => {
  const folder = folderFor(t);
  const { promises, problems } = engine(folder, 'mine');
  assert.deepEqual(promises.room(), { free: 20 * GIB, promised: 0 });
  const other = await promiser(t, folder, 'other', 7 * GIB);
  const third = await promiser(t, folder, 'third', 2 * GIB);
  assert.deepEqual(promises.room(), { free: 20 * GIB, promised: 9 * GIB });
  await other.kill();
  assert.deepEqual(promises.room(), { free: 20 * GIB, promised: 2 * GIB });
  assert.deepEqual(readdirSync(folder), ['third.json'], 'what the dead one left is still there');
  await third.kill();
  assert.deepEqual(promises.room(), { free: 20 * GIB, promised: 0 });
  assert.deepEqual(problems, []);
});

test('two engines of one process count each other; their parts are added up; what is taken is promised no more', (t) => {
  const folder = folderFor(t);
  const a = engine(folder, 'a').promises;
  const b = engine(folder, 'b').promises;
  a.settle(({ promised }) => {
    assert.equal(promised, 0);
    a.promise('draft model', GIB);
    a.promise('model', 6 * GIB);
  });
  assert.equal(a.room().promised, 0, 'its own promise is counted against it');
  assert.equal(
    b.settle((room) => room.promised),
    7 * GIB,
  );
  a.promise('model', 4 * GIB);
  assert.equal(b.room().promised, 5 * GIB);
  a.withdraw();
  assert.equal(b.room().promised, 0);
  a.promise('model', GIB);
  withdrawPromise(folder, 'a');
  assert.equal(b.room().promised, 0);
});

test('while one decides, no other does: of 8 processes that take half of what they see, no two saw the same', async (t) => {
  const folder = folderFor(t);
  const module = new URL('../../src/base/memory-promises.js', import.meta.url).href;
  const script = `import { MemoryPromises } from '${module}';
    const name = process.argv[1];
    const p = new MemoryPromises({ folder: ${JSON.stringify(folder)}, name, levels: () => [{ free: 1024, holds: () => true }] });
    const took = p.settle(({ free, promised }) => {
      const mine = (free - promised) / 2;
      for (const end = performance.now() + 30; performance.now() < end;);
      p.promise('model', mine);
      return mine;
    });
    console.log(took);
    process.stdin.resume();`;
  const children = Array.from({ length: 8 }, (_, i) =>
    spawn(process.execPath, ['--input-type=module', '-e', script, `e${i}`], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  t.after(() => {
    for (const c of children) c.kill('SIGKILL');
  });
  const took = await Promise.all(
    children.map((c) => new Promise<number>((resolve) => c.stdout!.once('data', (d) => resolve(Number(d))))),
  );
  assert.deepEqual(
    took.sort((x, y) => y - x),
    [512, 256, 128, 64, 32, 16, 8, 4],
  );
});

test('within the limit of a control group only the processes inside of it count', async (t) => {
  const folder = folderFor(t);
  const inside = await promiser(t, folder, 'inside', 1 * GIB);
  await promiser(t, folder, 'outside', 6 * GIB);
  const group = (free: number): MemoryLevel => ({ free, holds: (pid) => pid === inside.pid });
  // the machine's 20 - 7 are more than the group's 4 - 1, and less than its 15 - 1
  assert.deepEqual(engine(folder, 'x', [...machine(20 * GIB), group(4 * GIB)]).promises.room(), {
    free: 4 * GIB,
    promised: GIB,
  });
  assert.deepEqual(engine(folder, 'x', [...machine(20 * GIB), group(15 * GIB)]).promises.room(), {
    free: 20 * GIB,
    promised: 7 * GIB,
  });
});

test('nobody else may read or write what is promised; files that say nothing, or of another machine, count nothing', (t) => {
  const folder = folderFor(t);
  const a = engine(folder, 'a');
  a.promises.settle(() => a.promises.promise('model', GIB));
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  assert.equal(statSync(path.join(folder, 'a.json')).mode & 0o777, 0o600);
  const mine = JSON.parse(readFileSync(path.join(folder, 'a.json'), 'utf8'));
  const b = engine(folder, 'b');
  assert.equal(b.promises.room().promised, GIB);
  const put = (name: string, content: string) => writeFileSync(path.join(folder, name), content);
  put('torn.json', '{"pid":');
  put('empty.json', '');
  put('list.json', '[]');
  put('negative.json', JSON.stringify({ ...mine, bytes: -1 }));
  put('text.json', JSON.stringify({ ...mine, bytes: '5' }));
  put('much.json', JSON.stringify(mine).replace(/"bytes":\d+/, '"bytes":1e999'));
  put('elsewhere.json', JSON.stringify({ ...mine, where: 'another machine', bytes: GIB }));
  put('unfinished.json.new', JSON.stringify({ ...mine, bytes: GIB }));
  assert.equal(b.promises.room().promised, GIB);
  assert.deepEqual(b.problems, []);
  assert.ok(existsSync(path.join(folder, 'elsewhere.json')), 'it may be living there');
});

test('a process that lives under the number of one that is gone has promised nothing', (t) => {
  const folder = folderFor(t);
  const a = engine(folder, 'a').promises;
  a.promise('model', 1);
  assert.ok(!existsSync(folder), 'there is no folder before the first decision');
  a.settle(() => a.promise('model', GIB));
  const file = path.join(folder, 'a.json');
  writeFileSync(file, readFileSync(file, 'utf8').replace(/"start":"[^"]*"/, '"start":"1"'));
  assert.equal(engine(folder, 'b').promises.room().promised, 0);
});

test('without a folder that can be written an engine does without, and says so once', (t) => {
  const none = engine(null, 'a');
  none.promises.settle(({ free }) => none.promises.promise('model', free));
  none.promises.promise('model', 5);
  assert.equal(none.problems.length, 1);
  assert.match(none.problems[0]!, /together they may promise more than there is/);
  const file = path.join(folderFor(t), '..', 'a-file');
  writeFileSync(file, '');
  const broken = engine(path.join(file, 'memory'), 'a');
  assert.equal(
    broken.promises.settle(({ free }) => {
      broken.promises.promise('model', GIB);
      return free;
    }),
    20 * GIB,
  );
  assert.equal(broken.problems.length, 1);
  assert.match(broken.problems[0]!, /ENOTDIR/);
});

test('what the decision throws is thrown, and the next one may decide', (t) => {
  const { promises } = engine(folderFor(t), 'a');
  assert.throws(
    () =>
      promises.settle(() => {
        throw new RangeError('too little');
      }),
    RangeError,
  );
  assert.equal(
    promises.settle(() => 5),
    5,
  );
});

test('the folder is in the user cache, or among the temporary files where that cannot be written', (t) => {
  const dir = path.dirname(folderFor(t));
  const folder = path.join(dir, 'longmind', 'memory');
  assert.equal(promisesFolder({ XDG_CACHE_HOME: dir }), folder);
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  const file = path.join(dir, 'a-file');
  writeFileSync(file, '');
  const temporary = promisesFolder({ XDG_CACHE_HOME: file, TMPDIR: dir });
  assert.ok(temporary?.startsWith(dir) && temporary.endsWith('memory'), `${temporary}`);
  assert.equal(promisesFolder({ XDG_CACHE_HOME: file, TMPDIR: file }), null);
});

test('an engine that failed to start, or was closed, has promised nothing', { timeout: 60_000 }, (t) => {
  const dir = path.dirname(folderFor(t));
  const index = new URL('../../src/index.js', import.meta.url).href;
  const script = `import { readdirSync } from 'node:fs';
    import { createEngine } from '${index}';
    const seen = () => { try { return readdirSync('${dir}/longmind/memory').filter((f) => f.endsWith('.json')).length; } catch { return 0; } };
    const out = [];
    await createEngine({ model: 'memo', cacheMaxEntryCount: 2 ** 31 - 1 }).catch((e) => out.push(e.code));
    out.push(seen());
    const engine = await createEngine({ model: 'memo' });
    out.push(seen());
    await engine.close();
    out.push(seen());
    console.log(JSON.stringify(out));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    env: { ...process.env, XDG_CACHE_HOME: dir },
    encoding: 'utf8',
  });
  assert.deepEqual(JSON.parse(stdout || '[]'), ['not_enough_memory', 0, 1, 0], stderr);
});
