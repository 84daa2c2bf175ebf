/** What somebody says in a chat, message by message: from a terminal with its line editor, or from a pipe. */
import { createInterface, type Interface } from 'node:readline';
import type { Io } from '../terminal.js';
import type { History } from './history.js';
import { LineJoiner } from './lines.js';
import { PASTE_OFF, PASTE_ON, Pastes, withoutPastes } from './paste.js';

const PROMPT = '> ';
const MORE = '… ';

export class ChatInput {
  readonly #lines = new LineJoiner();
  readonly #pastes = new Pastes();
  readonly #readline: Interface;
  readonly #release: () => void;

  constructor(
    private readonly io: Io,
    private readonly interactive: boolean,
    private readonly history: History,
    /** Ctrl-C with nothing typed. */
    onInterrupt: () => void,
  ) {
    const { stdin, stdout } = io;
    if (!interactive) {
      this.#readline = createInterface({ input: stdin });
      this.#release = () => {};
      return;
    }
    const { input, close } = withoutPastes(stdin, this.#pastes);
    this.#release = () => {
      close();
      stdout.write(PASTE_OFF);
    };
    stdout.write(PASTE_ON);
    this.#readline = createInterface({
      ...{ input, output: stdout, prompt: PROMPT, terminal: true },
      history: [...history.lines],
      historySize: 1000,
    });
    this.#readline.on('SIGINT', () => {
      if (!this.#clear()) onInterrupt();
    });
  }

  /** Whole messages and commands, until the input ends. `ask` before each. */
  async *messages(): AsyncGenerator<string> {
    for await (const line of this.#readline) {
      const message = this.#lines.push(line);
      if (message === null) this.ask();
      else yield this.#whole(message);
    }
    if (this.#lines.pending) yield this.#whole(this.#lines.take());
  }

  ask(): void {
    if (!this.interactive) return;
    this.#readline.setPrompt(this.#lines.pending ? MORE : PROMPT);
    this.#readline.prompt();
  }

  close(): void {
    this.#readline.close();
    this.#release();
  }

  #whole(message: string): string {
    const text = this.#pastes.expand(message);
    if (this.interactive) this.history.add(text);
    return text;
  }

  /** What was typed and not sent is thrown away; false if there was nothing. */
  #clear(): boolean {
    if (this.#readline.line === '' && !this.#lines.pending) return false;
    this.#lines.take();
    this.io.stdout.write('^C\n');
    // end of line, then everything before it
    this.#readline.write(null, { ctrl: true, name: 'e' });
    this.#readline.write(null, { ctrl: true, name: 'u' });
    this.ask();
    return true;
  }
}
