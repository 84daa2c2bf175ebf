/**
 * The KV cache manager's interface. Integers only: it trades block numbers and never sees a tensor.
 *
 * A sequence has *known* tokens (ids stored here) and *computed* tokens (their K and V are in its blocks):
 *
 *     tokens  0 ........ computed ........ known
 *             | in blocks |  to be computed  |
 *
 * States: active (in the batch, its blocks are pinned), cached (blocks may vanish, tail first), evicted (token ids only).
 */

import type { CacheSnapshot, CacheStats } from '../types.js';

export type { CacheSnapshot, CacheStats, TierSnapshot, TierStats } from '../types.js';

/** A handle: dense number plus generation, so that a stale one is noticed. */
export type SequenceId = number;

export type SequenceState = 'active' | 'cached' | 'evicted';

export interface CacheConfig {
  /** Capacity in blocks. */
  blocks: number;
  /** Tokens a block (power of two ≥ 16), or the session length in slot mode. */
  blockLen: number;
  /** Longest sequence, in tokens. */
  sessionLen: number;
  /** Blocks taken from the device at a time: -1 all, 0 ⌈√blocks⌉, n > 0 that many. */
  chunkSize: number;
  /** What is evicted first: docs/cache.md says why there is one. */
  policy: 'lru';
  prefixCaching: boolean;
  /** Sequences kept, token ids kept (all sequences together); the least recently used inactive ones are dropped first. */
  maxSequences: number;
  maxTokens: number;
  /** Asks the device to make blocks 0…total-1 usable; false = refused. */
  grow: (totalBlocks: number) => boolean;
  /** Places below the device; none by default. */
  tiers?: TierConfig;
}

/** Each slot holds the KV of one block. 0 = no such place. */
export interface TierConfig {
  /** Slots in host memory. */
  host: number;
  /** Slots on disk. */
  disk: number;
  /** Saves and demotions handed out and not yet done, at most. Default 8, but at most a quarter of the blocks. */
  maxWrites?: number;
}

/**
 * What is to be moved. A *node* of the prefix tree is (parent, exact tokens); its KV never changes, so copies may be in
 * several places at once: a *block* of the device, a *slot* in host memory, a *slot* on disk.
 *
 * - `save`: block → host, or, where no host slots are, block → disk: the other one is -1.
 * - `demote`: host → disk. The copy in host memory stays valid.
 * - `load`: host or disk (the other one is -1) → block.
 * - `forget`: the record of slot `disk` must not be found any more after a restart. Node and block are -1.
 *
 * What an order names is not given to anybody else, and a block that is read is not written, until orderDone(). But for the
 * block of a load from disk: it is the order's own only if loadArrived() says so, just before it is written.
 */
export interface TransferOrder {
  id: number;
  kind: 'save' | 'load' | 'demote' | 'forget';
  /** A number that may come again for another node when this one is gone. */
  node: number;
  block: number;
  host: number;
  disk: number;
}

/** Blocks to be moved for what restorable() says, by the place they would come from. */
export interface RestoreCost {
  host: number;
  disk: number;
}

/**
 * Namespaces are numbers: an owner's (-1: everybody's), and beyond this one, in groups of as many, those of texts that were
 * computed otherwise (with an adapter) and so are of no use to the others.
 */
export const NAMESPACE_GROUP = 2 ** 31;

/** A record of the disk tier that survived the process. */
export interface AdoptedNode {
  /** Its slot. */
  disk: number;
  /** Index of its parent in the same list, where it stands before its children; -1: it begins a text. */
  parent: number;
  /** See namespaceOf(). */
  namespace: number;
  /** Its own tokens: at most a block, and exactly one if it is the parent of others. */
  tokens: Int32Array;
}

/** The integer side of the tiers. What an order says is done by somebody else, whenever it can be. */
export interface TierOperations {
  /**
   * Tokens of an active sequence beyond computed(seq) whose KV can be brought back, without a gap. Call it after match().
   * 0 where there are no tiers. What is on its way for another sequence counts, but not in `cost`.
   */
  restorable(seq: SequenceId, cost?: RestoreCost): number;
  /**
   * Reserves blocks for `tokens` (at most restorable(seq); rounded up to whole nodes) and queues the orders. From now on
   * the sequence is *restoring*: match() says what is computed so far, reserve() and commit() are errors. False: does not fit now;
   * nothing changed.
   */
  restore(seq: SequenceId, tokens: number): boolean;
  /** True until all orders of the sequence have ended; then match() finds as computed what arrived without a gap. */
  restoring(seq: SequenceId): boolean;
  /**
   * The sequence waits no longer. What arrived without a gap is found by match(); orders that end late do no harm.
   * release() and truncate() imply it.
   */
  cancelRestore(seq: SequenceId): void;
  /**
   * Writes up to `max` orders to out[0 … n); returns n. Loads come first, then forgotten records, then saves and
   * demotions, oldest first, at most `maxWrites` of those under way at a time. Call it between steps.
   */
  takeOrders(out: TransferOrder[], max?: number): number;
  /**
   * What a load reads from disk is in memory, and about to be written into its block. False: nobody waits for it any longer,
   * the block is another's by now, and only orderDone() is left.
   */
  loadArrived(id: number): boolean;
  /** The block of a save was read (into a buffer, say): it may be written and given away, though the order goes on. */
  blockRead(id: number): void;
  /** Cached blocks that saves under way still read: not available, but soon. Whoever needs them waits. */
  held(): number;
  /**
   * An order ended, in any order, at any time. Not `ok`: a save or demotion made no copy; what a load should have read
   * is gone (it is tried from another place, else the sequence computes it again).
   */
  orderDone(id: number, ok: boolean): void;
  /** Orders that takeOrders() would hand out sooner or later; those handed out and not done. */
  ordersWaiting(): number;
  ordersOutstanding(): number;
  /** Writes the tokens [0, end) of a node's path to `out`; returns end. The node must be that of an order handed out. */
  prefixTokens(node: number, out: Int32Array): number;
  /** Who may use the node: -1 everybody, an owner's number (≥ 0), -2 one conversation (never to be adopted). */
  namespaceOf(node: number): number;
  /** At the start: what the disk holds. What cannot be (a slot twice, a parent missing) is left out. Returns how many were taken. */
  adopt(nodes: readonly AdoptedNode[]): number;
}

