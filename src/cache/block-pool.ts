/**
 * Per-block state in one interleaved array, 40 bytes a block (so that a block costs one cache line, or two), plus 4 for
 * the stack of free blocks.
 *
 * A block is in exactly one place: never used, on the free stack, in the policy (cached), or in use by active sequences.
 * A *node* is a block that holds finished text and hangs in the prefix tree; a *private* block is being written by one
 * active sequence and hangs nowhere.
 */
import { InvariantError, invariant } from '../errors.js';
import type { BlockLinks } from './policy.js';

/** Use count and flags, list links, where the text ends. */
const USE = 0;
const PREVIOUS = 1;
const NEXT = 2;
const END = 3;
const HOT = 10;
/** Tree: see prefix-index.ts. TIPS: first of the sequences whose last node this is. */
export const PARENT = 4;
export const CHILD = 5;
export const LEFT = 6;
export const RIGHT = 7;
export const RUN = 8;
export const TIPS = 9;
export const TREE = HOT;

const FLAG_NODE = 1;
const FLAG_CACHED = 2;
const FLAG_FREE = 4;
const FLAG_SOURCE = 8;
const USE_SHIFT = 4;
const ONE_USE = 1 << USE_SHIFT;

export class BlockPool implements BlockLinks {
  readonly #hot: Int32Array;
  /** (blocks, TREE) the same array, for those who walk the tree. */
  readonly tree: Int32Array;
  readonly #stack: Int32Array;
  #stackSize = 0;
  /** Blocks that the device gave, and how many of them were ever used. */
  #grown = 0;
  #fresh = 0;
  #refused = false;
  #warmed = 0;
  refusals = 0;

  constructor(
    readonly blocks: number,
    readonly blockLen: number,
    private readonly chunk: number,
    private readonly grow: (total: number) => boolean,
  ) {
    this.#hot = new Int32Array(blocks * HOT);
    this.tree = this.#hot;
    this.#stack = new Int32Array(blocks);
  }

  get bytes(): number {
    return this.#hot.byteLength + this.#stack.byteLength;
  }

  get grown(): number {
    return this.#grown;
  }

