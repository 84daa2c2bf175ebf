/** Byte-level byte-pair encoding of words (Sennrich et al. 2016; Radford et al. 2019). */
import { bytesToChars, byteToUtf8 } from './byte-chars.js';
import type { ByteIndex } from './byte-index.js';
import { MinHeap } from './heap.js';
import { Merges } from './merges.js';
import type { PackedStrings } from './packed.js';
import type { PreTokenizer } from './pre-tokenizer.js';
import type { TextEncoder } from './vocabulary.js';

/** Words that are kept with their ids; the cache starts anew when it is full. */
const CACHED_WORDS = 20_000;
const CACHED_LENGTH = 48;
/** Up to so many symbols a plain search for the best pair beats the heap. */
const SHORT = 24;

export class BpeEncoder implements TextEncoder {
  readonly #merges: Merges;
  /** (256) first symbol of each byte. */
  readonly #byteSymbol: Int32Array;
  readonly #virtual: string[];
  readonly #cache = new Map<string, readonly number[]>();
  readonly #heap = new MinHeap();

  constructor(
    merges: PackedStrings,
    /** Tokens that text may become. */
    private readonly index: ByteIndex,
    private readonly vocabSize: number,
    private readonly preTokenizer: PreTokenizer,
  ) {
    this.#merges = new Merges(merges, index, vocabSize);
    this.#byteSymbol = Int32Array.from(byteToUtf8, (utf8) => this.#merges.symbol(utf8));
    this.#virtual = this.#merges.virtualTexts();
  }

  encode(text: string, out: number[]): void {
    for (const word of this.preTokenizer.split(text)) {
      let ids = this.#cache.get(word);
      if (ids === undefined) {
        ids = this.#word(word);
        if (word.length <= CACHED_LENGTH) {
          if (this.#cache.size >= CACHED_WORDS) this.#cache.clear();
          this.#cache.set(word, ids);
        }
      }
      for (const id of ids) out.push(id);
    }
  }

  #word(word: string): number[] {
    const bytes = Buffer.from(word, 'utf8');
    if (this.preTokenizer.ignoreMerges) {
      const chars = Buffer.allocUnsafe(2 * bytes.length);
      const whole = this.index.find(chars, 0, bytesToChars(bytes, chars));
      if (whole >= 0) return [whole];
    }
    const symbols = new Int32Array(bytes.length);
    for (let i = 0; i < bytes.length; i++) symbols[i] = this.#byteSymbol[bytes[i]!]!;
    const count = symbols.length <= SHORT ? this.#mergeShort(symbols) : this.#mergeLong(symbols);
    return this.#emit(symbols, count);
  }

  /** Merges in place; returns how many symbols are left. */
  #mergeShort(symbols: Int32Array): number {
    let count = symbols.length;
    for (;;) {
      let best = -1;
      let at = 0;
      let bestRank = 0x7fffffff;
      for (let i = 0; i + 1 < count; i++) {
        const slot = this.#merges.find(symbols[i]!, symbols[i + 1]!);
        if (slot >= 0 && this.#merges.rank(slot) < bestRank) {
          best = slot;
          bestRank = this.#merges.rank(slot);
          at = i;
        }
      }
      if (best < 0) return count;
      symbols[at] = this.#merges.merged(best);
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
      const slot = right < 0 ? -1 : this.#merges.find(symbols[left]!, symbols[right]!);
      slots[left] = slot;
      if (slot >= 0) heap.push(this.#merges.rank(slot) * 2 ** 31 + left);
    };
    for (let i = 0; i < n; i++) consider(i);
    while (heap.size > 0) {
      const item = heap.pop();
      const left = item % 2 ** 31;
      const slot = slots[left]!;
      if (slot < 0 || this.#merges.rank(slot) !== Math.floor(item / 2 ** 31)) continue;
      const right = next[left]!;
      symbols[left] = this.#merges.merged(slot);
      slots[right] = -1;
      symbols[right] = -1;
      next[left] = next[right]!;
      if (next[left]! >= 0) previous[next[left]!] = left;
      if (previous[left]! >= 0) consider(previous[left]!);
      consider(left);
    }
    let count = 0;
    for (let i = 0; i >= 0 && i < n; i = next[i]!) symbols[count++] = symbols[i]!;
    return count;
  }

  /** Symbols that are no tokens are spelt out, as far as there are tokens for their characters. */
  #emit(symbols: Int32Array, count: number): number[] {
    const out: number[] = [];
    for (let i = 0; i < count; i++) {
      const symbol = symbols[i]!;
      if (symbol < this.vocabSize) out.push(symbol);
      else {
        for (const char of this.#virtual[symbol - this.vocabSize]!) {
          const id = this.index.findText(char);
          if (id >= 0) out.push(id);
        }
      }
    }
    return out;
  }
}
