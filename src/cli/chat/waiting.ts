/** A sign of life between a question and the first word of its answer: a long prompt takes its time. */
import type { SessionInfo } from '../../index.js';
import type { Terminal } from '../terminal.js';

/** Milliseconds until something is said, and between two looks. */
const AFTER = 500;

export class Waiting {
  readonly #timer: NodeJS.Timeout | null;
  #shown = false;
  #over = false;

  constructor(
    private readonly terminal: Terminal,
    private readonly look: () => Promise<SessionInfo | null>,
  ) {
    this.#timer = terminal.interactive ? setInterval(() => void this.#show(), AFTER) : null;
  }

  async #show(): Promise<void> {
    const info = await this.look().catch(() => null);
    if (this.#over) return;
    const reading = info && info.cachedTokens < info.tokens;
    const what = reading ? `reading: ${info.cachedTokens} of ${info.tokens} tokens …` : 'waiting …';
    this.#shown = true;
    this.terminal.out(`\r\x1b[K${this.terminal.dim(what)}`);
  }

  /** The answer begins, or there will be none. */
  end(): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#timer) clearInterval(this.#timer);
    if (this.#shown) this.terminal.out('\r\x1b[K');
  }
}
