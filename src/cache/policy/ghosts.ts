/**
 * A bounded memory of blocks that were evicted: 8-byte hashes of their whole text, first in, first out. A hash is only a
 * hint for the policy's statistics; nothing is ever served because of it.
 */
export class GhostTable {
  readonly capacity: number;
  /** (capacity) a ring, oldest at #head. low = high = 0: an entry that was taken out. */
  readonly #low: Int32Array;
  readonly #high: Int32Array;
  readonly #time: Uint32Array;
  readonly #info: Int32Array;
  /** Open addressing: ring position + 1, or 0. */
  readonly #table: Int32Array;
  readonly #mask: number;
  #head = 0;
  #size = 0;
  /** What take() or expire() found. */
  foundTime = 0;
  foundInfo = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#low = new Int32Array(capacity);
    this.#high = new Int32Array(capacity);
    this.#time = new Uint32Array(capacity);
    this.#info = new Int32Array(capacity);
    const slots = 2 ** Math.ceil(Math.log2(2 * capacity));
    this.#table = new Int32Array(slots);
    this.#mask = slots - 1;
  }

  get bytes(): number {
    return this.capacity * 16 + this.#table.byteLength;
  }

  /** Takes the oldest entry out if the table is full or the entry is from before `now - life`. */
  expire(now: number, life: number): boolean {
    while (this.#size > 0) {
      const at = this.#head;
      const gone = this.#low[at] === 0 && this.#high[at] === 0;
      if (!gone && this.#size < this.capacity && (now - this.#time[at]!) >>> 0 <= life) return false;
      this.#head = (at + 1) % this.capacity;
      this.#size--;
      if (gone) continue;
      this.#unlink(this.#find(this.#low[at]!, this.#high[at]!));
      this.foundTime = this.#time[at]!;
      this.foundInfo = this.#info[at]!;
      return true;
    }
    return false;
  }

  /** Remembers a block; there must be room. */
  add(low: number, high: number, time: number, info: number): void {
    const old = this.#find(low, high);
    if (this.#table[old]! > 0) this.#forget(old);
    const at = (this.#head + this.#size++) % this.capacity;
    this.#low[at] = low;
    this.#high[at] = high;
    this.#time[at] = time;
    this.#info[at] = info;
    this.#table[this.#find(low, high)] = at + 1;
  }

  /** Takes a block out, if it is remembered: foundTime, foundInfo. */
  take(low: number, high: number): boolean {
    const slot = this.#find(low, high);
    const at = this.#table[slot]! - 1;
    if (at < 0) return false;
    this.foundTime = this.#time[at]!;
    this.foundInfo = this.#info[at]!;
    this.#forget(slot);
    return true;
  }

  #forget(slot: number): void {
    const at = this.#table[slot]! - 1;
    this.#unlink(slot);
    this.#low[at] = this.#high[at] = 0;
  }

  /** Slot that holds the hash, or the empty one where it would go. */
  #find(low: number, high: number): number {
    let slot = (low ^ (high >>> 7)) & this.#mask;
    for (;;) {
      const at = this.#table[slot]! - 1;
      if (at < 0 || (this.#low[at] === low && this.#high[at] === high)) return slot;
      slot = (slot + 1) & this.#mask;
    }
  }

  /** Empties a slot and moves later ones up, so that no search ends too early. */
  #unlink(slot: number): void {
    const table = this.#table;
    let hole = slot;
    let s = slot;
    for (;;) {
      table[hole] = 0;
      for (;;) {
        s = (s + 1) & this.#mask;
        const at = table[s]! - 1;
        if (at < 0) return;
        const home = (this.#low[at]! ^ (this.#high[at]! >>> 7)) & this.#mask;
        if (((s - home) & this.#mask) >= ((s - hole) & this.#mask)) break;
      }
      table[hole] = table[s]!;
      hole = s;
    }
  }
}
