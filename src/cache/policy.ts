/** What decides which cached block goes next. A policy orders blocks; it never sees a sequence or a token. */

export interface EvictionPolicy {
  readonly name: string;
  /** Blocks it holds = blocks that are cached. */
  readonly size: number;
  /**
   * Nobody uses the block any longer. A released path comes tail first, so that a parent is always pushed after its
   * children. `first`: nothing will resume it; it may go before all others.
   */
  push(block: number, first: boolean): void;
  /** In use again, or gone. */
  remove(block: number): void;
  /** Takes out the next block to evict, always one without children in the cache; -1 if there is none. */
  victim(): number;
  /** A full block was stored: `hash` (two 32-bit halves) names its whole text. Called only if `wantsHashes`. */
  published(block: number, parent: number, low: number, high: number): void;
  readonly wantsHashes: boolean;
  /** A sequence found the block through its own list or the prefix index. */
  reused(block: number): void;
  /** blocks[from … to) are about to be used: the policy may read what it knows of them. */
  warm(blocks: Int32Array, from: number, to: number): void;
  /** Writes the blocks that would go next, first to go first; returns how many. */
  order(out: Int32Array): number;
  /** Throws InvariantError. O(blocks). */
  check(): void;
  /** Bytes of its own arrays. */
  readonly bytes: number;
}

/** What a policy may know about blocks: shared arrays of the block pool. */
export interface BlockLinks {
  readonly blocks: number;
  /** (blocks) doubly linked lists: a cached block is in one list of the policy. */
  previous(block: number): number;
  next(block: number): number;
  setPrevious(block: number, value: number): void;
  setNext(block: number, value: number): void;
  hasChildren(block: number): boolean;
  parent(block: number): number;
  isFull(block: number): boolean;
  /** Blocks above it. */
  depth(block: number): number;
}
