/** Ctrl-C and SIGTERM: the first asks for a clean end, the second ends the process at once. */

/** Exit status of a process that Ctrl-C ended. */
export const INTERRUPTED = 130;

export class Interrupt {
  readonly #controller = new AbortController();
  readonly #onSignal: (name: NodeJS.Signals) => void;
  #cause: NodeJS.Signals | null = null;

  constructor() {
    this.#onSignal = (name) => {
      if (this.#cause) process.exit(INTERRUPTED);
      this.#cause = name;
      this.#controller.abort();
    };
    process.on('SIGINT', this.#onSignal);
    process.on('SIGTERM', this.#onSignal);
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
    process.off('SIGINT', this.#onSignal);
    process.off('SIGTERM', this.#onSignal);
  }
}
