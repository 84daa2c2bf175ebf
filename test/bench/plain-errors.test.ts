/** A measurement's script tells a caller's mistake in one line; it has no other place to look. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { inPairs } from '../support/pairs.js';
import { root } from '../support/spawn.js';

const scripts = ['bench', 'bench/peers', 'dist/bench']
  .flatMap((folder) => readdirSync(join(root, folder)).map((name) => join(folder, name)))
  .filter((file) => /\.m?js$/.test(file) && readFileSync(join(root, file), 'utf8').includes('parseArgs('));

const run = (argv: string[]): Promise<{ status: unknown; stderr: string }> =>
  new Promise((resolve) => {
    execFile(process.execPath, argv, { cwd: root, timeout: 60_000 }, (e, _, stderr) =>
      resolve({ status: e?.code ?? 0, stderr }),
    );
  });

test('an option that does not exist: one line and status 2, in every script that takes options', async () => {
  assert.ok(scripts.length > 12, scripts.join());
  await inPairs(scripts, async (script) => {
    const { status, stderr } = await run([script, '--nonsense']);
    assert.equal(status, 2, `${script}: ${stderr}`);
    assert.match(stderr, /^\S+: Unknown option '--nonsense'[^\n]*\n$/, script);
  });
});

test('a file that is not there: one line and status 2', async () => {
  for (const argv of [
    ['bench/load.mjs', '--model', './none.gguf'],
    ['dist/bench/hit-miss.js', './none.gguf'],
  ]) {
    const { status, stderr } = await run(argv);
    assert.equal(status, 2, stderr);
    assert.match(stderr, /^\S+: [^\n]*none\.gguf[^\n]*\n$/);
  }
});
