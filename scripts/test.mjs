// Runs the compiled tests with node's own runner (Node 20 has no globs there). Arguments: folders or files under test/ or
// packages/*/test/; without any, all of them.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const root = path.resolve(path.dirname(new URL(import.meta.url).pathname), '..');

function tests(at) {
  if (!statSync(at).isDirectory()) return [at];
  return readdirSync(at)
    .sort()
    .flatMap((name) => {
      const file = path.join(at, name);
      return statSync(file).isDirectory() ? tests(file) : file.endsWith('.test.ts') ? [file] : [];
    });
}

/** Where the TypeScript file was compiled to: `dist` of the root, or of its package. */
function compiled(file) {
  const [, home, rest] = /^(packages\/[^/]+\/)?(.*)$/.exec(path.relative(root, file).split(path.sep).join('/'));
  return path.join(root, home ?? '', 'dist', rest).replace(/\.ts$/, '.js');
}

const packages = readdirSync(path.join(root, 'packages')).map((name) => `packages/${name}/test`);
const wanted = process.argv.slice(2);
const files = (wanted.length > 0 ? wanted : ['test', ...packages])
  .flatMap((at) => tests(path.resolve(root, at)))
  .map(compiled);
const missing = files.filter((f) => !existsSync(f));
if (missing.length > 0) {
  console.error(`not compiled: ${missing.join(', ')}`);
  process.exit(1);
}
// Clients of PyPI and npm come while the compiler works. What cannot be had says so where it is needed.
const clients =
  wanted.length > 0 ? null : spawn(process.execPath, [path.join(root, 'scripts', 'clients.mjs')], { stdio: 'ignore' });
const fetched = clients && once(clients, 'close');
// The native library first: its compiler takes longer than a test that starts an engine may.
const { buildNativeLibrary } = await import(pathToFileURL(path.join(root, 'dist/src/device/cpu/build.js')));
buildNativeLibrary(console.log);
await fetched;

const list = path.join(mkdtempSync(path.join(tmpdir(), 'longmind-tests-')), 'skipped');
/** Tests that did not run, with the reason. */
const skipped = [];

/** Exit status of node's runner over these files, so many at a time. */
function run(files, atATime) {
  if (files.length === 0) return 0;
  const args = [
    '--test',
    `--test-concurrency=${atATime}`,
    '--test-reporter=spec',
    '--test-reporter-destination=stdout',
  ];
  args.push(
    `--test-reporter=${pathToFileURL(path.join(root, 'scripts', 'skips.mjs'))}`,
    `--test-reporter-destination=${list}`,
  );
  const { status } = spawnSync(process.execPath, [...args, ...files], { stdio: 'inherit', cwd: root });
  const lines = readFileSync(list, 'utf8').split('\n').filter(Boolean);
  skipped.push(...lines.map((l) => JSON.parse(l)));
  return status ?? 1;
}

/** They take one core each and start no engine. The others share two cores with the engines they start: one file at a time. */
const LIGHT = /^(packages\/[^/]+|dist\/test\/(cache|device\/cuda|journal|tokenizer|weights))\//;
const isLight = (file) => LIGHT.test(path.relative(root, file).split(path.sep).join('/'));
const light = run(files.filter(isLight), 2);
const status =
  run(
    files.filter((file) => !isLight(file)),
    1,
  ) || light;
rmSync(path.dirname(list), { recursive: true });

/** With REQUIRE_ALL (CI) a skip is a failure: who promises must have looked. */
const required = Boolean(process.env.REQUIRE_ALL);
/** What no test can install. */
const excused = ({ reason }) => ['no NVIDIA GPU', 'no second NVIDIA GPU'].includes(reason);
const failed = required && skipped.some((s) => !excused(s));
if (skipped.length > 0) {
  console.error(`\n${skipped.length} skipped${failed ? ', and REQUIRE_ALL is set: a failure' : ''}:`);
  for (const { name, file, reason } of skipped)
    console.error(`  ${path.relative(root, file).replace(/^dist\//, '')}: ${name}\n    ${reason}`);
}
process.exit(status || (failed ? 1 : 0));
