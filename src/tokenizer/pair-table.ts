/** (left, right) → (rank, merged), token ids all: an open hash table in typed arrays. */
export class PairTable {
  readonly #mask: number;
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #rank: Int32Array;
  readonly #merged: Int32Array;

  constructor(pairs: number) {
    const capacity = 2 ** Math.ceil(Math.log2(2 * pairs + 2));
    this.#mask = capacity - 1;
    this.#left = new Int32Array(capacity).fill(-1);
    this.#right = new Int32Array(capacity);
    this.#rank = new Int32Array(capacity);
    this.#merged = new Int32Array(capacity);
  }

  #slot(left: number, right: number): number {
    let h = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    h = (h ^ (h >>> 15)) & this.#mask;
    while (this.#left[h] !== -1 && (this.#left[h] !== left || this.#right[h] !== right)) h = (h + 1) & this.#mask;
    return h;
  }

  set(left: number, right: number, rank: number, merged: number): void {
    const slot = this.#slot(left, right);
    this.#left[slot] = left;
    this.#right[slot] = right;
    this.#rank[slot] = rank;
    this.#merged[slot] = merged;
  }

  /** Slot of a pair, -1 if it is not there. */
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
