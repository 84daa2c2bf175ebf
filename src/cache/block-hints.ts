/**
 * Where among many siblings a text may be: a table from the hash of (parent, tokens) to a block, that forgets when two
 * share a place. Only a hint: what it says is checked, token by token, and what it does not know is looked for in the
 * treap; so nobody can do harm by choosing texts whose hashes are equal, and nothing has to be taken out.
 */
export class BlockHints {
  /** (slots) block + 1, or 0. */
  readonly #slots: Int32Array;

  constructor(blocks: number) {
    this.#slots = new Int32Array(2 ** Math.ceil(Math.log2(Math.max(2, blocks / 2))));
  }

  get bytes(): number {
    return this.#slots.byteLength;
  }

  /** The place for a text of `length` tokens below `parent`. */
  slot(parent: number, tokens: Int32Array, length: number): number {
    // two sums side by side, since each multiplication waits for the one before
    let a = parent ^ 0x811c9dc5;
    let b = length;
    for (let i = 0; i + 1 < length; i += 2) {
      a = Math.imul(a ^ tokens[i]!, 0x01000193);
      b = Math.imul(b ^ tokens[i + 1]!, 0x85ebca6b);
    }
    if (length & 1) a ^= tokens[length - 1]!;
    a = Math.imul(a ^ (b >>> 15) ^ b, 0x9e3779b1);
    return (a ^ (a >>> 15)) & (this.#slots.length - 1);
  }

  get(slot: number): number {
    return this.#slots[slot]! - 1;
  }

  set(slot: number, block: number): void {
    this.#slots[slot] = block + 1;
  }
}
