/**
 * Fairness between owners (API keys): who waits is let in by what its owner has had so far, not by how much of the queue it
 * fills. A level of priority is worth a head start of so many tokens, so the best that an owner can do to the others is to be
 * ahead by its highest priority, once; it cannot keep them out. Within an owner the order is by rank (scheduler.ts).
 */

/** Tokens that one level of priority is ahead. */
export const HEAD_START = 2048;
/** Owners remembered that have nothing in the engine. */
const REMEMBERED = 4096;

export interface Queued {
  readonly owner: number;
  readonly priority: number;
  /** Tokens to be computed before it answers. */
  readonly cost: number;
}

/**
 * The queue, which stands in rank order, in the order in which it is to be let in: again and again the first of the owner
 * that has had the least, its priority counted as a head start. What is yielded counts as had.
 */
export function* fairOrder<T>(
  queue: readonly T[],
  of: (r: T) => Queued,
  had: (owner: number) => number,
): Generator<T, void> {
  const owners = new Map<number, { list: T[]; next: number; had: number }>();
  for (const r of queue) {
    const { owner } = of(r);
    const o = owners.get(owner);
    if (o) o.list.push(r);
    else owners.set(owner, { list: [r], next: 0, had: had(owner) });
  }
  for (let left = queue.length; left > 0; left--) {
    let best: { list: T[]; next: number; had: number } | null = null;
    let least = Infinity;
    for (const o of owners.values()) {
      if (o.next === o.list.length) continue;
      const level = o.had - of(o.list[o.next]!).priority * HEAD_START;
      if (best && level >= least) continue;
      best = o;
      least = level;
    }
    const r = best!.list[best!.next++]!;
    best!.had += Math.max(1, of(r).cost);
    yield r;
  }
}

/** What each owner has had, in tokens computed for it. Who comes back from a pause has no credit for it. */
export class Shares {
  readonly #had = new Map<number, number>();
  readonly #inside = new Map<number, number>();
  /** What those had who are let in now, head starts taken off. */
  #level = 0;

  had(owner: number): number {
    return this.#had.get(owner) ?? 0;
  }

  /** A request of the owner is new in the engine. */
  enter(owner: number): void {
    const inside = this.#inside.get(owner) ?? 0;
    if (inside === 0) this.#had.set(owner, Math.max(this.had(owner), this.#level));
    this.#inside.set(owner, inside + 1);
  }

  /** It is let into the batch. */
  admitted(owner: number, priority: number): void {
    this.#level = Math.max(this.#level, this.had(owner) - Math.max(0, priority) * HEAD_START);
  }

  leave(owner: number): void {
    const inside = this.#inside.get(owner)! - 1;
    if (inside > 0) this.#inside.set(owner, inside);
    else this.#inside.delete(owner);
    if (this.#had.size > REMEMBERED + this.#inside.size) this.#forget();
  }

  served(owner: number, tokens: number): void {
    this.#had.set(owner, this.had(owner) + tokens);
  }

  #forget(): void {
    for (const owner of this.#had.keys()) if (!this.#inside.has(owner)) this.#had.delete(owner);
  }
}
