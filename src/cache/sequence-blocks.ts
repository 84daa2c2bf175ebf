/**
 * What sequences hold: the blocks of one sequence, from its match to its release. The first NODES blocks of its table are
 * nodes of the tree, the rest are private; the operations here keep that, and the last blocks, true.
 */
import { InvariantError } from '../errors.js';
import type { BlockPool, PendingCopies } from './pool.js';
import type { PrefixIndex } from './prefix-index.js';
import { ACTIVE, INACTIVE, S, type SequenceStore } from './sequences.js';
import type { TokenRuns } from './token-runs.js';
import type { BlockTree } from './tree.js';
import type { Probe } from './types.js';

/** Blocks that a match looks ahead, when it can guess them. */
const AHEAD = 32;

export class SequenceBlocks {
  copiesMade = 0;
  readonly #blockLen: number;
  /** Blocks on their way into a table. */
  readonly #found: Int32Array;

  constructor(
    private readonly pool: BlockPool,
    private readonly tree: BlockTree,
    private readonly index: PrefixIndex,
    private readonly sequences: SequenceStore,
    private readonly copies: PendingCopies,
    /** Blocks may be found by others than the sequences that hold them. */
    private readonly shared: boolean,
    blocksPerSequence: number,
  ) {
    this.#blockLen = pool.blockLen;
    this.#found = new Int32Array(blocksPerSequence);
  }

  /** Node or root below which block `index` of the sequence hangs. */
  parentOf(s: number, index: number): number {
    return index === 0 ? -1 - this.sequences.get(s, S.NAMESPACE) : this.sequences.block(s, index - 1);
  }

  /** Block d of the sequence becomes the full node `b`. */
  adopt(s: number, d: number, b: number): void {
    this.tree.pin(b);
    this.replace(s, d, b);
    this.setNodes(s, d + 1);
  }

  copy(s: number, d: number, source: number, target: number, tokens: number): void {
    this.copies.add(source, target, tokens);
    this.sequences.set(s, S.COPY, d);
    this.copiesMade++;
  }

  /** Puts block b (pinned already) at table index d; what was there is let go. */
  replace(s: number, d: number, b: number): void {
    const q = this.sequences;
    if (d === q.get(s, S.BLOCKS)) {
      q.pushBlock(s, b);
      return;
    }
    const old = q.block(s, d);
    if (d < q.get(s, S.NODES)) {
      this.setNodes(s, d);
      this.letGo(old);
    } else {
      this.discard(s, d, old);
    }
    q.setBlock(s, d, b);
    q.add(s, S.VERSION, 1);
  }

  /** Sets how many leading blocks of the table are nodes; the last of them is the sequence's end. */
  setNodes(s: number, nodes: number): void {
    const q = this.sequences;
    const before = q.get(s, S.NODES);
    if (before === nodes) return;
    if (before > 0) this.tree.detach(s, this.lastBlock(s, before));
    q.set(s, S.NODES, nodes);
    this.tree.attach(s, nodes > 0 ? q.block(s, nodes - 1) : -1);
  }

  lastBlock(s: number, nodes: number): number {
    return nodes > 0 ? this.sequences.block(s, nodes - 1) : -1;
  }

  /** An active sequence leaves a node, which is not its last block any more. */
  letGo(b: number): void {
    this.tree.unpin(b);
    this.freeIfUseless(b);
  }

  /** Without the prefix index nobody could find a node that no sequence ends in or passes through. */
  freeIfUseless(b: number): boolean {
    if (this.shared) return false;
    if (!this.pool.isCached(b) || this.pool.hasChildren(b) || this.pool.endingIn(b) !== -1) return false;
    this.tree.policy.remove(b);
    this.pool.uncache(b);
    this.tree.unpublish(b);
    this.tree.giveUp(b);
    return true;
  }

  /** Frees a private block of a sequence, with the copy that was to fill it. */
  discard(s: number, d: number, b: number): void {
    if (this.sequences.get(s, S.COPY) === d) {
      this.copies.cancel(b);
      this.sequences.set(s, S.COPY, -1);
    }
    this.pool.give(b);
  }

