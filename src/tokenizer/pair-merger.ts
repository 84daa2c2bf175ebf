/** Byte-pair merging of one word: always the pair of the least rank, the leftmost of equal ones. */
import { MinHeap } from './heap.js';
import type { PairTable } from './pair-table.js';

/** Up to so many symbols a plain search for the best pair beats the heap. */
const SHORT = 24;

export class PairMerger {
  readonly #heap = new MinHeap();

  constructor(private readonly pairs: PairTable) {}

  /** Merges in place; returns how many symbols are left. */
  merge(symbols: Int32Array): number {
    return symbols.length <= SHORT ? this.#mergeShort(symbols) : this.#mergeLong(symbols);
  }

  #mergeShort(symbols: Int32Array): number {
    let count = symbols.length;
    for (;;) {
      let best = -1;
      let at = 0;
      let bestRank = 0x7fffffff;
      for (let i = 0; i + 1 < count; i++) {
        const slot = this.pairs.find(symbols[i]!, symbols[i + 1]!);
        if (slot >= 0 && this.pairs.rank(slot) < bestRank) {
          best = slot;
          bestRank = this.pairs.rank(slot);
          at = i;
        }
      }
      if (best < 0) return count;
      symbols[at] = this.pairs.merged(best);
      symbols.copyWithin(at + 1, at + 2, count);
      count--;
    }
  }

  /** The same with a heap of (rank, position): n log n. Positions are linked; a merge dies with its right symbol. */
  #mergeLong(symbols: Int32Array): number {
    const n = symbols.length;
    const next = Int32Array.from({ length: n }, (_, i) => (i + 1 < n ? i + 1 : -1));
    const previous = Int32Array.from({ length: n }, (_, i) => i - 1);
    /** Slot of the merge of a position with its next one, -1 if none. A heap entry is stale if its rank is another. */
    const slots = new Int32Array(n).fill(-1);
    const heap = this.#heap;
    heap.clear();
    const consider = (left: number): void => {
      const right = next[left]!;
      const slot = right < 0 ? -1 : this.pairs.find(symbols[left]!, symbols[right]!);
      slots[left] = slot;
      if (slot >= 0) heap.push(this.pairs.rank(slot) * 2 ** 31 + left);
    };
    for (let i = 0; i < n; i++) consider(i);
    while (heap.size > 0) {
      const item = heap.pop();
      const left = item % 2 ** 31;
      const slot = slots[left]!;
      if (slot < 0 || this.pairs.rank(slot) !== Math.floor(item / 2 ** 31)) continue;
      const right = next[left]!;
      symbols[left] = this.pairs.merged(slot);
      slots[right] = -1;
      next[left] = next[right]!;
      if (next[left]! >= 0) previous[next[left]!] = left;
      if (previous[left]! >= 0) consider(previous[left]!);
      consider(left);
    }
    let count = 0;
    for (let i = 0; i >= 0 && i < n; i = next[i]!) symbols[count++] = symbols[i]!;
    return count;
  }
}
