/** The CUDA device: kernels of native/cuda, launched from here through the driver; two steps may be in flight. */
import path from 'node:path';
import { userCache } from '../../base/folders.js';
import { errors, formatBytes, invariant } from '../../errors.js';
import type { TensorSource } from '../../types.js';
import {
  type Device,
  type DeviceInfo,
  type KvLayout,
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
import { type Driver, type GpuInfo, unlessLost } from './driver.js';
import { type Compile, KernelSet } from './kernel-set.js';
import { KernelStore, readTable, type Table } from './kernels.js';
import { openDriver, versionText } from './koffi-driver.js';
import { closeRanks, growAll, loadRanks, type Rank, type Ranks, type ReadyGpu } from './load-ranks.js';
import { findNvrtc } from './nvrtc.js';
import { makePlan, type Plan } from './plan.js';
import type { Gpu } from './products.js';
import { StepQueue } from './queue.js';
import type { Shard } from './shard.js';
import { CudaTransfers, SharedTransfers } from './transfers.js';
import { activationOf, typeOf, wantRepack, weightBytes } from './weights.js';
import { workspaceBytes } from './workspace.js';

export type { Driver, GpuInfo, LaunchConfig } from './driver.js';
export type { Compile } from './kernel-set.js';
export { openDriver } from './koffi-driver.js';
export { findNvrtc } from './nvrtc.js';

/** To be raised whenever a kernel gives other bits than before. */
const KERNELS = 3;
const OLDEST_GPU = 80;
/** The oldest driver that is tried: its kernels may be told to begin early. */
const OLDEST_DRIVER = 12000;
/** For modules, graphs and the driver itself. */
const SPARE_BYTES = 768 * 2 ** 20;
const DEPTH = 2;

export interface CudaDeviceOptions {
  /** Number of the GPU (default 0). */
  gpu?: number;
  /** GPUs from that one on that have a share of the model each (default 1). */
  tp?: number;
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

/**
 * The GPU that an engine computes on, or the first of so many alike.
 * @throws cuda_unavailable, invalid_option
 */
export function usableGpu(gpus: GpuInfo[], ordinal: number, tp: number): GpuInfo {
  const gpu = gpus[ordinal];
  if (!gpu) throw errors.invalidOption('device', `cuda:${ordinal}`, `one of the ${gpus.length} GPUs, from cuda:0`);
  if (gpu.capability < OLDEST_GPU) throw errors.gpuTooOld(gpu.name, gpu.capability);
  const most = gpus.length - ordinal;
  if (tp > most)
    throw errors.invalidOption('tp', tp, `at most ${most}, the GPUs that there are from cuda:${ordinal} on`);
  gpus.slice(ordinal, ordinal + tp).forEach((other, i) => {
    if (JSON.stringify(other) !== JSON.stringify(gpu))
      throw errors.unequalGpus(
        [gpu, other].map((g, j) => `cuda:${ordinal + i * j} is ${g.name} with ${formatBytes(g.totalBytes)}`),
      );
  });
  return gpu;
}

/** @throws cuda_unavailable, invalid_option */
export function createCudaDevice(options: CudaDeviceOptions = {}): Device {
  const driver = options.driver ?? openDriver();
  const { gpus, major } = findCuda(driver);
  const { gpu: ordinal = 0, tp = 1 } = options;
  const gpu = usableGpu(gpus, ordinal, tp);
  const table = readTable();
  let compile = options.compile;
  if (!compile) {
    const place = findNvrtc(major, options.nvrtc ?? nvrtcFolder('', major), process.env);
    if (!place) throw errors.noNvrtc('looked in LONGMIND_NVRTC, the CUDA toolkit and the packages of python3');
    compile = new KernelStore(table, gpu.capability, place);
  }
  return new CudaDevice(openAll(driver, ordinal, tp), gpu, table, compile, options.onBuild);
}

type Drivers = readonly [Driver, ...Driver[]];

/** @throws cuda_unavailable: they do not reach each other's memory */
function openAll(driver: Driver, first: number, count: number): Drivers {
  driver.open(first);
  const all: [Driver, ...Driver[]] = [driver];
  try {
    for (let i = 1; i < count; i++) all.push(driver.another(first + i));
    all.forEach((from, i) => {
      const wall = all.findIndex((to) => to !== from && !from.reach(to));
      if (wall >= 0) throw errors.noPeerAccess(`cuda:${first + i}`, `cuda:${first + wall}`);
    });
  } catch (e) {
    for (const d of all.toReversed()) d.close();
    throw e;
  }
  return all;
}

class CudaDevice implements Device {
  readonly info: DeviceInfo;
  readonly #gpu: GpuInfo & Gpu;
  readonly cancel = new Int32Array(new SharedArrayBuffer(4));
  #loaded: { ranks: Ranks; kv: CudaTransfers | SharedTransfers; queue: StepQueue } | null = null;

  constructor(
    private readonly drivers: Drivers,
    gpu: GpuInfo,
    private readonly table: Table,
    private readonly compile: Compile,
    private readonly onBuild?: CudaDeviceOptions['onBuild'],
  ) {
    this.#gpu = { ...gpu, wgmma: gpu.capability === 90 };
    const arch = gpu.capability === 90 ? 'sm_90a' : `sm_${gpu.capability}`;
    const { length } = drivers;
    this.info = {
      name: `cuda (${length > 1 ? `${length} x ` : ''}${gpu.name})`,
      gpus: length,
      isa: arch,
      threads: gpu.multiprocessors,
      ownMemory: true,
      depth: DEPTH,
      // GPUs of one family add the same way; others do not. Blocks of several GPUs are laid out by shares
      kernels: `cuda-${arch}-${KERNELS}${length > 1 ? `-tp${length}` : ''}`,
      get memoryFree() {
        return length * Math.max(0, Math.min(...drivers.map((d) => d.memory().free)) - SPARE_BYTES);
      },
    };
  }

  get kv(): KvTransfers {
    return this.#ready.kv;
  }

  workspaceBytes(program: Program, limits: StepLimits): number {
    return this.#sum((shard) =>
      workspaceBytes(
        makePlan(program, () => 1, shard),
        limits,
      ),
    );
  }

  weightBytes(program: Program, source: TensorSource): number {
    return this.#sum((shard) => weightBytes(this.#plan(program, source, shard), this.#gpu));
  }

  load(program: Program, source: TensorSource, options: LoadOptions): LoadedMemory {
    invariant(!this.#loaded, 'a device is loaded once');
    const { limits, kv, maxBlocks, debug, onProgress } = options;
    const { dims } = program;
    invariant(kv.headDim === dims.headDim && kv.kvHeads === dims.kvHeads, 'the KV layout is not of this model');
    if (kv.blockLen % 16 !== 0 || kv.blockLen < 16)
      throw errors.invalidOption('cacheBlockSeqLen', kv.blockLen, 'a multiple of 16');
    if (debug && this.drivers.length > 1)
      throw errors.invalidOption('debugOps', true, 'off with --tp: GPUs that wait for each other go on together');
    const plans = this.#shards.map((shard) => this.#plan(program, source, shard));
    const act = activationOf(plans[0]!);
    const sizes = {
      weightBytes: this.weightBytes(program, source),
      workspaceBytes: this.#sum((_, i) => workspaceBytes(plans[i]!, limits)),
    };
    const f = formatBytes;
    const split =
      `weights ${f(sizes.weightBytes)}, workspace ${f(sizes.workspaceBytes)}, ` +
      `KV cache ${f(maxBlocks * kvBlockBytes(kv))}`;
    const gpus = this.#loadKernels(plans, act, kv, limits);
    for (const { kernels } of gpus) kernels.debug = debug ?? false;
    const blockBytes = kvBlockBytes(kv) / gpus.length;
    const what = { act, gpu: this.#gpu, source, limits, blockBytes, maxBlocks, split, onProgress };
    const ranks = loadRanks(gpus, what);
    for (const { kernels } of ranks) kernels.early = this.#gpu.capability >= 90;
    const plan = plans[0]!;
    const logits = plan.ops.at(-1)!;
    invariant(logits.op === 'sample', 'a program ends with sampling');
    const parts = { ranks, plan, limits, blockLen: kv.blockLen, logits: logits.in, cancel: this.cancel, depth: DEPTH };
    this.#loaded = { ranks, kv: transfersOf(ranks), queue: new StepQueue(parts) };
    return sizes;
  }

  /** Kernels of all GPUs, after these were asked how they add. */
  #loadKernels(plans: Plan[], act: 0 | 1, kv: KvLayout, { maxTokens, maxLogits }: StepLimits): ReadyGpu[] {
    const gpu = this.#gpu;
    const share = { ...kv, kvHeads: kv.kvHeads / plans.length };
    const sets = this.drivers.map((driver) => new KernelSet(driver, this.table));
    const chains = () =>
      sets.map((kernels, i) => {
        const chain = new Chain({ plan: plans[i]!, kv: share, act, gpu, maxTokens, maxLogits }, kernels);
        kernels.load(this.compile, (done, total) => this.onBuild?.('compiling CUDA kernels', done, total));
        return chain;
      });
    sets.forEach((kernels, i) => {
      wantRepack(plans[i]!, act, kernels);
      wantBits(kernels, act, gpu.wgmma);
    });
    let loaded = chains();
    for (const kernels of sets) kernels.stream = kernels.driver.stream();
    if (!this.#wgmmaAgrees(sets, act)) loaded = chains();
    return sets.map((kernels, i) => {
      const { driver, stream } = kernels;
      return { driver, plan: plans[i]!, kernels, chain: loaded[i]!, stream };
    });
  }

  growKv(total: number): boolean {
    return growAll(this.#ready.ranks, total);
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
      unlessLost(() => loaded.kv.close());
      loaded.queue.close();
      closeRanks(loaded.ranks);
    }
    for (const driver of this.drivers.toReversed()) unlessLost(() => driver.close());
  }

  get #ready() {
    invariant(this.#loaded, 'the device is not loaded, or closed');
    return this.#loaded;
  }

  /** False: wgmma adds otherwise than mma.sync on this GPU, so it is not used; that is said, and part of the key of stored KV. */
  #wgmmaAgrees(sets: KernelSet[], act: number): boolean {
    const { info } = this;
    const gpu = this.#gpu;
    let agrees: boolean;
    try {
      agrees = sets.map((kernels) => testBits(kernels.driver, kernels, gpu, act)).every(Boolean);
    } catch (e) {
      for (const { driver, stream } of sets) driver.destroyStream(stream);
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

  get #shards(): Shard[] {
    const ranks = this.drivers.length;
    return this.drivers.map((_, rank) => ({ rank, ranks }));
  }

  #sum(of: (shard: Shard, i: number) => number): number {
    return this.#shards.reduce((sum, shard, i) => sum + of(shard, i), 0);
  }

  #plan(program: Program, source: TensorSource, shard: Shard): Plan {
    return makePlan(program, (weight) => typeOf(source, weight), shard);
  }
}

function transfersOf(ranks: Ranks): CudaTransfers | SharedTransfers {
  const of = ({ driver, memory, pool, stream, work }: Rank) =>
    new CudaTransfers(driver, memory, pool, stream, work.scratch);
  const [first, ...others] = ranks;
  return others.length === 0 ? of(first) : new SharedTransfers([of(first), ...others.map(of)]);
}