  /** Rewinds the computed tokens to `computed`. */
  cut(s: number, computed: number): void {
    const q = this.sequences;
    q.set(s, S.COMPUTED, computed);
    const keep = Math.ceil(computed / this.#blockLen);
    const blocks = q.get(s, S.BLOCKS);
    const nodes = q.get(s, S.NODES);
    if (keep >= blocks) return;
    const active = q.get(s, S.STATE) === ACTIVE;
    if (keep < nodes) this.setNodes(s, keep);
    const table = q.blocksOf(s, keep, blocks);
    for (let d = blocks - 1; d >= keep; d--) {
      const b = table[d - keep]!;
      if (d >= nodes) this.discard(s, d, b);
      else if (active) this.letGo(b);
      else this.freeIfUseless(b);
    }
    q.resizeTable(s, keep);
    if (active) q.add(s, S.VERSION, 1);
    else if (keep === 0) q.cached--;
  }

  /** The next token would be written into a node that others may read. */
  mustCopy(s: number, length: number): boolean {
    const q = this.sequences;
    const nodes = q.get(s, S.NODES);
    const computed = q.get(s, S.COMPUTED);
    if (length <= computed || computed >= nodes * this.#blockLen) return false;
    const b = q.block(s, nodes - 1);
    const uses = q.get(s, S.STATE) === ACTIVE ? 1 : 0;
    return this.pool.uses(b) > uses || this.pool.isSaving(b) || !this.tree.endsAlone(s, b) || this.pool.hasChildren(b);
  }

  /** … but no active one does, and there is no block for a copy: the inactive ones must give it up. */
  mayKeep(s: number, more: number): boolean {
    const b = this.lastBlock(s, this.sequences.get(s, S.NODES));
    const uses = this.sequences.get(s, S.STATE) === ACTIVE ? 1 : 0;
    // what hangs below it must go, too, and cannot while it is being saved
    if (this.pool.isSaving(b) || (this.pool.hasChildren(b) && this.tree.heldBlocks() > 0)) return false;
    return this.pool.uses(b) === uses && more >= this.tree.available();
  }

  takeBlocks(s: number, count: number): void {
    const found = this.#found;
    for (let n = this.pool.takeMany(found, count); n < count; n++) found[n] = this.tree.take();
    this.sequences.pushBlocks(s, found, count);
  }

  /** The sequence's last node is partly its own, and read by others: it goes on in a copy. */
  copyOnWrite(s: number): void {
    const q = this.sequences;
    const d = q.get(s, S.NODES) - 1;
    const old = q.block(s, d);
    const tokens = q.get(s, S.COMPUTED) - d * this.#blockLen;
    const target = this.tree.takeForCopy();
    this.setNodes(s, d);
    q.setBlock(s, d, target);
    q.add(s, S.VERSION, 1);
    this.copy(s, d, old, target, tokens);
    this.letGo(old);
  }

  /** The sequence's last node leaves the tree, so that it can be written. Inactive sequences that end in it lose it. */
  takeBack(s: number): void {
    const q = this.sequences;
    const nodes = q.get(s, S.NODES);
    const b = q.block(s, nodes - 1);
    this.setNodes(s, nodes - 1);
    this.tree.dropEnds(b);
    this.tree.unpublish(b);
  }

  /** Blocks [from, to) are full. */
  publishAll(s: number, from: number, to: number): void {
    if (to - from > 1) this.tree.warm(this.sequences.blocksOf(s, from, to), 0, to - from);
    for (let d = from; d < to; d++) this.publish(s, d);
  }

  /** Block d is full: from now on others may use it. The same text stored before takes its place. */
  publish(s: number, d: number): void {
    const q = this.sequences;
    const b = q.block(s, d);
    const end = (d + 1) * this.#blockLen;
    const parent = this.parentOf(s, d);
    if (q.get(s, S.NODES) !== d) throw new InvariantError(`block ${d} of a sequence is published twice`);
    const alone = this.index.root(parent) === -1;
    if (!alone) {
      this.index.load(q.get(s, S.RUN), end - this.#blockLen, end);
      this.index.find(parent);
      if (this.index.bestLength === this.#blockLen) {
        this.adopt(s, d, this.index.best);
        return;
      }
    }
    this.tree.publish(b, parent, q.get(s, S.RUN), end);
    this.setNodes(s, d + 1);
  }

  /** The partly filled private block at the end becomes a node: it may be evicted, forked, copied from. */
  keepPart(s: number): void {
    const q = this.sequences;
    const d = q.get(s, S.NODES);
    const computed = q.get(s, S.COMPUTED);
    if (computed <= d * this.#blockLen) return;
    this.index.load(q.get(s, S.RUN), d * this.#blockLen, computed);
    this.tree.publish(q.block(s, d), this.parentOf(s, d), q.get(s, S.RUN), computed);
    this.setNodes(s, d + 1);
  }

  /** The new sequence f ends where s has computed to, at most at `limit`. */
  shareBlocks(s: number, f: number, limit: number): void {
    const q = this.sequences;
    let computed = Math.min(limit, q.get(s, S.COMPUTED));
    const copy = q.get(s, S.COPY);
    const full = q.get(s, S.NODES) * this.#blockLen;
    // a block that is about to be written cannot be shared
    if (copy !== -1) computed = Math.min(computed, copy * this.#blockLen);
    else if (q.get(s, S.RESERVED) > q.get(s, S.COMPUTED)) computed = Math.min(computed, full);
    else if (computed > full) this.keepPart(s);
    const nodes = Math.ceil(computed / this.#blockLen);
    q.set(f, S.COMPUTED, computed);
    q.resizeTable(f, nodes);
    for (let d = 0; d < nodes; d++) q.setBlock(f, d, q.block(s, d));
    this.setNodes(f, nodes);
    if (nodes > 0) q.cached++;
  }

  activate(s: number): void {
    const q = this.sequences;
    if (q.get(s, S.NODES) > 0) q.cached--;
    q.unlink(q.inactive, s);
    q.link(q.active, s);
    q.set(s, S.STATE, ACTIVE);
    q.set(s, S.PREFIX_HIT, 0);
    q.set(s, S.RESERVED, 0);
    q.add(s, S.VERSION, 1);
    const nodes = q.get(s, S.NODES);
    this.tree.pinPath(q.blocksOf(s, 0, nodes), nodes);
  }

  /** A sequence leaves the batch. `drop`: it will not come back. */
  deactivate(s: number, drop: boolean): void {
    const q = this.sequences;
    const copy = q.get(s, S.COPY);
    if (copy !== -1) this.cut(s, Math.min(q.get(s, S.COMPUTED), copy * this.#blockLen));
    this.cut(s, q.get(s, S.COMPUTED));
    if (drop && !this.shared) {
      this.cut(s, Math.min(q.get(s, S.COMPUTED), q.get(s, S.NODES) * this.#blockLen));
    }
    this.keepPart(s);
    const nodes = q.get(s, S.NODES);
    const last = this.lastBlock(s, nodes);
    const useless = drop && last !== -1 && !this.pool.isFull(last) && this.tree.endsAlone(s, last);
    this.tree.unpinPath(q.blocksOf(s, 0, nodes), nodes, useless);
    q.unlink(q.active, s);
    q.link(q.inactive, s);
    q.set(s, S.STATE, INACTIVE);
    q.set(s, S.OWN_HIT, -1);
    if (nodes > 0) q.cached++;
  }

  /** A sequence that is inactive gives up its blocks. */
  leave(s: number): void {
    const q = this.sequences;
    const nodes = q.get(s, S.NODES);
    this.setNodes(s, 0);
    for (let d = nodes - 1; d >= 0 && this.freeIfUseless(q.block(s, d)); d--);
    if (nodes > 0) q.cached--;
  }
}

/** Finding what of a sequence's tokens others have computed, and taking it over. */
export class PrefixMatch {
  readonly #blockLen: number;
  /** Blocks on their way into a table. */
  readonly #found: Int32Array;

  constructor(
    private readonly pool: BlockPool,
    private readonly tree: BlockTree,
    private readonly index: PrefixIndex,
    private readonly sequences: SequenceStore,
    private readonly runs: TokenRuns,
    private readonly copies: PendingCopies,
    private readonly blocks: SequenceBlocks,
    blocksPerSequence: number,
  ) {
    this.#blockLen = pool.blockLen;
    this.#found = new Int32Array(blocksPerSequence);
  }

  /** Extends the computed tokens of an active sequence through the prefix index, up to `limit`. */
  extend(s: number, limit: number): void {
    const q = this.sequences;
    const run = q.get(s, S.RUN);
    const known = q.get(s, S.KNOWN);
    this.#onward(s, limit);
    for (;;) {
      const computed = q.get(s, S.COMPUTED);
      const d = Math.floor(computed / this.#blockLen);
      const start = d * this.#blockLen;
      if (computed >= limit) return;
      const parent = this.blocks.parentOf(s, d);
      if (this.index.root(parent) === -1) return;
      this.index.load(run, start, Math.min(known, start + this.#blockLen));
      this.index.find(parent);
      const { best } = this.index;
      const reach = Math.min(limit, start + this.index.bestLength);
      if (reach <= computed) return;
      if (d === q.get(s, S.BLOCKS) || q.block(s, d) !== best) {
        if (reach < start + this.#blockLen) {
          this.#copyPart(s, d, best, reach);
          return;
        }
        this.blocks.adopt(s, d, best);
      }
      q.set(s, S.COMPUTED, reach);
    }
  }

  /** The common case: full blocks after the sequence's last, of which it has none of its own. */
  #onward(s: number, limit: number): void {
    const q = this.sequences;
    const { tree } = this;
    const run = q.get(s, S.RUN);
    const before = q.get(s, S.NODES);
    if (q.get(s, S.BLOCKS) !== before || q.get(s, S.COMPUTED) !== before * this.#blockLen) return;
    let nodes = before;
    let parent = this.blocks.parentOf(s, nodes);
    let ahead = nodes + 1;
    this.index.forget();
    for (; (nodes + 1) * this.#blockLen <= limit; nodes++) {
      const b = this.index.findFull(parent, run, nodes * this.#blockLen);
      if (b === -1) break;
      tree.pin(b);
      this.#found[nodes - before] = b;
      parent = b;
      if (nodes + 1 === ahead) ahead = this.#lookAhead(b, run, ahead, Math.floor(limit / this.#blockLen));
    }
    if (nodes === before) return;
    q.pushBlocks(s, this.#found, nodes - before);
    this.blocks.setNodes(s, nodes);
    q.set(s, S.COMPUTED, nodes * this.#blockLen);
  }

  /**
   * Block b is found; if the sequence that wrote its text is still there, its table is a good guess of what is found
   * next, from block `from` on. The guess is only used to read memory early, many places at a time, where following the
   * tree would wait for each. Returns up to which block it looked.
   */
  #lookAhead(b: number, run: number, from: number, limit: number): number {
    const other = this.pool.run(b);
    const owner = this.runs.owner(other);
    if (owner === -1) return -1;
    const to = Math.min(from + AHEAD, limit, this.sequences.get(owner, S.NODES));
    if (to <= from) return -1;
    this.tree.warm(this.sequences.blocksOf(owner, from, to), 0, to - from);
    const end = Math.min(to * this.#blockLen, this.runs.end(other));
    if (end > from * this.#blockLen) this.index.compareAhead(other, run, from * this.#blockLen, end);
    return to;
  }

  /** Tokens up to `reach` of block d will be copied out of node `source`. */
  #copyPart(s: number, d: number, source: number, reach: number): void {
    const { tree } = this;
    tree.pin(source);
    const idle = this.copies.idleSources();
    const target = tree.canTake(1 + idle) ? tree.takeForCopy() : -1;
    tree.unpin(source);
    if (target === -1) return;
    this.blocks.replace(s, d, target);
    this.blocks.setNodes(s, d);
    this.blocks.copy(s, d, source, target, reach - d * this.#blockLen);
    this.sequences.set(s, S.COMPUTED, reach);
  }
}

/** Who computes what several active sequences need. */
export class Leaders {
  constructor(
    private readonly blockLen: number,
    private readonly sequences: SequenceStore,
    private readonly runs: TokenRuns,
    private readonly index: PrefixIndex,
    private readonly blocks: SequenceBlocks,
  ) {}

  /** The active sequence, active for longer than s, that is about to compute the next full block of s; -1: none is. */
  of(s: number): number {
    const d = Math.floor(this.sequences.get(s, S.COMPUTED) / this.blockLen);
    return this.find(s, d, this.blocks.parentOf(s, d));
  }

  /** The same for block d of s, which would hang below `parent`; any active sequence if s is not active. */
  find(s: number, d: number, parent: number): number {
    const q = this.sequences;
    const { blockLen } = this;
    const start = d * blockLen;
    const end = start + blockLen;
    if (q.get(s, S.KNOWN) < end) return -1;
    let loaded = false;
    for (let l = q.active.first; l !== s && l !== -1; l = q.get(l, S.NEXT)) {
      const computed = q.get(l, S.COMPUTED);
      if (computed < start || computed >= end || q.get(l, S.KNOWN) < end) continue;
      if (this.blocks.parentOf(l, d) !== parent) continue;
      if (!loaded) this.index.load(q.get(s, S.RUN), start, end);
      loaded = true;
      if (this.runs.common(q.get(l, S.RUN), start, end, this.index.query, 0) === blockLen) return l;
    }
    return -1;
  }
}

/** What a match would find, without taking anything. */
export class Prober {
  readonly #found: Probe = { computed: 0, blocks: 0, cached: 0, copies: 0, leader: -1 };

  constructor(
    private readonly pool: BlockPool,
    private readonly tree: BlockTree,
    private readonly index: PrefixIndex,
    private readonly sequences: SequenceStore,
    private readonly leaders: Leaders,
    private readonly prefixes: boolean,
  ) {}

  /** Of an inactive sequence. The answer is one object, used again. */
  run(s: number): Readonly<Probe> {
    const { pool, sequences: q } = this;
    const { blockLen } = pool;
    const found = this.#found;
    const limit = Math.max(0, q.get(s, S.KNOWN) - 1);
    found.computed = Math.min(q.get(s, S.COMPUTED), limit);
    found.blocks = Math.ceil(found.computed / blockLen);
    found.cached = 0;
    found.copies = 0;
    found.leader = -1;
    let parent = -1 - q.get(s, S.NAMESPACE);
    for (let i = 0; i < found.blocks; i++) {
      parent = q.block(s, i);
      if (pool.isCached(parent) && !pool.isSaving(parent)) found.cached++;
    }
    if (found.computed % blockLen !== 0) {
      const shared = pool.uses(parent) > 0 || !this.tree.endsAlone(s, parent) || pool.hasChildren(parent);
      found.copies = shared || pool.isSaving(parent) ? 1 : 0;
      return found;
    }
    if (!this.prefixes) return found;
    parent = this.#onward(s, parent, limit);
    const leader = this.leaders.find(s, found.blocks, parent);
    if (leader !== -1) found.leader = q.idOf(leader);
    return found;
  }

  /** Full blocks of others after its own; returns the last. */
  #onward(s: number, own: number, limit: number): number {
    const { pool } = this;
    const found = this.#found;
    const run = this.sequences.get(s, S.RUN);
    let parent = own;
    this.index.forget();
    while ((found.blocks + 1) * pool.blockLen <= limit) {
      const b = this.index.findFull(parent, run, found.blocks * pool.blockLen);
      if (b === -1) break;
      if (pool.isCached(b) && !pool.isSaving(b)) found.cached++;
      found.blocks++;
      parent = b;
    }
    found.computed = found.blocks * pool.blockLen;
    return parent;
  }
}
