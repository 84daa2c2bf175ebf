/** Whatever Node was started with, the library works, or says in an error of its own why its thread cannot start. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { inPairs } from '../support/pairs.js';
import { root } from '../support/spawn.js';

const folder = mkdtempSync(join(tmpdir(), 'longmind-flags-'));
after(() => rmSync(folder, { recursive: true }));

const index = JSON.stringify(pathToFileURL(`${root}dist/src/index.js`).href);
const options = "{ model: 'memo', cacheMaxEntryCount: 32 }";
const use = `
const engine = await createEngine(${options});
const { tokenIds } = await engine.complete({ prompt: 'Hello', maxTokens: 3, temperature: 0, ignoreEos: true }).result();
await engine.close();
console.log(tokenIds.length);`;
const esm = `import { createEngine } from ${index};${use}`;
const refused = `import { createEngine } from ${index};
await createEngine(${options}).then(() => console.log('started'), (e) => console.log(e.name, e.code, e.message));`;

interface Ended {
  status: unknown;
  stdout: string;
  stderr: string;
}

function node(flags: string[], { env = {}, input = '' }: { env?: NodeJS.ProcessEnv; input?: string } = {}) {
  return new Promise<Ended>((resolve) => {
    const options = { timeout: 60_000, env: { ...process.env, ...env } };
    const child = execFile(process.execPath, flags, options, (e, stdout, stderr) =>
      resolve({ status: e ? (e.code ?? e.signal) : 0, stdout, stderr }),
    );
    child.stdin!.end(input);
  });
}

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const works = { status: 0, stdout: '3\n', stderr: '' };
const script = ['--input-type=module', '-e', esm];

test('a script on the command line (--input-type=module -e) may use the library', async () => {
  const forms = [script, ['--input-type=module', '--eval', esm], ['--input-type=module', `--eval=${esm}`]];
  await inPairs(forms, async (flags) => assert.deepEqual(await node(flags), works));
});

test('so may a script of CommonJS (-e, -p), by import()', async () => {
  const body = `import(${index}).then(async ({ createEngine }) => {${use}});`;
  const forms = [
    ['-e', body],
    ['--input-type=commonjs', '-e', body],
  ];
  await inPairs(forms, async (flags) => assert.deepEqual(await node(flags), works));
});

test('modules that are loaded first (--import, --require, -r) do no harm, and are loaded in the thread too', async () => {
  const said = `if (!require('node:worker_threads').isMainThread) console.error('loaded');`;
  const cjs = file('first.cjs', said);
  const mjs = file(
    'first.mjs',
    `import { isMainThread } from 'node:worker_threads'; if (!isMainThread) console.error('loaded');`,
  );
  const loaded = { ...works, stderr: 'loaded\n' };
  const forms = [
    ['--require', cjs],
    [`--require=${cjs}`],
    ['-r', cjs],
    ['--import', pathToFileURL(mjs).href],
    [`--import=${pathToFileURL(mjs).href}`],
  ];
  await inPairs(forms, async (flags) => assert.deepEqual(await node([...flags, ...script]), loaded, flags.join(' ')));
});

test('flags of memory, warnings, source maps and stack traces do no harm, on the command line and in NODE_OPTIONS', async () => {
  const flags = [
    '--max-old-space-size=256',
    '--max-semi-space-size=16',
    '--no-warnings',
    '--enable-source-maps',
    '--stack-trace-limit=50',
    '--trace-uncaught',
    '--expose-gc',
    '--conditions=development',
  ];
  await inPairs(flags, async (flag) => assert.deepEqual(await node([flag, ...script]), works, flag));
  const env = { NODE_OPTIONS: '--max-old-space-size=256 --no-warnings' };
  assert.deepEqual(await node(script, { env }), works);
});

test('a script from standard input may use it', async () => {
  assert.deepEqual(await node(['--input-type=module', '-'], { input: esm }), works);
});

test('a thread that cannot start is an error of createEngine, typed, and nothing is left behind', async () => {
  const none = file(
    'none.mjs',
    `import { isMainThread } from 'node:worker_threads'; if (!isMainThread) throw new Error('no threads here');`,
  );
  const broken = await node(['--import', pathToFileURL(none).href, '--input-type=module', '-e', refused]);
  assert.equal(broken.status, 0, broken.stderr);
  assert.match(broken.stdout, /^LongmindError engine_failed .*no threads here\n$/);
  assert.equal(broken.stderr, '');
});

test('a process that may have no threads (--permission) gets an error of createEngine', async () => {
  const flag = process.allowedNodeEnvironmentFlags.has('--permission') ? '--permission' : '--experimental-permission';
  const { status, stdout, stderr } = await node([
    flag,
    '--allow-fs-read=*',
    '--allow-fs-write=*',
    '--allow-addons',
    '--allow-child-process',
    '--no-warnings',
    '--input-type=module',
    '-e',
    refused,
  ]);
  assert.equal(status, 0, stderr);
  assert.match(stdout, /^LongmindError engine_failed .*thread cannot be started: .*\n$/);
});
