/**
 * Bring back or compute? KV that left the device but lies in a place below it is brought back where that is faster than
 * computing it again, by the times measured of late. A request waits in the queue for what is on its way, with its blocks
 * reserved, and others pass. Whoever waits for a slow disk does not wait long: what did not come in time is computed.
 */
import type { CacheManager, RestoreCost } from '../cache/types.js';
import type { LiveRequest } from './request.js';
import type { Budget } from './step-budget.js';

/** What moves the bytes. */
interface Moving {
  /** Milliseconds that bringing back so many blocks will take. */
  restoreMs(cost: Readonly<RestoreCost>): number;
  /** Bringing back was not worth it: it may have become faster meanwhile. */
  doubt(): void;
}

/** A restore that takes longer than this many times what computing would is given up. */
const PATIENCE = 2;
const MIN_PATIENCE_MS = 100;
const MAX_PATIENCE_MS = 30_000;
/** Before it is known what computing costs: one that takes longer than this many times what it should, and than this. */
const FIRST_PATIENCE = 20;
const FIRST_MIN_PATIENCE_MS = 2000;

export class Restores {
  /** Who waits, until when, and how many of its tokens had their KV before. */
  readonly #waiting = new Map<LiveRequest, { deadline: number; had: number }>();
  readonly #cost: RestoreCost = { host: 0, disk: 0 };

  constructor(
    private readonly cache: CacheManager,
    private readonly moving: Moving,
    private readonly budget: Pick<Budget, 'prefillMs'>,
    private readonly now: () => number,
  ) {}

  get size(): number {
    return this.#waiting.size;
  }

  /** After match(). True: its KV is on its way, it waits. */
  begin(r: LiveRequest): boolean {
    const tokens = r.mayRestore ? this.cache.restorable(r.sequence, this.#cost) : 0;
    if (tokens === 0) return false;
    const computing = this.budget.prefillMs(tokens, r.computed);
    const restoring = this.moving.restoreMs(this.#cost);
    if (restoring >= computing) {
      this.moving.doubt();
      return false;
    }
    const had = r.computed;
    if (!this.cache.restore(r.sequence, tokens)) return false;
    this.#waiting.set(r, { deadline: this.now() + patienceMs(computing, restoring), had });
    return true;
  }

  /** Still on its way? Once it is not, what arrived is cached, and the request is let in like any other. */
  waits(r: LiveRequest): boolean {
    const waiting = this.#waiting.get(r);
    if (!waiting) return false;
    if (this.cache.restoring(r.sequence) && this.now() < waiting.deadline) return true;
    this.leave(r);
    return false;
  }

  /**
   * Those whose KV has come, or who have waited long enough, give the blocks free that were kept for them: somebody before
   * them in the queue may need just these, and would else wait for ever.
   */
  settle(): void {
    for (const r of [...this.#waiting.keys()]) this.waits(r);
  }

  /** Waits no longer. */
  leave(r: LiveRequest): void {
    const waiting = this.#waiting.get(r);
    if (!waiting) return;
    this.#waiting.delete(r);
    // once for each time that it is let in: what did not come now is computed
    r.mayRestore = false;
    this.cache.release(r.sequence, 'keep');
    r.broughtBack += r.computed - waiting.had;
  }

  /** Those who run need the blocks. False: nobody waits. */
  giveUp(): boolean {
    if (this.size === 0) return false;
    for (const r of [...this.#waiting.keys()]) this.leave(r);
    return true;
  }
}

function patienceMs(computing: number, restoring: number): number {
  const patience =
    computing < Number.POSITIVE_INFINITY
      ? Math.max(MIN_PATIENCE_MS, PATIENCE * computing)
      : Math.max(FIRST_MIN_PATIENCE_MS, FIRST_PATIENCE * restoring);
  return Math.min(MAX_PATIENCE_MS, patience);
}
