/**
 * What lies below the device. Integers only: here is decided what is saved, brought back and forgotten; somebody else
 * moves the bytes, whenever it can.
 *
 * A *node* is (parent, exact tokens). What the device holds of it is found by block (tree.ts); what lies below is found
 * here, by node: a second tree, with tokens of its own, so that it needs nothing of the sequences that made it. A node
 * may have copies in several places at once, since its KV never changes. It is linked with the block that holds it, if one
 * does. A node whose copies are lost stays as long as others hang below it: once it is computed again they are of use.
 *
 * Saving is write-behind: when a sequence leaves the batch, what has no copy in the first place below is queued. A block
 * that is needed before its turn came is simply dropped. So nothing here ever waits for a disk.
 */
import { InvariantError } from '../errors.js';
import { NumberSet, TokenArena } from './memory.js';
import { type BlockPool, NodeRecords, type PendingCopies } from './pool.js';
import { PrefixIndex } from './prefix-index.js';
import type { SequenceBlocks } from './sequence-blocks.js';
import { type Namespaces, S, type SequenceStore } from './sequences.js';
import { TokenRuns } from './token-runs.js';
import type { Below, BlockTree } from './tree.js';
import type { AdoptedNode, RestoreCost, TierConfig, TierSnapshot, TierStats, TransferOrder } from './types.js';

/** Nodes without copies that may be kept beyond those that have one. */
const SPARE_NODES = 64;
/** What a node's load is about. */
export const IDLE = 0;
export const WAITING = 1;
/** Its bytes are on their way into memory; the block is not touched yet. */
export const READING = 2;
/** The block is being written. */
export const WRITING = 3;
const ARRIVED = 4;

const NO_NODE = -0x80000000;
/** A slot cannot be had: now, or not for this node. */
const LATER = -1;
const NEVER = -2;

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

/** A sequence that waits for its nodes, which fill its table from block index `from` on. */
interface Restoring {
  readonly from: number;
  readonly nodes: readonly number[];
  /** Those before this one are not waited for any longer, those before that one are in the table. */
  ended: number;
  taken: number;
}

/** What the tiers work with. */
export interface Device {
  readonly pool: BlockPool;
  readonly tree: BlockTree;
  readonly sequences: SequenceStore;
  readonly runs: TokenRuns;
  readonly namespaces: Namespaces;
  readonly copies: PendingCopies;
  readonly blocks: SequenceBlocks;
}

