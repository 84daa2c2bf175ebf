/**
 * What a step costs in which every row draws: decoding, and verifying guesses. Between one row and many no kernel's time is a
 * straight line (weights that stream from memory take two or four rows for nothing, then arithmetic binds), and such rows
 * cost more than those of a prefill (logits): so it is remembered by the number of rows.
 */

/** Row counts that are told apart. */
const ROWS = 64;
/** Weight of the newest step. */
const LEARN = 0.2;
/** A step that took so many times what was expected says so only: something else may have had the processor. */
const OUTLIER = 1.5;
/** After so many steps a count that was not seen is as good as unknown: it may have been measured at a bad time. */
const STALE = 256;

export class DrawCost {
  readonly #ms = new Float64Array(ROWS + 1);
  readonly #seen = new Float64Array(ROWS + 1).fill(Number.NEGATIVE_INFINITY);
  #steps = 0;

  /** A step of so many rows took `ms`. */
  observe(rows: number, ms: number): void {
    if (!(rows >= 1 && rows <= ROWS && ms > 0)) return;
    const known = this.#known(rows) ? this.#ms[rows]! : ms;
    this.#ms[rows] = known + LEARN * (Math.min(ms, OUTLIER * known) - known);
    this.#seen[rows] = ++this.#steps;
  }

  /** Milliseconds of a step of so many rows; `rowMs`: what a row more costs where no count near it was seen. NaN: nothing is known. */
  ms(rows: number, rowMs: number): number {
    let below = Math.min(rows, ROWS);
    while (below > 0 && !this.#known(below)) below--;
    if (below === rows) return this.#ms[rows]!;
    let above = rows + 1;
    while (above <= ROWS && !this.#known(above)) above++;
    if (below > 0 && above <= ROWS) {
      const share = (rows - below) / (above - below);
      return this.#ms[below]! + share * (this.#ms[above]! - this.#ms[below]!);
    }
    if (below > 0) return this.#ms[below]! + (rows - below) * rowMs;
    return above <= ROWS ? Math.max(0, this.#ms[above]! - (above - rows) * rowMs) : Number.NaN;
  }

  #known(rows: number): boolean {
    return this.#steps - this.#seen[rows]! < STALE;
  }
}
