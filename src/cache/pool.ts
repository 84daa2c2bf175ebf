/**
 * Records of blocks, laid out for the memory: what nearly every operation reads is one record of 32 bytes that never
 * crosses a cache line, so a block that was not used for long costs one read from memory; the links between siblings,
 * which most blocks do not have, lie apart (8 bytes).
 *
 * A block is in exactly one place: never used, free, in the policy (cached), in use by active sequences, or about to be
 * free when it has been saved.
 * A *node* is finished text that hangs in a prefix tree. On the device its number is that of the block that holds it; a
 * *private* block is being written by one active sequence and hangs nowhere. Below the device nodes have numbers of their
 * own (lower-tree.ts) and the same records.
 */
import { InvariantError, invariant } from '../errors.js';
import { alignedRecords, NumberSet, warm } from './memory.js';
import type { BlockLinks } from './policy/policy.js';

/** Use count and flags; list links; where the text ends; place in the tree (prefix-index.ts); the run that holds the text. */
const USE = 0;
const PREVIOUS = 1;
const NEXT = 2;
const END = 3;
const PARENT = 4;
const CHILD = 5;
const RUN = 6;
/** First of the sequences whose last node this is. */
const ENDING = 7;
const RECORD_SHIFT = 3;

/** Links to siblings: (blocks, 2) in `siblings`, meaningful unless the block is alone. */
export const LEFT = 0;
export const RIGHT = 1;

const FLAG_NODE = 1;
const FLAG_CACHED = 2;
const FLAG_FREE = 4;
const FLAG_SOURCE = 8;
/** A node that has no siblings (its links are not even set). */
const FLAG_ALONE = 16;
/** A transfer reads it: it must not be written. */
const FLAG_SAVING = 32;
const USE_SHIFT = 6;
const ONE_USE = 1 << USE_SHIFT;

/** What a prefix tree knows of its nodes: `count` records at most. */
export class NodeRecords {
  protected readonly hot: Int32Array;
  /** (count, 2): see LEFT. */
  readonly siblings: Int32Array;
  #warmed = 0;

  constructor(
    readonly count: number,
    readonly blockLen: number,
  ) {
    this.hot = alignedRecords(count, RECORD_SHIFT);
    this.siblings = new Int32Array(2 * count);
  }

  /** Reads the records of blocks[from … to) early. */
  warm(blocks: Int32Array, from: number, to: number): void {
    this.#warmed = warm(this.hot, RECORD_SHIFT, blocks, from, to);
  }

  /** Something read at last, so that the reads are not optimised away. */
  get warmed(): number {
    return this.#warmed;
  }

  isNode(b: number): boolean {
    return (this.hot[(b << RECORD_SHIFT) + USE]! & FLAG_NODE) !== 0;
  }

  setNode(b: number, on: boolean): void {
    this.flag(b, FLAG_NODE, on);
  }

  protected flag(b: number, flag: number, on: boolean): void {
    if (on) this.hot[(b << RECORD_SHIFT) + USE]! |= flag;
    else this.hot[(b << RECORD_SHIFT) + USE]! &= ~flag;
  }

  /** Position after the block's last token, for a node. */
  end(b: number): number {
    return this.hot[(b << RECORD_SHIFT) + END]!;
  }

  setEnd(b: number, end: number): void {
    this.hot[(b << RECORD_SHIFT) + END] = end;
  }

  /** Position of a node's first token. */
  start(b: number): number {
    const last = this.hot[(b << RECORD_SHIFT) + END]! - 1;
    return last - (last % this.blockLen);
  }

  depth(b: number): number {
    return Math.floor((this.hot[(b << RECORD_SHIFT) + END]! - 1) / this.blockLen);
  }

  isFull(b: number): boolean {
    return this.hot[(b << RECORD_SHIFT) + END]! % this.blockLen === 0;
  }

  parent(b: number): number {
    return this.hot[(b << RECORD_SHIFT) + PARENT]!;
  }

  setParent(b: number, parent: number): void {
    this.hot[(b << RECORD_SHIFT) + PARENT] = parent;
  }

  /** First of the blocks below it (the top of their treap), or -1. */
  child(b: number): number {
    return this.hot[(b << RECORD_SHIFT) + CHILD]!;
  }

  setChild(b: number, child: number): void {
    this.hot[(b << RECORD_SHIFT) + CHILD] = child;
  }

  hasChildren(b: number): boolean {
    return this.hot[(b << RECORD_SHIFT) + CHILD]! !== -1;
  }

  isAlone(b: number): boolean {
    return (this.hot[(b << RECORD_SHIFT) + USE]! & FLAG_ALONE) !== 0;
  }

  setAlone(b: number, on: boolean): void {
    this.flag(b, FLAG_ALONE, on);
  }

  /** The run that holds the last token of a node's text. */
  run(b: number): number {
    return this.hot[(b << RECORD_SHIFT) + RUN]!;
  }

  setRun(b: number, run: number): void {
    this.hot[(b << RECORD_SHIFT) + RUN] = run;
  }
}

