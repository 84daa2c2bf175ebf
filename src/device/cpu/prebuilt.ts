/** Libraries that came with the package (scripts/prebuilt.mjs makes them), so that no compiler is needed. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { sourceDigest } from './recipe.js';

/** native/prebuilt/manifest.json. */
export interface Manifest {
  compiler: string;
  /** By `${process.platform}-${process.arch}`. */
  libraries: Record<string, PrebuiltLibrary>;
}

export interface PrebuiltLibrary {
  /** In native/prebuilt. */
  file: string;
  sha256: string;
  bytes: number;
  /** Of what it was made from (`sourceDigest`). */
  sources: string;
  /** Oldest version of glibc that it runs with; null where the system's C library has another name. */
  glibc: string | null;
}

/** Either a library that fits, or why there is none; null: none was promised for this kind of machine. */
export type Prebuilt = { path: string } | { problem: string | null };

interface Machine {
  platform: string;
  arch: string;
  /** Version of glibc; undefined: another C library. */
  glibc: string | undefined;
}

function thisMachine(): Machine {
  const { platform, arch } = process;
  if (platform !== 'linux') return { platform, arch, glibc: undefined };
  return { platform, arch, glibc: glibcVersion() };
}

/** Node tells it in its report alone; undefined: another C library. */
function glibcVersion(): string | undefined {
  // not in the types of Node 20, but in Node 20.19
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork: boolean };
  const { excludeNetwork } = report;
  // or it looks up the names of all that this process is connected with
  report.excludeNetwork = true;
  try {
    return (report.getReport() as { header?: { glibcVersionRuntime?: string } }).header?.glibcVersionRuntime;
  } finally {
    report.excludeNetwork = excludeNetwork;
  }
}

/** @param sources native/cpu, whose digest a library must have */
export function findPrebuilt(sources: string, machine: Machine = thisMachine()): Prebuilt {
  const folder = path.join(sources, '..', 'prebuilt');
  const file = path.join(folder, 'manifest.json');
  if (!fs.existsSync(file)) return { problem: null };
  const key = `${machine.platform}-${machine.arch}`;
  try {
    const { libraries } = JSON.parse(fs.readFileSync(file, 'utf8')) as Manifest;
    const library = libraries[key];
    if (!library) return { problem: null };
    const made = path.join(folder, library.file);
    const problem = unfit(library, made, sourceDigest(sources, machine.platform, machine.arch), machine);
    return problem ? { problem: `the prebuilt library for ${key} ${problem}` } : { path: made };
  } catch (e) {
    return { problem: `the prebuilt library for ${key} cannot be used: ${(e as Error).message}` };
  }
}

function unfit(library: PrebuiltLibrary, file: string, sources: string, machine: Machine): string | null {
  if (library.sources !== sources) return 'was made from other sources than those that lie here';
  if (library.glibc !== null) {
    if (machine.glibc === undefined) return `needs glibc ${library.glibc}, and this system has another C library`;
    if (isOlder(machine.glibc, library.glibc)) return `needs glibc ${library.glibc}, this system has ${machine.glibc}`;
  }
  const sha256 = createHash('sha256').update(fs.readFileSync(file)).digest('hex');
  return sha256 === library.sha256 ? null : `is damaged (${file}): its checksum is not that of the manifest`;
}

function isOlder(a: string, b: string): boolean {
  const [majorA = 0, minorA = 0] = a.split('.').map(Number);
  const [majorB = 0, minorB = 0] = b.split('.').map(Number);
  return majorA !== majorB ? majorA < majorB : minorA < minorB;
}
