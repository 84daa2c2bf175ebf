/** What the native library is made of: sources, flags, and the hash of both that its name carries. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { errors } from '../../errors.js';
import { abiHeader } from './layout.js';

export const FLAGS =
  '-std=c++20 -ffp-contract=off -fno-math-errno -fno-exceptions -fno-rtti -fPIC -fvisibility=hidden ' +
  '-Wno-psabi -Wno-maybe-uninitialized -Wno-uninitialized';
const CORE = ['device', 'isa', 'platform', 'pool', 'step', 'experts', 'adapters', 'ahead', 'weights', 'numa', 'bench'];
const AVX2 = '-DLM_BUILD_AVX2 -mavx2 -mfma -mf16c';
const AVX512 =
  '-DLM_BUILD_AVX512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c -mprefer-vector-width=512';

const NEON = '-DLM_BUILD_NEON -march=armv8.2-a+dotprod';
/**
 * The kernels are compiled once for each instruction set. On x64 and Arm the portable ones serve old processors and are not
 * worth the 20 s that -O3 takes longer.
 */
const KERNELS: Readonly<Record<string, readonly Unit[]>> = {
  x64: [
    { file: 'kernels', object: 'portable', flags: '-O2' },
    { file: 'kernels', object: 'avx2', flags: `-O3 ${AVX2}` },
    { file: 'vnni', object: 'avxvnni', flags: `-O3 ${AVX2} -DLM_BUILD_VNNI`, recent: '-mavxvnni' },
    { file: 'kernels', object: 'avx512', flags: `-O3 ${AVX512}` },
    { file: 'amx', object: 'amx', flags: `-O3 ${AVX512} -DLM_BUILD_AMX`, recent: '-mamx-tile -mamx-int8' },
  ],
  arm64: [
    { file: 'kernels', object: 'portable', flags: '-O2' },
    { file: 'kernels', object: 'dotprod', flags: `-O3 ${NEON}` },
    { file: 'kernels', object: 'i8mm', flags: `-O3 ${NEON}+i8mm -DLM_BUILD_I8MM` },
  ],
  other: [{ file: 'kernels', object: 'portable', flags: '-O3' }],
};

/** One file to compile: its name without `.cpp`, the object's without `.o`. */
export interface Unit {
  file: string;
  object: string;
  flags: string;
  /** More flags, which older compilers do not know: they get -DLM_BUILD_ABSENT instead, and the family is left out. */
  recent?: string;
}

/** All of the library for this processor, the slowest first. */
export function units(arch: string): { kernels: readonly Unit[]; core: Unit[] } {
  return {
    kernels: KERNELS[arch] ?? KERNELS.other!,
    core: CORE.map((file) => ({ file, object: file, flags: '-O3' })),
  };
}

/** The repository's or package's native/cpu, found from dist/src/device/cpu/ (or src/device/cpu/). */
export function sourceFolder(): string {
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

function listSources(folder: string): string[] {
  return fs
    .readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((f) => /\.(cpp|h)$/.test(f) && !f.startsWith('build'))
    .map((f) => f.replaceAll('\\', '/'))
    .sort();
}

export const digest = (...parts: (string | Buffer)[]): string => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex').slice(0, 12);
};

/** Of sources, flags and ABI for a platform and processor, as Node calls them; the compiler has its own part of the name. */
export function sourceDigest(folder: string, platform: string = process.platform, arch: string = process.arch): string {
  const files = listSources(folder).flatMap((file) => [file, fs.readFileSync(path.join(folder, file))]);
  return digest(JSON.stringify([platform, arch, FLAGS, units(arch)]), abiHeader(), ...files);
}