  /** Free blocks that need no growth. */
  get free(): number {
    return this.#stackSize + this.#grown - this.#fresh;
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

  /**
   * Reads the records of blocks[from … to) in one go. What follows then finds them in the processor's cache: the reads do
   * not depend on one another, so the memory serves them side by side.
   */
  warm(blocks: Int32Array, from: number, to: number): void {
    let any = 0;
    for (let i = from; i < to; i++) any |= this.#hot[blocks[i]! * HOT]!;
    this.#warmed = any;
  }

  /** The same for the next `count` blocks of the free stack. */
  warmFree(count: number): void {
    this.warm(this.#stack, Math.max(0, this.#stackSize - count), this.#stackSize);
  }

  /** Something read at last, so that the reads are not optimised away. */
  get warmed(): number {
    return this.#warmed;
  }

  /** A free block, low ones first, or -1. The caller owns it with one use. */
  take(): number {
    let b: number;
    if (this.#stackSize > 0) b = this.#stack[--this.#stackSize]!;
    else if (this.#fresh < this.#grown) b = this.#fresh++;
    else return -1;
    this.adopt(b);
    return b;
  }

  /** Makes an unused block the caller's: private, one use. A pending copy out of it stays noted. */
  adopt(b: number): void {
    this.#hot[b * HOT + USE] = ONE_USE | (this.#hot[b * HOT + USE]! & FLAG_SOURCE);
    this.#hot[b * HOT + END] = 0;
  }

  /** Back on the free stack. */
  give(b: number): void {
    const at = b * HOT + USE;
    if ((this.#hot[at]! & FLAG_FREE) !== 0) throw new InvariantError(`block ${b} is freed twice`);
    this.#hot[at] = FLAG_FREE | (this.#hot[at]! & FLAG_SOURCE);
    this.#stack[this.#stackSize++] = b;
  }

  // ---------------------------------------------------------------- fields

  uses(b: number): number {
    return this.#hot[b * HOT + USE]! >>> USE_SHIFT;
  }

  /** Adds a use; true if it was the first. */
  pin(b: number): boolean {
    const u = this.#hot[b * HOT + USE]!;
    this.#hot[b * HOT + USE] = (u + ONE_USE) & ~FLAG_CACHED;
    return u < ONE_USE;
  }

  /** Takes a use back; true if it was the last. */
  unpin(b: number): boolean {
    const u = this.#hot[b * HOT + USE]! - ONE_USE;
    this.#hot[b * HOT + USE] = u;
    return u < ONE_USE;
  }

  isNode(b: number): boolean {
    return (this.#hot[b * HOT + USE]! & FLAG_NODE) !== 0;
  }

  isCached(b: number): boolean {
    return (this.#hot[b * HOT + USE]! & FLAG_CACHED) !== 0;
  }

  isFree(b: number): boolean {
    return (this.#hot[b * HOT + USE]! & FLAG_FREE) !== 0;
  }

  isSource(b: number): boolean {
    return (this.#hot[b * HOT + USE]! & FLAG_SOURCE) !== 0;
  }

  setNode(b: number, on: boolean): void {
    this.#flag(b, FLAG_NODE, on);
  }

  setCached(b: number, on: boolean): void {
    this.#flag(b, FLAG_CACHED, on);
  }

  setSource(b: number, on: boolean): void {
    this.#flag(b, FLAG_SOURCE, on);
  }

  #flag(b: number, flag: number, on: boolean): void {
    if (on) this.#hot[b * HOT + USE]! |= flag;
    else this.#hot[b * HOT + USE]! &= ~flag;
  }

  /** Position after the block's last token, for a node. */
  end(b: number): number {
    return this.#hot[b * HOT + END]!;
  }

  setEnd(b: number, end: number): void {
    this.#hot[b * HOT + END] = end;
  }

  /** Position of a node's first token. */
  start(b: number): number {
    const last = this.#hot[b * HOT + END]! - 1;
    return last - (last % this.blockLen);
  }

  depth(b: number): number {
    return Math.floor((this.#hot[b * HOT + END]! - 1) / this.blockLen);
  }

  isFull(b: number): boolean {
    return this.#hot[b * HOT + END]! % this.blockLen === 0;
  }

  previous(b: number): number {
    return this.#hot[b * HOT + PREVIOUS]!;
  }

  next(b: number): number {
    return this.#hot[b * HOT + NEXT]!;
  }

  setPrevious(b: number, value: number): void {
    this.#hot[b * HOT + PREVIOUS] = value;
  }

  setNext(b: number, value: number): void {
    this.#hot[b * HOT + NEXT] = value;
  }

  parent(b: number): number {
    return this.tree[b * TREE + PARENT]!;
  }

  hasChildren(b: number): boolean {
    return this.tree[b * TREE + CHILD]! !== -1;
  }

  run(b: number): number {
    return this.tree[b * TREE + RUN]!;
  }

  tips(b: number): number {
    return this.tree[b * TREE + TIPS]!;
  }

  setTips(b: number, sequence: number): void {
    this.tree[b * TREE + TIPS] = sequence;
  }

  /** The free stack is what the flags say. Returns how many blocks are free, growable ones included. */
  check(): number {
    const seen = new Uint8Array(this.blocks);
    for (let i = 0; i < this.#stackSize; i++) {
      const b = this.#stack[i]!;
      invariant(!seen[b], `block ${b} is on the free stack twice`);
      invariant(this.isFree(b) && b < this.#fresh, `block ${b} is on the free stack, but not free`);
      seen[b] = 1;
    }
    for (let b = 0; b < this.#fresh; b++) invariant(!this.isFree(b) || seen[b], `free block ${b} is lost`);
    invariant(this.#fresh <= this.#grown && this.#grown <= this.blocks, 'more blocks in use than the device gave');
    return this.#stackSize + this.blocks - this.#fresh;
  }
}
