/** Prebuilt native libraries: when one is used, what is said when it is not, and that it computes the same bits. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { buildNativeLibrary } from '../../src/device/cpu/build.js';
import { availableIsas, createCpuDevice } from '../../src/device/cpu/index.js';
import { GGML_TYPES } from '../../src/device/cpu/layout.js';
import { loadNative } from '../../src/device/cpu/native.js';
import { findPrebuilt, type PrebuiltLibrary } from '../../src/device/cpu/prebuilt.js';
import { sourceDigest } from '../../src/device/cpu/recipe.js';
import { prebuiltHere } from '../support/prebuilt.js';
import { FLAGS, MIXTURES, type ModelOptions, Runner, randomModel, sequence } from './support.js';

const dist = fileURLToPath(new URL('../../src/', import.meta.url));
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-prebuilt-'));
after(() => fs.rmSync(temporary, { recursive: true, force: true }));

/** The package as it is installed, with a prebuilt library of the given content for this machine. */
function installed(name: string, content: string, about: Partial<PrebuiltLibrary> = {}) {
  const folder = path.join(temporary, name);
  for (const part of ['base', 'device/cpu', 'device', 'errors.js', 'types.js'])
    fs.cpSync(path.join(dist, part), path.join(folder, 'dist/src', part), { recursive: true });
  fs.writeFileSync(path.join(folder, 'package.json'), '{"type": "module"}');
  const sources = path.join(folder, 'native/cpu');
  const filter = (f: string) => path.basename(f) !== 'build';
  fs.cpSync(path.join(dist, '../../native/cpu'), sources, { recursive: true, filter });
  const file = path.join(folder, 'native/prebuilt/here/longmind-cpu.so');
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, content);
  const sha256 = createHash('sha256').update(content).digest('hex');
  const glibc = process.platform === 'linux' ? '2.28' : null;
  const library = {
    file: 'here/longmind-cpu.so',
    sha256,
    bytes: content.length,
    sources: sourceDigest(sources),
    glibc,
  };
  const libraries = { [`${process.platform}-${process.arch}`]: { ...library, ...about } };
  fs.writeFileSync(path.join(folder, 'native/prebuilt/manifest.json'), JSON.stringify({ compiler: 'test', libraries }));
  return { folder, sources, file };
}

interface Outcome {
  path?: string;
  lines: string[];
  words?: string;
  code?: string;
  message?: string;
}

/** What the package in `folder` finds in a process that has only the programs in `bin`. */
function ask(folder: string, bin: string): Outcome {
  const url = pathToFileURL(path.join(folder, 'dist/src/device/cpu/build.js')).href;
  const script = `import { buildNativeLibrary, checkNativeLibrary } from ${JSON.stringify(url)};
    const lines = [];
    try {
      const words = checkNativeLibrary();
      const path = buildNativeLibrary((line) => lines.push(line));
      console.log(JSON.stringify({ path, lines, words }));
    } catch (e) { console.log(JSON.stringify({ code: e.code, message: e.message, lines })); }`;
  const env = { PATH: bin, XDG_CACHE_HOME: path.join(folder, 'cache') };
  const r = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', env });
  return JSON.parse(r.stdout) as Outcome;
}

const nothing = path.join(temporary, 'no-programs');
fs.mkdirSync(nothing);

/** A compiler that makes a file of whatever it is given. */
function withCompiler(): string {
  const bin = path.join(temporary, 'bin');
  if (fs.existsSync(bin)) return bin;
  fs.mkdirSync(bin);
  const text = `#!/bin/sh
case "$*" in *--version*) echo "test 1.0"; exit 0;; esac
while [ $# -gt 0 ]; do [ "$1" = -o ] && echo made > "$2"; shift; done
`;
  fs.writeFileSync(path.join(bin, 'g++'), text, { mode: 0o755 });
  for (const program of ['/bin/sh', '/bin/sleep', '/usr/bin/touch'])
    fs.symlinkSync(program, path.join(bin, path.basename(program)));
  return bin;
}

