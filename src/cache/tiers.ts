/**
 * What is moved between the device and the places below it, and when. Integers only: here is decided what is saved, brought
 * back and forgotten; somebody else moves the bytes, whenever it can. What lies below is known by lower-tree.ts.
 *
 * Saving is write-behind: when a sequence leaves the batch, what has no copy in the first place below is queued. A block
 * that is needed before its turn came is simply dropped. So nothing here ever waits for a disk.
 */
import { InvariantError } from '../errors.js';
import { LATER, LowerTree, NEVER, NO_NODE, type Place } from './lower-tree.js';
import type { BlockPool, PendingCopies } from './pool.js';
import type { SequenceBlocks } from './sequence-blocks.js';
import { type Namespaces, S, type SequenceStore } from './sequences.js';
import type { TokenRuns } from './token-runs.js';
import type { Below, BlockTree } from './tree.js';
import type { RestoreCost, TierConfig, TierStats, TransferOrder } from './types.js';

/** What a node's load is about. */
export const IDLE = 0;
export const WAITING = 1;
/** Its bytes are on their way into memory; the block is not touched yet. */
export const READING = 2;
/** The block is being written. */
export const WRITING = 3;
const ARRIVED = 4;

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
  /** What lies below. */
  readonly lower: LowerTree;
  /** (nodes) where the load of a node comes from, and how far it is. */
  readonly fromDisk: Uint8Array;
  readonly phase: Uint8Array;
  readonly restoring = new Map<number, Restoring>();
  /** Orders handed out; nodes to be loaded and blocks to be saved, first in, first out. */
  readonly orders = new Map<number, TransferOrder>();
  readonly loads = new Set<number>();
  readonly saves = new Set<number>();
  /** Blocks that saves under way read. */
  readonly saving = new Set<number>();
  readonly maxWrites: number;
  tokensRestored = 0;
  /** Saves and demotions under way. */
  #writes = 0;
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
  ) {
    const { pool } = device;
    this.lower = new LowerTree(config, device);
    this.#blockLen = pool.blockLen;
    this.#first = config.host > 0 ? this.lower.host : this.lower.disk;
    this.maxWrites = config.maxWrites ?? Math.max(1, Math.min(8, pool.blocks >> 2));
    this.fromDisk = new Uint8Array(this.lower.nodes.count);
    this.phase = new Uint8Array(this.lower.nodes.count);
  }

  left(b: number): void {
    if (this.saves.delete(b)) this.#counters.savesCancelled++;
    const n = this.lower.nodeOf[b]!;
    if (n !== -1) this.lower.unlink(n);
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
      const n = this.lower.nodeFor(b, parent);
      if (n === -1) break;
      path.push(n);
      if (this.lower.slotsIn(this.#first)[n] === -1 && this.lower.nodeOf[b] === n) this.saves.add(b);
      parent = n;
    }
    for (let d = end; d < count; d++) if (!drop || pool.isFull(table[d]!)) this.saves.add(table[d]!);
    for (let d = end - 1; d >= 0; d--) this.lower.touch(path[d]!);
  }

  /** Hands out the next save, if there is one that can be done now. */
  #nextSave(): TransferOrder | null {
    const { pool } = this.device;
    for (const b of this.saves) {
      const above = pool.parent(b);
      const parent = above < 0 ? above : this.lower.nodeOf[above]!;
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
    let n = this.lower.nodeFor(b, parent);
    let superseded = -1;
    if (n === -1) {
      const { best, bestLength } = this.lower.index;
      if (best !== -1 && this.lower.nodes.end(best) - this.lower.nodes.start(best) === bestLength) superseded = best;
      n = this.lower.create(parent, pool.end(b));
      if (n === -1) return NEVER;
    } else if (this.lower.slotsIn(place)[n] !== -1 || this.lower.nodes.end(n) !== pool.end(b)) return NEVER;
    const slot = this.lower.takeSlot(place, n);
    if (slot < 0) {
      this.lower.prune(n);
      return slot as -1 | -2;
    }
    this.lower.link(n, b);
    pool.setSaving(b, true);
    this.saving.add(b);
    place.users[slot]!++;
    this.#writes++;
    const order = this.#order(
      'save',
      n,
      b,
      place === this.lower.host ? slot : -1,
      place === this.lower.disk ? slot : -1,
    );
    if (superseded !== -1) this.#superseded.set(order.id, superseded);
    return order;
  }

  #nextDemotion(): TransferOrder | null {
    for (const h of this.lower.demotions) {
      const n = this.lower.host.node[h]!;
      const slot =
        this.lower.diskOf[n] === -1 && this.lower.host.good[h] === 1 ? this.lower.takeSlot(this.lower.disk, n) : NEVER;
      if (slot === LATER) return null;
      this.lower.demotions.delete(h);
      if (slot === NEVER) continue;
      this.lower.host.users[h]!++;
      this.lower.disk.users[slot]!++;
      this.#writes++;
      return this.#order('demote', n, -1, h, slot);
    }
    return null;
  }

  /** Its text is now also part of node n: a partly filled node is of no use any more. */
  #supersede(old: number, n: number): void {
    const { nodes } = this.lower;
    if (!nodes.isNode(old) || nodes.parent(old) !== nodes.parent(n) || nodes.isFull(old) || old === n) return;
    const start = nodes.start(old);
    const end = nodes.end(old);
    if (end >= nodes.end(n) || this.lower.waiters[old]! > 0 || this.lower.target[old] !== -1) return;
    if (this.lower.runs.shared(nodes.run(old), nodes.run(n), start, end) < end - start) return;
    const [h, d] = [this.lower.hostOf[old]!, this.lower.diskOf[old]!];
    if ((h !== -1 && this.lower.host.users[h]! > 0) || (d !== -1 && this.lower.disk.users[d]! > 0)) return;
    if (h !== -1) this.lower.drop(this.lower.host, h, true);
    if (d !== -1) this.lower.drop(this.lower.disk, d, true);
  }

  // ---------------------------------------------------------------- restoring

  /** Node below `parent` that shares the longest beginning with tokens [from, to) of sequence s, and how many, in the index. */
  #look(s: number, parent: number, from: number, to: number): void {
    this.lower.index.load(this.device.sequences.get(s, S.RUN), from, to, this.device.runs);
    this.lower.index.find(parent);
  }

  /** The node that the first `count` blocks of a sequence end in, NO_NODE if it is not known here. */
  #nodeAbove(s: number, count: number): number {
    const { sequences: q } = this.device;
    const table = q.blocksOf(s, 0, count);
    let d = count - 1;
    while (d >= 0 && this.lower.nodeOf[table[d]!] === -1) d--;
    let n = d < 0 ? -1 - q.get(s, S.NAMESPACE) : this.lower.nodeOf[table[d]!]!;
    for (d++; d < count; d++) {
      n = this.lower.nodeFor(table[d]!, n);
      if (n === -1) return NO_NODE;
    }
    return n;
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
      const { best, bestLength } = this.lower.index;
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
    if (this.lower.target[n] !== -1) return !part;
    return (this.lower.blockOf[n] !== -1 && !part) || this.lower.isBelow(n);
  }

  /** Node i of the path that the last #walk found must be loaded: it is not on its way, and cannot be shared. */
  #mustLoad(i: number): boolean {
    const n = this.#path[i]!;
    if (this.lower.target[n] !== -1) return false;
    return this.lower.blockOf[n] === -1 || (this.#endsInPart && i === this.#path.length - 1);
  }

  restorable(s: number, cost?: RestoreCost): number {
    const tokens = this.#walk(s, Infinity);
    if (cost) {
      cost.host = 0;
      cost.disk = 0;
      for (let i = 0; i < this.#path.length; i++) {
        if (!this.#mustLoad(i)) continue;
        if (this.lower.isGood(this.lower.host, this.lower.hostOf[this.#path[i]!]!)) cost.host++;
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
    for (const n of nodes) this.lower.waiters[n]!++;
    this.restoring.set(s, r);
    this.#advance(s, r);
    for (const n of missing) {
      this.lower.target[n] = tree.takeForCopy();
      this.#queueLoad(n);
    }
    return true;
  }

  /** The sequence takes what of its nodes is on the device by now, before it goes. */
  #advance(s: number, r: Restoring): void {
    while (r.taken < r.nodes.length && this.lower.blockOf[r.nodes[r.taken]!] !== -1 && this.#takeNext(s, r));
  }

  #takeNext(s: number, r: Restoring): boolean {
    if (!this.#takeOver(s, r.from + r.taken, r.nodes[r.taken]!)) return false;
    r.taken++;
    return true;
  }

  /** Node n, whose target is set, is to be loaded from the best place there is. */
  #queueLoad(n: number): void {
    const disk = !this.lower.isGood(this.lower.host, this.lower.hostOf[n]!);
    this.fromDisk[n] = Number(disk);
    if (disk) this.lower.disk.users[this.lower.diskOf[n]!]!++;
    else this.lower.host.users[this.lower.hostOf[n]!]!++;
    this.phase[n] = WAITING;
    this.loads.add(n);
  }

  #nextLoad(n: number): TransferOrder {
    this.loads.delete(n);
    const disk = this.fromDisk[n] === 1;
    this.phase[n] = disk ? READING : WRITING;
    return this.#order(
      'load',
      n,
      this.lower.target[n]!,
      disk ? -1 : this.lower.hostOf[n]!,
      disk ? this.lower.diskOf[n]! : -1,
    );
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
    this.lower.index.load(q.get(s, S.RUN), start, Math.min(known, start + this.#blockLen), this.device.runs);
    const end = Math.min(this.lower.nodes.end(n), start + this.lower.index.queryLength);
    const common = this.lower.runs.common(this.lower.nodes.run(n), start, end, this.lower.index.query, 0);
    const reach = Math.min(known - 1, start + common);
    if (reach <= q.get(s, S.COMPUTED)) return false;
    const full = common === this.#blockLen;
    if (full && this.lower.blockOf[n] !== -1) {
      blocks.adopt(s, d, this.lower.blockOf[n]!);
    } else if (this.phase[n] === ARRIVED && (full || this.lower.waiters[n] === 1)) {
      const b = this.lower.target[n]!;
      this.lower.target[n] = -1;
      this.phase[n] = IDLE;
      // one that is not full is the sequence's own from now on
      blocks.replace(s, d, b);
      if (full) {
        blocks.publish(s, d);
        this.lower.link(n, q.block(s, d));
      }
    } else return false;
    q.set(s, S.COMPUTED, reach);
    return full;
  }

  /** A sequence waits no longer for node n. */
  #leave(n: number): void {
    if (--this.lower.waiters[n]! > 0) return;
    if (this.phase[n] === WAITING) {
      this.loads.delete(n);
      if (this.fromDisk[n] === 1) this.lower.unuse(this.lower.disk, this.lower.diskOf[n]!);
      else this.lower.unuse(this.lower.host, this.lower.hostOf[n]!);
    }
    if (this.phase[n] === READING) this.#abandonRead(n);
    if (this.phase[n] !== WRITING) this.#giveTarget(n);
    this.lower.prune(n);
  }

  /** A disk may be slow, or gone: no block is kept for what nobody waits for. The order goes on without one. */
  #abandonRead(n: number): void {
    for (const o of this.orders.values()) if (o.kind === 'load' && o.node === n) o.block = -1;
  }

  #giveTarget(n: number): void {
    if (this.lower.target[n] !== -1) this.device.pool.give(this.lower.target[n]!);
    this.lower.target[n] = -1;
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
    for (const slot of this.lower.forgets) {
      if (n === max) return n;
      this.lower.forgets.delete(slot);
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
    else this.lower.disk.free.add(o.disk);
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
    if (o.host !== -1 && this.lower.disk.slots > 0 && this.lower.diskOf[o.node] === -1)
      this.lower.demotions.add(o.host);
    if (old !== -1) this.#supersede(old, o.node);
  }

  #demoted(o: TransferOrder, ok: boolean): void {
    this.#writes--;
    // a load may have found out that what was copied is bad
    this.#written(this.lower.disk, o.disk, ok && this.lower.host.good[o.host] === 1, 'demotions');
    this.lower.unuse(this.lower.host, o.host);
  }

  #written(place: Place, slot: number, ok: boolean, count: 'saves' | 'demotions'): void {
    if (ok) {
      place.good[slot] = 1;
      this.#counters[count]++;
    } else this.#counters.saveFailures++;
    this.lower.unuse(place, slot);
  }

  #loaded(o: TransferOrder, ok: boolean): void {
    const n = o.node;
    const place = o.disk === -1 ? this.lower.host : this.lower.disk;
    const slot = Math.max(o.host, o.disk);
    if (ok) this.#counters[o.disk === -1 ? 'hostLoads' : 'diskLoads']++;
    else {
      this.#counters.loadFailures++;
      place.good[slot] = 0;
    }
    const forNobody = o.block === -1;
    if (!forNobody) this.phase[n] = ok ? ARRIVED : IDLE;
    else if (!ok) this.#takeBack(n, slot);
    this.lower.unuse(place, slot);
    if (!forNobody) this.#endLoad(n, ok);
  }

  /** The copy in this slot of the disk is bad: a load of node n that is to read it is not begun. */
  #takeBack(n: number, slot: number): void {
    if (this.phase[n] !== WAITING || this.fromDisk[n] === 0 || this.lower.diskOf[n] !== slot) return;
    this.loads.delete(n);
    this.phase[n] = IDLE;
    this.lower.unuse(this.lower.disk, slot);
    this.#endLoad(n, false);
  }

  #endLoad(n: number, ok: boolean): void {
    if (this.lower.waiters[n] === 0 || (!ok && !this.lower.isBelow(n))) this.#giveTarget(n);
    else if (!ok) this.#queueLoad(n);
    this.lower.prune(n);
  }

  // ---------------------------------------------------------------- what others ask

  stats(): TierStats {
    const place = (p: Place) => ({ total: p.slots, used: p.used });
    return {
      host: place(this.lower.host),
      disk: place(this.lower.disk),
      savedBlocks: this.lower.linked,
      waiting: this.waiting,
      outstanding: this.orders.size,
      ...this.#counters,
      hostEvicted: this.lower.host.evicted,
      diskEvicted: this.lower.disk.evicted,
    };
  }

  get waiting(): number {
    return this.loads.size + this.lower.forgets.size + this.saves.size + this.lower.demotions.size;
  }
}
