/**
 * Finds blocks by (parent block, tokens). The children of a block are a treap in the order of their tokens (priorities
 * from the block number, so nobody can unbalance it): tokens are always compared, there is no hash to trust, and the
 * neighbour in that order shares the longest beginning, which is what partial sharing wants. Most blocks have one child:
 * then it is one comparison.
 *
 * A parent below 0 is a root: domain -1 - parent. Domains keep texts apart that must not be shared.
 */
import { type BlockPool, CHILD, LEFT, PARENT, RIGHT, RUN, TREE } from './block-pool.js';
import { createCursor } from './token-arena.js';
import type { TokenRuns } from './token-runs.js';

export class PrefixIndex {
  /** The tokens looked for: fill query[0 … queryLength). */
  query: Int32Array;
  queryLength = 0;
  /** Result of find(): the block that shares the longest beginning with the query, or -1, and how many tokens. */
  best = -1;
  bestLength = 0;
  #roots = new Int32Array(16).fill(-1);
  readonly #tree: Int32Array;
  readonly #cursor = createCursor();
  /** Number of tokens that the last #compare found equal. */
  #equal = 0;

  constructor(
    private readonly pool: BlockPool,
    private readonly runs: TokenRuns,
  ) {
    this.#tree = pool.tree;
    this.query = new Int32Array(pool.blockLen);
  }

  /** First child in the treap of `parent`, or -1. */
  root(parent: number): number {
    return parent >= 0 ? this.#tree[parent * TREE + CHILD]! : this.#roots[-1 - parent]!;
  }

  addDomain(domain: number): void {
    if (domain >= this.#roots.length) {
      const bigger = new Int32Array(2 * domain).fill(-1);
      bigger.set(this.#roots);
      this.#roots = bigger;
    }
    this.#roots[domain] = -1;
  }

  /** Loads tokens [from, to) of a run as the query. */
  load(run: number, from: number, to: number): void {
    this.queryLength = to - from;
    this.runs.read(run, from, to, this.query, 0);
  }

  /** Looks for the query among the children of `parent`: sets best and bestLength. */
  find(parent: number): void {
    const tree = this.#tree;
    let low = 0;
    let high = 0;
    this.best = -1;
    this.bestLength = 0;
    for (let b = this.root(parent); b !== -1; ) {
      const order = this.#compare(b, Math.min(low, high));
      const equal = this.#equal;
      if (equal > this.bestLength) {
        this.best = b;
        this.bestLength = equal;
        if (equal === this.pool.blockLen) return;
      }
      if (order < 0) {
        high = equal;
        b = tree[b * TREE + LEFT]!;
      } else {
        low = equal;
        b = tree[b * TREE + RIGHT]!;
      }
    }
  }

  /** The child of `parent` whose text is the whole block of tokens of `run` from `start` on, or -1. */
  findFull(parent: number, run: number, start: number): number {
    const b = this.root(parent);
    if (b === -1) return -1;
    const at = b * TREE;
    if (this.#tree[at + LEFT] === -1 && this.#tree[at + RIGHT] === -1) {
      if (this.pool.end(b) !== start + this.pool.blockLen) return -1;
      return this.runs.same(this.#tree[at + RUN]!, run, start, start + this.pool.blockLen) ? b : -1;
    }
    this.load(run, start, start + this.pool.blockLen);
    this.find(parent);
    return this.bestLength === this.pool.blockLen ? this.best : -1;
  }

  /** Order of the query against a node's tokens, the first `from` of which are known to be equal. */
  #compare(b: number, from: number): number {
    const start = this.pool.start(b);
    const length = this.pool.end(b) - start;
    const limit = Math.min(length, this.queryLength);
    const { query } = this;
    const run = this.#tree[b * TREE + RUN]!;
    const c = this.#cursor;
    let i = from;
    while (i < limit) {
      this.runs.locate(run, start + i, c);
      const { data } = c;
      const shift = c.at - i;
      const n = Math.min(limit, i + c.span);
      while (i < n && data[shift + i] === query[i]) i++;
      if (i < n) {
        this.#equal = i;
        return query[i]! - data[shift + i]!;
      }
    }
    this.#equal = limit;
    return this.queryLength - length;
  }

  /** Puts a block with its text (pool.end, tree RUN set; the query must be its tokens) below `parent`. */
  insert(b: number, parent: number): void {
    const tree = this.#tree;
    const at = b * TREE;
    tree[at + PARENT] = parent;
    tree[at + CHILD] = -1;
    tree[at + LEFT] = -1;
    tree[at + RIGHT] = -1;
    const root = this.root(parent);
    if (root === -1) {
      this.#setRoot(parent, b);
      return;
    }
    let above = -1;
    let field = 0;
    let x = root;
    const mine = priority(b);
    while (x !== -1 && priority(x) >= mine) {
      above = x;
      field = this.#before(b, x) ? LEFT : RIGHT;
      x = tree[x * TREE + field]!;
    }
    if (above === -1) this.#setRoot(parent, b);
    else tree[above * TREE + field] = b;
    // what stood there is split into what comes before b and what comes after
    let less = at + LEFT;
    let more = at + RIGHT;
    while (x !== -1) {
      if (this.#before(b, x)) {
        tree[more] = x;
        more = x * TREE + LEFT;
        x = tree[more]!;
      } else {
        tree[less] = x;
        less = x * TREE + RIGHT;
        x = tree[less]!;
      }
    }
    tree[less] = -1;
    tree[more] = -1;
  }

  /** The query (the tokens of b) stands before node x; equal texts stand in the order of their numbers. */
  #before(b: number, x: number): boolean {
    const order = this.#compare(x, 0);
    return order < 0 || (order === 0 && b < x);
  }

  /** Takes a block out; its tokens must still be there. */
  remove(b: number): void {
    const tree = this.#tree;
    const parent = tree[b * TREE + PARENT]!;
    let above = -1;
    let field = 0;
    let x = this.root(parent);
    if (x !== b) {
      const start = this.pool.start(b);
      this.load(tree[b * TREE + RUN]!, start, this.pool.end(b));
      while (x !== b) {
        above = x;
        field = this.#before(b, x) ? LEFT : RIGHT;
        x = tree[x * TREE + field]!;
      }
    }
    const merged = this.#merge(tree[b * TREE + LEFT]!, tree[b * TREE + RIGHT]!);
    if (above === -1) this.#setRoot(parent, merged);
    else tree[above * TREE + field] = merged;
  }

  #merge(less: number, more: number): number {
    if (less === -1) return more;
    if (more === -1) return less;
    const tree = this.#tree;
    const result = priority(less) >= priority(more) ? less : more;
    let at = -1;
    while (less !== -1 && more !== -1) {
      const fromLess = priority(less) >= priority(more);
      const x = fromLess ? less : more;
      if (at !== -1) tree[at] = x;
      if (fromLess) {
        at = x * TREE + RIGHT;
        less = tree[at]!;
      } else {
        at = x * TREE + LEFT;
        more = tree[at]!;
      }
    }
    tree[at] = less !== -1 ? less : more;
    return result;
  }

  #setRoot(parent: number, b: number): void {
    if (parent >= 0) this.#tree[parent * TREE + CHILD] = b;
    else this.#roots[-1 - parent] = b;
  }
}

/** A fixed shuffle of block numbers (all 32-bit numbers map to different ones). */
function priority(b: number): number {
  let x = Math.imul(b + 1, 0x9e3779b1);
  x = Math.imul(x ^ (x >>> 15), 0x85ebca6b);
  return x ^ (x >>> 13);
}
