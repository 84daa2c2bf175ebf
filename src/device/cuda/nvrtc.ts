/** NVRTC, the compiler of CUDA C++ that ships as one library: where it is, and how it is called. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import koffi from 'koffi';
import { errors } from '../../errors.js';

export interface NvrtcPlace {
  folder: string;
  library: string;
  /** It is loaded by name from the library, which has no path to it. */
  builtins: string;
  /** Major version of CUDA. */
  major: number;
}

export interface CompileJob {
  file: string;
  options: string[];
  target: string;
}
/** What a compiling process reads. */
export interface CompileData {
  place: NvrtcPlace;
  folder: string;
  jobs: CompileJob[];
}

const TOOLKITS = ['/usr/local/cuda/lib64', '/opt/cuda/lib64', '/usr/lib/x86_64-linux-gnu', '/usr/lib64'];
/** Prints the folders of the packages that hold NVRTC. */
const ASK_PYTHON =
  'import glob, sys, site\n' +
  'for p in dict.fromkeys(sys.path + site.getsitepackages() + [site.getusersitepackages()]):\n' +
  '    for f in glob.glob(p + "/nvidia/*/lib"): print(f)';

/** NVRTC in a folder, the newest that a driver for CUDA `major` can load the results of; null if there is none. */
function nvrtcIn(folder: string, major: number): NvrtcPlace | null {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return null;
  }
  const libraries = names
    .map((name) => ({ name, major: Number(/^libnvrtc\.so\.(\d+)/.exec(name)?.[1] ?? 0) }))
    .filter((l) => l.major > 0 && l.major <= major && l.major >= 12)
    .sort((a, b) => b.major - a.major || a.name.length - b.name.length);
  for (const { name, major: its } of libraries) {
    const builtins = names.find((n) => n.startsWith(`libnvrtc-builtins.so.${its}`) && !n.includes('.alt.'));
    if (builtins)
      return { folder, library: path.join(folder, name), builtins: path.join(folder, builtins), major: its };
  }
  return null;
}

/**
 * Looked for in the folder of LONGMIND_NVRTC (which must have it then), the toolkit's folders, Python's packages, and where
 * it was put when it was fetched.
 */
export function findNvrtc(major: number, fetched: string, env: NodeJS.ProcessEnv): NvrtcPlace | null {
  if (env.LONGMIND_NVRTC) return nvrtcIn(env.LONGMIND_NVRTC, major);
  for (const folder of [fetched, ...TOOLKITS]) {
    const place = nvrtcIn(folder, major);
    if (place) return place;
  }
  const { stdout, status } = spawnSync('python3', ['-c', ASK_PYTHON], { encoding: 'utf8' });
  const folders = status === 0 ? stdout.split('\n').filter(Boolean) : [];
  return folders.map((f) => nvrtcIn(f, major)).find((place) => place !== null) ?? null;
}

export interface Nvrtc {
  version: string;
  /** @throws cuda_unavailable with the compiler's words */
  compile(source: string, name: string, options: string[]): Uint8Array;
}

export function loadNvrtc(place: NvrtcPlace): Nvrtc {
  let library: ReturnType<typeof koffi.load>;
  try {
    koffi.load(place.builtins, { global: true });
    library = koffi.load(place.library);
  } catch (e) {
    throw errors.noNvrtc((e as Error).message);
  }
  const f = (name: string, ...args: string[]) =>
    library.func(name, 'int', args) as unknown as (...a: unknown[]) => number;
  const program = f(
    'nvrtcCreateProgram',
    '_Out_ uint64_t *',
    'const char *',
    'const char *',
    'int',
    'void *',
    'void *',
  );
  const compile = f('nvrtcCompileProgram', 'uint64_t', 'int', 'const char **');
  const destroy = f('nvrtcDestroyProgram', '_Inout_ uint64_t *');
  const logSize = f('nvrtcGetProgramLogSize', 'uint64_t', '_Out_ uint64_t *');
  const log = f('nvrtcGetProgramLog', 'uint64_t', 'void *');
  const cubinSize = f('nvrtcGetCUBINSize', 'uint64_t', '_Out_ uint64_t *');
  const cubin = f('nvrtcGetCUBIN', 'uint64_t', 'void *');
  const bytesOf = (handle: unknown, size: typeof logSize, get: typeof log): Uint8Array => {
    const n = [0];
    size(handle, n);
    const bytes = new Uint8Array(Math.max(64, Number(n[0])));
    get(handle, bytes);
    return bytes.subarray(0, Number(n[0]));
  };
  return {
    version: path.basename(place.builtins),
    compile(source, name, options) {
      const handle = [0];
      program(handle, source, name, 0, null, null);
      const code = compile(handle[0], options.length, options);
      try {
        if (code === 0) return bytesOf(handle[0], cubinSize, cubin);
        throw errors.kernelFailed(name, Buffer.from(bytesOf(handle[0], logSize, log)).toString());
      } finally {
        destroy(handle);
      }
    },
  };
}
