/** Compiles native/cpu with the machine's C++ compiler at first use; the result is kept under a hash of what went in. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { temporaryCache, userCache, writable } from '../../base/folders.js';
import { withLockSync } from '../../base/lock.js';
import { errors } from '../../errors.js';
import { abiHeader } from './layout.js';

const COMPILERS = ['g++', 'clang++', 'c++'];
const INSTALL = 'install a C++20 compiler, for example: apt-get install g++';
const OWN_LIBRARY = 'or name a library that was built elsewhere with --native-library (nativeLibrary)';
/** A lock that did not change for so long was left by a thread that ended. */
const PATIENCE_MS = 30_000;
const FLAGS =
  '-std=c++20 -ffp-contract=off -fno-math-errno -fno-exceptions -fno-rtti -fPIC -fvisibility=hidden ' +
  '-Wno-psabi -Wno-maybe-uninitialized -Wno-uninitialized';
const CORE = ['device', 'pool', 'step', 'experts', 'ahead', 'weights', 'bench'];
/**
 * The kernels are compiled once for each instruction set. On x64 the portable ones serve processors without AVX2 and are
 * not worth the 20 s that -O3 takes longer.
 */
const KERNELS = [
  { name: 'portable', flags: process.arch === 'x64' ? '-O2' : '-O3', x64: false },
  { name: 'avx2', flags: '-O3 -DLM_BUILD_AVX2 -mavx2 -mfma -mf16c', x64: true },
  {
    name: 'avx512',
    flags:
      '-O3 -DLM_BUILD_AVX512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c ' +
      '-mprefer-vector-width=512',
    x64: true,
  },
];

interface Compiler {
  command: string;
  version: string;
}

/** The repository's or package's native/cpu, found from dist/src/device/cpu/ (or src/device/cpu/). */
function sourceFolder(): string {
  let folder = path.dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const candidate = path.join(folder, 'native', 'cpu');
    if (fs.existsSync(path.join(candidate, 'kernels.cpp'))) return candidate;
    const parent = path.dirname(folder);
    if (parent === folder)
      throw errors.nativeUnavailable(['the sources in native/cpu are missing from this installation']);
    folder = parent;
  }
}

function findCompiler(): Compiler | string[] {
  const tried: string[] = [];
  for (const command of COMPILERS) {
    const r = spawnSync(command, ['--version'], { encoding: 'utf8' });
    if (r.status === 0) return { command, version: r.stdout.split('\n', 1)[0] };
    tried.push(`${command}: ${r.error ? 'not found' : `exit status ${r.status}`}`);
  }
  return [...tried, INSTALL];
}

function listSources(folder: string): string[] {
  return fs
    .readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((f) => /\.(cpp|h)$/.test(f) && !f.startsWith('build'))
    .sort();
}

const digest = (...parts: (string | Buffer)[]): string => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex').slice(0, 12);
};

/** Sources and flags; the compiler has its own part of the name. */
function sourceDigest(folder: string): string {
  const files = listSources(folder).flatMap((file) => [file, fs.readFileSync(path.join(folder, file))]);
  return digest(JSON.stringify([process.platform, process.arch, FLAGS, KERNELS, CORE]), abiHeader(), ...files);
}

/**
 * Beside the sources in a checkout, else in the user's cache folder (an installed package may be read-only or shared), else
 * among the temporary files of this user, and that is said.
 */
function cacheFolder(sources: string, tell?: (line: string) => void): string {
  const checkout = fs.existsSync(path.join(sources, '..', '..', '.git'));
  const local = path.join(sources, 'build');
  if (checkout && writable(local)) return local;
  const folder = path.join(userCache(process.env), 'native');
  if (writable(folder)) return folder;
  try {
    const temporary = path.join(temporaryCache(process.env), 'native');
    if (!writable(temporary)) throw new Error(`${temporary}: not writable`);
    tell?.(`'${folder}' cannot be written: the native library is kept in '${temporary}' instead`);
    return temporary;
  } catch (e) {
    throw errors.nativeUnavailable([`${folder}: not writable`, (e as Error).message, OWN_LIBRARY]);
  }
}

