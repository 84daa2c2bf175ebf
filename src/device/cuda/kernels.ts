/** The kernels of native/cuda: which there are (kernels.json), compiled once and kept on disk. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { temporaryCache, userCache, writable } from '../../base/folders.js';
import { errors, invariant, reviveError, type SerializedError } from '../../errors.js';
import type { NvrtcPlace } from './nvrtc.js';

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

export interface CompileJob {
  file: string;
  options: string[];
  target: string;
}

/** What a compiling thread is started with. */
export interface CompileData {
  place: NvrtcPlace;
  folder: string;
  jobs: CompileJob[];
  /** (2) jobs taken, jobs done. */
  counts: Int32Array;
}

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

  /** Machine code of all these kernels, in order. Compiles what is not there, on several threads. */
  load(keys: KernelKey[], onProgress?: (done: number, total: number) => void): Uint8Array[] {
    const jobs = keys.map((key) => this.#job(key));
    const missing = jobs.filter((job) => !existsSync(job.target));
    if (missing.length > 0) this.#compile(missing, onProgress);
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

  #compile(jobs: CompileJob[], onProgress?: (done: number, total: number) => void): void {
    const counts = new Int32Array(new SharedArrayBuffer(8));
    const data: CompileData = { place: this.place, folder: this.#table.folder, jobs, counts };
    const threads = Math.min(jobs.length, Math.max(1, os.availableParallelism()), 16);
    const workers = Array.from({ length: threads }, () => {
      const { port1, port2 } = new MessageChannel();
      const options = { workerData: { ...data, port: port2 }, transferList: [port2] };
      return { port: port1, worker: new Worker(new URL('./compile-worker.js', import.meta.url), options) };
    });
    let seen = 0;
    onProgress?.(0, jobs.length);
    try {
      while (seen < jobs.length) {
        Atomics.wait(counts, 1, seen, 200);
        seen = Atomics.load(counts, 1);
        onProgress?.(seen, jobs.length);
        for (const { port } of workers) {
          const failed = receiveMessageOnPort(port)?.message as SerializedError | undefined;
          if (failed) throw reviveError(failed);
        }
      }
    } finally {
      for (const { port, worker } of workers) {
        port.close();
        worker.unref();
        void worker.terminate();
      }
    }
    const lost = jobs.find((job) => !existsSync(job.target));
    if (lost) throw errors.kernelFailed(lost.file, `${lost.target} was not written`);
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
