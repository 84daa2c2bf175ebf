/** Replays a trace through the real cache manager: no device, no tensors, virtual time. */
import { createCacheManager } from '../cache/index.js';
import type { CacheManager, SequenceId } from '../cache/types.js';
import { errors } from '../errors.js';
import { belady } from './belady.js';
import { readTrace, type Trace } from './trace-formats.js';

export interface TraceBenchOptions {
  file: string;
  policy: 'lru';
  /** Either of the two; the share is of the trace's different blocks, in percent. */
  capacityBlocks?: number;
  capacityPercent?: number;
  /** Session traces have no absolute times: sessions start at random within this window. Default 24 h, seed 1. */
  windowHours?: number;
  seed?: number;
  /** Belady's bound takes longest; without it minHitRatio is null. Default true. */
  bound?: boolean;
}

export interface TraceBenchResult {
  file: string;
  format: string;
  policy: string;
  capacityBlocks: number;
  uniqueBlocks: number;
  requests: number;
  accesses: number;
  /** Prefix hits as a share of block accesses, 0…1. */
  hitRatio: number;
  minHitRatio: number | null;
  infiniteHitRatio: number;
  evictions: number;
  /** How arrivals were made up; null where the trace has them. */
  arrivals: { windowHours: number; seed: number } | null;
  seconds: number;
}

export function runTraceBench(options: TraceBenchOptions, loaded?: Trace): TraceBenchResult {
  const { file, policy, windowHours = 24, seed = 1, bound = true } = options;
  const trace = loaded ?? readTrace(file, { windowHours, seed });
  const capacity = capacityOf(options, trace);
  const start = performance.now();
  const { hits, evictions } = replay(trace, policy, capacity);
  const seconds = (performance.now() - start) / 1000;
  const min = bound ? belady(trace, capacity) : null;
  return {
    file,
    format: trace.format,
    policy,
    capacityBlocks: capacity,
    uniqueBlocks: trace.blocks,
    requests: trace.requests.length,
    accesses: trace.accesses,
    hitRatio: hits / trace.accesses,
    minHitRatio: min && min.hits / trace.accesses,
    infiniteHitRatio: infiniteHits(trace) / trace.accesses,
    evictions,
    arrivals: trace.format === 'sessions' ? { windowHours, seed } : null,
    seconds,
  };
}

function capacityOf({ capacityBlocks, capacityPercent }: TraceBenchOptions, trace: Trace): number {
  const blocks = capacityBlocks ?? (capacityPercent && Math.round((trace.blocks * capacityPercent) / 100));
  if (!blocks || !Number.isInteger(blocks) || blocks < 1) {
    throw errors.invalidOption('capacityBlocks', blocks, 'a whole number of blocks, at least 1');
  }
  return blocks;
}

/** A block that was seen before would be a hit if nothing were ever evicted (each has one predecessor). */
function infiniteHits(trace: Trace): number {
  return trace.accesses - trace.blocks;
}

/**
 * Each hash id is one full block; here a block is one token, the id, which is all that the manager needs to tell blocks
 * apart. A token more makes sure that the whole request may hit: the rule that one token must be computed is left out.
 */
function replay(trace: Trace, policy: 'lru', capacity: number): { hits: number; evictions: number } {
  const longest = trace.requests.reduce((n, r) => Math.max(n, r.keep + r.ids.length), 0) + 1;
  const cache = createCacheManager({
    blocks: capacity,
    blockLen: 1,
    sessionLen: longest,
    chunkSize: -1,
    policy,
    prefixCaching: true,
    maxSequences: trace.chains + 1,
    maxTokens: 2 ** 31,
    grow: () => true,
  });
  const chains = new Float64Array(trace.chains).fill(-1);
  let hits = 0;
  for (const r of trace.requests) {
    const seq = r.chain === -1 || chains[r.chain] === -1 ? cache.create() : chains[r.chain]!;
    cache.truncate(seq, r.keep);
    cache.append(seq, r.ids);
    hits += serve(cache, seq, capacity);
    cache.release(seq, r.chain === -1 ? 'drop' : 'keep');
    if (r.chain !== -1) chains[r.chain] = seq;
  }
  return { hits, evictions: cache.stats().blocksEvicted };
}

/** Serves a request at once; returns how many of its blocks were hits. */
function serve(cache: CacheManager, seq: SequenceId, capacity: number): number {
  const blocks = cache.known(seq);
  cache.appendOne(seq, 0x7fffffff);
  const hits = cache.match(seq);
  const served = Math.min(blocks, capacity);
  if (served > hits) {
    if (!cache.reserve(seq, served)) throw errors.engineFailed(`${served} blocks of ${capacity} could not be had`);
    cache.commit(seq, served);
  }
  return hits;
}
