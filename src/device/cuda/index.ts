/** The CUDA device: kernels of native/cuda, launched from here through the driver; two steps may be in flight. */
import path from 'node:path';
import { userCache } from '../../base/folders.js';
import { errors, formatBytes, invariant } from '../../errors.js';
import type { TensorSource } from '../../types.js';
import {
  type Device,
  type DeviceInfo,
  type KvTransfers,
  kvBlockBytes,
  type LoadedMemory,
  type LoadOptions,
  type Program,
  type Step,
  type StepLimits,
  type StepResult,
  type Ticket,
} from '../device.js';
import { testBits, wantBits } from './bits.js';
import { Chain } from './chain.js';
import type { Driver, GpuInfo } from './driver.js';
import { type Compile, KernelSet } from './kernel-set.js';
import { KernelStore, readTable, type Table } from './kernels.js';
import { openDriver, versionText } from './koffi-driver.js';
import { DeviceMemory, KvPool } from './memory.js';
import { findNvrtc } from './nvrtc.js';
import { makePlan, type Plan } from './plan.js';
import type { Gpu } from './products.js';
import { StepQueue } from './queue.js';
import { CudaTransfers } from './transfers.js';
import { activationOf, loadWeights, typeOf, type Weights, wantRepack, weightBytes } from './weights.js';
import { Workspace, workspaceBytes } from './workspace.js';

export type { Driver, GpuInfo, LaunchConfig } from './driver.js';
export type { Compile } from './kernel-set.js';
export { openDriver } from './koffi-driver.js';
export { findNvrtc } from './nvrtc.js';

/** To be raised whenever a kernel gives other bits than before. */
const KERNELS = 2;
const OLDEST_GPU = 80;
/** The oldest driver that is tried: its kernels may be told to begin early. */
const OLDEST_DRIVER = 12000;
/** For modules, graphs and the driver itself. */
const SPARE_BYTES = 768 * 2 ** 20;
const DEPTH = 2;

export interface CudaDeviceOptions {
  /** Number of the GPU (default 0). */
  gpu?: number;
  /** Folder where NVRTC was put when it was fetched. */
  nvrtc?: string;
  /** Gets a line when kernels must be compiled, and how far that is. */
  onBuild?: (line: string, done: number, total: number) => void;
  /** For tests: instead of libcuda and NVRTC. */
  driver?: Driver;
  compile?: Compile;
}

/** Where `longmind` keeps NVRTC for drivers of a CUDA major version. */
export const nvrtcFolder = (cacheDir: string, major: number): string =>
  path.join(cacheDir || userCache(process.env), 'cuda', `nvrtc-${major}`);

export interface CudaFindings {
  /** '13.0' */
  driver: string;
  major: number;
  gpus: GpuInfo[];
}

/** What the driver says is there, without touching a GPU. @throws cuda_unavailable */
export function findCuda(driver: Driver = openDriver()): CudaFindings {
  if (driver.version < OLDEST_DRIVER) throw errors.cudaDriverTooOld(`it is for CUDA ${versionText(driver.version)}`);
  const gpus = driver.gpus();
  if (gpus.length === 0) throw errors.noCudaGpu('it lists none');
  return { driver: versionText(driver.version), major: Math.floor(driver.version / 1000), gpus };
}

/** @throws cuda_unavailable, invalid_option */
export function createCudaDevice(options: CudaDeviceOptions = {}): Device {
  const driver = options.driver ?? openDriver();
  const { gpus, major } = findCuda(driver);
  const ordinal = options.gpu ?? 0;
  const gpu = gpus[ordinal];
  if (!gpu) throw errors.invalidOption('device', `cuda:${ordinal}`, `one of the ${gpus.length} GPUs, from cuda:0`);
  if (gpu.capability < OLDEST_GPU) throw errors.gpuTooOld(gpu.name, gpu.capability);
  const table = readTable();
  let compile = options.compile;
  if (!compile) {
    const place = findNvrtc(major, options.nvrtc ?? nvrtcFolder('', major), process.env);
    if (!place) throw errors.noNvrtc('looked in LONGMIND_NVRTC, the CUDA toolkit and the packages of python3');
    compile = new KernelStore(table, gpu.capability, place);
  }
  driver.open(ordinal);
  return new CudaDevice(driver, gpu, table, compile, options.onBuild);
}

