/**
 * npm run prebuilt [-- TARGET… --zig FILE]: compiles native/cpu for other machines than this one, into native/prebuilt with a
 * manifest that src/device/cpu/prebuilt.ts checks; `npm pack` carries both. Targets: linux-x64, linux-arm64, darwin-arm64,
 * win32-x64; default: all. What is there already and fits the sources is left as it is. The compiler is zig (clang, and the
 * system libraries of every target), fetched once from PyPI and checked against a checksum that stands here.
 */
import { execFile, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { librarySymbols } from './library-symbols.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const load = (file) => import(pathToFileURL(path.join(root, 'dist/src', file)).href);
const { FLAGS, sourceDigest, units } = await load('device/cpu/recipe.js');
const { abiHeader } = await load('device/cpu/layout.js');
const { userCache, makeFolder } = await load('base/folders.js');
const { pipDownload } = await load('hub/pypi.js');

const ZIG = {
  package: 'ziglang',
  version: '0.17.1',
  // of the wheel for Linux on x64; on another machine name a zig of this version with --zig
  sha256: 'ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54',
};
const GLIBC = '2.28';
/** What zig calls it; the library's name; for what else the linker must look; how its file is recognised. */
const TARGETS = {
  'linux-x64': { zig: `x86_64-linux-gnu.${GLIBC}`, suffix: 'so', link: ['-lm', '-lpthread'], kind: 'elf', machine: 62 },
  'linux-arm64': {
    zig: `aarch64-linux-gnu.${GLIBC}`,
    suffix: 'so',
    link: ['-lm', '-lpthread'],
    kind: 'elf',
    machine: 183,
  },
  'darwin-arm64': { zig: 'aarch64-macos.11.0', suffix: 'dylib', link: [], kind: 'macho', machine: 0x0100000c },
  'win32-x64': {
    zig: 'x86_64-windows-gnu',
    suffix: 'dll',
    link: ['-lapi-ms-win-core-synch-l1-2-0'],
    kind: 'pe',
    machine: 0x8664,
  },
};
// zig compiles for debugging unless told otherwise; g++'s names of warnings are not all clang's
const CLANG_FLAGS = '-fno-sanitize=all -g0 -Wno-unknown-warning-option';

const sources = path.join(root, 'native/cpu');
const out = path.join(root, 'native/prebuilt');
const manifestFile = path.join(out, 'manifest.json');
const sha256Of = (file) => createHash('sha256').update(readFileSync(file)).digest('hex');
const run = promisify(execFile);

/** Path of zig, fetched if it is not there. */
async function findZig() {
  const folder = path.join(userCache(process.env), `zig-${ZIG.version}`);
  const zig = path.join(folder, ZIG.package, 'zig');
  if (existsSync(zig)) return zig;
  if (`${process.platform}-${process.arch}` !== 'linux-x64')
    throw new Error(`zig is fetched on linux-x64 only: name a zig ${ZIG.version} with --zig`);
  const wheels = `${folder}.part`;
  makeFolder(wheels);
  try {
    console.log(`fetching pypi:${ZIG.package}==${ZIG.version} (about 100 MB, once)`);
    const wheel = await pipDownload({ kind: 'pypi', ...ZIG, file: null }, wheels, { onNote: console.log });
    const sha256 = sha256Of(wheel);
    if (sha256 !== ZIG.sha256) throw new Error(`${path.basename(wheel)} has the checksum ${sha256}, not ${ZIG.sha256}`);
    const unpacked = path.join(wheels, 'unpacked');
    const pip = [
      '-m',
      'pip',
      'install',
      '--no-deps',
      '--no-index',
      '--no-compile',
      '--disable-pip-version-check',
      '-q',
    ];
    await run('python3', [...pip, '--target', unpacked, wheel]);
    renameSync(unpacked, folder);
    return zig;
  } finally {
    rmSync(wheels, { recursive: true, force: true });
  }
}

const versionOf = (zig) => {
  const r = spawnSync(zig, ['version'], { encoding: 'utf8' });
  if (r.status !== 0) throw new Error(`${zig}: ${r.error?.message ?? r.stderr}`);
  return r.stdout.trim();
};

function readManifest() {
  return existsSync(manifestFile) ? JSON.parse(readFileSync(manifestFile, 'utf8')) : { compiler: '', libraries: {} };
}

const archOf = (target) => target.split('-')[1];
const digestOf = (target) => sourceDigest(sources, ...target.split('-'));

function isThere(target, { libraries }) {
  const made = libraries[target];
  const file = made && path.join(out, made.file);
  return made?.sources === digestOf(target) && existsSync(file) && sha256Of(file) === made.sha256;
}

/** One compiler for each processor, the slowest files first. */
async function inTurns(jobs) {
  const next = jobs.values();
  const worker = async () => {
    for (const job of next) await job();
  };
  await Promise.all(Array.from({ length: os.availableParallelism() }, worker));
}

function check(target, file, wanted) {
  const { zig, kind, machine } = TARGETS[target];
  const found = librarySymbols(readFileSync(file));
  if (found.kind !== kind || found.machine !== machine) throw new Error(`${file} is no library for ${zig}`);
  const missing = wanted.filter((name) => !found.exports.includes(name));
  if (missing.length > 0) throw new Error(`${file} does not export ${missing.join(', ')}`);
  if (kind !== 'elf') return;
  const tooNew = found.needs.filter((n) => Number(n.split('.')[1]) > Number(GLIBC.split('.')[1]));
  if (tooNew.length > 0) throw new Error(`${file} needs ${tooNew.join(', ')}: newer than ${GLIBC}`);
}

const { values, positionals } = parseArgs({ allowPositionals: true, options: { zig: { type: 'string' } } });
const targets = positionals.length > 0 ? positionals : Object.keys(TARGETS);
for (const target of targets)
  if (!TARGETS[target]) throw new Error(`'${target}' is none of ${Object.keys(TARGETS).join(', ')}`);
const manifest = readManifest();
const missing = targets.filter((t) => !isThere(t, manifest));
if (missing.length > 0) {
  const zig = values.zig ?? (await findZig());
  const version = versionOf(zig);
  if (version !== ZIG.version) throw new Error(`${zig} is zig ${version}, not ${ZIG.version}`);
  const cache = path.join(userCache(process.env), 'zig-cache');
  const env = { ...process.env, ZIG_GLOBAL_CACHE_DIR: cache, ZIG_LOCAL_CACHE_DIR: cache };
  const temporary = mkdtempSync(path.join(os.tmpdir(), 'longmind-prebuild-'));
  try {
    writeFileSync(path.join(temporary, 'abi.gen.h'), abiHeader());
    const compile = (target, unit) => async () => {
      const object = path.join(temporary, target, `${unit.object}.o`);
      const asked = unit.recent ? `${unit.flags} ${unit.recent}` : unit.flags;
      // zig has names of its own for the versions of an architecture
      const zigs = asked.replace('-march=armv8.2-a', '-mcpu=generic+v8_2a');
      const flags = `${FLAGS} ${zigs} ${CLANG_FLAGS}`.split(' ');
      const source = path.join(sources, `${unit.file}.cpp`);
      await run(zig, ['c++', '-target', TARGETS[target].zig, ...flags, '-I', temporary, '-c', source, '-o', object], {
        env,
      });
    };
    for (const target of missing) mkdirSync(path.join(temporary, target));
    const jobs = (part) => missing.flatMap((t) => units(archOf(t))[part].map((unit) => compile(t, unit)));
    await inTurns([...jobs('kernels'), ...jobs('core')]);
    const wanted = [...readFileSync(path.join(sources, 'exports.h'), 'utf8').matchAll(/\b(lm_\w+)\(/g)].map(
      (m) => m[1],
    );
    for (const target of missing) {
      const { zig: triple, suffix, link } = TARGETS[target];
      const name = `longmind-cpu.${suffix}`;
      const made = path.join(temporary, target, name);
      const { kernels, core } = units(archOf(target));
      const objects = [...kernels, ...core].map((u) => path.join(temporary, target, `${u.object}.o`));
      await run(zig, ['cc', '-target', triple, '-shared', '-s', '-o', made, ...objects, ...link], { env });
      check(target, made, wanted);
      const file = `${target}/${name}`;
      mkdirSync(path.join(out, target), { recursive: true });
      // a new file, not new contents: processes may have mapped the old one
      const bytes = readFileSync(made);
      writeFileSync(path.join(out, `${file}.part`), bytes, { mode: 0o755 });
      renameSync(path.join(out, `${file}.part`), path.join(out, file));
      const glibc = TARGETS[target].kind === 'elf' ? GLIBC : null;
      const about = { file, sha256: sha256Of(made), bytes: bytes.length, sources: digestOf(target), glibc };
      manifest.libraries[target] = about;
      console.log(`${file}: ${bytes.length} bytes`);
    }
    manifest.compiler = `zig ${version}`;
    writeFileSync(manifestFile, `${JSON.stringify(manifest, null, 2)}\n`);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}
