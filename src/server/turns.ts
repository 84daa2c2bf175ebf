/**
 * Work that comes in bursts, a little at a time: a step brings a token to every stream at once, and hundreds of them must
 * not keep timers and other sockets waiting.
 */

/** Milliseconds of such work before the event loop goes round. */
const TURN_MS = 2;
/** Pieces of work between two looks at the clock. */
const PIECES = 8;

export class Turns {
  #waiting: (() => void)[] = [];
  #next = 0;
  #due = false;

  /** `work` is done soon, after what was given before. It must not throw. */
  add(work: () => void): void {
    this.#waiting.push(work);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#due) return;
    this.#due = true;
    setImmediate(this.#run);
  }

  readonly #run = (): void => {
    this.#due = false;
    const end = performance.now() + TURN_MS;
    do {
      const until = Math.min(this.#next + PIECES, this.#waiting.length);
      while (this.#next < until) this.#waiting[this.#next++]!();
    } while (this.#next < this.#waiting.length && performance.now() < end);
    if (this.#next < this.#waiting.length) this.#schedule();
    else {
      this.#waiting = [];
      this.#next = 0;
    }
  };
}
