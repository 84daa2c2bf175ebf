/** Finds strings of a packed list by their bytes: an open hash table in typed arrays. */
import type { PackedStrings } from './packed.js';

const SEED = 0x811c9dc5 | 0;
const PRIME = 0x01000193;

export class ByteIndex {
  readonly #mask: number;
  /** (capacity) index + 1; 0 = empty. */
  readonly #slots: Int32Array;
  /** (capacity) */
  readonly #hashes: Int32Array;

  /** Of equal strings the last counts; those that are not wanted, and empty ones, are not found. */
  constructor(
    private readonly list: PackedStrings,
    wanted: (index: number) => boolean,
  ) {
    const capacity = 2 ** Math.ceil(Math.log2(2 * list.starts.length + 2));
    this.#mask = capacity - 1;
    this.#slots = new Int32Array(capacity);
    this.#hashes = new Int32Array(capacity);
    for (let i = 0; i < list.starts.length; i++) {
      if (list.lengths[i]! === 0 || !wanted(i)) continue;
      const from = list.starts[i]!;
      const to = from + list.lengths[i]!;
      const hash = hashBytes(list.bytes, from, to, SEED);
      const slot = this.#slot(hash, list.bytes, from, to, list.bytes, to, to);
      this.#slots[slot] = i + 1;
      this.#hashes[slot] = hash;
    }
  }

  /** Index of bytes[from … to), -1 if there is none. */
  find(bytes: Uint8Array, from: number, to: number): number {
    return this.#slots[this.#slot(hashBytes(bytes, from, to, SEED), bytes, from, to, bytes, to, to)]! - 1;
  }

  /** The same for two pieces put together. */
  findJoined(bytes: Uint8Array, from: number, to: number, from2: number, to2: number): number {
    const hash = hashBytes(bytes, from2, to2, hashBytes(bytes, from, to, SEED));
    return this.#slots[this.#slot(hash, bytes, from, to, bytes, from2, to2)]! - 1;
  }

  findText(text: string): number {
    const bytes = Buffer.from(text, 'utf8');
    return this.find(bytes, 0, bytes.length);
  }

  #slot(hash: number, a: Uint8Array, from: number, to: number, b: Uint8Array, from2: number, to2: number): number {
    let slot = (hash ^ (hash >>> 15)) & this.#mask;
    while (this.#slots[slot] !== 0) {
      if (this.#hashes[slot] === hash && this.#equal(this.#slots[slot]! - 1, a, from, to, b, from2, to2)) return slot;
      slot = (slot + 1) & this.#mask;
    }
    return slot;
  }

  #equal(index: number, a: Uint8Array, from: number, to: number, b: Uint8Array, from2: number, to2: number): boolean {
    const { bytes, starts, lengths } = this.list;
    if (lengths[index]! !== to - from + to2 - from2) return false;
    let at = starts[index]!;
    for (let i = from; i < to; i++) if (bytes[at++] !== a[i]) return false;
    for (let i = from2; i < to2; i++) if (bytes[at++] !== b[i]) return false;
    return true;
  }
}

/** FNV-1a */
function hashBytes(bytes: Uint8Array, from: number, to: number, seed: number): number {
  let hash = seed;
  for (let i = from; i < to; i++) hash = Math.imul(hash ^ bytes[i]!, PRIME);
  return hash;
}
