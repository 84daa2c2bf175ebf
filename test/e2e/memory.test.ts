/** Servers that share a machine do not promise the same memory twice; one whose memory is taken away evicts, and nobody is killed. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { type ServerProcess, serve, withoutModel } from '../support/server-process.js';

const MIB = 2 ** 20;

/** A user with a cache folder of his own: what else runs on this machine is not counted. */
function user(t: TestContext): NodeJS.ProcessEnv {
  const dir = mkdtempSync(path.join(tmpdir(), 'longmind-user-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return { XDG_CACHE_HOME: dir };
}

const share = ['--cache-max-entry-count', '0.8'];

test('two servers together promise no more than there is, and the second says what the first was promised', {
  skip: withoutModel,
}, async (t) => {
  const env = user(t);
  const first = await serve(t, { env, argv: share });
  const second = await serve(t, { env, argv: share });
  const third = await serve(t, { env, argv: share });
  const [a, b, c] = [first, second, third].map((s) => s.memory) as [
    ServerProcess['memory'],
    ServerProcess['memory'],
    ServerProcess['memory'],
  ];
  assert.equal(a.promisedBytes, 0);
  assert.doesNotMatch(a.arithmetic, /promised/);
  const near = (x: number, y: number) => Math.abs(x - y) < 0.05 * y;
  const of = (m: typeof a) => m.freeBytes - m.promisedBytes - m.weightBytes - m.workspaceBytes;
  for (const m of [a, b, c]) assert.ok(near(m.kvBytes, 0.8 * of(m)), m.arithmetic);
  assert.ok(near(b.promisedBytes, a.kvBytes + a.workspaceBytes), `${b.promisedBytes} of ${a.kvBytes}`);
  assert.ok(near(c.promisedBytes, a.kvBytes + b.kvBytes + a.workspaceBytes + b.workspaceBytes), c.arithmetic);
  assert.match(b.arithmetic, /free - [\d.]+ GiB promised to other longmind processes - /);
  const sum = a.kvBytes + b.kvBytes + c.kvBytes;
  assert.ok(sum < a.freeBytes, `${sum} of ${a.freeBytes} bytes are promised`);
  // killed without a word, they have promised nothing
  for (const s of [first, second, third]) {
    s.child.kill('SIGKILL');
    await s.ended;
  }
  assert.equal((await serve(t, { env, argv: share })).memory.promisedBytes, 0);
});

test('what is asked for beyond that is refused, with the reason', { skip: withoutModel }, async (t) => {
  const env = user(t);
  const { memory } = await serve(t, { env, argv: share });
  const bytes = Math.floor(0.5 * memory.freeBytes);
  await assert.rejects(
    serve(t, { env, argv: ['--cache-max-entry-count', `${bytes}B`] }),
    /KV cache of \d+ blocks needs .* are available; .* more are promised to other longmind processes/,
  );
});

interface Group {
  folder: string;
  /** A file of the group, as a number. */
  read(v1: string, v2: string): number;
}

/** A control group whose processes get so much memory; null where this user may make none. */
function limitedGroup(t: TestContext, bytes: number): Group | null {
  const own = readFileSync('/proc/self/cgroup', 'utf8').split('\n');
  const v1 = own.find((l) => l.split(':')[1] === 'memory')?.split(':')[2];
  const name = `longmind-test-${process.pid}`;
  const root = v1 === undefined ? '/sys/fs/cgroup' : '/sys/fs/cgroup/memory';
  const here = v1 ?? own.find((l) => l.startsWith('0::'))?.slice(3) ?? '/';
  const limit = v1 === undefined ? 'memory.max' : 'memory.limit_in_bytes';
  // below the root too: version 2 wants no processes beside groups
  for (const parent of new Set([path.join(root, here), root]))
    for (const become of [[], ['sudo', '-n']]) {
      const folder = path.join(parent, name);
      const run = (script: string) => {
        const [command, ...args] = [...become, 'sh', '-ec', script];
        execFileSync(command!, args, { stdio: 'ignore' });
      };
      try {
        run(`mkdir '${folder}'`);
        t.after(async () => {
          // whoever is still in it is ours, and must be gone first
          run(`for p in $(cat '${folder}/cgroup.procs'); do kill -9 $p || true; done`);
          for (let tries = 0; tries < 50; tries++)
            try {
              return run(`rmdir '${folder}'`);
            } catch {
              await new Promise((resolve) => setTimeout(resolve, 100));
            }
        });
        run(`echo ${bytes} > '${folder}/${limit}' && chown ${process.getuid!()} '${folder}/cgroup.procs'`);
        run(`test -w '${folder}/cgroup.procs'`);
        return {
          folder,
          read: (old, now) => Number(readFileSync(path.join(folder, v1 === undefined ? now : old), 'utf8')),
        };
      } catch {
        // another way
      }
    }
  return null;
}

/** Another process of the group that takes memory, and keeps it. */
async function eater(t: TestContext, { folder }: Group, bytes: number): Promise<ChildProcess> {
  const take = `const b = Buffer.alloc(${bytes}, 1); console.log(b.length); setInterval(() => b[0]++, 1000);`;
  const enter = `echo $$ > '${folder}/cgroup.procs' && exec "$@"`;
  const child = spawn('bash', ['-c', enter, 'eater', process.execPath, '-e', take], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const gone = new Promise((resolve) => child.on('close', resolve));
  t.after(async () => {
    child.kill('SIGKILL');
    await gone;
  });
  await new Promise((resolve) => child.stdout!.once('data', resolve));
  return child;
}

test('a server in a control group of 600 MiB, of which another process takes 200, is filled with sessions: it evicts, answers right, and nobody is killed', {
  skip: withoutModel || (process.platform !== 'linux' && 'there are no control groups here'),
}, async (t) => {
  const group = limitedGroup(t, 600 * MIB);
  if (group === null) {
    // the same with a limit in the process itself: test/engine/memory.test.ts
    t.diagnostic('no control group can be made here: nothing was tried');
    return;
  }
  const server = await serve(t, { env: user(t), cgroup: group.folder, argv: [...share, '--log-level', 'warn'] });
  const { freeBytes, kvBytes } = server.memory;
  assert.ok(freeBytes < 600 * MIB && kvBytes > 200 * MIB, server.memory.arithmetic);
  const other = await eater(t, group, 200 * MIB);
  const ask = async (i: number, turn: string) => {
    const answer = await server.post('/v1/completions', {
      prompt: `${i} ${turn.repeat(140)}`,
      max_tokens: 4,
      temperature: 0,
      session_id: `s${i}`,
      session_append: false,
    });
    assert.equal(answer.status, 200, await answer.clone().text());
    return ((await answer.json()) as { choices: { text: string }[] }).choices[0]!.text;
  };
  const texts: string[] = [];
  const SESSIONS = 128;
  for (let i = 0; i < SESSIONS; i += 8)
    texts.push(...(await Promise.all(Array.from({ length: 8 }, (_, k) => ask(i + k, 'and then there was a boat ')))));
  const evicted = await server.metric('longmind_cache_blocks_evicted_total');
  assert.ok(evicted > 0, 'nothing was evicted');
  assert.equal(server.child.exitCode, null);
  assert.equal(other.exitCode, null);
  // what was evicted is computed again, to the same answer
  for (const i of [0, 1, 7, 100, SESSIONS - 1])
    assert.equal(await ask(i, 'and then there was a boat '), texts[i], `session ${i}`);
  const most = group.read('memory.max_usage_in_bytes', 'memory.peak');
  t.diagnostic(`${evicted} blocks evicted; at most ${(most / MIB).toFixed(0)} of 600 MiB were used`);
});
