/**
 * Nodes that lie below the device, and where: a tree of (parent, exact tokens) like the device's own (tree.ts), with tokens of
 * its own, so that it needs nothing of the sequences that made it. A node may have copies in several places at once, since its
 * KV never changes, and is linked with the block that holds it, if one does. A node whose copies are lost stays as long as
 * others hang below it: once it is computed again they are of use.
 *
 * Here is known what there is and which copy goes next; what is moved, and when, is decided in tiers.ts.
 */
import { InvariantError } from '../errors.js';
import { NumberSet, TokenArena } from './memory.js';
import { type BlockPool, NodeRecords } from './pool.js';
import { PrefixIndex } from './prefix-index.js';
import type { Namespaces } from './sequences.js';
import { TokenRuns } from './token-runs.js';
import type { AdoptedNode, TierConfig, TierSnapshot } from './types.js';

/** Nodes without copies that may be kept beyond those that have one. */
const SPARE_NODES = 64;
export const NO_NODE = -0x80000000;

/** A slot cannot be had: now, or not for this node. */
export const LATER = -1;
export const NEVER = -2;

/** Slots of one place: who has them, who uses them, which goes next. */
export class Place {
  evicted = 0;
  /** (slots) the node, or -1. */
  readonly node: Int32Array;
  /** (slots) 1: the copy is good. */
  readonly good: Uint8Array;
  /** (slots) loads that wait for it, and orders under way. */
  readonly users: Uint8Array;
  /** Slots without a node, but for those whose record is yet to be erased. */
  readonly free: NumberSet;
  /** Slots with a node, least recently used first; a node before its parent. */
  first = -1;
  last = -1;
  used = 0;
  readonly previous: Int32Array;
  readonly next: Int32Array;

  constructor(readonly slots: number) {
    this.node = new Int32Array(slots).fill(-1);
    this.good = new Uint8Array(slots);
    this.users = new Uint8Array(slots);
    this.free = new NumberSet(Math.max(1, slots));
    this.previous = new Int32Array(slots);
    this.next = new Int32Array(slots);
    for (let i = 0; i < slots; i++) this.free.add(i);
  }

  /** Puts a slot into the order of use: before slot `before`, or (-1) last. */
  link(slot: number, before: number): void {
    const p = before === -1 ? this.last : this.previous[before]!;
    this.previous[slot] = p;
    this.next[slot] = before;
    if (p === -1) this.first = slot;
    else this.next[p] = slot;
    if (before === -1) this.last = slot;
    else this.previous[before] = slot;
    this.used++;
  }

  unlink(slot: number): void {
    const p = this.previous[slot]!;
    const n = this.next[slot]!;
    if (p === -1) this.first = n;
    else this.next[p] = n;
    if (n === -1) this.last = p;
    else this.previous[n] = p;
    this.used--;
  }

  /** The slot that goes next, or -1: all are in use. */
  victim(): number {
    let slot = this.first;
    while (slot !== -1 && this.users[slot]! > 0) slot = this.next[slot]!;
    return slot;
  }
}

/** What the tree works with. */
interface Above {
  readonly pool: BlockPool;
  readonly runs: TokenRuns;
  readonly namespaces: Namespaces;
}

export class LowerTree {
  readonly host: Place;
  readonly disk: Place;
  readonly nodes: NodeRecords;
  readonly index: PrefixIndex;
  readonly runs: TokenRuns;
  readonly arena: TokenArena;
  /** (nodes) slots and block of a node, or -1. */
  readonly hostOf: Int32Array;
  readonly diskOf: Int32Array;
  readonly blockOf: Int32Array;
  /** (blocks) the node that a node's block is linked with, or -1. */
  readonly nodeOf: Int32Array;
  /** (nodes) the block that a load fills, or -1, and how many sequences wait: such a node stays. */
  readonly target: Int32Array;
  readonly waiters: Int32Array;
  readonly free: NumberSet;
  /** Slots of the disk whose record is to be erased; slots in host memory whose copy is to go to the disk, too. */
  readonly forgets = new Set<number>();
  readonly demotions = new Set<number>();
  /** Nodes that are linked with a block. */
  linked = 0;
  readonly #blockLen: number;

  constructor(
    config: TierConfig,
    private readonly above: Above,
  ) {
    const { pool } = above;
    const slots = config.host + config.disk;
    const nodes = slots + SPARE_NODES;
    this.#blockLen = pool.blockLen;
    this.host = new Place(config.host);
    this.disk = new Place(config.disk);
    this.nodes = new NodeRecords(nodes, pool.blockLen);
    this.arena = new TokenArena(pool.blockLen, slots * pool.blockLen);
    this.runs = new TokenRuns(this.arena, pool.blockLen);
    this.index = new PrefixIndex(this.nodes, this.runs);
    this.hostOf = new Int32Array(nodes).fill(-1);
    this.diskOf = new Int32Array(nodes).fill(-1);
    this.blockOf = new Int32Array(nodes).fill(-1);
    this.target = new Int32Array(nodes).fill(-1);
    this.waiters = new Int32Array(nodes);
    this.nodeOf = new Int32Array(pool.blocks).fill(-1);
    this.free = new NumberSet(nodes);
    for (let n = 0; n < nodes; n++) this.free.add(n);
  }