export class Tiers implements Below {
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
  /** (nodes) the block that a load fills, where it comes from, how far it is, and how many sequences wait for it. */
  readonly target: Int32Array;
  readonly fromDisk: Uint8Array;
  readonly phase: Uint8Array;
  readonly waiters: Int32Array;
  readonly free: NumberSet;
  readonly restoring = new Map<number, Restoring>();
  /** Orders handed out, and what of each kind waits: nodes, slots, blocks, slots; first in, first out. */
  readonly orders = new Map<number, TransferOrder>();
  readonly loads = new Set<number>();
  readonly forgets = new Set<number>();
  readonly saves = new Set<number>();
  readonly demotions = new Set<number>();
  /** Blocks that saves under way read. */
  readonly saving = new Set<number>();
  readonly maxWrites: number;
  tokensRestored = 0;
  /** Saves and demotions under way. */
  #writes = 0;
  #linked = 0;
  #nextOrder = 0;
  #demoteNext = false;
  /** Partly filled node that a save under way makes superfluous, by order. */
  readonly #superseded = new Map<number, number>();
  /** What the last #walk found; whether the last of it is shared in part only. */
  readonly #path: number[] = [];
  #endsInPart = false;
  readonly #first: Place;
  readonly #blockLen: number;
  readonly #counters = {
    saves: 0,
    demotions: 0,
    hostLoads: 0,
    diskLoads: 0,
    saveFailures: 0,
    loadFailures: 0,
    savesCancelled: 0,
  };

  constructor(
    config: TierConfig,
    private readonly device: Device,
    /** Texts are found by others than the sequences that made them, also after a restart. */
    private readonly shared: boolean,
  ) {
    const { pool } = device;
    const slots = config.host + config.disk;
    const nodes = slots + SPARE_NODES;
    this.#blockLen = pool.blockLen;
    this.host = new Place(config.host);
    this.disk = new Place(config.disk);
    this.#first = config.host > 0 ? this.host : this.disk;
    this.maxWrites = config.maxWrites ?? Math.max(1, Math.min(8, pool.blocks >> 2));
    this.nodes = new NodeRecords(nodes, pool.blockLen);
    this.arena = new TokenArena(pool.blockLen, slots * pool.blockLen);
    this.runs = new TokenRuns(this.arena, pool.blockLen);
    this.index = new PrefixIndex(this.nodes, this.runs);
    this.hostOf = new Int32Array(nodes).fill(-1);
    this.diskOf = new Int32Array(nodes).fill(-1);
    this.blockOf = new Int32Array(nodes).fill(-1);
    this.target = new Int32Array(nodes).fill(-1);
    this.fromDisk = new Uint8Array(nodes);
    this.phase = new Uint8Array(nodes);
    this.waiters = new Int32Array(nodes);
    this.nodeOf = new Int32Array(pool.blocks).fill(-1);
    this.free = new NumberSet(nodes);
    for (let n = 0; n < nodes; n++) this.free.add(n);
  }

  // ---------------------------------------------------------------- nodes

  /** Looks for the tokens of a node of the device below `parent`; sets the index's query and result. */
  #find(b: number, parent: number): void {
    const { pool, runs } = this.device;
    this.index.load(pool.run(b), pool.start(b), pool.end(b), runs);
    this.index.find(parent);
  }

  /**
   * The node of block b, below `parent`; links the two. -1: there is none. A partly filled block may be covered by a node
   * that goes on after it: then that one, not linked.
   */
  #nodeOf(b: number, parent: number): number {
    const n = this.nodeOf[b]!;
    if (n !== -1) return n;
    this.#find(b, parent);
    const { best, bestLength } = this.index;
    if (bestLength < this.index.queryLength) return -1;
    if (this.nodes.end(best) === this.device.pool.end(b)) this.#link(best, b);
    return best;
  }

  #link(n: number, b: number): void {
    if (this.blockOf[n] !== -1 || this.nodeOf[b] !== -1) return;
    this.blockOf[n] = b;
    this.nodeOf[b] = n;
    this.#linked++;
  }

  #unlink(n: number): void {
    const b = this.blockOf[n]!;
    if (b === -1) return;
    this.blockOf[n] = -1;
    this.nodeOf[b] = -1;
    this.#linked--;
  }

  /** A node for what the index's query holds, up to position `end`; -1: there is no room for one. */
  #create(parent: number, end: number): number {
    if (this.free.size === 0) return -1;
    const n = this.free.takeSmallest();
    const { query, queryLength } = this.index;
    const run = this.runs.createPiece(end - queryLength);
    this.runs.append(run, query, 0, queryLength);
    this.nodes.setEnd(n, end);
    this.nodes.setRun(n, run);
    this.nodes.setNode(n, true);
    this.index.insert(n, parent);
    if (parent < 0) this.device.namespaces.join(-1 - parent);
    return n;
  }

  /** A node that has no copy, nothing below it and nobody who waits for it goes, and so may its parents. */
  #prune(n: number): void {
    while (n >= 0 && this.hostOf[n] === -1 && this.diskOf[n] === -1 && !this.nodes.hasChildren(n)) {
      if (this.target[n] !== -1 || this.waiters[n]! > 0) return;
      const parent = this.nodes.parent(n);
      this.#unlink(n);
      this.index.remove(n);
      this.runs.unref(this.nodes.run(n));
      this.nodes.setNode(n, false);
      this.free.add(n);
      if (parent < 0) this.device.namespaces.leave(-1 - parent);
      n = parent;
    }
  }

  left(b: number): void {
    if (this.saves.delete(b)) this.#counters.savesCancelled++;
    const n = this.nodeOf[b]!;
    if (n !== -1) this.#unlink(n);
  }

  heldBlocks(): number {
    let held = 0;
    if (this.saving.size > 0) for (const b of this.saving) if (this.device.pool.isCached(b)) held++;
    return held;
  }

  /** Blocks that hold no node any more, but are being saved. */
  leavingBlocks(): number {
    let leaving = 0;
    for (const b of this.saving) if (!this.device.pool.isNode(b)) leaving++;
    return leaving;
  }

  // ---------------------------------------------------------------- slots

  #slotsIn(place: Place): Int32Array {
    return place === this.host ? this.hostOf : this.diskOf;
  }

  /** A slot for node n (which exists already, so that its parents stay), or LATER or NEVER. */
  #takeSlot(place: Place, n: number): number {
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
      this.#drop(place, slot, false);
      this.waiters[n]!--;
      place.free.delete(slot);
    }
    this.#slotsIn(place)[n] = slot;
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
    const slots = this.#slotsIn(place);
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
  #drop(place: Place, slot: number, erase: boolean): void {
    const n = place.node[slot]!;
    place.unlink(slot);
    place.node[slot] = -1;
    place.good[slot] = 0;
    this.#slotsIn(place)[n] = -1;
    if (place === this.host) this.demotions.delete(slot);
    if (erase && place === this.disk) this.forgets.add(slot);
    else place.free.add(slot);
    this.#prune(n);
  }

  /** An order that used a slot ended. A copy that was found to be bad goes with its last user. */
  #unuse(place: Place, slot: number): void {
    if (--place.users[slot]! === 0 && place.good[slot] === 0) this.#drop(place, slot, true);
  }

  /** Node n was used; call it for a path from its end on. */
  #touch(n: number): void {
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

  // ---------------------------------------------------------------- saving

  /** A sequence leaves the batch: what it has in blocks and nowhere else is queued. `drop`: it will not come back. */
  released(s: number, drop: boolean): void {
    const { pool, sequences: q } = this.device;
    const count = q.get(s, S.NODES);
    const table = q.blocksOf(s, 0, count);
    let parent = -1 - q.get(s, S.NAMESPACE);
    let end = 0;
    const path = this.#path;
    path.length = 0;
    for (; end < count; end++) {
      const b = table[end]!;
      const n = this.#nodeOf(b, parent);
      if (n === -1) break;
      path.push(n);
      if (this.#slotsIn(this.#first)[n] === -1 && this.nodeOf[b] === n) this.saves.add(b);
      parent = n;
    }
    for (let d = end; d < count; d++) if (!drop || pool.isFull(table[d]!)) this.saves.add(table[d]!);
    for (let d = end - 1; d >= 0; d--) this.#touch(path[d]!);
  }

  /** Hands out the next save, if there is one that can be done now. */
  #nextSave(): TransferOrder | null {
    const { pool } = this.device;
    for (const b of this.saves) {
      const above = pool.parent(b);
      const parent = above < 0 ? above : this.nodeOf[above]!;
      // nothing is found whose beginning is not there
      if (above >= 0 && parent === -1) {
        this.saves.delete(b);
        continue;
      }
      const order = this.#save(b, parent);
      if (order === LATER) return null;
      this.saves.delete(b);
      if (order !== NEVER) return order;
    }
    return null;
  }

  #save(b: number, parent: number): TransferOrder | -1 | -2 {
    const { pool } = this.device;
    const place = this.#first;
    let n = this.#nodeOf(b, parent);
    let superseded = -1;
    if (n === -1) {
      const { best, bestLength } = this.index;
      if (best !== -1 && this.nodes.end(best) - this.nodes.start(best) === bestLength) superseded = best;
      n = this.#create(parent, pool.end(b));
      if (n === -1) return NEVER;
    } else if (this.#slotsIn(place)[n] !== -1 || this.nodes.end(n) !== pool.end(b)) return NEVER;
    const slot = this.#takeSlot(place, n);
    if (slot < 0) {
      this.#prune(n);
      return slot as -1 | -2;
    }
    this.#link(n, b);
    pool.setSaving(b, true);
    this.saving.add(b);
    place.users[slot]!++;
    this.#writes++;
    const order = this.#order('save', n, b, place === this.host ? slot : -1, place === this.disk ? slot : -1);
    if (superseded !== -1) this.#superseded.set(order.id, superseded);
    return order;
  }

  #nextDemotion(): TransferOrder | null {
    for (const h of this.demotions) {
      const n = this.host.node[h]!;
      const slot = this.diskOf[n] === -1 && this.host.good[h] === 1 ? this.#takeSlot(this.disk, n) : NEVER;
      if (slot === LATER) return null;
      this.demotions.delete(h);
      if (slot === NEVER) continue;
      this.host.users[h]!++;
      this.disk.users[slot]!++;
      this.#writes++;
      return this.#order('demote', n, -1, h, slot);
    }
    return null;
  }

  /** Its text is now also part of node n: a partly filled node is of no use any more. */
  #supersede(old: number, n: number): void {
    const { nodes } = this;
    if (!nodes.isNode(old) || nodes.parent(old) !== nodes.parent(n) || nodes.isFull(old) || old === n) return;
    const start = nodes.start(old);
    const end = nodes.end(old);
    if (end >= nodes.end(n) || this.waiters[old]! > 0 || this.target[old] !== -1) return;
    if (this.runs.shared(nodes.run(old), nodes.run(n), start, end) < end - start) return;
    const [h, d] = [this.hostOf[old]!, this.diskOf[old]!];
    if ((h !== -1 && this.host.users[h]! > 0) || (d !== -1 && this.disk.users[d]! > 0)) return;
    if (h !== -1) this.#drop(this.host, h, true);
    if (d !== -1) this.#drop(this.disk, d, true);
  }

  // ---------------------------------------------------------------- restoring

  /** Node below `parent` that shares the longest beginning with tokens [from, to) of sequence s, and how many, in the index. */
  #look(s: number, parent: number, from: number, to: number): void {
    this.index.load(this.device.sequences.get(s, S.RUN), from, to, this.device.runs);
    this.index.find(parent);
  }

  /** The node that the first `count` blocks of a sequence end in, NO_NODE if it is not known here. */
  #nodeAbove(s: number, count: number): number {
    const { sequences: q } = this.device;
    const table = q.blocksOf(s, 0, count);
    let d = count - 1;
    while (d >= 0 && this.nodeOf[table[d]!] === -1) d--;
    let n = d < 0 ? -1 - q.get(s, S.NAMESPACE) : this.nodeOf[table[d]!]!;
    for (d++; d < count; d++) {
      n = this.#nodeOf(table[d]!, n);
      if (n === -1) return NO_NODE;
    }
    return n;
  }

  /** Node n has a good copy below. */
  #isBelow(n: number): boolean {
    return this.#isGood(this.host, this.hostOf[n]!) || this.#isGood(this.disk, this.diskOf[n]!);
  }

  #isGood(place: Place, slot: number): boolean {
    return slot !== -1 && place.good[slot] === 1;
  }

  /** Collects the nodes that continue the computed tokens of s in #path, until they hold `enough` more; returns how many. */
  #walk(s: number, enough: number): number {
    const { sequences: q } = this.device;
    const path = this.#path;
    path.length = 0;
    this.#endsInPart = false;
    const computed = q.get(s, S.COMPUTED);
    const known = q.get(s, S.KNOWN);
    const d = Math.floor(computed / this.#blockLen);
    let reach = computed;
    let parent = this.#nodeAbove(s, d);
    if (parent === NO_NODE) return 0;
    for (let at = d * this.#blockLen; at < known - 1 && reach - computed < enough; at += this.#blockLen) {
      this.#look(s, parent, at, Math.min(known, at + this.#blockLen));
      const { best, bestLength } = this.index;
      const end = Math.min(known - 1, at + bestLength);
      const part = bestLength < this.#blockLen;
      if (end <= reach || !this.#canGet(best, part)) break;
      path.push(best);
      reach = end;
      this.#endsInPart = part;
      if (part) break;
      parent = best;
    }
    return reach - computed;
  }

  /** A block can be shared, and so can a load; of who needs only a part of it each needs a load of its own. */
  #canGet(n: number, part: boolean): boolean {
    if (this.target[n] !== -1) return !part;
    return (this.blockOf[n] !== -1 && !part) || this.#isBelow(n);
  }

  /** Node i of the path that the last #walk found must be loaded: it is not on its way, and cannot be shared. */
  #mustLoad(i: number): boolean {
    const n = this.#path[i]!;
    if (this.target[n] !== -1) return false;
    return this.blockOf[n] === -1 || (this.#endsInPart && i === this.#path.length - 1);
  }

  restorable(s: number, cost?: RestoreCost): number {
    const tokens = this.#walk(s, Infinity);
    if (cost) {
      cost.host = 0;
      cost.disk = 0;
      for (let i = 0; i < this.#path.length; i++) {
        if (!this.#mustLoad(i)) continue;
        if (this.#isGood(this.host, this.hostOf[this.#path[i]!]!)) cost.host++;
        else cost.disk++;
      }
    }
    return tokens;
  }

  restore(s: number, tokens: number): boolean {
    const { tree, copies, sequences: q } = this.device;
    if (this.restoring.has(s)) throw new InvariantError('restore() of a sequence that is being restored');
    if (tokens > this.#walk(s, tokens))
      throw new InvariantError(`restore() of ${tokens} tokens, more than restorable()`);
    const nodes = this.#path.slice();
    const missing = nodes.filter((_, i) => this.#mustLoad(i));
    // what is there already stays; and a waiting copy reads its source after the load may have begun
    const others = nodes.length - missing.length + copies.idleSources();
    if (missing.length > 0 && !tree.canTake(missing.length + others)) return false;
    const r = { from: Math.floor(q.get(s, S.COMPUTED) / this.#blockLen), nodes, ended: 0, taken: 0 };
    for (const n of nodes) this.waiters[n]!++;
    this.restoring.set(s, r);
    this.#advance(s, r);
    for (const n of missing) {
      this.target[n] = tree.takeForCopy();
      this.#queueLoad(n);
    }
    return true;
  }

  /** The sequence takes what of its nodes is on the device by now, before it goes. */
  #advance(s: number, r: Restoring): void {
    while (r.taken < r.nodes.length && this.blockOf[r.nodes[r.taken]!] !== -1 && this.#takeNext(s, r));
  }

  #takeNext(s: number, r: Restoring): boolean {
    if (!this.#takeOver(s, r.from + r.taken, r.nodes[r.taken]!)) return false;
    r.taken++;
    return true;
  }

  /** Node n, whose target is set, is to be loaded from the best place there is. */
  #queueLoad(n: number): void {
    const disk = !this.#isGood(this.host, this.hostOf[n]!);
    this.fromDisk[n] = Number(disk);
    if (disk) this.disk.users[this.diskOf[n]!]!++;
    else this.host.users[this.hostOf[n]!]!++;
    this.phase[n] = WAITING;
    this.loads.add(n);
  }

  #nextLoad(n: number): TransferOrder {
    this.loads.delete(n);
    const disk = this.fromDisk[n] === 1;
    this.phase[n] = disk ? READING : WRITING;
    return this.#order('load', n, this.target[n]!, disk ? -1 : this.hostOf[n]!, disk ? this.diskOf[n]! : -1);
  }

  isRestoring(s: number): boolean {
    const r = this.restoring.get(s);
    if (!r) return false;
    while (r.ended < r.nodes.length && !this.#isLoading(r.nodes[r.ended]!)) r.ended++;
    return r.ended < r.nodes.length;
  }

  #isLoading(n: number): boolean {
    return this.phase[n] !== IDLE && this.phase[n] !== ARRIVED;
  }

  /** The sequence takes what arrived for it without a gap, and waits no longer. */
  endRestore(s: number): void {
    const r = this.restoring.get(s);
    if (!r) return;
    const { sequences: q } = this.device;
    const before = q.get(s, S.COMPUTED);
    while (r.taken < r.nodes.length && this.#takeNext(s, r));
    this.tokensRestored += q.get(s, S.COMPUTED) - before;
    this.restoring.delete(s);
    for (const [other, waiting] of this.restoring) this.#advance(other, waiting);
    for (const n of r.nodes) this.#leave(n);
  }

  /** Node n becomes block d of the sequence, or a part of it, if nobody else waits. False: nothing can follow. */
  #takeOver(s: number, d: number, n: number): boolean {
    const { sequences: q, blocks } = this.device;
    const start = d * this.#blockLen;
    const known = q.get(s, S.KNOWN);
    this.index.load(q.get(s, S.RUN), start, Math.min(known, start + this.#blockLen), this.device.runs);
    const end = Math.min(this.nodes.end(n), start + this.index.queryLength);
    const common = this.runs.common(this.nodes.run(n), start, end, this.index.query, 0);
    const reach = Math.min(known - 1, start + common);
    if (reach <= q.get(s, S.COMPUTED)) return false;
    const full = common === this.#blockLen;
    if (full && this.blockOf[n] !== -1) {
      blocks.adopt(s, d, this.blockOf[n]!);
    } else if (this.phase[n] === ARRIVED && (full || this.waiters[n] === 1)) {
      const b = this.target[n]!;
      this.target[n] = -1;
      this.phase[n] = IDLE;
      // one that is not full is the sequence's own from now on
      blocks.replace(s, d, b);
      if (full) {
        blocks.publish(s, d);
        this.#link(n, q.block(s, d));
      }
    } else return false;
    q.set(s, S.COMPUTED, reach);
    return full;
  }

  /** A sequence waits no longer for node n. */
  #leave(n: number): void {
    if (--this.waiters[n]! > 0) return;
    if (this.phase[n] === WAITING) {
      this.loads.delete(n);
      if (this.fromDisk[n] === 1) this.#unuse(this.disk, this.diskOf[n]!);
      else this.#unuse(this.host, this.hostOf[n]!);
    }
    if (this.phase[n] === READING) this.#abandonRead(n);
    if (this.phase[n] !== WRITING) this.#giveTarget(n);
    this.#prune(n);
  }

  /** A disk may be slow, or gone: no block is kept for what nobody waits for. The order goes on without one. */
  #abandonRead(n: number): void {
    for (const o of this.orders.values()) if (o.kind === 'load' && o.node === n) o.block = -1;
  }

  #giveTarget(n: number): void {
    if (this.target[n] !== -1) this.device.pool.give(this.target[n]!);
    this.target[n] = -1;
    this.phase[n] = IDLE;
  }

  // ---------------------------------------------------------------- orders

  #order(kind: TransferOrder['kind'], node: number, block: number, host: number, disk: number): TransferOrder {
    const order = { id: this.#nextOrder++, kind, node, block, host, disk };
    this.orders.set(order.id, order);
    return order;
  }

  takeOrders(out: TransferOrder[], max: number): number {
    let n = 0;
    for (const node of this.loads) {
      if (n === max) return n;
      out[n++] = this.#nextLoad(node);
    }
    for (const slot of this.forgets) {
      if (n === max) return n;
      this.forgets.delete(slot);
      out[n++] = this.#order('forget', -1, -1, -1, slot);
    }
    while (n < max && this.#writes < this.maxWrites) {
      const order = this.#nextWrite();
      if (order === null) break;
      out[n++] = order;
    }
    return n;
  }

  /** Saves and demotions in turns, so that neither waits for all of the others. */
  #nextWrite(): TransferOrder | null {
    const demote = this.#demoteNext;
    const order =
      (demote ? this.#nextDemotion() : this.#nextSave()) ?? (demote ? this.#nextSave() : this.#nextDemotion());
    if (order) this.#demoteNext = order.kind === 'save';
    return order;
  }

  orderDone(id: number, ok: boolean): void {
    const o = this.orders.get(id);
    if (!o) throw new InvariantError(`order ${id} was not handed out, or ended before`);
    this.orders.delete(id);
    if (o.kind === 'save') this.#saved(o, ok);
    else if (o.kind === 'demote') this.#demoted(o, ok);
    else if (o.kind === 'load') this.#loaded(o, ok);
    else this.disk.free.add(o.disk);
  }

  loadArrived(id: number): boolean {
    const o = this.orders.get(id);
    if (o?.kind !== 'load' || o.disk === -1) throw new InvariantError(`order ${id} is no load from disk under way`);
    if (o.block === -1) return false;
    this.phase[o.node] = WRITING;
    return true;
  }

  blockRead(id: number): void {
    const o = this.orders.get(id);
    if (o?.kind !== 'save') throw new InvariantError(`order ${id} is no save under way`);
    this.#letBlockGo(o);
  }

  #letBlockGo(o: TransferOrder): void {
    const { pool } = this.device;
    if (o.block === -1) return;
    pool.setSaving(o.block, false);
    this.saving.delete(o.block);
    if (!pool.isNode(o.block)) pool.give(o.block);
    o.block = -1;
  }

  #saved(o: TransferOrder, ok: boolean): void {
    const old = this.#superseded.get(o.id) ?? -1;
    this.#superseded.delete(o.id);
    this.#writes--;
    this.#letBlockGo(o);
    this.#written(this.#first, Math.max(o.host, o.disk), ok, 'saves');
    if (!ok) return;
    if (o.host !== -1 && this.disk.slots > 0 && this.diskOf[o.node] === -1) this.demotions.add(o.host);
    if (old !== -1) this.#supersede(old, o.node);
  }

  #demoted(o: TransferOrder, ok: boolean): void {
    this.#writes--;
    // a load may have found out that what was copied is bad
    this.#written(this.disk, o.disk, ok && this.host.good[o.host] === 1, 'demotions');
    this.#unuse(this.host, o.host);
  }

  #written(place: Place, slot: number, ok: boolean, count: 'saves' | 'demotions'): void {
    if (ok) {
      place.good[slot] = 1;
      this.#counters[count]++;
    } else this.#counters.saveFailures++;
    this.#unuse(place, slot);
  }

  #loaded(o: TransferOrder, ok: boolean): void {
    const n = o.node;
    const place = o.disk === -1 ? this.host : this.disk;
    const slot = Math.max(o.host, o.disk);
    if (ok) this.#counters[o.disk === -1 ? 'hostLoads' : 'diskLoads']++;
    else {
      this.#counters.loadFailures++;
      place.good[slot] = 0;
    }
    if (o.block !== -1) this.phase[n] = ok ? ARRIVED : IDLE;
    this.#unuse(place, slot);
    if (o.block !== -1) this.#endLoad(n, ok);
  }

  #endLoad(n: number, ok: boolean): void {
    if (this.waiters[n] === 0 || (!ok && !this.#isBelow(n))) this.#giveTarget(n);
    else if (!ok) this.#queueLoad(n);
    this.#prune(n);
  }

  // ---------------------------------------------------------------- what others ask

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
    return this.device.namespaces.ownerOf(-1 - n);
  }

  adopt(records: readonly AdoptedNode[]): number {
    if (!this.shared) return 0;
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
    return -1 - this.device.namespaces.of(r.namespace === -1 ? null : r.namespace);
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
    const n = this.#create(parent, end);
    if (n === -1) return NO_NODE;
    this.disk.free.delete(r.disk);
    this.diskOf[n] = r.disk;
    this.disk.node[r.disk] = n;
    this.disk.good[r.disk] = 1;
    this.#place(this.disk, r.disk, n);
    return n;
  }

  stats(): TierStats {
    const place = (p: Place) => ({ total: p.slots, used: p.used });
    return {
      host: place(this.host),
      disk: place(this.disk),
      savedBlocks: this.#linked,
      waiting: this.waiting,
      outstanding: this.orders.size,
      ...this.#counters,
      hostEvicted: this.host.evicted,
      diskEvicted: this.disk.evicted,
    };
  }

  snapshot(): TierSnapshot {
    const slots = (p: Place) => p.good.map((good, slot) => (p.node[slot] === -1 ? 0 : 2 - good));
    const below = new Uint8Array(this.nodeOf.length);
    for (let b = 0; b < below.length; b++) {
      const n = this.nodeOf[b]!;
      if (n === -1) continue;
      below[b] =
        Number(this.#isGood(this.host, this.hostOf[n]!)) + 2 * Number(this.#isGood(this.disk, this.diskOf[n]!));
    }
    return { below, host: slots(this.host), disk: slots(this.disk) };
  }

  get waiting(): number {
    return this.loads.size + this.forgets.size + this.saves.size + this.demotions.size;
  }
}
