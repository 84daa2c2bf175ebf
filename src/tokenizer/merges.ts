/**
 * The merges of a byte-pair vocabulary as GGUF keeps it. Symbols are token ids; what merges name but plain text may not become gets ids behind the vocabulary ("virtual"), which are never put out.
 */
import type { ByteIndex } from './byte-index.js';
import type { PackedStrings } from './packed.js';
import { PairTable } from './pair-table.js';

const SPACE = 0x20;

export class Merges {
  readonly pairs: PairTable;
  readonly #virtual = new Map<string, number>();

  /** Each merge is 'left right'; its place in the list is its rank. `index` knows the tokens that text may become. */
  constructor(
    list: PackedStrings,
    private readonly index: ByteIndex,
    private readonly vocabSize: number,
  ) {
    const { bytes, starts, lengths } = list;
    this.pairs = new PairTable(starts.length);
    for (let rank = 0; rank < starts.length; rank++) {
      const from = starts[rank]!;
      const to = from + lengths[rank]!;
      let space = from + 1;
      while (space < to && bytes[space] !== SPACE) space++;
      if (space >= to) continue;
      const left = this.#symbol(bytes, from, space, space, space);
      const right = this.#symbol(bytes, space + 1, to, to, to);
      const merged = this.#symbol(bytes, from, space, space + 1, to);
      // the first of two equal merges counts
      if (this.pairs.find(left, right) < 0) this.pairs.set(left, right, rank, merged);
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
}
