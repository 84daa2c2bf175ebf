/** Which sequences are kept: their number and their tokens are limited; the least recently used inactive ones go first. */
import { errors } from '../errors.js';
import type { Domains } from './domains.js';
import type { SequenceBlocks } from './sequence-blocks.js';
import { INACTIVE, S, type SequenceStore } from './sequence-store.js';
import type { TokenRuns } from './token-runs.js';
import type { CacheConfig } from './types.js';

export class KeptSequences {
  /** Known tokens of all sequences. */
  tokens = 0;
  /** Sequences that the limits cost. */
  dropped = 0;

  constructor(
    private readonly limits: Pick<CacheConfig, 'maxSequences' | 'maxTokens'>,
    private readonly sequences: SequenceStore,
    private readonly runs: TokenRuns,
    private readonly domains: Domains,
    private readonly blocks: SequenceBlocks,
  ) {}

  /** A new sequence without tokens; the caller has made room, and gives it a run. */
  create(domain: number): number {
    this.domains.join(domain);
    return this.sequences.create(domain);
  }

  /** `count` tokens were added to sequence s: it was used. */
  addKnown(s: number, count: number): void {
    const q = this.sequences;
    q.add(s, S.KNOWN, count);
    this.tokens += count;
    if (q.get(s, S.STATE) === INACTIVE && q.inactive.last !== s) {
      q.unlink(q.inactive, s);
      q.link(q.inactive, s);
    }
  }

  /** Drops inactive sequences, but not `except`, until there is room, or throws; then nothing was dropped. */
  makeRoom(sequences: number, tokens: number, except: number): void {
    const { maxSequences, maxTokens } = this.limits;
    const q = this.sequences;
    if (q.size + sequences <= maxSequences && this.tokens + tokens <= maxTokens) return;
    let droppable = q.inactive.size;
    let kept = 0;
    for (let s = q.active.first; s !== -1; s = q.get(s, S.NEXT)) kept += q.get(s, S.KNOWN);
    if (except !== -1 && q.get(except, S.STATE) === INACTIVE) {
      droppable--;
      kept += q.get(except, S.KNOWN);
    }
    const fits = q.size - droppable + sequences <= maxSequences && kept + tokens <= maxTokens;
    if (!fits) throw errors.tooManySessions(maxSequences);
    this.#dropInactive(sequences, tokens, except);
  }

  /** The same for a token of a sequence that runs: if all others run, too, it goes beyond the limit. */
  makeRoomForOne(except: number): void {
    if (this.tokens >= this.limits.maxTokens) this.#dropInactive(0, 1, except);
  }

  #dropInactive(sequences: number, tokens: number, except: number): void {
    const q = this.sequences;
    const { maxSequences, maxTokens } = this.limits;
    let s = q.inactive.first;
    while (s !== -1 && (q.size + sequences > maxSequences || this.tokens + tokens > maxTokens)) {
      const next = q.get(s, S.NEXT);
      if (s !== except) {
        this.forget(s);
        this.dropped++;
      }
      s = next;
    }
  }

  /** Drops an inactive sequence. */
  forget(s: number): void {
    const q = this.sequences;
    this.blocks.leave(s);
    this.tokens -= q.get(s, S.KNOWN);
    this.runs.disown(q.get(s, S.RUN));
    this.domains.leave(q.get(s, S.DOMAIN));
    q.unlink(q.inactive, s);
    q.free(s);
  }
}
