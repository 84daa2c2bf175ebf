/**
 * Blocks and who holds them. Finished text hangs in a tree of nodes (prefix-index.ts); each node knows the sequences that
 * end in it (it is their *last block*), so an eviction tells them at once: the node's parent becomes their end. Nobody ever holds a
 * stale block number.
 */
import { InvariantError } from '../errors.js';
import type { EvictionPolicy } from './policy/policy.js';
import type { BlockPool } from './pool.js';
import type { PrefixIndex } from './prefix-index.js';
import { type Namespaces, S, type SequenceStore } from './sequences.js';
import type { TokenRuns } from './token-runs.js';

/**
 * A text is evicted from its end on, and its blocks lie anywhere in memory: of so many the first
 * to go has the records of the others read together, before they are needed one by one.
 */
const AHEAD = 16;

/** A refused device is asked again after so many evictions. */
const RETRY_GROWTH = 256;

/** What lies below the device, as far as the tree must know it (tiers.ts). */
export interface Below {
  /** Cached blocks that are being saved: they cannot be had now. */
  heldBlocks(): number;
  /** Block b is no node any more. */
  left(b: number): void;
}

export class BlockTree {
  below: Below | null = null;
  blocksEvicted = 0;
  tokensEvicted = 0;

  constructor(
    readonly pool: BlockPool,
    readonly policy: EvictionPolicy,
    readonly index: PrefixIndex,
    private readonly runs: TokenRuns,
    private readonly sequences: SequenceStore,
    private readonly namespaces: Namespaces,
  ) {}

  available(): number {
    return this.pool.free + this.#evictable() + this.pool.growable;
  }

  /** True if `count` blocks can be taken now. Grows, but evicts nothing. */
  canTake(count: number): boolean {
    if (count > this.pool.free && count <= this.pool.blocks) this.#grow(count);
    return count <= this.pool.free + this.#evictable();
  }

  /** Cached blocks that cannot be had now, since they are being saved. */
  heldBlocks(): number {
    return this.below === null ? 0 : this.below.heldBlocks();
  }