const quote = (s: string) => `'${s.replaceAll("'", `'\\''`)}'`;

/**
 * Shell jobs side by side: the kernels of each instruction set (up to 20 s each), and everything else. One more keeps the
 * lock young, however long the compiler takes.
 */
function script(sources: string, temporary: string, compiler: string, lock: string): string {
  const object = (file: string, name: string, flags: string) =>
    `${quote(compiler)} ${FLAGS} ${flags} -I ${quote(temporary)} -c ${quote(path.join(sources, `${file}.cpp`))} ` +
    `-o ${quote(path.join(temporary, `${name}.o`))}`;
  const kernels = KERNELS.filter((k) => !k.x64 || process.arch === 'x64');
  const jobs = [
    ...kernels.map((k) => object('kernels', k.name, k.flags)),
    CORE.map((f) => object(f, f, '-O3')).join(' && '),
  ];
  const output = quote(path.join(temporary, 'library.so'));
  return `(while [ -f ${quote(lock)} ] && touch -c ${quote(lock)} && sleep 1; do :; done) >/dev/null 2>&1 & beat=$!
jobs=
${jobs.map((job) => `(${job}) & jobs="$jobs $!"`).join('\n')}
failed=0
for job in $jobs; do wait $job || failed=1; done
[ $failed = 0 ] && ${quote(compiler)} -shared -o ${output} ${quote(temporary)}/*.o -lm -lpthread
c=$?; kill $beat 2>/dev/null; exit $c`;
}

/**
 * A library of these sources that some compiler made before; good enough where there is no compiler now. One that lies
 * beside the sources came with the installation (a container image, say), which may be read-only.
 */
function builtBefore(sources: string, prefix: string, into?: string): string | null {
  if (into !== undefined) return libraryIn(into, prefix);
  return libraryIn(path.join(sources, 'build'), prefix) ?? libraryIn(cacheFolder(sources), prefix);
}

function libraryIn(folder: string, prefix: string): string | null {
  if (!fs.existsSync(folder)) return null;
  const found = fs.readdirSync(folder).find((f) => f.startsWith(prefix) && f.endsWith('.so'));
  return found ? path.join(folder, found) : null;
}

function compile(sources: string, folder: string, target: string, compiler: Compiler, lock: string): void {
  const temporary = fs.mkdtempSync(path.join(folder, 'tmp-'));
  try {
    fs.writeFileSync(path.join(temporary, 'abi.gen.h'), abiHeader());
    const r = spawnSync('sh', ['-c', script(sources, temporary, compiler.command, lock)], { encoding: 'utf8' });
    if (r.status !== 0) {
      const text = (r.stderr || String(r.error ?? `exit status ${r.status}`)).trim();
      const detail = text.split('\n').slice(0, 12).join('\n    ');
      throw errors.nativeUnavailable([`${compiler.command} (${compiler.version}) failed:\n    ${detail}`]);
    }
    fs.renameSync(path.join(temporary, 'library.so'), target);
  } finally {
    fs.rmSync(temporary, { recursive: true, force: true });
  }
}

/**
 * Path of the compiled library; compiles it if it is not there yet (about half a minute on two cores, once).
 * @param into folder instead of the usual cache; made if it is not there
 * @throws native_unavailable if there is no compiler, no writable folder, or the compiler fails
 */
export function buildNativeLibrary(onBuild?: (line: string) => void, into?: string): string {
  const sources = sourceFolder();
  const prefix = `longmind-cpu-${sourceDigest(sources)}-`;
  const compiler = findCompiler();
  if (Array.isArray(compiler)) {
    const earlier = builtBefore(sources, prefix, into);
    if (earlier) return earlier;
    throw errors.nativeUnavailable([...compiler, OWN_LIBRARY]);
  }
  const folder = into ?? cacheFolder(sources, onBuild);
  fs.mkdirSync(folder, { recursive: true });
  const target = path.join(folder, `${prefix}${digest(compiler.version)}.so`);
  const ready = () => fs.existsSync(target);
  if (ready()) return target;
  const lock = `${target}.lock`;
  withLockSync(lock, { patienceMs: PATIENCE_MS, mustBeat: true }, ready, () => {
    if (ready()) return;
    onBuild?.(`building the native library with ${compiler.command} (once, about half a minute) …`);
    compile(sources, folder, target, compiler, lock);
  });
  return target;
}

/**
 * For who is about to fetch a model that nothing could compute afterwards: is there a compiler, or a library that one made?
 * @throws native_unavailable
 */
export function checkNativeLibrary(): void {
  const compiler = findCompiler();
  if (!Array.isArray(compiler)) return;
  const sources = sourceFolder();
  const prefix = `longmind-cpu-${sourceDigest(sources)}-`;
  if (!builtBefore(sources, prefix)) throw errors.nativeUnavailable([...compiler, OWN_LIBRARY]);
}
