import { invariant } from '../../errors.js';
import { alignedRecords, warm } from '../memory.js';
import { GhostTable } from './ghosts.js';
import type { BlockLinks, EvictionPolicy } from './policy.js';
import { BlockList } from './policy.js';
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
/** Info of a block: features, then score class, then turn; and whether it stands for its part of a path. */
const BIN_SHIFT = FEATURE_BITS;
const TURN_SHIFT = BIN_SHIFT + 4;
const MARK = 1 << 30;
/** What is kept of a block: its place (a class's list, or one of those above); its turn; how many blocks up to it are new
 * in that turn; features, class, turn and mark packed; hash of its whole text; when it was released last, in blocks
 * stored (modulo 2^32); its last pause (-1: none). Together 32 bytes, within a cache line (as in pool.ts). */
const PLACE = 0;
const TURN = 1;
const FRESH_COUNT = 2;
const INFO = 3;
const LOW = 4;
const HIGH = 5;
const TIME = 6;
const PAUSE = 7;
const FIELD_SHIFT = 3;
/** Ghosts for each block of the pool, and for how many pools of newly stored blocks they are kept. */
const GHOSTS = 1;
const GHOST_LIFE = 6;
/** Outcomes between two updates of the model: a share of the pool's blocks, within these bounds. */
const UPDATE_SHARE = 1 / 32;
const UPDATE_EVERY = [64, 4096] as const;
/** Evictions between two choices of a list. */
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
  /** (blocks, 8) */
  readonly #b: Int32Array;
  readonly #ghosts: GhostTable;
  readonly #life: number;
  readonly #model: ReuseModel;
  readonly #predictor = new ReusePredictor();
  /** Blocks stored so far. */
  #now = 0;
  #size = 0;
  #outcomes = 0;
  readonly #updateEvery: number;
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
  #warmed = 0;

  constructor(private readonly links: BlockLinks) {
    const n = links.blocks;
    for (let c = 0; c < SCORE_BINS; c++) this.#lists.push(new BlockList(links));
    this.#blocked = new BlockList(links);
    this.#b = alignedRecords(n, FIELD_SHIFT);
    for (let b = 0; b < n; b++) this.#b[(b << FIELD_SHIFT) + PLACE] = NOWHERE;
    this.#ghosts = new GhostTable(GHOSTS * n);
    this.#life = GHOST_LIFE * n;
    this.#updateEvery = Math.round(Math.min(UPDATE_EVERY[1], Math.max(UPDATE_EVERY[0], UPDATE_SHARE * n)));
    this.#model = new ReuseModel(SCORE_BINS, n, this.#life, rateOfBin);
  }

  get size(): number {
    return this.#size;
  }

  get bytes(): number {
    return this.#b.byteLength + this.#ghosts.bytes;
  }

  // ---------------------------------------------------------------- what it is told

  published(b: number, parent: number, low: number, high: number): void {
    this.#now++;
    this.#b[(b << FIELD_SHIFT) + PLACE] = NOWHERE;
    this.#b[(b << FIELD_SHIFT) + INFO] = 0;
    this.#b[(b << FIELD_SHIFT) + TURN] = 0;
    this.#b[(b << FIELD_SHIFT) + FRESH_COUNT] = 1;
    this.#b[(b << FIELD_SHIFT) + PAUSE] = -1;
    if (parent >= 0) {
      low = Math.imul(low ^ this.#b[(parent << FIELD_SHIFT) + LOW]!, 0x9e3779b1);
      low ^= low >>> 15;
      high = Math.imul(high ^ this.#b[(parent << FIELD_SHIFT) + HIGH]! ^ low, 0x85ebca6b);
      high ^= high >>> 13;
      this.#inherit(b, parent);
    }
    this.#b[(b << FIELD_SHIFT) + LOW] = low;
    this.#b[(b << FIELD_SHIFT) + HIGH] = high;
    if (!this.#ghosts.take(low, high)) return;
    const { foundInfo, foundTime } = this.#ghosts;
    this.#b[(b << FIELD_SHIFT) + TURN] = (foundInfo >>> TURN_SHIFT) | SEEN;
    this.#b[(b << FIELD_SHIFT) + FRESH_COUNT] = 0;
    this.#b[(b << FIELD_SHIFT) + PAUSE] = this.#since(foundTime);
    this.#learn(foundInfo, foundTime, true);
  }

  /** A block below one that was released before begins a new turn. */
  #inherit(b: number, parent: number): void {
    const turn = this.#b[(parent << FIELD_SHIFT) + TURN]!;
    this.#b[(b << FIELD_SHIFT) + PAUSE] = this.#b[(parent << FIELD_SHIFT) + PAUSE]!;
    if (turn & SEEN) {
      this.#b[(b << FIELD_SHIFT) + TURN] = Math.min(SEEN - 1, (turn & ~SEEN) + 1);
    } else {
      this.#b[(b << FIELD_SHIFT) + TURN] = turn;
      this.#b[(b << FIELD_SHIFT) + FRESH_COUNT] = Math.min(255, this.#b[(parent << FIELD_SHIFT) + FRESH_COUNT]! + 1);
    }
  }

  reused(b: number): void {
    if (this.#b[(b << FIELD_SHIFT) + PLACE] !== PINNED) return;
    this.#b[(b << FIELD_SHIFT) + PLACE] = NOWHERE;
    this.#b[(b << FIELD_SHIFT) + PAUSE] = Math.min(0x7fffffff, this.#since(this.#b[(b << FIELD_SHIFT) + TIME]!));
    const info = this.#b[(b << FIELD_SHIFT) + INFO]!;
    if (info & MARK) this.#learn(info, this.#b[(b << FIELD_SHIFT) + TIME]!, true);
  }

  /** See BlockPool.warmed. */
  get warmed(): number {
    return this.#warmed;
  }

  warm(blocks: Int32Array, from: number, to: number): void {
    this.#warmed = warm(this.#b, FIELD_SHIFT, blocks, from, to);
  }

  push(b: number, first: boolean): void {
    const mark = this.#follow(b) ? MARK : 0;
    const c = (this.#pathInfo >>> BIN_SHIFT) & (SCORE_BINS - 1);
    this.#b[(b << FIELD_SHIFT) + INFO] =
      this.#pathInfo | ((this.#b[(b << FIELD_SHIFT) + TURN]! & ~SEEN) << TURN_SHIFT) | mark;
    this.#b[(b << FIELD_SHIFT) + TURN]! |= SEEN;
    this.#b[(b << FIELD_SHIFT) + PLACE] = c;
    this.#b[(b << FIELD_SHIFT) + TIME] = this.#now;
    this.#size++;
    if (first) this.#lists[c]!.pushFirst(b);
    else this.#lists[c]!.pushLast(b);
  }

  /** Which part of which path the block is. True: it is the part's first full block, and stands for it. */
  #follow(b: number): boolean {
    const child = this.#lastPushed;
    this.#lastPushed = b;
    let part = this.#part;
    if (child === -1 || this.links.parent(child) !== b) {
      part = END;
      this.#pathEnd = b;
      this.#pathTurn = this.#b[(b << FIELD_SHIFT) + TURN]! & ~SEEN;
    } else if (part !== OLD) {
      part = this.#b[(b << FIELD_SHIFT) + TURN]! & SEEN ? OLD : FRESH;
    }
    const begins = part === END || part !== this.#part;
    const marked = begins && this.links.isFull(b);
    if (begins) {
      const end = this.#pathEnd;
      const length = this.links.depth(end) + 1;
      const features = packFeatures(
        this.#pathTurn,
        this.#b[(end << FIELD_SHIFT) + FRESH_COUNT]!,
        length,
        this.#b[(end << FIELD_SHIFT) + PAUSE]!,
        part,
      );
      this.#pathInfo = features | (this.#predictor.bin(features) << BIN_SHIFT);
      if (marked) this.#begin();
    }
    this.#part = part;
    return marked;
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
    if (++this.#outcomes % this.#updateEvery === 0) this.#model.update(this.#now);
  }

  // ---------------------------------------------------------------- eviction

  remove(b: number): void {
    const p = this.#b[(b << FIELD_SHIFT) + PLACE]!;
    (p === BLOCKED ? this.#blocked : this.#lists[p]!).remove(b);
    this.#b[(b << FIELD_SHIFT) + PLACE] = PINNED;
    this.#size--;
    if (this.#lastPushed === b) this.#lastPushed = -1;
  }

  victim(): number {
    if (this.#size === 0) return -1;
    const p = this.#orphan;
    let b = p >= 0 && this.#b[(p << FIELD_SHIFT) + PLACE] === BLOCKED && !this.links.hasChildren(p) ? p : -1;
    while (b === -1) {
      b = this.#cheapest();
      if (b === -1) b = this.#anyBlocked();
      else if (this.links.hasChildren(b)) b = this.#block(b);
    }
    this.remove(b);
    this.#b[(b << FIELD_SHIFT) + PLACE] = NOWHERE;
    this.#orphan = this.links.parent(b);
    if (this.#b[(b << FIELD_SHIFT) + INFO]! & MARK) this.#remember(b);
    return b;
  }

  /** Its turn has come, but its children's has not. */
  #block(b: number): -1 {
    this.#lists[this.#b[(b << FIELD_SHIFT) + PLACE]!]!.remove(b);
    this.#blocked.pushLast(b);
    this.#b[(b << FIELD_SHIFT) + PLACE] = BLOCKED;
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
    ghosts.add(
      this.#b[(b << FIELD_SHIFT) + LOW]!,
      this.#b[(b << FIELD_SHIFT) + HIGH]!,
      this.#b[(b << FIELD_SHIFT) + TIME]!,
      this.#b[(b << FIELD_SHIFT) + INFO]! & ~MARK,
    );
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
    return this.#model.index[c * AGES + this.#model.age(this.#since(this.#b[(b << FIELD_SHIFT) + TIME]!))]!;
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
        invariant(this.#b[(b << FIELD_SHIFT) + PLACE] === place, `block ${b} is in the wrong list`);
        count++;
      }
    };
    this.#lists.forEach(walk);
    walk(this.#blocked, BLOCKED);
    invariant(count === this.#size, `${count} blocks listed, ${this.#size} counted`);
  }
}