  #evictable(): number {
    return this.policy.size - this.heldBlocks();
  }

  #grow(count: number): void {
    const { pool } = this;
    const retry = this.#evictable() < count || this.blocksEvicted % RETRY_GROWTH === 0;
    if (pool.growable > 0 || (pool.grown < pool.blocks && retry)) pool.ensureFree(count);
  }

  /** A private block with one use: free, else newly grown, else evicted. -1: there is none. */
  take(): number {
    if (this.pool.free === 0) this.#grow(1);
    let b = this.pool.take();
    if (b !== -1) return b;
    b = this.evict();
    if (b !== -1) this.pool.adopt(b);
    return b;
  }

  /** The same, but not a block that a waiting copy reads. The caller has made sure that there is one. */
  takeForCopy(): number {
    const b = this.take();
    if (b === -1 || !this.pool.isSource(b)) return b;
    const other = this.takeForCopy();
    this.pool.give(b);
    return other;
  }

  /** A block that is no node any more is free, at the latest when it has been saved. */
  giveUp(b: number): void {
    if (!this.pool.isSaving(b)) this.pool.give(b);
  }

  /** Takes the policy's next block out of the cache; the caller owns it, or gives it to the pool. */
  evict(): number {
    for (;;) {
      const b = this.#evictNext();
      // one that is being saved is not ours yet: it is free when it has been
      if (b === -1 || !this.pool.isSaving(b)) return b;
    }
  }

  #evictNext(): number {
    const { pool } = this;
    const b = this.policy.victim();
    if (b === -1) return -1;
    if (!(pool.uses(b) === 0 && !pool.hasChildren(b)))
      throw new InvariantError(`block ${b} is evicted while in use or before its children`);
    pool.uncache(b);
    this.blocksEvicted++;
    this.tokensEvicted += pool.end(b) - pool.start(b);
    this.dropEnds(b);
    this.unpublish(b);
    return b;
  }

  // ---------------------------------------------------------------- uses

  pin(b: number): void {
    if (this.pool.pin(b)) this.policy.remove(b);
  }

  /** `first`: if this was the last use, the block may go before all others. */
  unpin(b: number, first = false): void {
    if (this.pool.unpin(b)) this.policy.push(b, first);
  }

  /** Reads what is known of blocks[from … to) early. */
  warm(blocks: Int32Array, from: number, to: number): void {
    this.pool.warm(blocks, from, to);
  }

  /** A path that a sequence takes up, from its beginning. */
  pinPath(blocks: Int32Array, count: number): void {
    this.warm(blocks, 0, count);
    for (let i = 0; i < count; i++) this.pin(blocks[i]!);
  }

  /** A path that a sequence leaves, tail first. `first`: its last block may go before all others. */
  unpinPath(blocks: Int32Array, count: number, first: boolean): void {
    for (let i = count - 1; i >= 0; i--) this.unpin(blocks[i]!, first && i === count - 1);
  }

  // ---------------------------------------------------------------- nodes

  /** Hangs a private block into the tree. The index's query must hold its tokens: those that end at `end` in `run`. */
  publish(b: number, parent: number, run: number, end: number): void {
    const { pool } = this;
    pool.setEnd(b, end);
    pool.setNode(b, true);
    pool.setEndingIn(b, -1);
    pool.setRun(b, this.runs.refFor(run, end));
    this.index.insert(b, parent);
    if (parent < 0) this.namespaces.join(-1 - parent);
  }

  /** Takes a node without children, in which no sequence ends, out of the tree. */
  unpublish(b: number): void {
    const { pool } = this;
    if (pool.hasChildren(b)) throw new InvariantError(`block ${b} leaves the tree before its children`);
    const parent = pool.parent(b);
    const run = pool.run(b);
    if (this.below !== null) this.below.left(b);
    this.index.remove(b);
    const end = pool.end(b);
    pool.setNode(b, false);
    pool.setEnd(b, 0);
    // every block further along the run's text hung below this one, if it was full
    if (end % pool.blockLen === 0) this.runs.trim(run, end);
    this.runs.unref(run);
    if (parent < 0) this.namespaces.leave(-1 - parent);
  }

  // ---------------------------------------------------------------- last blocks

  /** Sequence s ends in node b (-1: nowhere). */
  attach(s: number, b: number): void {
    const q = this.sequences;
    q.set(s, S.PEER_PREVIOUS, -1);
    const next = b === -1 ? -1 : this.pool.endingIn(b);
    q.set(s, S.PEER_NEXT, next);
    if (b === -1) return;
    if (next !== -1) q.set(next, S.PEER_PREVIOUS, s);
    this.pool.setEndingIn(b, s);
  }

  detach(s: number, b: number): void {
    if (b === -1) return;
    const q = this.sequences;
    const previous = q.get(s, S.PEER_PREVIOUS);
    const next = q.get(s, S.PEER_NEXT);
    if (previous === -1) this.pool.setEndingIn(b, next);
    else q.set(previous, S.PEER_NEXT, next);
    if (next !== -1) q.set(next, S.PEER_PREVIOUS, previous);
  }

  /** No other sequence ends in b. */
  endsAlone(s: number, b: number): boolean {
    return this.pool.endingIn(b) === s && this.sequences.get(s, S.PEER_NEXT) === -1;
  }

  /** The (inactive) sequences that end in b lose it: they end in its parent. */
  dropEnds(b: number): void {
    const { pool, sequences: q } = this;
    let s = pool.endingIn(b);
    if (s === -1) return;
    const parent = pool.parent(b);
    pool.setEndingIn(b, -1);
    while (s !== -1) {
      const next = q.get(s, S.PEER_NEXT);
      const nodes = q.get(s, S.NODES) - 1;
      q.set(s, S.NODES, nodes);
      q.resizeTable(s, nodes);
      q.set(s, S.COMPUTED, Math.min(q.get(s, S.COMPUTED), nodes * pool.blockLen));
      if (nodes === 0) q.cached--;
      else if ((nodes + 1) % AHEAD === 0) this.warm(q.blocksOf(s, nodes - AHEAD + 1, nodes), 0, AHEAD - 1);
      this.attach(s, Math.max(-1, parent));
      s = next;
    }
  }
}