  /** Looks for the tokens of a node of the device below `parent`; sets the index's query and result. */
  find(b: number, parent: number): void {
    const { pool, runs } = this.above;
    this.index.load(pool.run(b), pool.start(b), pool.end(b), runs);
    this.index.find(parent);
  }

  /**
   * The node of block b, below `parent`; links the two. -1: there is none. A partly filled block may be covered by a node
   * that goes on after it: then that one, not linked.
   */
  nodeFor(b: number, parent: number): number {
    const n = this.nodeOf[b]!;
    if (n !== -1) return n;
    this.find(b, parent);
    const { best, bestLength } = this.index;
    if (bestLength < this.index.queryLength) return -1;
    if (this.nodes.end(best) === this.above.pool.end(b)) this.link(best, b);
    return best;
  }

  link(n: number, b: number): void {
    if (this.blockOf[n] !== -1 || this.nodeOf[b] !== -1) return;
    this.blockOf[n] = b;
    this.nodeOf[b] = n;
    this.linked++;
  }

  unlink(n: number): void {
    const b = this.blockOf[n]!;
    if (b === -1) return;
    this.blockOf[n] = -1;
    this.nodeOf[b] = -1;
    this.linked--;
  }

  /** A node for what the index's query holds, up to position `end`; -1: there is no room for one. */
  create(parent: number, end: number): number {
    if (this.free.size === 0) return -1;
    const n = this.free.takeSmallest();
    const { query, queryLength } = this.index;
    const run = this.runs.createPiece(end - queryLength);
    this.runs.append(run, query, 0, queryLength);
    this.nodes.setEnd(n, end);
    this.nodes.setRun(n, run);
    this.nodes.setNode(n, true);
    this.index.insert(n, parent);
    if (parent < 0) this.above.namespaces.join(-1 - parent);
    return n;
  }

  /** A node that has no copy, nothing below it and nobody who waits for it goes, and so may its parents. */
  prune(n: number): void {
    while (n >= 0 && this.hostOf[n] === -1 && this.diskOf[n] === -1 && !this.nodes.hasChildren(n)) {
      if (this.target[n] !== -1 || this.waiters[n]! > 0) return;
      const parent = this.nodes.parent(n);
      this.unlink(n);
      this.index.remove(n);
      this.runs.unref(this.nodes.run(n));
      this.nodes.setNode(n, false);
      this.free.add(n);
      if (parent < 0) this.above.namespaces.leave(-1 - parent);
      n = parent;
    }
  }

  slotsIn(place: Place): Int32Array {
    return place === this.host ? this.hostOf : this.diskOf;
  }

  /** A slot for node n (which exists already, so that its parents stay), or LATER or NEVER. */
  takeSlot(place: Place, n: number): number {
    let slot = -1;
    if (place.free.size > 0) slot = place.free.takeSmallest();
    else if (place === this.disk && this.forgets.size > 0) {
      slot = this.forgets.values().next().value!;
      this.forgets.delete(slot);
    } else {
      slot = place.victim();
      if (slot === -1) return LATER;
      // a text that is longer than the place is not saved at the cost of its own beginning
      if (this.#isAbove(place.node[slot]!, n)) return NEVER;
      place.evicted++;
      // n may be above the victim, and have nothing else
      this.waiters[n]!++;
      this.drop(place, slot, false);
      this.waiters[n]!--;
      place.free.delete(slot);
    }
    this.slotsIn(place)[n] = slot;
    place.node[slot] = n;
    this.#place(place, slot, n);
    return slot;
  }

  #isAbove(upper: number, n: number): boolean {
    for (let p = this.nodes.parent(n); p >= 0; p = this.nodes.parent(p)) if (p === upper) return true;
    return false;
  }