export class BlockPool extends NodeRecords implements BlockLinks {
  /** Blocks that were used before and are free. */
  readonly #free: NumberSet;
  /** Blocks that the device gave, and how many of them were ever used. */
  #grown = 0;
  #fresh = 0;
  #refused = false;
  refusals = 0;

  constructor(
    readonly blocks: number,
    blockLen: number,
    private readonly chunk: number,
    private readonly grow: (total: number) => boolean,
  ) {
    super(blocks, blockLen);
    this.#free = new NumberSet(blocks);
  }

  get bytes(): number {
    return this.hot.byteLength + this.siblings.byteLength + this.#free.bytes;
  }

  get grown(): number {
    return this.#grown;
  }

  /** Free blocks that need no growth. */
  get free(): number {
    return this.#free.size + this.#grown - this.#fresh;
  }

  /** Blocks that may still be had by growing, as far as known. */
  get growable(): number {
    return this.#refused ? 0 : this.blocks - this.#grown;
  }

  /** Every block was never used below? Blocks ≥ this were never used. */
  get touched(): number {
    return this.#fresh;
  }

  /** Asks the device until `count` blocks are free, it refuses, or the capacity is reached. */
  ensureFree(count: number): void {
    while (this.free < count && this.#grown < this.blocks) {
      if (!this.growTo(Math.min(this.blocks, this.#grown + this.chunk))) return;
    }
  }

  growTo(total: number): boolean {
    this.#refused = !this.grow(total);
    if (this.#refused) this.refusals++;
    else this.#grown = total;
    return !this.#refused;
  }

  /** A free block, low ones first, or -1. The caller owns it with one use. */
  take(): number {
    if (this.free === 0) return -1;
    const b = this.#free.size > 0 ? this.#free.takeSmallest() : this.#fresh++;
    this.adopt(b);
    return b;
  }

  /** Takes up to `count` free blocks, low ones first: blocks[0 … n). Returns n. */
  takeMany(blocks: Int32Array, count: number): number {
    const n = Math.min(count, this.free);
    for (let i = 0; i < n; i++) blocks[i] = this.take();
    return n;
  }

  /** Makes an unused block the caller's: private, one use. A pending copy out of it stays noted. */
  adopt(b: number): void {
    this.hot[(b << RECORD_SHIFT) + USE] = ONE_USE | (this.hot[(b << RECORD_SHIFT) + USE]! & FLAG_SOURCE);
    this.hot[(b << RECORD_SHIFT) + END] = 0;
  }

  /** The block is free. */
  give(b: number): void {
    const at = (b << RECORD_SHIFT) + USE;
    if ((this.hot[at]! & (FLAG_FREE | FLAG_SAVING)) !== 0)
      throw new InvariantError(`block ${b} is freed twice, or while it is saved`);
    this.hot[at] = FLAG_FREE | (this.hot[at]! & FLAG_SOURCE);
    this.#free.add(b);
  }

  // ---------------------------------------------------------------- fields

  uses(b: number): number {
    return this.hot[(b << RECORD_SHIFT) + USE]! >>> USE_SHIFT;
  }

  /** Adds a use; true if the block was cached until now. */
  pin(b: number): boolean {
    const u = this.hot[(b << RECORD_SHIFT) + USE]!;
    this.hot[(b << RECORD_SHIFT) + USE] = (u + ONE_USE) & ~FLAG_CACHED;
    return (u & FLAG_CACHED) !== 0;
  }

  /** Takes a use of a node back; true if it was the last: from now on the block is cached. */
  unpin(b: number): boolean {
    const u = this.hot[(b << RECORD_SHIFT) + USE]! - ONE_USE;
    const last = u < ONE_USE;
    this.hot[(b << RECORD_SHIFT) + USE] = last ? u | FLAG_CACHED : u;
    return last;
  }

  isCached(b: number): boolean {
    return (this.hot[(b << RECORD_SHIFT) + USE]! & FLAG_CACHED) !== 0;
  }

  isFree(b: number): boolean {
    return (this.hot[(b << RECORD_SHIFT) + USE]! & FLAG_FREE) !== 0;
  }

  isSource(b: number): boolean {
    return (this.hot[(b << RECORD_SHIFT) + USE]! & FLAG_SOURCE) !== 0;
  }

  /** A cached block leaves the policy. */
  uncache(b: number): void {
    this.flag(b, FLAG_CACHED, false);
  }

  /** A transfer reads the block. */
  isSaving(b: number): boolean {
    return (this.hot[(b << RECORD_SHIFT) + USE]! & FLAG_SAVING) !== 0;
  }

  setSaving(b: number, on: boolean): void {
    this.flag(b, FLAG_SAVING, on);
  }

  setSource(b: number, on: boolean): void {
    this.flag(b, FLAG_SOURCE, on);
  }

  previous(b: number): number {
    return this.hot[(b << RECORD_SHIFT) + PREVIOUS]!;
  }

  next(b: number): number {
    return this.hot[(b << RECORD_SHIFT) + NEXT]!;
  }

  setPrevious(b: number, value: number): void {
    this.hot[(b << RECORD_SHIFT) + PREVIOUS] = value;
  }

  setNext(b: number, value: number): void {
    this.hot[(b << RECORD_SHIFT) + NEXT] = value;
  }

  endingIn(b: number): number {
    return this.hot[(b << RECORD_SHIFT) + ENDING]!;
  }

  setEndingIn(b: number, sequence: number): void {
    this.hot[(b << RECORD_SHIFT) + ENDING] = sequence;
  }

  /** The free blocks are what the flags say. Returns how many blocks are free, growable ones included. */
  check(): number {
    let count = 0;
    for (let b = 0; b < this.blocks; b++) {
      invariant(this.#free.has(b) === (this.isFree(b) && b < this.#fresh), `block ${b} is lost, or used while free`);
      if (this.#free.has(b)) count++;
    }
    invariant(count === this.#free.size, `${count} free blocks, ${this.#free.size} counted`);
    invariant(this.#fresh <= this.#grown && this.#grown <= this.blocks, 'more blocks in use than the device gave');
    return count + this.blocks - this.#fresh;
  }
}

/**
 * Block copies that a step runs before anything else. At most one waits for each active sequence. One that was taken for a step
 * stays noted until the step ran: if it did not, the copy waits again. Until then nothing is copied into its source.
 */
export class PendingCopies {
  /** (count, 4): from, to, tokens, number of the step that it was taken for (0: none yet). */
  #list = new Int32Array(4 * 16);
  #count = 0;
  /** Steps that copies were taken for, and how many of them ran. */
  #taken = 0;
  #ran = 0;

  constructor(private readonly pool: BlockPool) {}

  get count(): number {
    return this.#count;
  }

  add(from: number, to: number, tokens: number): void {
    if (4 * this.#count === this.#list.length) {
      const bigger = new Int32Array(2 * this.#list.length);
      bigger.set(this.#list);
      this.#list = bigger;
    }
    const at = 4 * this.#count++;
    this.#list[at] = from;
    this.#list[at + 1] = to;
    this.#list[at + 2] = tokens;
    this.#list[at + 3] = 0;
    this.pool.setSource(from, true);
  }

  /** The copy into `to` is not needed any more (its step may be on its way, or over). */
  cancel(to: number): void {
    for (let i = 0; i < this.#count; i++) {
      if (this.#list[4 * i + 1] !== to) continue;
      this.#remove(i);
      return;
    }
  }

  #remove(i: number): void {
    const list = this.#list;
    const from = list[4 * i]!;
    list.copyWithin(4 * i, 4 * (i + 1), 4 * this.#count);
    this.#count--;
    this.pool.setSource(from, this.#reads(from));
  }

  #reads(from: number): boolean {
    for (let i = 0; i < this.#count; i++) if (this.#list[4 * i] === from) return true;
    return false;
  }

  /** Source blocks among those that could be given to somebody: free or cached ones. */
  idleSources(): number {
    let n = 0;
    for (let i = 0; i < this.#count; i++) {
      const from = this.#list[4 * i]!;
      let first = true;
      for (let k = 0; k < i; k++) if (this.#list[4 * k] === from) first = false;
      if (first && (this.pool.isFree(from) || this.pool.isCached(from))) n++;
    }
    return n;
  }

  /** Hands those that wait to a step, as triples; returns how many. */
  take(out: Int32Array): number {
    let n = 0;
    this.#taken++;
    for (let at = 0; at < 4 * this.#count; at += 4) {
      if (this.#list[at + 3] !== 0) continue;
      if (out.length < 3 * (n + 1)) throw new InvariantError(`block copies do not fit into an array of ${out.length}`);
      for (let k = 0; k < 3; k++) out[3 * n + k] = this.#list[at + k]!;
      this.#list[at + 3] = this.#taken;
      n++;
    }
    return n;
  }

  /** The oldest step ran. */
  ran(): void {
    this.#ran++;
    for (let i = this.#count - 1; i >= 0; i--) {
      const step = this.#list[4 * i + 3]!;
      if (step !== 0 && step <= this.#ran) this.#remove(i);
    }
  }

  /** The last `steps` steps will not run. */
  lost(steps: number): void {
    this.#taken -= steps;
    for (let at = 3; at < 4 * this.#count; at += 4) if (this.#list[at]! > this.#taken) this.#list[at] = 0;
  }

  /** No block is both read and written by copies that have not run, and none is written twice. */
  check(): void {
    const to = new Set<number>();
    for (let i = 0; i < this.#count; i++) {
      const t = this.#list[4 * i + 1]!;
      invariant(!to.has(t), `block ${t} is the target of two copies`);
      invariant(this.pool.uses(t) === 1 && !this.pool.isNode(t), `copy into block ${t}, which is not private`);
      to.add(t);
    }
    for (let i = 0; i < this.#count; i++) {
      const from = this.#list[4 * i]!;
      invariant(!to.has(from), `block ${from} is copied from and to`);
      invariant(this.pool.isSource(from), `block ${from} is not marked as a copy's source`);
    }
  }
}
