/** Loads the draft model, before the large one: what it takes is not there for the other's KV cache. */
import type { MemoryPromises, Room } from '../base/memory-promises.js';
import type { EngineConfig } from '../config.js';
import type { Device } from '../device/device.js';
import type { MemorySplit } from '../types.js';
import { type CoreNews, chunkOf, type ModelPlan, planModel } from './core.js';
import { MemoryClaim } from './memory-claim.js';
import type { DraftSource } from './protocol.js';
import { DraftModel } from './speculation/draft-model.js';
import { MAX_DRAFTING } from './speculation/drafter.js';

export type { DraftModel, DraftSource };

/** Of the memory that its weights leave, for its KV. */
const MOST = 0.25;

/** Room for a few sequences of full length, if a quarter of the memory holds them. @throws LongmindError not_enough_memory */
export function planDraft(
  { program, weights }: DraftSource,
  config: EngineConfig,
  sessionLen: number,
  device: Device,
  room?: Room,
): ModelPlan {
  const wanted: EngineConfig = {
    ...config,
    sessionLen: Math.min(sessionLen, program.dims.contextLength),
    maxBatchSize: MAX_DRAFTING,
    maxPrefillTokenNum: 0,
    cacheMaxEntryCount: { kind: 'share', share: MOST },
    speculation: 'off',
  };
  const bytes = device.weightBytes(program, weights);
  const most = planModel(program, bytes, wanted, device, room);
  const blocks = Math.min(most.memory.kvBlocks, MAX_DRAFTING * most.limits.maxBlocksPerRow);
  const size = { ...wanted, cacheMaxEntryCount: { kind: 'blocks' as const, blocks } };
  return planModel(program, bytes, size, device, room);
}

/** What it leaves of the memory that was free. */
export const freeBeside = ({ freeBytes, weightBytes, workspaceBytes, kvBytes }: MemorySplit): number =>
  freeBytes - weightBytes - workspaceBytes - kvBytes;

/**
 * The device is the draft model's from now on, and closed with it.
 * @throws LongmindError not_enough_memory, and what is wrong with the weights
 */
export function openDraft(
  source: DraftSource,
  config: EngineConfig,
  /** Of the sequences it guesses for. */
  sessionLen: number,
  device: Device,
  news: CoreNews = {},
  now?: () => number,
  promises: MemoryPromises | null = null,
): DraftModel {
  try {
    const claim = new MemoryClaim(device, promises, 'draft model');
    const plan = claim.settle((room) => planDraft(source, config, sessionLen, device, room));
    const { limits, kv } = plan;
    const loaded = device.load(source.program, source.weights, {
      limits,
      kv,
      maxBlocks: plan.memory.kvBlocks,
      debug: config.debugOps,
      onProgress: (done, total) => {
        claim.loaded(done, total);
        news.progress?.('loading the draft model', done, total);
      },
    });
    claim.loaded(1, 1);
    const memory = { ...plan.memory, ...loaded };
    return new DraftModel(
      device,
      { ...plan, memory },
      {
        shareAcrossOwners: !config.isolateOwners,
        freeBytes: freeBeside(memory),
        chunkSize: chunkOf(config, device, memory.blockBytes),
        grow: (total) => claim.grow(total),
        now,
      },
    );
  } catch (e) {
    device.close();
    throw e;
  }
}
