import { invariant } from '../errors.js';
import { BlockList } from './block-list.js';
import { GhostTable } from './ghosts.js';
import type { BlockLinks, EvictionPolicy } from './policy.js';
import { AGES, ReuseModel } from './reuse-model.js';
import {
  END,
  FEATURE_BITS,
  FRESH,
  OLD,
  packFeatures,
  ReusePredictor,
  rateOfBin,
  SCORE_BINS,
} from './reuse-predictor.js';

/** Places of a block that is in no class's list: it was just pinned, or waits for its children to go. */
const NOWHERE = 255;
const PINNED = 254;
const BLOCKED = 253;
/** Flag beside the turn: released before, or known from before its eviction. */
const SEEN = 128;
/** Info of a block: features, then score class, then turn. */
const BIN_SHIFT = FEATURE_BITS;
const TURN_SHIFT = BIN_SHIFT + 4;
/** Ghosts for each block of the pool, and for how many pools of newly stored blocks they are kept. */
const GHOSTS = 1;
const GHOST_LIFE = 6;
/** Outcomes between two updates of the model; evictions between two choices of a list. */
const UPDATE_EVERY = 64;
const CHOICE_LASTS = 8;

/**
 * Evicts what will bring the fewest hits for the room it takes, by experience.
 *
 * Each released path is scored by its turn (how often the talk went on), its new blocks, its length and its last pause
 * (reuse-predictor.ts). Blocks of like scores share a list and what is known about their pauses (reuse-model.ts); the
 * next victim is the least promising of all lists' oldest and youngest blocks. What becomes of evicted blocks is seen
 * through ghosts of the blocks that stand for their path. A chosen block with children waits until they are gone.
 */
export class AdaptivePolicy implements EvictionPolicy {
  readonly name = 'adaptive';
  readonly wantsHashes = true;
  readonly #lists: BlockList[] = [];
  readonly #blocked: BlockList;
  /** (blocks) class of the list it is in, or one of the places above. */
  readonly #place: Uint8Array;
  readonly #turn: Uint8Array;
  /** (blocks) how many blocks up to this one are new in its turn. */
  readonly #fresh: Uint8Array;
  /** (blocks) 1: stands for its part of the path; its fate is learned from. */
  readonly #marked: Uint8Array;
  readonly #info: Int32Array;
  readonly #low: Int32Array;
  readonly #high: Int32Array;
  /** (blocks) when it was released last; blocks stored, modulo 2^32. */
  readonly #time: Uint32Array;
  /** (blocks) length of its last pause; -1: none. */
  readonly #pause: Int32Array;
  readonly #ghosts: GhostTable;
  readonly #life: number;
  readonly #model: ReuseModel;
  readonly #predictor = new ReusePredictor();
  /** Blocks stored so far. */
  #now = 0;
  #size = 0;
  #outcomes = 0;
  /** The path that is being released, from its end. */
  #lastPushed = -1;
  #pathEnd = -1;
  #pathTurn = 0;
  #part = END;
  #pathInfo = 0;
  /** Parent of the last victim: it may have waited for that. */
  #orphan = -1;
  #choice = -1;
  #choiceLeft = 0;

  constructor(private readonly links: BlockLinks) {
    const n = links.blocks;
    for (let c = 0; c < SCORE_BINS; c++) this.#lists.push(new BlockList(links));
    this.#blocked = new BlockList(links);
    this.#place = new Uint8Array(n).fill(NOWHERE);
    this.#turn = new Uint8Array(n);
    this.#fresh = new Uint8Array(n);
    this.#marked = new Uint8Array(n);
    this.#info = new Int32Array(n);
    this.#low = new Int32Array(n);
    this.#high = new Int32Array(n);
    this.#time = new Uint32Array(n);
    this.#pause = new Int32Array(n);
    this.#ghosts = new GhostTable(GHOSTS * n);
    this.#life = GHOST_LIFE * n;
    this.#model = new ReuseModel(SCORE_BINS, n, this.#life, rateOfBin);
  }

  get size(): number {
    return this.#size;
  }

