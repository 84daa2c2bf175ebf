/** Block copies that the next step runs before anything else. At most one waits for each active sequence. */
import { InvariantError, invariant } from '../errors.js';
import type { BlockPool } from './block-pool.js';

export class PendingCopies {
  /** (count, 3): from, to, tokens. */
  #list = new Int32Array(3 * 16);
  #count = 0;

  constructor(private readonly pool: BlockPool) {}

  get count(): number {
    return this.#count;
  }

  add(from: number, to: number, tokens: number): void {
    if (3 * this.#count === this.#list.length) {
      const bigger = new Int32Array(2 * this.#list.length);
      bigger.set(this.#list);
      this.#list = bigger;
    }
    const at = 3 * this.#count++;
    this.#list[at] = from;
    this.#list[at + 1] = to;
    this.#list[at + 2] = tokens;
    this.pool.setSource(from, true);
  }

  /** The copy into `to` is not needed any more (it may have been taken already). */
  cancel(to: number): void {
    const list = this.#list;
    for (let i = 0; i < this.#count; i++) {
      if (list[3 * i + 1] !== to) continue;
      const from = list[3 * i]!;
      list.copyWithin(3 * i, 3 * i + 3, 3 * this.#count);
      this.#count--;
      this.pool.setSource(from, this.#reads(from));
      return;
    }
  }

  #reads(from: number): boolean {
    for (let i = 0; i < this.#count; i++) if (this.#list[3 * i] === from) return true;
    return false;
  }

  /** Source blocks among those that could be given to somebody: free or cached ones. */
  idleSources(): number {
    let n = 0;
    for (let i = 0; i < this.#count; i++) {
      const from = this.#list[3 * i]!;
      let first = true;
      for (let k = 0; k < i; k++) if (this.#list[3 * k] === from) first = false;
      if (first && (this.pool.isFree(from) || this.pool.isCached(from))) n++;
    }
    return n;
  }

  /** Moves all out; returns how many. */
  take(out: Int32Array): number {
    const n = this.#count;
    if (out.length < 3 * n) throw new InvariantError(`${n} block copies do not fit into an array of ${out.length}`);
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < 3; k++) out[3 * i + k] = this.#list[3 * i + k]!;
      this.pool.setSource(this.#list[3 * i]!, false);
    }
    this.#count = 0;
    return n;
  }

  /** No block is both read and written by the copies of one step, and none is written twice. */
  check(): void {
    const to = new Set<number>();
    for (let i = 0; i < this.#count; i++) {
      const t = this.#list[3 * i + 1]!;
      invariant(!to.has(t), `block ${t} is the target of two copies`);
      invariant(this.pool.uses(t) === 1 && !this.pool.isNode(t), `copy into block ${t}, which is not private`);
      to.add(t);
    }
    for (let i = 0; i < this.#count; i++) {
      const from = this.#list[3 * i]!;
      invariant(!to.has(from), `block ${from} is copied from and to`);
      invariant(this.pool.isSource(from), `block ${from} is not marked as a copy's source`);
    }
  }
}
