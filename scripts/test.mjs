// Runs the compiled tests with node's own runner (Node 20 has no globs there). Arguments: folders or files under test/ or
// packages/*/test/; without any, all of them.
import { spawnSync } from 'node:child_process';
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
// The native library first: its compiler takes longer than a test that starts an engine may.
const { buildNativeLibrary } = await import(pathToFileURL(path.join(root, 'dist/src/device/cpu/build.js')));
buildNativeLibrary(console.log);

// One file at a time: tests share two cores with the engines they start.
const list = path.join(mkdtempSync(path.join(tmpdir(), 'longmind-tests-')), 'skipped');
const args = ['--test', '--test-concurrency=1', '--test-reporter=spec', '--test-reporter-destination=stdout'];
args.push(
  `--test-reporter=${pathToFileURL(path.join(root, 'scripts', 'skips.mjs'))}`,
  `--test-reporter-destination=${list}`,
);
const { status } = spawnSync(process.execPath, [...args, ...files], { stdio: 'inherit', cwd: root });

/** Tests that did not run, with the reason. With REQUIRE_ALL (CI) that is a failure: who promises must have looked. */
const skipped = readFileSync(list, 'utf8')
  .split('\n')
  .filter(Boolean)
  .map((l) => JSON.parse(l));
rmSync(path.dirname(list), { recursive: true });
const required = Boolean(process.env.REQUIRE_ALL);
/** What no test can install. */
const excused = ({ reason }) => ['no NVIDIA GPU', 'no second NVIDIA GPU'].includes(reason);
const failed = required && skipped.some((s) => !excused(s));
if (skipped.length > 0) {
  console.error(`\n${skipped.length} skipped${failed ? ', and REQUIRE_ALL is set: a failure' : ''}:`);
  for (const { name, file, reason } of skipped)
    console.error(`  ${path.relative(root, file).replace(/^dist\//, '')}: ${name}\n    ${reason}`);
}
process.exit(status || (failed ? 1 : (status ?? 1)));
