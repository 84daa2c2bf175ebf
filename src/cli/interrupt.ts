/** Ctrl-C and SIGTERM: the first asks for a clean end, the second ends the process at once. */

/** Milliseconds between two looks at who our parent is. */
const PARENT_POLL = 250;

/** Exit status of a process that Ctrl-C ended. */
export const INTERRUPTED = 130;

export class Interrupt {
  readonly #controller = new AbortController();
  readonly #onSignal: (name: NodeJS.Signals) => void;
  readonly #watch: NodeJS.Timeout | null;
  #cause: NodeJS.Signals | null = null;

  /**
   * `underNpm`: npm and npx run a command by way of a shell and send SIGTERM to that shell, which ends and tells nobody. So
   * a parent that is gone counts as SIGTERM there.
   */
  constructor(underNpm = false) {
    this.#onSignal = (name) => {
      if (this.#cause) process.exit(INTERRUPTED);
      this.#cause = name;
      this.#controller.abort();
    };
    process.on('SIGINT', this.#onSignal);
    process.on('SIGTERM', this.#onSignal);
    this.#watch = underNpm ? this.#watchParent(process.ppid) : null;
  }

  #watchParent(parent: number): NodeJS.Timeout {
    const timer = setInterval(() => {
      if (process.ppid === parent) return;
      clearInterval(timer);
      if (!this.#cause) this.#onSignal('SIGTERM');
    }, PARENT_POLL);
    return timer.unref();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get interrupted(): boolean {
    return this.signal.aborted;
  }

  /** What the process should exit with after a clean end: a service manager's SIGTERM is no failure. */
  get exitCode(): number {
    return this.#cause === 'SIGTERM' ? 0 : INTERRUPTED;
  }

  /** Resolves at the first signal. */
  async wait(): Promise<void> {
    if (this.interrupted) return;
    await new Promise((resolve) => this.signal.addEventListener('abort', resolve, { once: true }));
  }

  dispose(): void {
    if (this.#watch) clearInterval(this.#watch);
    process.off('SIGINT', this.#onSignal);
    process.off('SIGTERM', this.#onSignal);
  }
}
