/** What decides which cached block goes next. A policy orders blocks; it never sees a sequence or a token. */
import { invariant } from '../../errors.js';

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
  /** Writes the blocks that would go next, first to go first; returns how many. */
  order(out: Int32Array): number;
  /** Throws InvariantError. O(blocks). */
  check(): void;
}

/** What a policy may know about blocks: shared arrays of the block pool. */
export interface BlockLinks {
  readonly blocks: number;
  /** (blocks) doubly linked lists: a cached block is in one list of the policy. */
  previous(block: number): number;
  next(block: number): number;
  setPrevious(block: number, value: number): void;
  setNext(block: number, value: number): void;
  parent(block: number): number;
}

/** A doubly linked list of blocks, threaded through the pool's own link fields. Oldest first. */
class BlockList {
  first = -1;
  last = -1;
  size = 0;

  constructor(private readonly links: BlockLinks) {}

  pushLast(b: number): void {
    const l = this.links;
    l.setPrevious(b, this.last);
    l.setNext(b, -1);
    if (this.last === -1) this.first = b;
    else l.setNext(this.last, b);
    this.last = b;
    this.size++;
  }

  pushFirst(b: number): void {
    const l = this.links;
    l.setNext(b, this.first);
    l.setPrevious(b, -1);
    if (this.first === -1) this.last = b;
    else l.setPrevious(this.first, b);
    this.first = b;
    this.size++;
  }

  remove(b: number): void {
    const l = this.links;
    const p = l.previous(b);
    const n = l.next(b);
    if (p === -1) this.first = n;
    else l.setNext(p, n);
    if (n === -1) this.last = p;
    else l.setPrevious(n, p);
    this.size--;
  }
}

/**
 * Least recently used first. Released paths come tail first, so a block is always older than its parent: the oldest
 * block is a leaf without looking.
 */
export class LruPolicy implements EvictionPolicy {
  readonly name = 'lru';
  readonly #list: BlockList;

  constructor(private readonly links: BlockLinks) {
    this.#list = new BlockList(links);
  }

  get size(): number {
    return this.#list.size;
  }

  push(block: number, first: boolean): void {
    if (first) this.#list.pushFirst(block);
    else this.#list.pushLast(block);
  }

  remove(block: number): void {
    this.#list.remove(block);
  }

  victim(): number {
    const b = this.#list.first;
    if (b !== -1) this.#list.remove(b);
    return b;
  }

  order(out: Int32Array): number {
    let n = 0;
    for (let b = this.#list.first; b !== -1 && n < out.length; b = this.links.next(b)) out[n++] = b;
    return n;
  }

  check(): void {
    const seen = new Uint8Array(this.links.blocks);
    let count = 0;
    let previous = -1;
    for (let b = this.#list.first; b !== -1; b = this.links.next(b)) {
      invariant(this.links.previous(b) === previous, `block ${b}: broken back link`);
      const parent = this.links.parent(b);
      invariant(parent < 0 || !seen[parent], `block ${b} would go after its parent ${parent}`);
      seen[b] = 1;
      previous = b;
      count++;
    }
    invariant(previous === this.#list.last && count === this.#list.size, 'the LRU list lost blocks');
  }
}
