import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { bin } from '../support/spawn.js';

/** A folder with bin/longmind.js and whatever else a case needs. */
async function folderWith(t: TestContext, files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'longmind-bin-'));
  t.after(() => rm(folder, { recursive: true }));
  await mkdir(join(folder, 'bin'));
  await cp(bin, join(folder, 'bin', 'longmind.js'));
  for (const [path, text] of Object.entries({ 'package.json': '{"type":"module"}', ...files })) {
    await mkdir(join(folder, path, '..'), { recursive: true });
    await writeFile(join(folder, path), text);
  }
  return folder;
}

function runIn(folder: string, nodeOptions: string[] = []) {
  const argv = [...nodeOptions, join(folder, 'bin', 'longmind.js'), 'a', 'b'];
  return spawnSync(process.execPath, argv, { encoding: 'utf8' });
}

const entry = {
  'dist/src/cli/run.js': 'export const run = async (argv) => { console.log(argv.join("+")); return 7; };',
};

test('a built package runs with its arguments and exit status', async (t) => {
  const { stdout, status } = runIn(await folderWith(t, entry));
  assert.deepEqual([stdout, status], ['a+b\n', 7]);
});

test('help whose reader went away after a line is no crash', () => {
  const { stderr } = spawnSync('sh', ['-c', `"${process.execPath}" "${bin}" serve --help | head -1`], {
    encoding: 'utf8',
  });
  assert.equal(stderr, '');
});

test('a package without its build says so', async (t) => {
  const { stderr, status } = runIn(await folderWith(t, {}));
  assert.equal(status, 1);
  assert.match(stderr, /^longmind: the package is incomplete: .*run\.js is missing; install it again\n$/);
});

test('a checkout without its dependencies says what to do', async (t) => {
  const { stderr, status } = runIn(await folderWith(t, { 'tsconfig.json': '{}', 'src/a.ts': '' }));
  assert.equal(status, 1);
  assert.match(stderr, /^longmind: this checkout is not built and TypeScript is not installed; run 'npm ci' first\n$/);
});

test('a checkout is built when its sources are newer, and only then', async (t) => {
  const folder = await folderWith(t, {
    'tsconfig.json': '{}',
    'src/a.ts': '',
    'node_modules/typescript/package.json': '{}',
    'node_modules/typescript/bin/tsc': `
      const { mkdirSync, writeFileSync } = require('node:fs');
      mkdirSync('dist/src/cli', { recursive: true });
      writeFileSync('dist/src/cli/run.js', 'export const run = async () => 3;');`,
  });
  const first = runIn(folder);
  assert.deepEqual([first.stderr, first.status], ['building dist/ …\n', 3]);
  const second = runIn(folder);
  assert.deepEqual([second.stderr, second.status], ['', 3]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await writeFile(join(folder, 'src', 'a.ts'), '// changed');
  assert.equal(runIn(folder).stderr, 'building dist/ …\n');
});

test('what a checkout is built of is built first, and again when it changes', async (t) => {
  const folder = await folderWith(t, {
    'tsconfig.json': '{}',
    'src/a.ts': '',
    'packages/words/package.json': '{"name":"words","type":"module","exports":"./dist/index.js"}',
    'packages/words/tsconfig.json': '{}',
    'packages/words/src/index.ts': '',
    'packages/README.md': 'no package',
    // as tsc: the root cannot be built without its package
    'node_modules/typescript/package.json': '{}',
    'node_modules/typescript/bin/tsc': `
      const { existsSync, mkdirSync, writeFileSync } = require('node:fs');
      const at = process.argv[process.argv.indexOf('-p') + 1];
      const words = 'packages/words/dist/index.js';
      if (at.endsWith('words')) {
        mkdirSync('packages/words/dist', { recursive: true });
        writeFileSync(words, 'export default ' + Date.now());
      } else {
        if (!existsSync(words)) process.exit(2);
        mkdirSync('dist/src/cli', { recursive: true });
        writeFileSync('dist/src/cli/run.js',
          'export const run = async () => (console.log((await import(new URL("../../../' + words + '", import.meta.url))).default), 3);');
      }`,
  });
  const first = runIn(folder);
  assert.deepEqual([first.stderr, first.status], ['building dist/ …\n', 3]);
  const again = runIn(folder);
  assert.deepEqual([again.stderr, again.stdout, again.status], ['', first.stdout, 3]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await writeFile(join(folder, 'packages', 'words', 'src', 'index.ts'), '// changed');
  const second = runIn(folder);
  assert.deepEqual([second.stderr, second.status], ['building dist/ …\n', 3]);
  assert.notEqual(second.stdout, first.stdout);
});

test('a version of Node that is too old is told plainly', async (t) => {
  const old = "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '18.20.1' } })";
  const preload = ['--import', `data:text/javascript,${encodeURIComponent(old)}`];
  const { stderr, status } = runIn(await folderWith(t, entry), preload);
  assert.equal(status, 1);
  assert.equal(stderr, 'longmind: needs Node 20.19 or newer, this is 18.20.1; see https://nodejs.org\n');
});
