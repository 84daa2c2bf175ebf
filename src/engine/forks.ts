/**
 * Several answers to one prompt. The first request computes it; the others wait outside the batch and begin as forks of
 * its sequence: they share its blocks, the last, partial one by copy on write, and compute only the last token of the
 * prompt, whose logits they need.
 */
import type { CacheManager } from '../cache/types.js';
import type { LiveRequest } from './request.js';

export class Forks {
  constructor(private readonly cache: CacheManager) {}

  /** `r` is new in the engine, `other` is in it. */
  join(r: LiveRequest, other: LiveRequest): void {
    const leader = other.leader ?? other;
    if (!this.#samePrompt(r, leader)) return;
    if (leader.generated > 0 && leader.scheduled === leader.computed) this.#fork(r, leader);
    else {
      r.leader = leader;
      leader.followers.push(r);
    }
  }

  /** A step computed some of `leader`. */
  computed(leader: LiveRequest): void {
    if (leader.followers.length === 0) return;
    const { computed } = leader;
    // what is in flight may still write the block that they would share
    if (computed < leader.promptTokens || leader.scheduled > computed) return;
    for (const r of leader.followers.splice(0)) {
      r.leader = null;
      this.#fork(r, leader);
    }
  }

  /** Leaves the engine. If others wait for its prompt, the first of them computes it now. */
  leave(r: LiveRequest): void {
    r.leader?.followers.splice(r.leader.followers.indexOf(r), 1);
    r.leader = null;
    const [next, ...rest] = r.followers.splice(0);
    if (!next) return;
    next.leader = null;
    for (const other of rest) other.leader = next;
    next.followers.push(...rest);
  }

  #samePrompt(r: LiveRequest, leader: LiveRequest): boolean {
    if (!this.cache.exists(leader.sequence)) return false;
    const { tokens } = r.request;
    return tokens.length === leader.promptTokens && this.cache.commonPrefix(leader.sequence, tokens) === tokens.length;
  }

  /** In place of the sequence that it has, with the same tokens and nothing computed. */
  #fork(r: LiveRequest, leader: LiveRequest): void {
    if (!this.cache.exists(r.sequence)) return;
    const last = r.promptTokens - 1;
    this.cache.release(r.sequence, 'drop');
    r.sequence = this.cache.fork(leader.sequence, last);
    this.cache.appendOne(r.sequence, r.request.tokens[last]!);
  }
}
