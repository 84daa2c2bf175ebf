// An engine in a child process, which may die or hang without taking the comparison along.
import { fork } from 'node:child_process';
import path from 'node:path';

const worker = path.join(path.dirname(new URL(import.meta.url).pathname), 'worker.mjs');

export class Side {
  #child = null;
  #argv;

  /** undeclared: 'open' or 'closed'. */
  constructor(engine, model, undeclared) {
    this.#argv = [engine, model, undeclared];
  }

  /** The worker's reply; { outcome: 'crashed' | 'timeout' } where there was none within `ms`. */
  async ask(request, ms = 30_000) {
    this.#child ??= await this.#start();
    const reply = this.#reply(ms);
    this.#child.send(request);
    const answer = await reply;
    if (answer.outcome === 'crashed' || answer.outcome === 'timeout') this.close();
    return answer;
  }

  async #start() {
    this.#child = fork(worker, this.#argv, { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
    const first = await this.#reply(120_000);
    if (!first.ready) throw new Error(`the worker of '${this.#argv[0]}' does not start: ${JSON.stringify(first)}`);
    return this.#child;
  }

  #reply(ms) {
    const child = this.#child;
    return new Promise((resolve) => {
      const done = (answer) => {
        clearTimeout(timer);
        child.removeAllListeners('message').removeAllListeners('exit');
        resolve(answer);
      };
      const timer = setTimeout(() => done({ outcome: 'timeout', message: `no answer in ${ms} ms` }), ms);
      child.once('message', done);
      child.once('exit', (code, signal) => done({ outcome: 'crashed', message: `exit ${signal ?? code}` }));
    });
  }

  close() {
    this.#child?.kill('SIGKILL');
    this.#child = null;
  }
}
