/**
 * Finds blocks by (parent block, tokens). The children of a block are a treap in the order of their tokens (priorities
 * from the block number, so nobody can unbalance it): tokens are always compared, there is no hash to trust, and the
 * neighbour in that order shares the longest beginning, which is what partial sharing wants. Most blocks have one child:
 * then it is one comparison.
 *
 * A parent below 0 is a root: namespace -1 - parent. Namespaces keep texts apart that must not be shared.
 */
import { createCursor } from './memory.js';
import { LEFT, type NodeRecords, RIGHT } from './pool.js';
import type { TokenRuns } from './token-runs.js';

/** No node and no root. */
const NOBODY = -0x80000000;

export class PrefixIndex {
  /** The tokens looked for: fill query[0 … queryLength). */
  query: Int32Array;
  queryLength = 0;
  /** Result of find(): the block that shares the longest beginning with the query, or -1, and how many tokens. */
  best = -1;
  bestLength = 0;
  #roots = new Int32Array(16).fill(-1);
  readonly #siblings: Int32Array;
  readonly #hints: BlockHints;
  readonly #cursor = createCursor();
  /** Number of tokens that the last #compare found equal. */
  #equal = 0;
  /** What findFull() need not compare: up to #sameEnd the text of #sameRun is that of the run looked for. */
  #sameRun = -1;
  #sameEnd = 0;
  /** The way of the last #walk: nodes, ~node where it went left. It is that of the query among the children of #pathOf. */
  #path = new Int32Array(64);
  #pathLength = 0;
  #pathOf = NOBODY;

  constructor(
    private readonly pool: NodeRecords,
    private readonly runs: TokenRuns,
  ) {
    this.#siblings = pool.siblings;
    this.#hints = new BlockHints(pool.count);
    this.query = new Int32Array(pool.blockLen);
  }

  get bytes(): number {
    return this.#hints.bytes;
  }

  /** First child in the treap of `parent`, or -1. */
  root(parent: number): number {
    return parent >= 0 ? this.pool.child(parent) : this.#roots[-1 - parent]!;
  }

  /** Left or right link of a node in its treap, or -1. */
  sibling(b: number, side: number): number {
    return this.pool.isAlone(b) ? -1 : this.#siblings[2 * b + side]!;
  }

