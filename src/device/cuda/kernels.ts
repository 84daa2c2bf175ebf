/** The kernels of native/cuda: which there are (kernels.json), compiled once and kept on disk. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { temporaryCache, userCache, writable } from '../../base/folders.js';
import { invariant } from '../../errors.js';
import { compileAll } from './compile-jobs.js';
import type { CompileJob, NvrtcPlace } from './nvrtc.js';

export type ParamType = 'pointer' | 'i32' | 'i64' | 'f32';
export interface KernelEntry {
  file: string;
  entry: string;
  params: [string, ParamType][];
}

/** A kernel and the numbers that it is compiled for (LM_… in its source). */
export interface KernelKey {
  kernel: string;
  macros: Readonly<Record<string, number>>;
}

export interface Table {
  folder: string;
  options: string[];
  kernels: Record<string, KernelEntry>;
}

/** native/cuda of the repository or package. */
export function readTable(): Table {
  let folder = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(folder, 'native', 'cuda', 'kernels.json'))) {
    const parent = path.dirname(folder);
    invariant(parent !== folder, 'native/cuda is missing from this installation');
    folder = parent;
  }
  folder = path.join(folder, 'native', 'cuda');
  return { folder, ...JSON.parse(readFileSync(path.join(folder, 'kernels.json'), 'utf8')) };
}

export const nameOf = ({ kernel, macros }: KernelKey): string =>
  `${kernel} ${Object.entries(macros)
    .map(([name, value]) => `${name}=${value}`)
    .sort()
    .join(' ')}`;

export class KernelStore {
  readonly #table: Table;
  readonly #sources: string;
  readonly #folder: string;

  constructor(
    table: Table,
    /** 90 for compute capability 9.0. */
    private readonly capability: number,
    private readonly place: NvrtcPlace,
    folder?: string,
  ) {
    this.#table = table;
    const usual = path.join(userCache(process.env), 'cuda');
    this.#folder = folder ?? (writable(usual) ? usual : temporaryCache(process.env));
    const names = readdirSync(table.folder).filter((n) => /\.(cu|h)$/.test(n));
    const hash = createHash('sha256');
    for (const name of names.sort()) hash.update(name).update(readFileSync(path.join(table.folder, name)));
    this.#sources = hash.digest('hex');
  }

  /** Machine code of all these kernels, in order. Compiles what is not there, by several processes. */
  load(keys: KernelKey[], onProgress?: (done: number, total: number) => void): Uint8Array[] {
    const jobs = keys.map((key) => this.#job(key));
    const missing = jobs.filter((job) => !existsSync(job.target));
    if (missing.length > 0) compileAll({ place: this.place, folder: this.#table.folder, jobs: missing }, onProgress);
    return jobs.map((job) => readFileSync(job.target));
  }

  #job({ kernel, macros }: KernelKey): CompileJob {
    const entry = this.#table.kernels[kernel];
    invariant(entry, `there is no kernel '${kernel}'`);
    const arch = this.capability === 90 ? 'sm_90a' : `sm_${this.capability}`;
    const defines = Object.entries(macros).map(([name, value]) => `-DLM_${name}=${value}`);
    const options = [`--gpu-architecture=${arch}`, ...this.#table.options, ...defines];
    const key = [this.#sources, path.basename(this.place.builtins), entry.file, ...options].join('\n');
    const digest = createHash('sha256').update(key).digest('hex').slice(0, 24);
    const target = path.join(this.#folder, `${kernel}-${digest}.cubin`);
    return { file: entry.file, options: [...options, `-I${this.#table.folder}`], target };
  }
}

/** Bytes of a kernel's parameters, as C lays its struct out. */
export function packParams(params: [string, ParamType][], values: Readonly<Record<string, number>>): Uint8Array {
  const bytes = new Uint8Array(Math.max(64, 8 * params.length + 8));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [name, type] of params) {
    const value = values[name];
    invariant(value !== undefined, `the kernel's parameter '${name}' is missing`);
    const size = type === 'pointer' || type === 'i64' ? 8 : 4;
    at = Math.ceil(at / size) * size;
    if (size === 8) view.setBigInt64(at, BigInt(value), true);
    else if (type === 'f32') view.setFloat32(at, value, true);
    else view.setInt32(at, value, true);
    at += size;
  }
  return bytes.subarray(0, Math.ceil(at / 8) * 8);
}
