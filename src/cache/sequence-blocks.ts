/**
 * What sequences hold: the blocks of one sequence, from its match to its release. The first NODES blocks of its table are
 * nodes of the tree, the rest are private; the operations here keep that, and the tips, true.
 */
import { InvariantError } from '../errors.js';
import type { BlockPool } from './block-pool.js';
import type { BlockTree } from './block-tree.js';
import type { PendingCopies } from './copies.js';
import type { PrefixIndex } from './prefix-index.js';
import { ACTIVE, INACTIVE, S, type SequenceStore } from './sequence-store.js';

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
    return index === 0 ? -1 - this.sequences.get(s, S.DOMAIN) : this.sequences.block(s, index - 1);
  }

  /** Block d of the sequence becomes the full node `b`. */
  adopt(s: number, d: number, b: number): void {
    this.tree.pin(b);
    this.replace(s, d, b);
    this.setTip(s, d + 1);
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
      this.setTip(s, d);
      this.letGo(old);
    } else {
      this.discard(s, d, old);
    }
    q.setBlock(s, d, b);
    q.add(s, S.VERSION, 1);
  }

  /** Sets how many leading blocks of the table are nodes; the last of them is the sequence's end. */
  setTip(s: number, nodes: number): void {
    const q = this.sequences;
    const before = q.get(s, S.NODES);
    if (before === nodes) return;
    if (before > 0) this.tree.detach(s, this.tip(s, before));
    q.set(s, S.NODES, nodes);
    this.tree.attach(s, nodes > 0 ? q.block(s, nodes - 1) : -1);
  }

  tip(s: number, nodes: number): number {
    return nodes > 0 ? this.sequences.block(s, nodes - 1) : -1;
  }

  /** An active sequence leaves a node, of which it is no tip any more. */
  letGo(b: number): void {
    this.tree.unpin(b);
    this.freeIfUseless(b);
  }

  /** Without the prefix index nobody could find a node that no sequence ends in or passes through. */
  freeIfUseless(b: number): boolean {
    if (this.shared) return false;
    if (!this.pool.isCached(b) || this.pool.hasChildren(b) || this.pool.tips(b) !== -1) return false;
    this.tree.policy.remove(b);
    this.pool.uncache(b);
    this.tree.unpublish(b);
    this.pool.give(b);
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
    if (keep < nodes) this.setTip(s, keep);
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
    return this.pool.uses(b) > uses || !this.tree.isOnlyTip(s, b) || this.pool.hasChildren(b);
  }

  /** … but no active one does, and there is no block for a copy: the inactive ones must give it up. */
  mayKeep(s: number, more: number): boolean {
    const b = this.tip(s, this.sequences.get(s, S.NODES));
    const uses = this.sequences.get(s, S.STATE) === ACTIVE ? 1 : 0;
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
    this.setTip(s, d);
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
    this.setTip(s, nodes - 1);
    this.tree.dropTips(b);
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
    if (!alone || this.tree.policy.wantsHashes) this.index.load(q.get(s, S.RUN), end - this.#blockLen, end);
    if (!alone) {
      this.index.find(parent);
      if (this.index.bestLength === this.#blockLen) {
        this.adopt(s, d, this.index.best);
        return;
      }
    }
    this.tree.publish(b, parent, q.get(s, S.RUN), end);
    this.setTip(s, d + 1);
  }

  /** The partly filled private block at the end becomes a node: it may be evicted, forked, copied from. */
  keepPart(s: number): void {
    const q = this.sequences;
    const d = q.get(s, S.NODES);
    const computed = q.get(s, S.COMPUTED);
    if (computed <= d * this.#blockLen) return;
    this.index.load(q.get(s, S.RUN), d * this.#blockLen, computed);
    this.tree.publish(q.block(s, d), this.parentOf(s, d), q.get(s, S.RUN), computed);
    this.setTip(s, d + 1);
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
    this.setTip(f, nodes);
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
    const tip = this.tip(s, nodes);
    const useless = drop && tip !== -1 && !this.pool.isFull(tip) && this.tree.isOnlyTip(s, tip);
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
    this.setTip(s, 0);
    for (let d = nodes - 1; d >= 0 && this.freeIfUseless(q.block(s, d)); d--);
    if (nodes > 0) q.cached--;
  }
}
