/**
 * Leases that are held while something is made for what they are on: they are renewed, and end when the store has taken what
 * was made, or when they are given back.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { errors, LongmindError } from '../errors.js';
import type { MeasuredStore } from './measured.js';
import { type Change, type KeptSession, type Lease, type SessionKey, WRITERS } from './types.js';

/** So long something that is made waits for a store that does not answer. */
const PATIENCE_MS = 15_000;
const RETRY_MS = 100;
const MAX_RETRY_MS = 1_000;

export interface Held {
  readonly lease: Lease;
  /** What was there when it began. */
  readonly kept: KeptSession | null;
  /** It is another server's. */
  lost: boolean;
  /** The store is taking it: what that says counts. */
  ending: boolean;
  onLost: ((error: LongmindError) => void) | null;
}

export class Leases {
  readonly #held = new Set<Held>();
  readonly #givingBack = new Set<Promise<void>>();
  #renewals: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(
    private readonly store: MeasuredStore,
    private readonly leaseMs: number,
  ) {}

  /** `write` or `release` must follow. @throws session_busy, session_store_unavailable */
  async acquire(key: SessionKey): Promise<Held> {
    const { lease, kept } = await this.store.acquire(key, this.leaseMs);
    const held: Held = { lease, kept, lost: false, ending: false, onLost: null };
    this.#held.add(held);
    this.#renewals ??= setInterval(() => void this.#renew(), this.leaseMs / 3).unref();
    return held;
  }

  /**
   * Writes and ends it. A write that was not answered is done again, which is the same as once. If another server has what
   * it is on by then, the store tells whose writes stand.
   * @throws session_lease_lost: nothing was written; session_store_unavailable: it is not known
   */
  async write(held: Held, change: Change): Promise<void> {
    const { lease } = held;
    held.ending = true;
    try {
      if (held.lost) throw errors.leaseLost(lease.id);
      await this.#write(lease, change);
    } finally {
      this.#end(held);
    }
  }

  async #write(lease: Lease, change: Change): Promise<void> {
    const start = performance.now();
    for (let again = false, wait = RETRY_MS; ; again = true, wait = Math.min(MAX_RETRY_MS, 2 * wait)) {
      try {
        const done = await this.#attempt(lease, change, again);
        if (done === null) break;
        if (done) return;
        this.store.countLost();
        throw errors.leaseLost(lease.id);
      } catch (e) {
        if (!isAway(e)) throw e;
        if (this.#closed || performance.now() - start > PATIENCE_MS) break;
      }
      await sleep(wait);
    }
    throw errors.turnUncertain(this.store.place, lease.id);
  }

  /** Whether it is written. `again`: by this attempt, or by one before; null: that is not known any more. */
  async #attempt(lease: Lease, change: Change, again: boolean): Promise<boolean | null> {
    try {
      await this.store.write(lease, change);
      return true;
    } catch (e) {
      if (!isLost(e)) throw e;
    }
    if (!again) return false;
    // none of ours can come to be done from here on
    const writers = await this.store.writers(lease);
    if (writers.includes(lease.token)) return true;
    return writers.length === WRITERS && writers.at(-1)! > lease.token ? null : false;
  }

  /** Ends it without a change; done when others may have it, as far as the store answers. Never rejects. */
  async release(held: Held): Promise<void> {
    if (this.#end(held) && !held.lost) await this.#giveBack(held.lease);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#held].map((held) => this.release(held)));
    await Promise.all(this.#givingBack);
  }

  #end(held: Held): boolean {
    const was = this.#held.delete(held);
    if (this.#held.size === 0 && this.#renewals) {
      clearInterval(this.#renewals);
      this.#renewals = null;
    }
    return was;
  }

  /** One that cannot be given back ends by itself. */
  #giveBack(lease: Lease): Promise<void> {
    const done: Promise<void> = this.store
      .release(lease)
      .catch(() => {})
      .finally(() => this.#givingBack.delete(done));
    this.#givingBack.add(done);
    return done;
  }

  async #renew(): Promise<void> {
    const held = new Map([...this.#held].filter((h) => !h.lost).map((h) => [h.lease, h]));
    const lost = await this.store.renew([...held.keys()], this.leaseMs).catch(() => []);
    for (const lease of lost) {
      const one = held.get(lease)!;
      // it may have ended meanwhile
      if (!this.#held.has(one) || one.ending) continue;
      one.lost = true;
      this.store.countLost();
      one.onLost?.(errors.leaseLost(lease.id));
    }
  }
}

const isLost = (e: unknown): boolean => e instanceof LongmindError && e.code === 'session_lease_lost';

export const isAway = (e: unknown): e is LongmindError =>
  e instanceof LongmindError && e.code === 'session_store_unavailable';