  get bytes(): number {
    return this.#place.length * 24 + this.#ghosts.bytes;
  }

  // ---------------------------------------------------------------- what it is told

  published(b: number, parent: number, low: number, high: number): void {
    this.#now++;
    this.#place[b] = NOWHERE;
    this.#marked[b] = 0;
    this.#turn[b] = 0;
    this.#fresh[b] = 1;
    this.#pause[b] = -1;
    if (parent >= 0) {
      low = Math.imul(low ^ this.#low[parent]!, 0x9e3779b1);
      low ^= low >>> 15;
      high = Math.imul(high ^ this.#high[parent]! ^ low, 0x85ebca6b);
      high ^= high >>> 13;
      this.#inherit(b, parent);
    }
    this.#low[b] = low;
    this.#high[b] = high;
    if (!this.#ghosts.take(low, high)) return;
    const { foundInfo, foundTime } = this.#ghosts;
    this.#turn[b] = (foundInfo >>> TURN_SHIFT) | SEEN;
    this.#fresh[b] = 0;
    this.#pause[b] = this.#since(foundTime);
    this.#learn(foundInfo, foundTime, true);
  }

  /** A block below one that was released before begins a new turn. */
  #inherit(b: number, parent: number): void {
    const turn = this.#turn[parent]!;
    this.#pause[b] = this.#pause[parent]!;
    if (turn & SEEN) {
      this.#turn[b] = Math.min(SEEN - 1, (turn & ~SEEN) + 1);
    } else {
      this.#turn[b] = turn;
      this.#fresh[b] = Math.min(255, this.#fresh[parent]! + 1);
    }
  }

  reused(b: number): void {
    if (this.#place[b] !== PINNED) return;
    this.#place[b] = NOWHERE;
    this.#pause[b] = Math.min(0x7fffffff, this.#since(this.#time[b]!));
    if (this.#marked[b] === 1) this.#learn(this.#info[b]!, this.#time[b]!, true);
  }

  push(b: number, first: boolean): void {
    this.#follow(b);
    const c = (this.#pathInfo >>> BIN_SHIFT) & (SCORE_BINS - 1);
    this.#info[b] = this.#pathInfo | ((this.#turn[b]! & ~SEEN) << TURN_SHIFT);
    this.#turn[b]! |= SEEN;
    this.#place[b] = c;
    this.#time[b] = this.#now;
    this.#size++;
    if (first) this.#lists[c]!.pushFirst(b);
    else this.#lists[c]!.pushLast(b);
  }

  /** Which part of which path the block is; its first block is marked, and its features are those of the part. */
  #follow(b: number): void {
    const child = this.#lastPushed;
    this.#lastPushed = b;
    let part = this.#part;
    if (child === -1 || this.links.parent(child) !== b) {
      part = END;
      this.#pathEnd = b;
      this.#pathTurn = this.#turn[b]! & ~SEEN;
    } else if (part !== OLD) {
      part = this.#turn[b]! & SEEN ? OLD : FRESH;
    }
    this.#marked[b] = Number((part === END || part !== this.#part) && this.links.isFull(b));
    if (part === END || part !== this.#part) {
      const end = this.#pathEnd;
      const length = this.links.depth(end) + 1;
      const features = packFeatures(this.#pathTurn, this.#fresh[end]!, length, this.#pause[end]!, part);
      this.#pathInfo = features | (this.#predictor.bin(features) << BIN_SHIFT);
      if (this.#marked[b] === 1) this.#begin();
    }
    this.#part = part;
  }

  // ---------------------------------------------------------------- learning

  #since(time: number): number {
    return (this.#now - time) >>> 0;
  }

  /** A life begins: the predictor takes it for a failure until it is used. */
  #begin(): void {
    this.#predictor.learn(this.#pathInfo & ((1 << FEATURE_BITS) - 1), false);
    this.#model.born((this.#pathInfo >>> BIN_SHIFT) & (SCORE_BINS - 1), this.#now);
  }

  #learn(info: number, time: number, used: boolean): void {
    const bin = (info >>> BIN_SHIFT) & (SCORE_BINS - 1);
    this.#model.end(bin, this.#now - this.#since(time), this.#now, used);
    if (used) this.#predictor.learn(info & ((1 << FEATURE_BITS) - 1), true);
    if (++this.#outcomes % UPDATE_EVERY === 0) this.#model.update(this.#now);
  }

  // ---------------------------------------------------------------- eviction

  remove(b: number): void {
    const p = this.#place[b]!;
    (p === BLOCKED ? this.#blocked : this.#lists[p]!).remove(b);
    this.#place[b] = PINNED;
    this.#size--;
    if (this.#lastPushed === b) this.#lastPushed = -1;
  }

  victim(): number {
    if (this.#size === 0) return -1;
    const p = this.#orphan;
    let b = p >= 0 && this.#place[p] === BLOCKED && !this.links.hasChildren(p) ? p : -1;
    while (b === -1) {
      b = this.#cheapest();
      if (b === -1) b = this.#anyBlocked();
      else if (this.links.hasChildren(b)) b = this.#block(b);
    }
    this.remove(b);
    this.#place[b] = NOWHERE;
    this.#orphan = this.links.parent(b);
    if (this.#marked[b] === 1) this.#remember(b);
    return b;
  }

  /** Its turn has come, but its children's has not. */
  #block(b: number): -1 {
    this.#lists[this.#place[b]!]!.remove(b);
    this.#blocked.pushLast(b);
    this.#place[b] = BLOCKED;
    return -1;
  }

  #anyBlocked(): number {
    let b = this.#blocked.first;
    while (this.links.hasChildren(b)) b = this.links.next(b);
    return b;
  }

  #remember(b: number): void {
    const ghosts = this.#ghosts;
    while (ghosts.expire(this.#now, this.#life)) this.#learn(ghosts.foundInfo, ghosts.foundTime, false);
    ghosts.add(this.#low[b]!, this.#high[b]!, this.#time[b]!, this.#info[b]!);
  }

  /** Oldest or youngest block of the list that was chosen last; a new choice is made every few evictions. */
  #cheapest(): number {
    if (this.#choiceLeft-- <= 0 || this.#chosen() === -1) {
      this.#choose();
      this.#choiceLeft = CHOICE_LASTS;
    }
    return this.#chosen();
  }

  #chosen(): number {
    if (this.#choice < 0) return -1;
    const list = this.#lists[this.#choice >> 1]!;
    return this.#choice & 1 ? list.last : list.first;
  }

  #choose(): void {
    this.#choice = -1;
    let least = Infinity;
    for (let c = 0; c < SCORE_BINS; c++) {
      const list = this.#lists[c]!;
      if (list.first === -1) continue;
      const oldest = this.#worth(c, list.first);
      const youngest = this.#worth(c, list.last);
      const worth = Math.min(oldest, youngest);
      if (worth >= least) continue;
      least = worth;
      this.#choice = 2 * c + Number(youngest < oldest);
    }
  }

  #worth(c: number, b: number): number {
    return this.#model.index[c * AGES + this.#model.age(this.#since(this.#time[b]!))]!;
  }

  // ---------------------------------------------------------------- seeing it

  /** List by list, the least promising list first; within the bounds of `out`. */
  order(out: Int32Array): number {
    const lists = this.#lists.map((list, c) => ({ list, worth: list.first === -1 ? 0 : this.#worth(c, list.first) }));
    lists.sort((a, b) => a.worth - b.worth);
    let n = 0;
    for (const list of [...lists.map((l) => l.list), this.#blocked]) {
      for (let b = list.first; b !== -1 && n < out.length; b = this.links.next(b)) out[n++] = b;
    }
    return n;
  }

  check(): void {
    let count = 0;
    const walk = (list: BlockList, place: number) => {
      for (let b = list.first; b !== -1; b = this.links.next(b)) {
        invariant(this.#place[b] === place, `block ${b} is in the wrong list`);
        count++;
      }
    };
    this.#lists.forEach(walk);
    walk(this.#blocked, BLOCKED);
    invariant(count === this.#size, `${count} blocks listed, ${this.#size} counted`);
  }
}
