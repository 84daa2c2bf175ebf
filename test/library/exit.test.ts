/** An engine that has nothing to do keeps no process alive; one that has, does. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { inPairs } from '../support/pairs.js';
import { root } from '../support/spawn.js';

const folder = mkdtempSync(join(tmpdir(), 'longmind-exit-'));
after(() => rmSync(folder, { recursive: true }));

const head = `
import { createEngine } from ${JSON.stringify(`${root}dist/src/index.js`)};
const engine = await createEngine({ model: 'memo', device: 'null', cacheMaxEntryCount: 32, ...OPTIONS });
`;

let scripts = 0;
function run(body: string, options: object = {}): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const file = join(folder, `script-${scripts++}.mjs`);
  writeFileSync(file, head.replace('OPTIONS', JSON.stringify(options)) + body);
  const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'pipe'] });
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (d: string) => {
      texts[name] += d;
    });
  const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
  return new Promise((resolve) => {
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code, ...texts });
    });
  });
}

const ended = { code: 0, stdout: 'done\n', stderr: '' };

test('without close(), the process ends when all is answered', async () => {
  const bodies = [
    "console.log('done');",
    "await engine.complete({ prompt: 'x', maxTokens: 3 }).result(); await engine.stats(); console.log('done');",
  ];
  await inPairs(bodies, async (body) => assert.deepEqual(await run(body), ended));
  const journal = { sessionStore: join(folder, 'store') };
  assert.deepEqual(
    await run(
      "await engine.complete({ prompt: 'x', maxTokens: 3, sessionId: 'a' }).result(); console.log('done');",
      journal,
    ),
    ended,
  );
  // and the turn is there
  assert.deepEqual(
    await run(
      "console.log((await engine.sessions.list()).map((s) => s.id).join() === 'a' ? 'done' : 'lost');",
      journal,
    ),
    ended,
  );
});

test('what runs is answered first, also where nobody awaits at the top', async () => {
  const bodies = [
    "engine.complete({ prompt: 'x', maxTokens: 300, ignoreEos: true }).result().then(() => console.log('done'));",
    "engine.encode('x'.repeat(100_000)).then(() => console.log('done'));",
    "engine.stats().then(() => console.log('done'));",
  ];
  await inPairs(bodies, async (body) => assert.deepEqual(await run(body), ended));
});

test('an aborted request and a closed engine leave nothing behind', async () => {
  const bodies = [
    `
      const g = engine.complete({ prompt: 'x', maxTokens: 1500, ignoreEos: true });
      for await (const _ of g) { g.abort(); break; }
      await g.result();
      console.log('done');`,
    "await engine.close(); await engine.close(); console.log('done');",
  ];
  await inPairs(bodies, async (body) => assert.deepEqual(await run(body), ended));
});
