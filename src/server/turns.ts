/**
 * Work that comes in bursts, a little at a time: a step brings a token to every stream at once, clients come back all
 * together, and hundreds of them must not keep timers and other sockets waiting.
 */

/** Milliseconds of such work before the event loop goes round. */
const TURN_MS = 2;
/** Pieces of work between two looks at the clock. */
const PIECES = 8;

/** What a piece of work says when more will follow from it, so that this turn should end with it. */
const LAST = Symbol('last of a turn');

export class Turns {
  #waiting: (() => unknown)[] = [];
  #next = 0;
  #due = false;

  /** `work` is done soon, after what was given before. It must not throw. */
  add(work: () => void): void {
    this.#push(work);
  }

  /** For work that is a chain of promises: resolves when its turn has come; the event loop goes round before the next. */
  async own(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#push(() => {
        resolve();
        return LAST;
      });
    });
  }

  #push(work: () => unknown): void {
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
    while (this.#pieces() && performance.now() < end);
    if (this.#next < this.#waiting.length) this.#schedule();
    else {
      this.#waiting = [];
      this.#next = 0;
    }
  };

  /** Does a few pieces; false when the turn is over. */
  #pieces(): boolean {
    for (let i = 0; i < PIECES; i++) {
      if (this.#next === this.#waiting.length) return false;
      if (this.#waiting[this.#next++]!() === LAST) return false;
    }
    return true;
  }
}
