/**
 * The merges of a byte-pair vocabulary as a hash table in typed arrays: (left, right) → (rank, merged). Symbols are token
 * ids; what merges name but the vocabulary lacks gets ids behind the vocabulary ("virtual"), which are never put out.
 */
import type { Strings } from './types.js';

export class Merges {
  readonly #mask: number;
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #rank: Int32Array;
  readonly #merged: Int32Array;
  readonly #virtual = new Map<string, number>();

  /** Rank of merge i is i. `idOf` knows the tokens that text may become. */
  constructor(
    list: Strings,
    private readonly idOf: ReadonlyMap<string, number>,
    private readonly vocabSize: number,
  ) {
    const capacity = 2 ** Math.ceil(Math.log2(2 * Math.max(list.length, 1) + 2));
    this.#mask = capacity - 1;
    this.#left = new Int32Array(capacity).fill(-1);
    this.#right = new Int32Array(capacity);
    this.#rank = new Int32Array(capacity);
    this.#merged = new Int32Array(capacity);
    for (let i = 0; i < list.length; i++) {
      const merge = list.at(i)!;
      const space = merge.indexOf(' ', 1);
      if (space < 0) continue;
      const left = merge.slice(0, space);
      const right = merge.slice(space + 1);
      this.#insert(this.symbol(left), this.symbol(right), i, this.symbol(left + right));
    }
  }

  /** Id of a text, virtual if it is no token. */
  symbol(text: string): number {
    const id = this.idOf.get(text) ?? this.#virtual.get(text);
    if (id !== undefined) return id;
    const virtual = this.vocabSize + this.#virtual.size;
    this.#virtual.set(text, virtual);
    return virtual;
  }

  /** Texts of virtual symbols, by id - vocabSize. */
  virtualTexts(): string[] {
    return [...this.#virtual.keys()];
  }

  #slot(left: number, right: number): number {
    let h = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    h = (h ^ (h >>> 15)) & this.#mask;
    while (this.#left[h] !== -1 && (this.#left[h] !== left || this.#right[h] !== right)) h = (h + 1) & this.#mask;
    return h;
  }

  /** The first of two equal merges counts. */
  #insert(left: number, right: number, rank: number, merged: number): void {
    const slot = this.#slot(left, right);
    if (this.#left[slot] !== -1) return;
    this.#left[slot] = left;
    this.#right[slot] = right;
    this.#rank[slot] = rank;
    this.#merged[slot] = merged;
  }

  /** Slot of a merge, -1 if the two do not merge. */
  find(left: number, right: number): number {
    const slot = this.#slot(left, right);
    return this.#left[slot] === -1 ? -1 : slot;
  }

  rank(slot: number): number {
    return this.#rank[slot]!;
  }

  merged(slot: number): number {
    return this.#merged[slot]!;
  }
}