  /** Puts a new slot into the order of use, after those of the nodes below it and before those above it. */
  #place(place: Place, slot: number, n: number): void {
    const slots = this.slotsIn(place);
    const parent = this.nodes.parent(n);
    if (!this.nodes.hasChildren(n)) {
      place.link(slot, parent >= 0 ? slots[parent]! : -1);
      return;
    }
    place.link(slot, -1);
    for (let p = parent; p >= 0; p = this.nodes.parent(p)) {
      if (slots[p] === -1) continue;
      place.unlink(slots[p]!);
      place.link(slots[p]!, -1);
    }
  }

  /** A slot's copy is gone. `erase`: its record must not be found again after a restart. */
  drop(place: Place, slot: number, erase: boolean): void {
    const n = place.node[slot]!;
    place.unlink(slot);
    place.node[slot] = -1;
    place.good[slot] = 0;
    this.slotsIn(place)[n] = -1;
    if (place === this.host) this.demotions.delete(slot);
    if (erase && place === this.disk) this.forgets.add(slot);
    else place.free.add(slot);
    this.prune(n);
  }

  /** An order that used a slot ended. A copy that was found to be bad goes with its last user. */
  unuse(place: Place, slot: number): void {
    if (--place.users[slot]! === 0 && place.good[slot] === 0) this.drop(place, slot, true);
  }

  /** Node n was used; call it for a path from its end on. */
  touch(n: number): void {
    const h = this.hostOf[n]!;
    if (h !== -1) {
      this.host.unlink(h);
      this.host.link(h, -1);
    }
    const d = this.diskOf[n]!;
    if (d !== -1) {
      this.disk.unlink(d);
      this.disk.link(d, -1);
    }
  }

  /** Node n has a good copy below. */
  isBelow(n: number): boolean {
    return this.isGood(this.host, this.hostOf[n]!) || this.isGood(this.disk, this.diskOf[n]!);
  }

  isGood(place: Place, slot: number): boolean {
    return slot !== -1 && place.good[slot] === 1;
  }

  prefixTokens(node: number, out: Int32Array): number {
    const end = this.nodes.end(node);
    if (!this.nodes.isNode(node) || out.length < end) throw new InvariantError(`${end} tokens of node ${node}`);
    for (let n = node; n >= 0; n = this.nodes.parent(n)) {
      const start = this.nodes.start(n);
      this.runs.read(this.nodes.run(n), start, this.nodes.end(n), out, start);
    }
    return end;
  }

  namespaceOf(node: number): number {
    let n = node;
    while (n >= 0) n = this.nodes.parent(n);
    return this.above.namespaces.ownerOf(-1 - n);
  }

  adopt(records: readonly AdoptedNode[]): number {
    let taken = 0;
    const nodes = new Int32Array(records.length).fill(NO_NODE);
    for (let i = 0; i < records.length; i++) {
      const r = records[i]!;
      const parent = this.#adoptedParent(r, nodes, i);
      if (parent === NO_NODE || !this.#isAdoptable(r, parent)) continue;
      nodes[i] = this.#adopt(r, parent);
      if (nodes[i] !== NO_NODE) taken++;
    }
    return taken;
  }

  #adoptedParent(r: AdoptedNode, nodes: Int32Array, i: number): number {
    if (r.parent >= 0) return r.parent < i ? nodes[r.parent]! : NO_NODE;
    if (r.parent !== -1 || !Number.isInteger(r.namespace) || r.namespace < -1) return NO_NODE;
    return -1 - this.above.namespaces.of(r.namespace === -1 ? null : r.namespace);
  }

  #isAdoptable(r: AdoptedNode, parent: number): boolean {
    const { length } = r.tokens;
    if (!(length >= 1 && length <= this.#blockLen) || r.tokens.some((id) => id < 0)) return false;
    if (parent >= 0 && !this.nodes.isFull(parent)) return false;
    return Number.isInteger(r.disk) && r.disk >= 0 && r.disk < this.disk.slots && this.disk.free.has(r.disk);
  }

  #adopt(r: AdoptedNode, parent: number): number {
    const { index } = this;
    const end = (parent >= 0 ? this.nodes.end(parent) : 0) + r.tokens.length;
    index.use(r.tokens);
    index.find(parent);
    if (index.bestLength === r.tokens.length) return this.nodes.end(index.best) === end ? index.best : NO_NODE;
    const n = this.create(parent, end);
    if (n === -1) return NO_NODE;
    this.disk.free.delete(r.disk);
    this.diskOf[n] = r.disk;
    this.disk.node[r.disk] = n;
    this.disk.good[r.disk] = 1;
    this.#place(this.disk, r.disk, n);
    return n;
  }

  snapshot(): TierSnapshot {
    const slots = (p: Place) => p.good.map((good, slot) => (p.node[slot] === -1 ? 0 : 2 - good));
    const below = new Uint8Array(this.nodeOf.length);
    for (let b = 0; b < below.length; b++) {
      const n = this.nodeOf[b]!;
      if (n === -1) continue;
      below[b] = Number(this.isGood(this.host, this.hostOf[n]!)) + 2 * Number(this.isGood(this.disk, this.diskOf[n]!));
    }
    return { below, host: slots(this.host), disk: slots(this.disk) };
  }
}
