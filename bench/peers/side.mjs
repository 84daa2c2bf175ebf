// One engine in a process of its own that measures when it is told to. See works.mjs.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export class Side {
  #child;
  #lines;
  #errors = '';
  #command;
  rss = 0;

  constructor(command, args) {
    this.#command = [command, ...args].join(' ');
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stderr.on('data', (d) => {
      this.#errors = (this.#errors + d).slice(-4000);
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** The next JSON line; what else is printed is skipped. */
  async #next() {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error(`${this.#command} ended early:\n${this.#errors}`);
      if (value.startsWith('{')) return JSON.parse(value);
    }
  }

  /** Waits until it has prepared; resolves to what it tells of itself. */
  ready() {
    return this.#next();
  }

  async measure() {
    this.#child.stdin.write('go\n');
    return (await this.#next()).value;
  }

  async end() {
    this.#child.stdin.end();
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) return;
      if (value.startsWith('{')) this.rss = JSON.parse(value).rss ?? this.rss;
    }
  }

  kill() {
    this.#child.kill();
  }
}
