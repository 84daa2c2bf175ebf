/**
 * Host memory is handed out by the system page by page when it is first written to, which takes longer than all that is done to it
 * afterwards (pinning, in a virtual machine above all): several threads do it at once.
 */
import { Worker } from 'node:worker_threads';

const PAGE = 4096;
/** Below that, starting threads takes longer. */
const WORTH_IT = 2 ** 28;
const MOST_THREADS = 8;
/** A thread that does not come is not waited for. Whenever it touches memory, it changes nothing. */
const PATIENCE_MS = 10_000;

const SCRIPT = `const { parentPort } = require('node:worker_threads');
parentPort.on('message', ({ memory, from, to, done }) => {
  const bytes = new Uint8Array(memory);
  for (let i = from; i < to; i += ${PAGE}) Atomics.or(bytes, i, 0);
  Atomics.add(done, 0, 1);
  Atomics.notify(done, 0);
});`;

/** Threads that live until the event loop turns: memory is taken piece by piece, without a turn in between. */
export class Toucher {
  #threads: Worker[] = [];

  constructor(private readonly count: number) {}

  touch(memory: SharedArrayBuffer): void {
    const count = Math.min(this.count, MOST_THREADS);
    if (memory.byteLength < WORTH_IT || count < 2) return;
    if (this.#threads.length === 0) this.#start(count);
    const done = new Int32Array(new SharedArrayBuffer(4));
    const share = PAGE * Math.ceil(memory.byteLength / PAGE / count);
    for (const [i, thread] of this.#threads.entries()) {
      const [from, to] = [i * share, Math.min((i + 1) * share, memory.byteLength)];
      thread.postMessage({ memory, from, to, done });
    }
    const end = performance.now() + PATIENCE_MS;
    for (let n = 0; n < count; n = Atomics.load(done, 0))
      if (Atomics.wait(done, 0, n, Math.max(0, end - performance.now())) === 'timed-out') return;
  }

  #start(count: number): void {
    this.#threads = Array.from({ length: count }, () => new Worker(SCRIPT, { eval: true, execArgv: [] }));
    for (const thread of this.#threads) thread.unref();
    setImmediate(() => {
      for (const thread of this.#threads.splice(0)) void thread.terminate();
    });
  }
}
