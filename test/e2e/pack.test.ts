/** The package as npm would publish it works in an empty folder: no sources, no install scripts, no network for the model. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { smollmPath, withoutSmollm } from '../support/model.js';
import { root } from '../support/spawn.js';

const run = promisify(execFile);
const path = await smollmPath();
const skip = withoutSmollm(path);

test('npm pack, install in an empty folder, npx longmind', { skip, timeout: 480_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longmind-pack-'));
  try {
    await run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], { cwd: root });
    const tarball = (await readdir(folder)).find((f) => f.endsWith('.tgz'))!;
    await writeFile(join(folder, 'package.json'), '{"private": true}');
    const install = ['install', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts', `./${tarball}`];
    await run('npm', install, { cwd: folder });
    // a cache folder of its own: the native library is built or chosen at first use
    const env = { ...process.env, XDG_CACHE_HOME: join(folder, 'cache') };
    const argv = ['longmind', 'generate', '-m', path!, '-p', 'The capital of France is', '--max-tokens', '4'];
    argv.push('--temperature', '0', '--cache-max-entry-count', '32', '--json');
    const { stdout } = await run('npx', argv, { cwd: folder, env });
    assert.match((JSON.parse(stdout) as { text: string }).text, /Paris/);
  } finally {
    await rm(folder, { recursive: true });
  }
});
