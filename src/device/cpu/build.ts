/**
 * The native library: the prebuilt one that came with the package, else native/cpu compiled with the machine's C++ compiler at
 * first use; that result is kept under a hash of what went in.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { temporaryCache, userCache, writable } from '../../base/folders.js';
import { withLockSync } from '../../base/lock.js';
import { errors } from '../../errors.js';
import { abiHeader } from './layout.js';
import { findPrebuilt } from './prebuilt.js';
import { digest, FLAGS, sourceDigest, sourceFolder, type Unit, units } from './recipe.js';

const COMPILERS = ['g++', 'clang++', 'c++'];
const INSTALL = 'install a C++20 compiler, for example: apt-get install g++';
const OWN_LIBRARY = 'or name a library that was built elsewhere with --native-library (nativeLibrary)';
/** A lock that did not change for so long was left by a thread that ended. */
const PATIENCE_MS = 30_000;

interface Compiler {
  command: string;
  version: string;
}

const isCheckout = (sources: string): boolean => fs.existsSync(path.join(sources, '..', '..', '.git'));

function findCompiler(): Compiler | string[] {
  const tried: string[] = [];
  for (const command of COMPILERS) {
    const r = spawnSync(command, ['--version'], { encoding: 'utf8' });
    if (r.status === 0) return { command, version: r.stdout.split('\n', 1)[0] };
    tried.push(`${command}: ${r.error ? 'not found' : `exit status ${r.status}`}`);
  }
  return [...tried, INSTALL];
}

/**
 * Beside the sources in a checkout, else in the user's cache folder (an installed package may be read-only or shared), else
 * among the temporary files of this user, and that is said.
 */
function cacheFolder(sources: string, tell?: (line: string) => void): string {
  const local = path.join(sources, 'build');
  if (isCheckout(sources) && writable(local)) return local;
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
  const known = (flags: string) =>
    `$(${quote(compiler)} ${flags} -x c++ -fsyntax-only /dev/null 2>/dev/null && echo ${flags} || echo -DLM_BUILD_ABSENT)`;
  const object = (unit: Unit) =>
    `${quote(compiler)} ${FLAGS} ${unit.flags} ${unit.recent ? known(unit.recent) : ''} -I ${quote(temporary)} -c ${quote(path.join(sources, `${unit.file}.cpp`))} ` +
    `-o ${quote(path.join(temporary, `${unit.object}.o`))}`;
  const { kernels, core } = units(process.arch);
  const jobs = [...kernels.map(object), core.map(object).join(' && ')];
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

/** A library that can be loaded as it is, or how one would be made, or all that was tried. */
type Found =
  | { path: string; origin: string; note?: string | null }
  | { compiler: Compiler; note: string | null }
  | { tried: string[] };

/** In a checkout the sources change, and what is compiled from them comes first; a package is as it was published. */
function find(sources: string, prefix: string, into?: string): Found {
  const prebuilt = findPrebuilt(sources);
  const origin = 'prebuilt library';
  if (into === undefined && !isCheckout(sources) && 'path' in prebuilt) return { path: prebuilt.path, origin };
  const note = 'problem' in prebuilt ? prebuilt.problem : null;
  const compiler = findCompiler();
  if (!Array.isArray(compiler)) return { compiler, note };
  const earlier = builtBefore(sources, prefix, into);
  if (earlier) return { path: earlier, origin: 'library that was compiled before', note };
  if (into === undefined && 'path' in prebuilt) return { path: prebuilt.path, origin };
  return { tried: [...(note ? [note] : []), ...compiler, OWN_LIBRARY] };
}

const prefixOf = (sources: string): string => `longmind-cpu-${sourceDigest(sources)}-`;
const nameOf = (prefix: string, compiler: Compiler): string => `${prefix}${digest(compiler.version)}.so`;

/**
 * Path of the library; compiles it where none came with the package (about a minute on two cores, once).
 * @param into folder to compile into, whatever came with the package; made if it is not there
 * @throws native_unavailable if there is no compiler, no writable folder, or the compiler fails
 */
export function buildNativeLibrary(onBuild?: (line: string) => void, into?: string): string {
  const sources = sourceFolder();
  const prefix = prefixOf(sources);
  const found = find(sources, prefix, into);
  if ('tried' in found) throw errors.nativeUnavailable(found.tried);
  if ('path' in found) return found.path;
  const { compiler, note } = found;
  const folder = into ?? cacheFolder(sources, onBuild);
  fs.mkdirSync(folder, { recursive: true });
  const target = path.join(folder, nameOf(prefix, compiler));
  const ready = () => fs.existsSync(target);
  if (ready()) return target;
  const lock = `${target}.lock`;
  withLockSync(lock, { patienceMs: PATIENCE_MS, mustBeat: true }, ready, () => {
    if (ready()) return;
    if (note && !isCheckout(sources)) onBuild?.(note);
    onBuild?.(`building the native library with ${compiler.command} (once, about a minute on two cores) …`);
    compile(sources, folder, target, compiler, lock);
  });
  return target;
}

/**
 * What the CPU device would compute with, in words; nothing is compiled. Also for who is about to fetch a model that nothing
 * could compute afterwards.
 * @throws native_unavailable
 */
export function checkNativeLibrary(): string {
  const sources = sourceFolder();
  const prefix = prefixOf(sources);
  const found = find(sources, prefix);
  if ('tried' in found) throw errors.nativeUnavailable(found.tried);
  const note = found.note && !isCheckout(sources) ? `; ${found.note}` : '';
  if ('path' in found) return `${found.origin} (${found.path})${note}`;
  const { command, version } = found.compiler;
  const target = path.join(cacheFolder(sources), nameOf(prefix, found.compiler));
  return fs.existsSync(target)
    ? `compiled by ${command} (${target})${note}`
    : `to be compiled at first use by ${command} (${version})${note}`;
}
