/** Whatever Node was started with, the library works, or says in an error of its own why its thread cannot start. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
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

function node(flags: string[], env: NodeJS.ProcessEnv = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, flags, {
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, ...env },
  });
  return { status, stdout, stderr };
}

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const works = { status: 0, stdout: '3\n', stderr: '' };
const script = ['--input-type=module', '-e', esm];

test('a script on the command line (--input-type=module -e) may use the library', () => {
  assert.deepEqual(node(script), works);
  assert.deepEqual(node(['--input-type=module', '--eval', esm]), works);
  assert.deepEqual(node([`--input-type=module`, `--eval=${esm}`]), works);
});

test('so may a script of CommonJS (-e, -p), by import()', () => {
  const body = `import(${index}).then(async ({ createEngine }) => {${use}});`;
  assert.deepEqual(node(['-e', body]), works);
  assert.deepEqual(node(['--input-type=commonjs', '-e', body]), works);
});

test('modules that are loaded first (--import, --require, -r) do no harm, and are loaded in the thread too', () => {
  const said = `if (!require('node:worker_threads').isMainThread) console.error('loaded');`;
  const cjs = file('first.cjs', said);
  const mjs = file(
    'first.mjs',
    `import { isMainThread } from 'node:worker_threads'; if (!isMainThread) console.error('loaded');`,
  );
  const loaded = { ...works, stderr: 'loaded\n' };
  for (const flags of [
    ['--require', cjs],
    [`--require=${cjs}`],
    ['-r', cjs],
    ['--import', pathToFileURL(mjs).href],
    [`--import=${pathToFileURL(mjs).href}`],
  ])
    assert.deepEqual(node([...flags, ...script]), loaded, flags.join(' '));
});

test('flags of memory, warnings, source maps and stack traces do no harm, on the command line and in NODE_OPTIONS', () => {
  for (const flag of [
    '--max-old-space-size=256',
    '--max-semi-space-size=16',
    '--no-warnings',
    '--enable-source-maps',
    '--stack-trace-limit=50',
    '--trace-uncaught',
    '--expose-gc',
    '--conditions=development',
  ])
    assert.deepEqual(node([flag, ...script]), works, flag);
  const env = { NODE_OPTIONS: '--max-old-space-size=256 --no-warnings' };
  assert.deepEqual(node(script, env), works);
});

test('a script from standard input may use it', () => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-'], {
    input: esm,
    encoding: 'utf8',
  });
  assert.deepEqual({ status, stdout, stderr }, works);
});

test('a thread that cannot start is an error of createEngine, typed, and nothing is left behind', () => {
  const none = file(
    'none.mjs',
    `import { isMainThread } from 'node:worker_threads'; if (!isMainThread) throw new Error('no threads here');`,
  );
  const broken = node(['--import', pathToFileURL(none).href, '--input-type=module', '-e', refused]);
  assert.equal(broken.status, 0, broken.stderr);
  assert.match(broken.stdout, /^LongmindError engine_failed .*no threads here\n$/);
  assert.equal(broken.stderr, '');
});

test('a process that may have no threads (--permission) gets an error of createEngine', () => {
  const flag = process.allowedNodeEnvironmentFlags.has('--permission') ? '--permission' : '--experimental-permission';
  const { status, stdout, stderr } = node([
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
