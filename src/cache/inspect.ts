import type { Manager } from './manager.js';
import { S } from './sequence-store.js';
import type { CacheSnapshot, CacheStats } from './types.js';

const MAX_ORDER = 4096;

/** A picture of the block map. O(blocks + sequences). */
export function snapshotOf(m: Manager): CacheSnapshot {
  const { pool, sequences: q } = m;
  const { blockLen } = pool;
  const state = new Uint8Array(pool.blocks);
  const sequence = new Float64Array(pool.blocks).fill(-1);
  const fill = new Uint16Array(pool.blocks);
  for (let b = 0; b < pool.touched; b++) {
    state[b] = pool.isFree(b) ? 1 : pool.isCached(b) ? 2 : 3;
    if (pool.isNode(b)) fill[b] = Math.min(0xffff, pool.end(b) - pool.start(b));
  }
  for (let s = 0; s < q.high; s++) {
    if (q.get(s, S.STATE) === 0) continue;
    const id = q.idOf(s);
    for (let d = 0; d < q.get(s, S.BLOCKS); d++) {
      const b = q.block(s, d);
      sequence[b] = id;
      if (d >= q.get(s, S.NODES)) {
        fill[b] = Math.min(0xffff, blockLen, Math.max(0, q.get(s, S.COMPUTED) - d * blockLen));
      }
    }
  }
  const order = new Int32Array(Math.min(MAX_ORDER, m.tree.policy.size));
  const count = m.tree.policy.order(order);
  return { blockLen, state, sequence, fill, evictionOrder: order.subarray(0, count) };
}

/** What matches found and steps computed, counted as it happens. */
export type CacheCounters = Pick<
  CacheStats,
  | 'hits'
  | 'partialHits'
  | 'misses'
  | 'tokensReused'
  | 'tokensRecomputed'
  | 'tokensComputed'
  | 'tokensPrefixReused'
  | 'forks'
>;

export function statsOf(m: Manager, counters: CacheCounters): CacheStats {
  const { pool, sequences: q, tree, kept } = m;
  const cached = tree.policy.size;
  const free = pool.free + pool.blocks - pool.grown;
  return {
    blocks: { total: pool.blocks, free, cached, active: pool.blocks - free - cached, grown: pool.grown },
    sequences: { total: q.size, active: q.active.size, cached: q.cached, evicted: q.inactive.size - q.cached },
    tokensKept: kept.tokens,
    ...counters,
    sequencesDropped: kept.dropped,
    copies: m.blocks.copiesMade,
    blocksEvicted: tree.blocksEvicted,
    tokensEvicted: tree.tokensEvicted,
    growRefusals: pool.refusals,
  };
}
