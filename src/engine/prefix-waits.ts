/**
 * Requests that begin like one that runs and wait for what it computes. Each stands in the list of the one that it waits for,
 * and is asked again when that one has computed what both begin with, or leaves the batch: not at every step.
 */
import type { CacheManager } from '../cache/types.js';
import type { LiveRequest } from './request.js';

export class PrefixWaits {
  constructor(private readonly cache: CacheManager) {}

  /** `leader` runs, and is about to compute the next block of `r`. */
  add(r: LiveRequest, leader: LiveRequest): void {
    const ids = new Int32Array(r.known);
    this.cache.readTokens(r.sequence, 0, r.known, ids, 0);
    const { blockLen } = this.cache.config;
    r.waitsUntil = Math.floor(this.cache.commonPrefix(leader.sequence, ids) / blockLen) * blockLen;
    r.waitsFor = leader;
    leader.waiters.push(r);
  }

  /** A step computed some of `leader`. */
  computed(leader: LiveRequest): void {
    const { waiters } = leader;
    if (waiters.length === 0) return;
    const { computed } = leader;
    for (let i = waiters.length - 1; i >= 0; i--) if (waiters[i]!.waitsUntil <= computed) this.#free(leader, i);
  }

  /** Leaves the batch, or the engine. */
  leave(r: LiveRequest): void {
    for (let i = r.waiters.length - 1; i >= 0; i--) this.#free(r, i);
    if (r.waitsFor) this.#free(r.waitsFor, r.waitsFor.waiters.indexOf(r));
  }

  #free(leader: LiveRequest, i: number): void {
    leader.waiters.splice(i, 1)[0]!.waitsFor = null;
  }
}
