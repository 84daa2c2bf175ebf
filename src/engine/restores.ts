/**
 * Bring back or compute? KV that left the device but lies in a place below it is brought back where that is faster than
 * computing it again, by the times measured of late. Whoever waits for a slow disk does not wait long: what did not come in
 * time is computed.
 */
import type { CacheManager, RestoreCost, SequenceId } from '../cache/types.js';

/** What moves the bytes. */
export interface Moving {
  /** Milliseconds that bringing back so many blocks will take. */
  restoreMs(cost: Readonly<RestoreCost>): number;
  /** Bringing back was not worth it: it may have become faster meanwhile. */
  doubt(): void;
}

/** A restore that takes longer than this many times what computing would is given up. */
const PATIENCE = 2;
const MIN_PATIENCE_MS = 100;

export class Restores {
  /** Sequence → when its patience ends. */
  readonly #deadlines = new Map<SequenceId, number>();
  readonly #cost: RestoreCost = { host: 0, disk: 0 };

  constructor(
    private readonly cache: CacheManager,
    private readonly moving: Moving,
    /** Milliseconds to compute so many tokens behind a context. */
    private readonly prefillMs: (tokens: number, context: number) => number,
    private readonly now: () => number,
  ) {}

  get size(): number {
    return this.#deadlines.size;
  }

  /** After match(): true if the sequence now waits for KV that is on its way. */
  begin(sequence: SequenceId): boolean {
    const tokens = this.cache.restorable(sequence, this.#cost);
    if (tokens === 0) return false;
    const computing = this.prefillMs(tokens, this.cache.computed(sequence));
    const moving = this.moving.restoreMs(this.#cost);
    if (moving >= computing) {
      this.moving.doubt();
      return false;
    }
    if (!this.cache.restore(sequence, tokens)) return false;
    this.#deadlines.set(sequence, this.now() + Math.max(MIN_PATIENCE_MS, PATIENCE * Math.min(computing, 1e9)));
    return true;
  }

  /** False once what was waited for is there, or has taken too long: then match() again. */
  waits(sequence: SequenceId): boolean {
    if (!this.cache.restoring(sequence)) {
      this.#deadlines.delete(sequence);
      return false;
    }
    if (this.now() < this.#deadlines.get(sequence)!) return true;
    this.cancel(sequence);
    return false;
  }

  /** Nobody waits for it any more. */
  cancel(sequence: SequenceId): void {
    if (this.#deadlines.delete(sequence)) this.cache.cancelRestore(sequence);
  }
}