export interface Probe {
  computed: number;
  /** Blocks that it would have. */
  blocks: number;
  /** Of these, the ones that are cached now: `available` would sink by so many. */
  cached: number;
  /** 1: its last block is read by others, so it would go on in a copy. */
  copies: number;
  /** See `leader`. */
  leader: SequenceId | -1;
}

export interface CacheManager extends TierOperations {
  readonly config: Readonly<CacheConfig>;

  // ---- sequence store
  /** New sequence without tokens. `owner` limits prefix sharing to sequences of the same owner when `shared` is false; `alone`: it shares nothing. */
  create(options?: { owner?: number; shared?: boolean; alone?: boolean }): SequenceId;
  /**
   * Adds known tokens. Throws promptTooLong beyond sessionLen, tooManySessions if maxTokens cannot be kept by dropping
   * inactive sequences; then nothing changed.
   */
  append(seq: SequenceId, ids: ArrayLike<number>, from?: number, to?: number): void;
  /** The same for one token; never fails for maxTokens, since a sequence that runs must be able to go on. */
  appendOne(seq: SequenceId, id: number): void;
  known(seq: SequenceId): number;
  computed(seq: SequenceId): number;
  state(seq: SequenceId): SequenceState;
  exists(seq: SequenceId): boolean;
  tokenAt(seq: SequenceId, index: number): number;
  /** Copies ids [from, to) into out at offset. */
  readTokens(seq: SequenceId, from: number, to: number, out: Int32Array, offset: number): void;
  /** Length of the common beginning of the known tokens and `ids`. */
  commonPrefix(seq: SequenceId, ids: ArrayLike<number>): number;

  // ---- the batch's operations
  /**
   * Makes the sequence active and returns its computed tokens: what is still in its own blocks, extended through the
   * prefix index (full blocks, and the longest shared part of a partial one by a block copy). At most known - 1: one
   * token is always computed, since its logits are needed. Idempotent while active (extends through the index again);
   * then, as after truncate(), reserve again before the step.
   */
  match(seq: SequenceId): number;
  /**
   * What `match` of an inactive sequence would find, without taking it and without telling the eviction policy: for asking
   * again and again whether it fits. A part of a block that would be copied is left out.
   */
  probe(seq: SequenceId): Readonly<Probe>;
  /**
   * Another active sequence, active for longer, that is about to compute this one's next full block (same tokens), or
   * -1. Wait for it outside the batch: release, and match again in a later step. When it leaves, the next one leads.
   */
  leader(seq: SequenceId): SequenceId | -1;
  /** Makes blocks for tokens [0, length) writable from `computed` on. False: does not fit now; nothing changed. */
  reserve(seq: SequenceId, length: number): boolean;
  /**
   * A step ran: tokens [0, computed) are stored. Publishes the full blocks among them. Steps in flight may be writing on, up
   * to token `writing`: what lies between is not shared yet. Returns how many of the tokens had been computed before, and
   * were computed again since their KV had been evicted.
   */
  commit(seq: SequenceId, computed: number, writing?: number): number;
  /**
   * Leaves the batch: 'keep' → cached, 'drop' → forgotten (an inactive sequence may be dropped, too). Its full blocks
   * stay findable through the prefix index until they are evicted.
   */
  release(seq: SequenceId, mode: 'keep' | 'drop'): void;
  /** Rewinds known (and computed) tokens to `length`. */
  truncate(seq: SequenceId, length: number): void;
  /** A new inactive sequence with the same known tokens that shares the computed blocks (copy on write). */
  fork(seq: SequenceId, length?: number): SequenceId;
  /** Writes the block numbers of an active sequence from block index `first` on: block i to out[offset + i]. Returns how many blocks it has. */
  blockTable(seq: SequenceId, out: Int32Array, offset: number, first?: number): number;
  /** Grows by one whenever the sequence's block list changes other than by appending. */
  tableVersion(seq: SequenceId): number;
  /**
   * Block copies (from, to, tokens) that must run at the beginning of the next step, before anything is written. At most one
   * for each active sequence; no block is both copied from and copied to, so their order is free. What a copy stored counts as
   * computed for good with the sequence's next commit: released before that, it is forgotten.
   * Each call is a step: `copiesRan` or `copiesLost` tells what became of it.
   */
  takeCopies(out: Int32Array): number;
  /** The oldest of the steps that copies were taken for ran. */
  copiesRan(): void;
  /** The last `steps` of them will not run (cancelled, refused): the next `takeCopies` hands their copies out again. */
  copiesLost(steps: number): void;
  /** Blocks that could be had now: free + cached that nobody pins. */
  available(): number;
  /** Blocks needed beyond those it holds so that `length` tokens fit. */
  needed(seq: SequenceId, length: number): number;

  // ---- seeing it
  stats(): CacheStats;
  snapshot(): CacheSnapshot;
  /** Checks every invariant; throws InvariantError. O(blocks + tokens). */
  check(): void;
}
