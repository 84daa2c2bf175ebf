/**
 * The package as npm would publish it works in an empty folder: no sources, no install scripts, no compiler, no network for the
 * model.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { smollmPath, withoutSmollm } from '../support/model.js';
import { prebuiltHere } from '../support/prebuilt.js';
import { root } from '../support/spawn.js';

const run = promisify(execFile);
const path = await smollmPath();
const prebuilt = prebuiltHere();
const skip = withoutSmollm(path) || ('skip' in prebuilt && prebuilt.skip);

test('npm pack, install in an empty folder, npx longmind, without a compiler', { skip, timeout: 480_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'longmind-pack-'));
  try {
    await run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], { cwd: root });
    const tarball = (await readdir(folder)).find((f) => f.endsWith('.tgz'))!;
    await writeFile(join(folder, 'package.json'), '{"private": true}');
    const install = ['install', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts', `./${tarball}`];
    await run('npm', install, { cwd: folder });
    const { stdout: found } = await run('npx', ['longmind', 'doctor', '--json'], { cwd: folder });
    const kernels = (JSON.parse(found) as { what: string; detail: string }[]).find((f) => f.what === 'kernels')!;
    const shipped = `node_modules/longmind/native/prebuilt/${process.platform}-${process.arch}/`;
    assert.match(kernels.detail, new RegExp(`^prebuilt library \\(.*${shipped}`));
    // from here on node is the only program there is, and a library that was compiled would be seen in the cache
    const bin = join(folder, 'bin');
    await mkdir(bin);
    await symlink(process.execPath, join(bin, 'node'));
    const env = { HOME: folder, PATH: bin, XDG_CACHE_HOME: join(folder, 'cache') };
    const argv = ['generate', '-m', path!, '-p', 'The capital of France is', '--max-tokens', '4'];
    argv.push('--temperature', '0', '--cache-max-entry-count', '32', '--json');
    const { stdout } = await run(join(folder, 'node_modules/.bin/longmind'), argv, { cwd: folder, env });
    assert.match((JSON.parse(stdout) as { text: string }).text, /Paris/);
    assert.ok(!existsSync(join(folder, 'cache/longmind/native')), 'a library was compiled');
  } finally {
    await rm(folder, { recursive: true });
  }
});
