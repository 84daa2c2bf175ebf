import { invariant } from '../errors.js';
import { BlockList } from './block-list.js';
import type { BlockLinks, EvictionPolicy } from './policy.js';

/**
 * Least recently used first. Released paths come tail first, so a block is always older than its parent: the oldest
 * block is a leaf without looking.
 */
export class LruPolicy implements EvictionPolicy {
  readonly name = 'lru';
  readonly wantsHashes = false;
  readonly bytes = 0;
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

  published(): void {}

  reused(): void {}

  warm(): void {}

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