  addNamespace(namespace: number): void {
    if (namespace >= this.#roots.length) {
      const bigger = new Int32Array(2 * namespace).fill(-1);
      bigger.set(this.#roots);
      this.#roots = bigger;
    }
    this.#roots[namespace] = -1;
  }

  /** Loads tokens [from, to) of a run (of other runs than those of the nodes, perhaps) as the query. */
  load(run: number, from: number, to: number, runs = this.runs): void {
    this.queryLength = to - from;
    this.#pathOf = NOBODY;
    runs.read(run, from, to, this.query, 0);
  }

  /** The query is `tokens`. */
  use(tokens: Int32Array): void {
    this.queryLength = tokens.length;
    this.#pathOf = NOBODY;
    this.query.set(tokens);
  }

  /** Looks for the query among the children of `parent`: sets best and bestLength. */
  find(parent: number): void {
    this.best = -1;
    this.bestLength = 0;
    this.#pathOf = NOBODY;
    const root = this.root(parent);
    if (root === -1) return;
    const crowded = this.queryLength === this.pool.blockLen && !this.pool.isAlone(root);
    const bucket = crowded ? this.#hints.bucket(parent, this.query, this.queryLength) : -1;
    if (crowded && this.#tryHint(bucket, parent)) return;
    this.#walk(parent, -1);
    if (crowded && this.bestLength === this.pool.blockLen) this.#hints.set(bucket, this.best);
  }

  /** The block that the hint names is the one looked for. */
  #tryHint(bucket: number, parent: number): boolean {
    const { pool } = this;
    const b = this.#hints.get(bucket);
    if (b === -1 || !pool.isNode(b) || pool.parent(b) !== parent || !pool.isFull(b)) return false;
    this.#compare(b, 0);
    if (this.#equal !== pool.blockLen) return false;
    this.best = b;
    this.bestLength = this.#equal;
    return true;
  }

  /**
   * Walks to the place of the query among the children of `parent`, and notes the way. Equal texts stand in the order of
   * their numbers: `number` is the query's, or -1 if it is only looked for.
   */
  #walk(parent: number, number: number): void {
    let n = 0;
    let low = 0;
    let high = 0;
    for (let b = this.root(parent); b !== -1; ) {
      const order = this.#compare(b, Math.min(low, high));
      const equal = this.#equal;
      if (equal > this.bestLength) {
        this.best = b;
        this.bestLength = equal;
        if (equal === this.pool.blockLen && number === -1) return;
      }
      const before = order < 0 || (order === 0 && number < b);
      if (n === this.#path.length) this.#path = doubled(this.#path);
      this.#path[n++] = before ? ~b : b;
      if (before) {
        high = equal;
        b = this.sibling(b, LEFT);
      } else {
        low = equal;
        b = this.sibling(b, RIGHT);
      }
    }
    this.#pathLength = n;
    this.#pathOf = parent;
  }

  /** Compares a stretch of two runs' text at once, for the calls of findFull() for `run` that follow. */
  compareAhead(other: number, run: number, from: number, to: number): void {
    this.#sameRun = other;
    this.#sameEnd = from + this.runs.shared(other, run, from, to);
  }

  /** The text may have changed since: nothing is known. */
  forget(): void {
    this.#sameRun = -1;
  }

  /** The child of `parent` whose text is the whole block of tokens of `run` from `start` on, or -1. */
  findFull(parent: number, run: number, start: number): number {
    const b = this.root(parent);
    if (b === -1) return -1;
    if (this.pool.isAlone(b)) {
      const end = start + this.pool.blockLen;
      if (this.pool.end(b) !== end) return -1;
      const other = this.pool.run(b);
      if (other === this.#sameRun && end <= this.#sameEnd) return b;
      return this.runs.shared(other, run, start, end) === this.pool.blockLen ? b : -1;
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
    const run = this.pool.run(b);
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

  /** Puts a block with its text (pool.end, pool.run set; the query must be its tokens, unless it will be alone) below `parent`. */
  insert(b: number, parent: number): void {
    const { pool } = this;
    pool.setParent(b, parent);
    pool.setChild(b, -1);
    const root = this.root(parent);
    pool.setAlone(b, root === -1);
    if (root === -1) this.#setRoot(parent, b);
    else this.#insertBeside(b, parent, root);
  }

  #insertBeside(b: number, parent: number, root: number): void {
    if (this.queryLength === this.pool.blockLen) {
      this.#hints.set(this.#hints.bucket(parent, this.query, this.queryLength), b);
    }
    const links = this.#siblings;
    if (this.pool.isAlone(root)) {
      this.pool.setAlone(root, false);
      links[2 * root + LEFT] = links[2 * root + RIGHT] = -1;
    }
    if (this.#pathOf !== parent) this.#walk(parent, b);
    const path = this.#path;
    const length = this.#pathLength;
    const mine = priority(b);
    let i = 0;
    while (i < length && priority(nodeOf(path[i]!)) >= mine) i++;
    if (i === 0) this.#setRoot(parent, b);
    else links[2 * nodeOf(path[i - 1]!) + (path[i - 1]! < 0 ? LEFT : RIGHT)] = b;
    // what stood there is split, along the way, into what comes before b and what comes after
    let less = 2 * b + LEFT;
    let more = 2 * b + RIGHT;
    for (; i < length; i++) {
      const x = nodeOf(path[i]!);
      if (path[i]! < 0) {
        links[more] = x;
        more = 2 * x + LEFT;
      } else {
        links[less] = x;
        less = 2 * x + RIGHT;
      }
    }
    links[less] = -1;
    links[more] = -1;
    this.#pathOf = NOBODY;
  }

  /** The query (the tokens of b) stands before node x; equal texts stand in the order of their numbers. */
  #before(b: number, x: number): boolean {
    const order = this.#compare(x, 0);
    return order < 0 || (order === 0 && b < x);
  }

  /** Takes a block out; its tokens must still be there. */
  remove(b: number): void {
    const { pool } = this;
    this.#pathOf = NOBODY;
    const parent = pool.parent(b);
    if (pool.isAlone(b)) {
      this.#setRoot(parent, -1);
      return;
    }
    const links = this.#siblings;
    let above = -1;
    let side = LEFT;
    let x = this.root(parent);
    if (x !== b) {
      const start = pool.start(b);
      this.load(pool.run(b), start, pool.end(b));
      while (x !== b) {
        above = x;
        side = this.#before(b, x) ? LEFT : RIGHT;
        x = links[2 * x + side]!;
      }
    }
    const merged = this.#merge(links[2 * b + LEFT]!, links[2 * b + RIGHT]!);
    if (above !== -1) links[2 * above + side] = merged;
    else this.#setRoot(parent, merged);
    this.#noteAlone(this.root(parent));
  }

  #noteAlone(root: number): void {
    if (root === -1 || this.#siblings[2 * root + LEFT] !== -1 || this.#siblings[2 * root + RIGHT] !== -1) return;
    this.pool.setAlone(root, true);
  }

  #merge(less: number, more: number): number {
    if (less === -1) return more;
    if (more === -1) return less;
    const links = this.#siblings;
    const result = priority(less) >= priority(more) ? less : more;
    let at = -1;
    while (less !== -1 && more !== -1) {
      const fromLess = priority(less) >= priority(more);
      const x = fromLess ? less : more;
      if (at !== -1) links[at] = x;
      if (fromLess) {
        at = 2 * x + RIGHT;
        less = links[at]!;
      } else {
        at = 2 * x + LEFT;
        more = links[at]!;
      }
    }
    links[at] = less !== -1 ? less : more;
    return result;
  }

  #setRoot(parent: number, b: number): void {
    if (parent >= 0) this.pool.setChild(parent, b);
    else this.#roots[-1 - parent] = b;
  }
}

/** Node of an entry of a path. */
function nodeOf(entry: number): number {
  return entry < 0 ? ~entry : entry;
}

function doubled(array: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const bigger = new Int32Array(2 * array.length);
  bigger.set(array);
  return bigger;
}

/** A fixed shuffle of block numbers (all 32-bit numbers map to different ones). */
function priority(b: number): number {
  let x = Math.imul(b + 1, 0x9e3779b1);
  x = Math.imul(x ^ (x >>> 15), 0x85ebca6b);
  return x ^ (x >>> 13);
}

/**
 * Where among many siblings a text may be: a table from the hash of (parent, tokens) to a block, that forgets when two
 * share a place. Only a hint: what it says is checked, token by token, and what it does not know is looked for in the
 * treap; so nobody can do harm by choosing texts whose hashes are equal, and nothing has to be taken out.
 */
class BlockHints {
  /** (buckets) block + 1, or 0. */
  readonly #buckets: Int32Array;

  constructor(blocks: number) {
    this.#buckets = new Int32Array(2 ** Math.ceil(Math.log2(Math.max(2, blocks / 2))));
  }

  get bytes(): number {
    return this.#buckets.byteLength;
  }

  /** The place for a text of `length` tokens below `parent`. */
  bucket(parent: number, tokens: Int32Array, length: number): number {
    // two sums side by side, since each multiplication waits for the one before
    let a = parent ^ 0x811c9dc5;
    let b = length;
    for (let i = 0; i + 1 < length; i += 2) {
      a = Math.imul(a ^ tokens[i]!, 0x01000193);
      b = Math.imul(b ^ tokens[i + 1]!, 0x85ebca6b);
    }
    if (length & 1) a ^= tokens[length - 1]!;
    a = Math.imul(a ^ (b >>> 15) ^ b, 0x9e3779b1);
    return (a ^ (a >>> 15)) & (this.#buckets.length - 1);
  }

  get(bucket: number): number {
    return this.#buckets[bucket]! - 1;
  }

  set(bucket: number, block: number): void {
    this.#buckets[bucket] = block + 1;
  }
}
