/** Where integers lie: records, lists of any length, sets. Typed arrays that grow in pieces; nothing here knows of tokens or blocks. */

/** Records of integers that never cross a cache line, and reading many of them early. */

/** V8's allocator begins big arrays 16 bytes after a page; so many integers later a cache line begins. */
const ALIGN = 12;

/** `count` records of 2^shift integers (at most 16). Where the allocator differs, only speed does. */
export function alignedRecords(count: number, shift: number): Int32Array {
  return new Int32Array(ALIGN + (count << shift)).subarray(ALIGN);
}

/**
 * Reads the records of indices[from … to) in one go. What follows then finds them in the processor's cache: the reads do
 * not depend on one another, so the memory serves them side by side. The caller keeps the result, or the compiler would
 * see that nothing is done with it.
 */
export function warm(records: Int32Array, shift: number, indices: Int32Array, from: number, to: number): number {
  let any = 0;
  let i = from;
  // the shorter the loop, the more reads are under way
  for (; i + 3 < to; i += 4) {
    any |= records[indices[i]! << shift]! | records[indices[i + 1]! << shift]!;
    any |= records[indices[i + 2]! << shift]! | records[indices[i + 3]! << shift]!;
  }
  for (; i < to; i++) any |= records[indices[i]! << shift]!;
  return any;
}

/** Dense records of integers in fixed-size segments: growing never copies, so memory never doubles for a moment. */
const SEGMENT_SHIFT = 8;
const SEGMENT = 1 << SEGMENT_SHIFT;

export class Records {
  readonly #segments: Int32Array[] = [];
  /** Free records are linked through the field that the caller names. */
  #freeHead = -1;
  #used = 0;
  #high = 0;

  constructor(readonly stride: number) {}

  /** Records in use. */
  get size(): number {
    return this.#used;
  }

  /** Every record number is below this. */
  get high(): number {
    return this.#high;
  }

  get bytes(): number {
    return this.#segments.length * SEGMENT * this.stride * 4;
  }