describe('a prebuilt library', () => {
  it('is used by an installed package, whether there is a compiler or not', () => {
    const { folder, file } = installed('fits', 'library');
    for (const bin of [nothing, withCompiler()]) {
      const r = ask(folder, bin);
      assert.equal(r.path, file);
      assert.deepEqual(r.lines, []);
      assert.equal(r.words, `prebuilt library (${file})`);
    }
  });

  it('in a checkout comes after a compiler, whose sources may have changed', () => {
    const { folder, file } = installed('checkout', 'library');
    fs.mkdirSync(path.join(folder, '.git'));
    assert.equal(ask(folder, nothing).path, file);
    const r = ask(folder, withCompiler());
    assert.match(r.path!, /native\/cpu\/build\/longmind-cpu-/);
    assert.match(r.words!, /^to be compiled at first use by g\+\+ \(test 1\.0\)$/);
  });

  it('that is damaged is never loaded: compiled instead, or an error that names it', () => {
    const { folder, file } = installed('damaged', 'library');
    fs.writeFileSync(file, 'librarx');
    const none = ask(folder, nothing);
    assert.equal(none.code, 'native_unavailable');
    assert.match(none.message!, /is damaged \(.*longmind-cpu\.so\)/);
    assert.match(none.message!, /install a C\+\+20 compiler/);
    const r = ask(folder, withCompiler());
    assert.match(r.path!, /cache\/longmind\/native\/longmind-cpu-/);
    assert.match(r.lines[0]!, /is damaged/);
    assert.match(r.words!, /to be compiled .*; .*is damaged/);
    assert.match(ask(folder, withCompiler()).words!, /^compiled by g\+\+ \(/);
  });

  it('that is not there, or whose manifest cannot be read, is an error that says so', () => {
    const { folder, file } = installed('torn', 'library');
    fs.rmSync(file);
    assert.match(ask(folder, nothing).message!, /cannot be used: ENOENT/);
    fs.writeFileSync(path.join(folder, 'native/prebuilt/manifest.json'), '{');
    assert.match(ask(folder, nothing).message!, /cannot be used: .*JSON/);
  });

  it('that was made from other sources is not used', () => {
    const { folder, sources } = installed('changed', 'library');
    fs.appendFileSync(path.join(sources, 'pool.cpp'), '\n');
    assert.match(ask(folder, nothing).message!, /was made from other sources/);
  });

  it('must fit the C library; other platforms have none', () => {
    const linux = { platform: 'linux', arch: process.arch };
    const { sources, file } = installed('glibc', 'library');
    const { sources: windows } = installed('platform', 'library', { glibc: null });
    assert.deepEqual(findPrebuilt(sources, { ...linux, glibc: '2.28' }), { path: file });
    assert.deepEqual(findPrebuilt(sources, { ...linux, glibc: '3.0' }), { path: file });
    const problem = (machine: Parameters<typeof findPrebuilt>[1]) =>
      (findPrebuilt(sources, machine) as { problem: string | null }).problem;
    assert.match(problem({ ...linux, glibc: '2.9' })!, /needs glibc 2\.28, this system has 2\.9$/);
    assert.match(problem({ ...linux, glibc: undefined })!, /another C library/);
    assert.equal(problem({ platform: 'sunos', arch: process.arch, glibc: undefined }), null);
    assert.deepEqual(findPrebuilt(windows, { ...linux, glibc: undefined }), {
      path: path.join(windows, '../prebuilt/here/longmind-cpu.so'),
    });
  });
});

/** Logits of a prefill in pieces and of single tokens. */
function logits(library: string, isa: ReturnType<typeof availableIsas>[number], model: ModelOptions, bits: 16 | 8 | 4) {
  const device = createCpuDevice({ library, isa, threads: 2 });
  const runner = new Runner(randomModel(model), { device, bits, maxTokens: 64, maxLogits: 64 });
  try {
    const tokens = sequence(70, 3);
    const rows = [[0, 9], [9, 60], ...Array.from({ length: 10 }, (_, i) => [60 + i, 61 + i])];
    return rows.flatMap(([from, to]) =>
      runner.logits([{ slot: 0, position: from!, tokens: tokens.slice(from, to), logits: 'all' }]),
    );
  } finally {
    runner.close();
  }
}

const made = prebuiltHere();
describe('the prebuilt library and the one that is compiled here', { skip: 'skip' in made && made.skip }, () => {
  const libraries = [buildNativeLibrary(), 'path' in made ? made.path : ''];
  const native = 'path' in made ? loadNative(made.path) : null;
  it('run on the same instruction sets', () => {
    assert.equal(native!.isaAvailable(), loadNative(libraries[0]!).isaAvailable());
  });
  for (const isa of native ? availableIsas(native) : [])
    it(`give the same bits: ${isa}, every type of weights, what families do, mixtures of experts, KV of every width`, () => {
      const wide = { headDim: 64, ffDim: 256 };
      const models: [ModelOptions, 16 | 8 | 4][] = Object.keys(GGML_TYPES).map((type) => [{ ...wide, type }, 16]);
      models.push([{ type: 'Q8_0' }, 8], [{ type: 'Q8_0' }, 4]);
      for (const flags of Object.values(FLAGS))
        models.push([{ type: 'F32', flags }, 16], [{ type: 'Q8_0', flags }, 16]);
      for (const experts of Object.values(MIXTURES)) models.push([{ type: 'Q8_0', layers: 2, flags: { experts } }, 16]);
      for (const [model, bits] of models) {
        const [a, b] = libraries.map((library) => logits(library, isa, model, bits)) as [
          Float32Array[],
          Float32Array[],
        ];
        assert.equal(a.length, 70);
        // row by row: what differs must not become a message of megabytes
        a.forEach((row, i) => {
          const at = row.findIndex((x, k) => !Number.isFinite(x) || x !== b[i]![k]);
          const about = `${JSON.stringify(model)}, ${bits} bits, row ${i}, logit ${at}`;
          assert.equal(at, -1, `${about}: ${row[at]} and ${b[i]![at]}`);
        });
      }
    });
});
