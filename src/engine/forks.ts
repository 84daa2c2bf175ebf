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
    const first = other.forkFrom ?? other;
    if (!this.#samePrompt(r, first)) return;
    if (first.generated > 0 && first.scheduled === first.computed) this.#fork(r, first);
    else {
      r.forkFrom = first;
      first.waitingForks.push(r);
    }
  }

  /** A step computed some of `first`. */
  computed(first: LiveRequest): void {
    if (first.waitingForks.length === 0) return;
    const { computed } = first;
    // what is in flight may still write the block that they would share
    if (computed < first.promptTokens || first.scheduled > computed) return;
    for (const r of first.waitingForks.splice(0)) {
      r.forkFrom = null;
      this.#fork(r, first);
    }
  }

  /** Leaves the engine. If others wait for its prompt, the first of them computes it now. */
  leave(r: LiveRequest): void {
    r.forkFrom?.waitingForks.splice(r.forkFrom.waitingForks.indexOf(r), 1);
    r.forkFrom = null;
    const [next, ...rest] = r.waitingForks.splice(0);
    if (!next) return;
    next.forkFrom = null;
    for (const other of rest) other.forkFrom = next;
    next.waitingForks.push(...rest);
  }

  #samePrompt(r: LiveRequest, first: LiveRequest): boolean {
    if (!this.cache.exists(first.sequence) || r.adapter !== first.adapter) return false;
    const { tokens } = r.request;
    return tokens.length === first.promptTokens && this.cache.commonPrefix(first.sequence, tokens) === tokens.length;
  }

  /** In place of the sequence that it has, with the same tokens and nothing computed. */
  #fork(r: LiveRequest, first: LiveRequest): void {
    if (!this.cache.exists(r.sequence)) return;
    const last = r.promptTokens - 1;
    this.cache.release(r.sequence, 'drop');
    r.sequence = this.cache.fork(first.sequence, last);
    this.cache.appendOne(r.sequence, r.request.tokens[last]!);
  }
}
