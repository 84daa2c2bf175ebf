/** Finding what of a sequence's tokens others have computed, and taking it over. */
import type { BlockPool } from './block-pool.js';
import type { BlockTree } from './block-tree.js';
import type { PendingCopies } from './copies.js';
import type { PrefixIndex } from './prefix-index.js';
import type { SequenceBlocks } from './sequence-blocks.js';
import { S, type SequenceStore } from './sequence-store.js';
import type { TokenRuns } from './token-runs.js';

/** Blocks that a match looks ahead, when it can guess them. */
const AHEAD = 32;

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
        this.tree.policy.reused(best);
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
      tree.policy.reused(b);
      this.#found[nodes - before] = b;
      parent = b;
      if (nodes + 1 === ahead) ahead = this.#lookAhead(b, run, ahead, Math.floor(limit / this.#blockLen));
    }
    if (nodes === before) return;
    q.pushBlocks(s, this.#found, nodes - before);
    this.blocks.setTip(s, nodes);
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
    tree.policy.reused(source);
    this.blocks.replace(s, d, target);
    this.blocks.setTip(s, d);
    this.blocks.copy(s, d, source, target, reach - d * this.#blockLen);
    this.sequences.set(s, S.COMPUTED, reach);
  }
}
