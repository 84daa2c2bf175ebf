/** A model comes onto its GPUs: to each its share of the weights, room to compute in, and the addresses of the others. */
import type { TensorSource } from '../../types.js';
import type { LoadOptions, StepLimits } from '../device.js';
import type { Chain, OnGpu } from './chain.js';
import { type Address, type Driver, unlessLost } from './driver.js';
import type { KernelSet } from './kernel-set.js';
import { Meeting } from './meeting.js';
import { DeviceMemory, KvPool } from './memory.js';
import type { Plan } from './plan.js';
import type { Gpu } from './products.js';
import { loadWeights, readBytes } from './weights.js';
import { Workspace } from './workspace.js';

/** One GPU with its share of a model, or all of it. */
export interface Rank extends OnGpu {
  driver: Driver;
  memory: DeviceMemory;
  kernels: KernelSet;
  chain: Chain;
  stream: Address;
}
export type Ranks = readonly [Rank, ...Rank[]];

/** A GPU whose kernels are loaded. */
export interface ReadyGpu {
  driver: Driver;
  plan: Plan;
  kernels: KernelSet;
  chain: Chain;
  stream: Address;
}

export interface WhatToLoad {
  act: 0 | 1;
  gpu: Gpu;
  source: TensorSource;
  limits: StepLimits;
  /** Of a block's share on one GPU. */
  blockBytes: number;
  maxBlocks: number;
  /** What is to be allocated in all, for messages. */
  split: string;
  onProgress: LoadOptions['onProgress'];
}

/** @throws file_missing, bad_gguf, not_enough_memory; then nothing stays */
export function loadRanks(gpus: ReadyGpu[], what: WhatToLoad): Ranks {
  const memories = gpus.map(({ driver }) => new DeviceMemory(driver, what.split));
  try {
    const total = gpus.reduce((sum, { plan }) => sum + readBytes(plan, what.source), 0);
    let before = 0;
    const ranks = gpus.map((gpu, i) => {
      const rank = loadRank(gpu, memories[i]!, what, (done) => what.onProgress?.(before + done, total));
      before += readBytes(gpu.plan, what.source);
      return rank;
    });
    introduce(ranks, gpus[0]!.plan);
    return ranks as unknown as Ranks;
  } catch (e) {
    // who goes on without this device needs the memory
    gpus.forEach(({ driver, stream }, i) => {
      memories[i]!.close();
      driver.destroyStream(stream);
    });
    throw e;
  }
}

function loadRank(
  ready: ReadyGpu,
  memory: DeviceMemory,
  { act, gpu, source, limits, blockBytes, maxBlocks }: WhatToLoad,
  onProgress: (done: number) => void,
): Rank {
  const { driver, plan, kernels, chain, stream } = ready;
  const weights = loadWeights(plan, act, gpu, source, driver, memory, kernels, onProgress);
  const work = new Workspace(memory, plan, limits, stream);
  const meeting = plan.shard.ranks > 1 ? new Meeting(memory, plan, limits, stream) : null;
  driver.synchronize(stream);
  const pool = new KvPool(driver, blockBytes, maxBlocks);
  return { driver, memory, kernels, chain, weights, work, pool, stream, meeting };
}

function introduce(ranks: Rank[], { ops }: Plan): void {
  const last = ops.at(-1)!;
  if (last.op !== 'sample') return;
  const all = ranks.flatMap(({ meeting, work: { buffers } }) =>
    meeting ? [{ meeting, buffers, logits: buffers.get(last.in)! }] : [],
  );
  for (const { meeting, driver, stream } of ranks) meeting?.introduce(all, driver, stream);
}

export function closeRanks(ranks: Ranks): void {
  for (const { pool, memory, driver, stream } of ranks)
    unlessLost(() => {
      pool.close();
      memory.close();
      driver.destroyStream(stream);
    });
}

/** Blocks 0 … total − 1 on all GPUs; false, and nothing changed, if one has not so much memory. */
export function growAll(ranks: Ranks, total: number): boolean {
  const { blocks } = ranks[0].pool;
  const short = ranks.findIndex(({ pool }) => !pool.grow(total));
  for (const { pool } of ranks.slice(0, Math.max(0, short))) pool.shrink(blocks);
  return short < 0;
}
