/** How long steps took, as a histogram. */
import type { EngineStats } from '../types.js';

/** Upper edges of the buckets, milliseconds. */
const BOUNDS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500];

export class StepTimes {
  readonly #counts = new Float64Array(BOUNDS.length + 1);
  #sum = 0;

  observe(ms: number): void {
    let i = 0;
    while (i < BOUNDS.length && ms > BOUNDS[i]!) i++;
    this.#counts[i]!++;
    this.#sum += ms;
  }

  read(): EngineStats['stepTimes'] {
    return { boundsMs: BOUNDS, counts: [...this.#counts], sumMs: this.#sum };
  }
}
