/**
 * The merges of a byte-pair vocabulary as a hash table in typed arrays: (left, right) → (rank, merged). Symbols are token
 * ids; what merges name but plain text may not become gets ids behind the vocabulary ("virtual"), which are never put out.
 */
import type { ByteIndex } from './byte-index.js';
import type { PackedStrings } from './packed.js';

const SPACE = 0x20;

export class Merges {
  readonly #mask: number;
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #rank: Int32Array;
  readonly #merged: Int32Array;
  readonly #virtual = new Map<string, number>();

  /** Each merge is 'left right'; its place in the list is its rank. `index` knows the tokens that text may become. */
  constructor(
    list: PackedStrings,
    private readonly index: ByteIndex,
    private readonly vocabSize: number,
  ) {
    const { bytes, starts, lengths } = list;
    const capacity = 2 ** Math.ceil(Math.log2(2 * starts.length + 2));
    this.#mask = capacity - 1;
    this.#left = new Int32Array(capacity).fill(-1);
    this.#right = new Int32Array(capacity);
    this.#rank = new Int32Array(capacity);
    this.#merged = new Int32Array(capacity);
    for (let rank = 0; rank < starts.length; rank++) {
      const from = starts[rank]!;
      const to = from + lengths[rank]!;
      let space = from + 1;
      while (space < to && bytes[space] !== SPACE) space++;
      if (space >= to) continue;
      const left = this.#symbol(bytes, from, space, space, space);
      const right = this.#symbol(bytes, space + 1, to, to, to);
      this.#insert(left, right, rank, this.#symbol(bytes, from, space, space + 1, to));
    }
  }

  /** Id of a token's UTF-8, virtual if it is none. */
  symbol(utf8: Uint8Array): number {
    return this.#symbol(utf8, 0, utf8.length, utf8.length, utf8.length);
  }

  #symbol(bytes: Uint8Array, from: number, to: number, from2: number, to2: number): number {
    const id = this.index.findJoined(bytes, from, to, from2, to2);
    if (id >= 0) return id;
    const text = Buffer.concat([bytes.subarray(from, to), bytes.subarray(from2, to2)]).toString('utf8');
    const known = this.#virtual.get(text);
    if (known !== undefined) return known;
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