class CudaDevice implements Device {
  readonly info: DeviceInfo;
  readonly #gpu: GpuInfo & Gpu;
  readonly cancel = new Int32Array(new SharedArrayBuffer(4));
  #loaded: {
    memory: DeviceMemory;
    pool: KvPool;
    kv: CudaTransfers;
    queue: StepQueue;
    stream: number;
  } | null = null;

  constructor(
    private readonly driver: Driver,
    gpu: GpuInfo,
    private readonly table: Table,
    private readonly compile: Compile,
    private readonly onBuild?: CudaDeviceOptions['onBuild'],
  ) {
    this.#gpu = { ...gpu, wgmma: gpu.capability === 90 };
    const arch = gpu.capability === 90 ? 'sm_90a' : `sm_${gpu.capability}`;
    this.info = {
      name: `cuda (${gpu.name})`,
      isa: arch,
      threads: gpu.multiprocessors,
      ownMemory: true,
      depth: DEPTH,
      // GPUs of one family add the same way; others do not
      kernels: `cuda-${arch}-${KERNELS}`,
      get memoryFree() {
        return Math.max(0, driver.memory().free - SPARE_BYTES);
      },
    };
  }

  get kv(): KvTransfers {
    return this.#ready.kv;
  }

  workspaceBytes(program: Program, limits: StepLimits): number {
    return workspaceBytes(
      makePlan(program, () => 1),
      program.dims,
      limits,
    );
  }

  weightBytes(program: Program, source: TensorSource): number {
    return weightBytes(this.#plan(program, source), this.#gpu);
  }

  load(program: Program, source: TensorSource, options: LoadOptions): LoadedMemory {
    invariant(!this.#loaded, 'a device is loaded once');
    const { limits, kv, maxBlocks, debug, onProgress } = options;
    const { dims } = program;
    invariant(kv.headDim === dims.headDim && kv.kvHeads === dims.kvHeads, 'the KV layout is not of this model');
    if (kv.blockLen % 16 !== 0 || kv.blockLen < 16)
      throw errors.invalidOption('cacheBlockSeqLen', kv.blockLen, 'a multiple of 16');
    const { driver } = this;
    const gpu = this.#gpu;
    const plan = this.#plan(program, source);
    const act = activationOf(plan);
    const kernels = new KernelSet(driver, this.table);
    const { maxTokens, maxLogits } = limits;
    const chainFor = (gpu: Gpu) => {
      const chain = new Chain({ dims, plan, kv, act, gpu, maxTokens, maxLogits }, kernels);
      kernels.load(this.compile, (done, total) => this.onBuild?.('compiling CUDA kernels', done, total));
      return chain;
    };
    wantRepack(plan, act, kernels);
    wantBits(kernels, act, gpu.wgmma);
    let chain = chainFor(gpu);
    const stream = driver.stream();
    kernels.stream = stream;
    if (!this.#wgmmaAgrees(kernels, act)) chain = chainFor(gpu);
    const sizes = { weightBytes: weightBytes(plan, gpu), workspaceBytes: workspaceBytes(plan, dims, limits) };
    kernels.debug = debug ?? false;
    const f = formatBytes;
    const split =
      `weights ${f(sizes.weightBytes)}, workspace ${f(sizes.workspaceBytes)}, ` +
      `KV cache ${f(maxBlocks * kvBlockBytes(kv))}`;
    const memory = new DeviceMemory(driver, split);
    let weights: Weights;
    let work: Workspace;
    try {
      weights = loadWeights(plan, act, gpu, source, driver, memory, kernels, onProgress);
      work = new Workspace(memory, plan, dims, limits, stream);
    } catch (e) {
      // who goes on without this device needs the memory
      memory.close();
      driver.destroyStream(stream);
      throw e;
    }
    const pool = new KvPool(driver, kvBlockBytes(kv), maxBlocks);
    kernels.early = gpu.capability >= 90;
    const parts = { driver, memory, kernels, chain, weights, work, pool, stream, limits, dims, blockLen: kv.blockLen };
    const logits = plan.ops.at(-1)!;
    invariant(logits.op === 'sample', 'a program ends with sampling');
    const queue = new StepQueue({ ...parts, logits: logits.in, cancel: this.cancel, depth: DEPTH });
    this.#loaded = { memory, pool, kv: new CudaTransfers(driver, memory, pool, stream, work.scratch), queue, stream };
    return sizes;
  }

  growKv(total: number): boolean {
    return this.#ready.pool.grow(total);
  }

  submit(step: Step): Ticket {
    return this.#ready.queue.submit(step);
  }

  wait(ticket: Ticket): StepResult {
    return this.#ready.queue.wait(ticket);
  }

  logits(i: number): Float32Array {
    return this.#ready.queue.logits(i);
  }

  close(): void {
    const loaded = this.#loaded;
    this.#loaded = null;
    if (loaded) {
      loaded.kv.close();
      loaded.queue.close();
      loaded.pool.close();
      loaded.memory.close();
      this.driver.destroyStream(loaded.stream);
    }
    this.driver.close();
  }

  get #ready() {
    invariant(this.#loaded, 'the device is not loaded, or closed');
    return this.#loaded;
  }

  /** False: wgmma adds otherwise than mma.sync on this GPU, so it is not used; that is said, and part of the key of stored KV. */
  #wgmmaAgrees(kernels: KernelSet, act: number): boolean {
    const { driver, info } = this;
    const gpu = this.#gpu;
    let agrees: boolean;
    try {
      agrees = testBits(driver, kernels, gpu, act);
    } catch (e) {
      driver.destroyStream(kernels.stream);
      throw e;
    }
    if (agrees) return true;
    gpu.wgmma = false;
    info.kernels += '-mma';
    this.onBuild?.(
      `${gpu.name}: wgmma and mma.sync give different bits here; only mma.sync is used, so answers stay the same whatever is cached and prefill is slower`,
      0,
      0,
    );
    return false;
  }

  #plan(program: Program, source: TensorSource): Plan {
    return makePlan(program, (weight) => typeOf(source, weight));
  }
}
