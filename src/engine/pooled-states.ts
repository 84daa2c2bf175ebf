/** The hidden states of a prompt, pooled as they come. Sums are made in the order of the tokens, so they never depend on the steps. */
import type { Pooling } from '../types.js';

export class PooledStates {
  /** Positions that were taken; those of a sequence that is computed again after a preemption come twice. */
  #taken = 0;
  #sum: Float64Array | null = null;

  constructor(readonly pooling: Pooling) {}

  /** The state at a position; of `mean` every position must come, in order. */
  take(position: number, state: Float32Array): void {
    if (this.pooling === 'last') {
      this.#sum = Float64Array.from(state);
      this.#taken = 1;
      return;
    }
    if (position !== this.#taken) return;
    this.#sum ??= new Float64Array(state.length);
    for (let i = 0; i < state.length; i++) this.#sum[i]! += state[i]!;
    this.#taken++;
  }

  /** null: there is none yet. */
  result(): Float32Array | null {
    const { pooling } = this;
    return this.#sum && Float32Array.from(this.#sum, (x) => (pooling === 'mean' ? x / this.#taken : x));
  }
}
