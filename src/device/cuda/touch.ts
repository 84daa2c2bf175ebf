/**
 * Host memory is handed out by the system page by page when it is first written to, which takes longer than all that is done to it
 * afterwards. So large pages are asked for, and several threads write: 0.13 to 0.33 s a GiB, pinning included, where it took 0.5 to
 * 0.9. (Threads alone, or large pages alone, gain nothing: docs/cuda.md.)
 */
import { Worker } from 'node:worker_threads';
import koffi from 'koffi';

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
    askForLargePages(memory);
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

const LARGE_PAGES = 14; // MADV_HUGEPAGE

/** Where the system has none, nothing changes. */
function askForLargePages(memory: SharedArrayBuffer): void {
  if (process.platform !== 'linux') return;
  try {
    const madvise = koffi.load(null).func('int madvise(uint64_t address, size_t length, int advice)');
    const from = BigInt(koffi.address(new Uint8Array(memory)) as bigint);
    const first = (from + BigInt(PAGE - 1)) & ~BigInt(PAGE - 1);
    madvise(first, memory.byteLength - Number(first - from), LARGE_PAGES);
  } catch {
    // only slower
  }
}
