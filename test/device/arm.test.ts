/**
 * The kernels for 64-bit Arm, cross-compiled and run by an emulator: native/test/kernels.cpp on processors with and without the
 * instructions. The whole contract suite does the same in scripts/check-arm.sh.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { abiHeader } from '../../src/device/cpu/layout.js';
import { root } from '../support/spawn.js';

const CROSS = 'aarch64-linux-gnu-g++';
const runs = (command: string) => spawnSync(command, ['--version']).status === 0;
const emulator = ['qemu-aarch64', 'qemu-aarch64-static'].find(runs);
const missing = [...(runs(CROSS) ? [] : ['g++-aarch64-linux-gnu']), ...(emulator ? [] : ['qemu-user'])];
const skip =
  missing.length > 0 ? `64-bit Arm cannot be emulated here (Debian: apt-get install ${missing.join(' ')})` : false;

/** Not optimised, with panels of 5 columns (two pairs and a last one): it compiles in seconds, the intrinsics are the same. */
const FLAGS = '-std=c++20 -O0 -ffp-contract=off -fno-exceptions -fno-rtti -w -DLM_COLUMNS=5'.split(' ');
const DOTPROD = ['-DLM_BUILD_NEON', '-march=armv8.2-a+dotprod'];
const I8MM = ['-DLM_BUILD_NEON', '-DLM_BUILD_I8MM', '-march=armv8.2-a+dotprod+i8mm'];
const AVX2 = ['-DLM_BUILD_AVX2', '-mavx2', '-mfma', '-mf16c'];

const compile = (compiler: string, args: string[]): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = spawn(compiler, [...FLAGS, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let text = '';
    child.stderr.setEncoding('utf8').on('data', (d: string) => {
      text += d;
    });
    child.on('error', reject);
    child.on('close', (code) => (code === 0 ? resolve() : reject(new Error(text.slice(0, 2000)))));
  });

/** The program with the kernels of each family, linked for one machine. */
async function build(
  folder: string,
  compiler: string,
  families: Record<string, string[]>,
  link: string[],
): Promise<string> {
  const out = (name: string) => path.join(folder, `${path.basename(compiler)}-${name}`);
  const object = (file: string, name: string, flags: string[]) =>
    compile(compiler, [...flags, '-I', folder, '-c', path.join(root, 'native', file), '-o', out(`${name}.o`)]);
  await Promise.all([
    ...Object.entries(families).map(([name, flags]) => object('cpu/kernels.cpp', name, flags)),
    object('test/kernels.cpp', 'main', []),
  ]);
  const objects = [...Object.keys(families), 'main'].map((name) => out(`${name}.o`));
  await compile(compiler, [...objects, ...link, '-o', out('kernels')]);
  return out('kernels');
}

/** Bits of what each family computed. */
function results(command: string, ...args: string[]): Record<string, string> {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
  return Object.fromEntries(
    [...stdout.matchAll(/^(\S+): \d+ values, bits (\w+)$/gm)].map(([, name, bits]) => [name, bits]),
  );
}

describe('kernels for 64-bit Arm', { skip }, () => {
  it('agree with the portable ones; a column has the same bits in any company; sdot, smmla and AVX2 give the same bits', async (t) => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'longmind-arm-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    writeFileSync(path.join(folder, 'abi.gen.h'), abiHeader());
    const x64 = process.arch === 'x64' && runs('g++');
    const [arm, here] = await Promise.all([
      build(folder, CROSS, { portable: [], dotprod: DOTPROD, i8mm: I8MM }, ['-static']),
      x64 ? build(folder, 'g++', { portable: [], avx2: AVX2 }, []) : null,
    ]);
    const all = results(emulator!, arm);
    assert.deepEqual(Object.keys(all), ['portable', 'neon-dot', 'neon-i8mm']);
    assert.equal(all['neon-dot'], all['neon-i8mm']);
    if (here) {
      const x = results(here);
      assert.equal(x.portable, all.portable);
      if (x.avx2) assert.equal(x.avx2, all['neon-dot']);
    }
    // what the processor lacks is not run
    assert.deepEqual(results(emulator!, '-cpu', 'neoverse-n1', arm, 'families'), { portable: '0', 'neon-dot': '0' });
    assert.deepEqual(results(emulator!, '-cpu', 'cortex-a72', arm, 'families'), { portable: '0' });
  });
});
