/** Who computes what several active sequences need. */
import type { PrefixIndex } from './prefix-index.js';
import type { SequenceBlocks } from './sequence-blocks.js';
import { S, type SequenceStore } from './sequence-store.js';
import type { TokenRuns } from './token-runs.js';

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
    const q = this.sequences;
    const { blockLen } = this;
    const d = Math.floor(q.get(s, S.COMPUTED) / blockLen);
    const start = d * blockLen;
    const end = start + blockLen;
    if (q.get(s, S.KNOWN) < end) return -1;
    const parent = this.blocks.parentOf(s, d);
    let loaded = false;
    for (let l = q.active.first; l !== s; l = q.get(l, S.NEXT)) {
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