  /** A record number; its fields hold what its last user left there. */
  alloc(linkField: number): number {
    this.#used++;
    if (this.#freeHead !== -1) {
      const r = this.#freeHead;
      this.#freeHead = this.get(r, linkField);
      return r;
    }
    if ((this.#high & (SEGMENT - 1)) === 0) this.#segments.push(new Int32Array(SEGMENT * this.stride));
    return this.#high++;
  }

  free(r: number, linkField: number): void {
    this.#used--;
    this.set(r, linkField, this.#freeHead);
    this.#freeHead = r;
  }

  get(r: number, field: number): number {
    return this.#segments[r >>> SEGMENT_SHIFT]![(r & (SEGMENT - 1)) * this.stride + field]!;
  }

  set(r: number, field: number, value: number): void {
    this.#segments[r >>> SEGMENT_SHIFT]![(r & (SEGMENT - 1)) * this.stride + field] = value;
  }

  add(r: number, field: number, delta: number): number {
    const segment = this.#segments[r >>> SEGMENT_SHIFT]!;
    const at = (r & (SEGMENT - 1)) * this.stride + field;
    const value = segment[at]! + delta;
    segment[at] = value;
    return value;
  }

  /** The array that holds record r, and … */
  segment(r: number): Int32Array {
    return this.#segments[r >>> SEGMENT_SHIFT]!;
  }

  /** … where in it field `field` lies. */
  offset(r: number, field: number): number {
    return (r & (SEGMENT - 1)) * this.stride + field;
  }
}

/**
 * Where lists of integers live (token ids, block tables): a buddy allocator over slabs of Int32. A list ("vector") of n
 * items is stored in extents whose sizes are the binary digits of ⌈n / 16⌉, largest first. So it wastes at most 15 items,
 * needs no chain of pointers, finds any item in O(1), and copies each item O(log n) times while it grows.
 *
 * Items are never negative. So the first item of each unit tells, without any bytes beside it, whether a free extent
 * begins there: then it is negative, and says of which class. (Each unit of a vector has at least one item, its first.)
 *
 * A vector's record is `1 + classes` integers in somebody else's array: the number of units, then one extent address a
 * class. Addresses count units over all slabs.
 */

const UNIT_SHIFT = 4;
/** Items in the smallest extent: 64 bytes, a cache line. */
const UNIT = 1 << UNIT_SHIFT;
const MAX_SLAB_SHIFT = 16;

/** Words of a free extent. */
const CLASS = 0;
const PREVIOUS = 1;
const NEXT = 2;

/** Items that lie side by side: data[at … at + span). */
export interface Cursor {
  data: Int32Array;
  at: number;
  span: number;
}

export function createCursor(): Cursor {
  return { data: new Int32Array(0), at: 0, span: 0 };
}

/** Extent classes that a vector of up to `maxItems` may need. */
export function classesFor(maxItems: number): number {
  return 32 - Math.clz32(Math.max(1, Math.ceil(maxItems / UNIT)));
}

export class TokenArena {
  readonly #slabShift: number;
  readonly #slabs: Int32Array[] = [];
  /** (classes) head of the list of free extents, or -1; a free extent holds ~class, and the links of its list. */
  readonly #free: Int32Array;
  readonly #oldExtents = new Int32Array(32);
  #unitsUsed = 0;

  /** `maxItems`: longest vector; `expected`: items in all vectors together, which decides the slab size. */
  constructor(maxItems: number, expected: number) {
    const wanted = Math.min(MAX_SLAB_SHIFT, Math.ceil(Math.log2(Math.max(1, expected / UNIT))));
    this.#slabShift = Math.max(classesFor(maxItems), wanted);
    this.#free = new Int32Array(this.#slabShift + 1).fill(-1);
  }

  /** Bytes in use by vectors, and bytes taken from the system. */
  get bytes(): { used: number; reserved: number } {
    const slab = (UNIT * 4) << this.#slabShift;
    return { used: this.#unitsUsed * UNIT * 4, reserved: this.#slabs.length * slab };
  }

  /** Gives the vector at record[base…] room for `to` items and keeps the first min(from, to). */
  resize(record: Int32Array, base: number, from: number, to: number): void {
    const before = record[base]!;
    const after = (to + UNIT - 1) >>> UNIT_SHIFT;
    if (before === after) return;
    const top = 31 - Math.clz32(before ^ after);
    const mask = 2 ** (top + 1) - 1;
    const shared = before & ~mask;
    const old = this.#oldExtents;
    for (let k = 0; k <= top; k++) old[k] = record[base + 1 + k]!;
    record[base] = after;
    for (let k = top; k >= 0; k--) if ((after >>> k) & 1) record[base + 1 + k] = this.#alloc(k);
    this.#move(record, base, before, shared << UNIT_SHIFT, Math.min(from, to));
    for (let k = top; k >= 0; k--) if ((before >>> k) & 1) this.#release(old[k]!, k);
    this.#unitsUsed += after - before;
  }

  /** Copies items [from, to) out of the old extents (digits of `before`) into the new ones. */
  #move(record: Int32Array, base: number, before: number, from: number, to: number): void {
    const after = record[base]!;
    while (from < to) {
      const q = from >>> UNIT_SHIFT;
      const a = 31 - Math.clz32(before ^ q);
      const b = 31 - Math.clz32(after ^ q);
      const atA = (q & ((1 << a) - 1)) << UNIT_SHIFT;
      const atB = (q & ((1 << b) - 1)) << UNIT_SHIFT;
      const n = Math.min((UNIT << a) - atA, (UNIT << b) - atB, to - from);
      const source = this.#oldExtents[a]!;
      const target = record[base + 1 + b]!;
      const mask = (1 << this.#slabShift) - 1;
      const src = this.#slabs[source >>> this.#slabShift]!;
      const dst = this.#slabs[target >>> this.#slabShift]!;
      const s = ((source & mask) << UNIT_SHIFT) + atA;
      const d = ((target & mask) << UNIT_SHIFT) + atB;
      for (let i = 0; i < n; i++) dst[d + i] = src[s + i]!;
      from += n;
    }
  }

  /** Points the cursor at item i (which must exist) and at what follows it in the same extent. */
  locate(record: Int32Array, base: number, i: number, out: Cursor): void {
    const q = i >>> UNIT_SHIFT;
    const k = 31 - Math.clz32(record[base]! ^ q);
    const address = record[base + 1 + k]!;
    const inside = ((q & ((1 << k) - 1)) << UNIT_SHIFT) + (i & (UNIT - 1));
    out.data = this.#slabs[address >>> this.#slabShift]!;
    out.at = ((address & ((1 << this.#slabShift) - 1)) << UNIT_SHIFT) + inside;
    out.span = (UNIT << k) - inside;
  }

  get(record: Int32Array, base: number, i: number): number {
    const q = i >>> UNIT_SHIFT;
    const k = 31 - Math.clz32(record[base]! ^ q);
    const address = record[base + 1 + k]!;
    const at = (address & ((1 << this.#slabShift) - 1)) + (q & ((1 << k) - 1));
    return this.#slabs[address >>> this.#slabShift]![(at << UNIT_SHIFT) + (i & (UNIT - 1))]!;
  }

  set(record: Int32Array, base: number, i: number, value: number): void {
    const q = i >>> UNIT_SHIFT;
    const k = 31 - Math.clz32(record[base]! ^ q);
    const address = record[base + 1 + k]!;
    const at = (address & ((1 << this.#slabShift) - 1)) + (q & ((1 << k) - 1));
    this.#slabs[address >>> this.#slabShift]![(at << UNIT_SHIFT) + (i & (UNIT - 1))] = value;
  }

  // ---------------------------------------------------------------- buddies

  #alloc(k: number): number {
    let from = k;
    while (from <= this.#slabShift && this.#free[from] === -1) from++;
    if (from > this.#slabShift) {
      from = this.#slabShift;
      this.#addSlab();
    }
    const address = this.#free[from]!;
    this.#unlink(address, from);
    while (from > k) {
      from--;
      this.#link(address + (1 << from), from);
    }
    return address;
  }

  #release(address: number, k: number): void {
    while (k < this.#slabShift) {
      const buddy = address ^ (1 << k);
      if (this.#word(buddy, CLASS) !== ~k) break;
      this.#unlink(buddy, k);
      address = Math.min(address, buddy);
      k++;
    }
    this.#link(address, k);
  }

  #addSlab(): void {
    const units = 1 << this.#slabShift;
    this.#slabs.push(new Int32Array(units * UNIT));
    this.#link((this.#slabs.length - 1) * units, this.#slabShift);
  }

  #link(address: number, k: number): void {
    const next = this.#free[k]!;
    this.#setWord(address, CLASS, ~k);
    this.#setWord(address, PREVIOUS, -1);
    this.#setWord(address, NEXT, next);
    if (next !== -1) this.#setWord(next, PREVIOUS, address);
    this.#free[k] = address;
  }

  #unlink(address: number, k: number): void {
    const previous = this.#word(address, PREVIOUS);
    const next = this.#word(address, NEXT);
    if (previous === -1) this.#free[k] = next;
    else this.#setWord(previous, NEXT, next);
    if (next !== -1) this.#setWord(next, PREVIOUS, previous);
    this.#setWord(address, CLASS, 0);
  }

  #word(address: number, word: number): number {
    const at = (address & ((1 << this.#slabShift) - 1)) << UNIT_SHIFT;
    return this.#slabs[address >>> this.#slabShift]![at + word]!;
  }

  #setWord(address: number, word: number, value: number): void {
    const at = (address & ((1 << this.#slabShift) - 1)) << UNIT_SHIFT;
    this.#slabs[address >>> this.#slabShift]![at + word] = value;
  }

  /** Units in free extents. Together with those in use they tile the slabs exactly. */
  countFree(): number {
    let free = 0;
    for (let address = 0; address < this.unitsReserved; ) {
      const k = this.#word(address, CLASS);
      if (k < 0) free += 1 << ~k;
      address += k < 0 ? 1 << ~k : 1;
    }
    return free;
  }

  get unitsUsed(): number {
    return this.#unitsUsed;
  }

  get unitsReserved(): number {
    return this.#slabs.length << this.#slabShift;
  }
}

/**
 * A set of numbers below a bound that gives its smallest: a bit each, and above each 32 words a word that says which of
 * them are not empty, and so on. An eighth of a byte a number, and a few instructions an operation.
 */
export class NumberSet {
  size = 0;
  /** Level 0 holds the numbers; the last level is one word. */
  readonly #levels: Int32Array[] = [];
  readonly #words: Int32Array;
  /** Words of level 0 before this one are empty. */
  #low = 0;

  constructor(bound: number) {
    let n = bound;
    do {
      n = (n + 31) >>> 5;
      this.#levels.push(new Int32Array(n));
    } while (n > 1);
    this.#words = this.#levels[0]!;
  }

  get bytes(): number {
    return this.#levels.reduce((n, words) => n + words.byteLength, 0);
  }

  has(x: number): boolean {
    return ((this.#words[x >>> 5]! >>> (x & 31)) & 1) !== 0;
  }

  add(x: number): void {
    this.size++;
    const w = x >>> 5;
    const before = this.#words[w]!;
    this.#words[w] = before | (1 << (x & 31));
    if (w < this.#low) this.#low = w;
    if (before === 0) this.#mark(w);
  }

  /** Takes x, which must be in the set, out. */
  delete(x: number): void {
    this.size--;
    const w = x >>> 5;
    const left = this.#words[w]! & ~(1 << (x & 31));
    this.#words[w] = left;
    if (left === 0) this.#unmark(w);
  }

  /** Takes the smallest out. The set must not be empty. */
  takeSmallest(): number {
    this.size--;
    let w = this.#low;
    if (this.#words[w] === 0) this.#low = w = this.#firstWord();
    const word = this.#words[w]!;
    const left = word & (word - 1);
    this.#words[w] = left;
    if (left === 0) this.#unmark(w);
    return (w << 5) | lowestBit(word);
  }

  /** Word w of level 0 is not empty any more. */
  #mark(w: number): void {
    for (let k = 1; k < this.#levels.length; k++) {
      const words = this.#levels[k]!;
      const before = words[w >>> 5]!;
      words[w >>> 5] = before | (1 << (w & 31));
      if (before !== 0) return;
      w >>>= 5;
    }
  }

  #unmark(w: number): void {
    for (let k = 1; k < this.#levels.length; k++) {
      const words = this.#levels[k]!;
      const left = words[w >>> 5]! & ~(1 << (w & 31));
      words[w >>> 5] = left;
      if (left !== 0) return;
      w >>>= 5;
    }
  }

  #firstWord(): number {
    let w = 0;
    for (let k = this.#levels.length - 1; k > 0; k--) w = (w << 5) | lowestBit(this.#levels[k]![w]!);
    return w;
  }
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}
