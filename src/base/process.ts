/**
 * A worker in a process of its own instead of a thread: for what may make the JavaScript engine give up, which ends a whole
 * process (V8 refuses some allocations so, also in a thread with a limit). To WorkerClient it looks like a thread; the
 * script begins with `beginProcess`.
 */
import { type ChildProcess, fork, type Serializable } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { type Port, refuseStart, sayReady } from './worker.js';

/** The part of a Worker that WorkerClient uses. Events: message, error, exit (a code, or the name of a signal). */
export class WorkerProcess extends EventEmitter {
  readonly #child: ChildProcess;

  constructor(script: URL, { data, maxHeapMib }: { data?: unknown; maxHeapMib?: number }) {
    super();
    // flags of this process are none of the child's: with --inspect it would want the same port
    const { NODE_OPTIONS: _, ...env } = process.env;
    this.#child = fork(script, [], {
      env,
      execArgv: maxHeapMib ? [`--max-old-space-size=${maxHeapMib}`] : [],
      serialization: 'advanced',
      // V8 prints pages when it gives up
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    this.#child.on('message', (m) => this.emit('message', m));
    this.#child.once('exit', (code, signal) => this.emit('exit', signal ?? code));
    // it cannot be started, or was told something when it had just died; of its end 'exit' tells
    this.#child.on('error', (e) => {
      if (this.#child.pid === undefined) this.emit('error', e);
    });
    this.postMessage({ data });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Throws if the message cannot be cloned. */
  postMessage(message: unknown): void {
    if (this.#child.connected) this.#child.send(message as Serializable);
  }

  ref(): void {
    this.#child.ref();
    this.#child.channel?.ref();
  }

  unref(): void {
    this.#child.unref();
    this.#child.channel?.unref();
  }

  async terminate(): Promise<void> {
    if (this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()));
    this.#child.ref();
    this.#child.kill('SIGKILL');
    await gone;
  }
}

/**
 * The script's side: `start` is given what the client passed as data; `info` is what the client gets as `ready`, and
 * `serve` is called with the port once that is said.
 */
export function beginProcess<Data, T>(
  title: string,
  start: (data: Data) => { made: T; info: unknown },
  serve: (port: Port, made: T) => void,
): void {
  process.title = title;
  // it ends with its parent, however that ends; signals for the whole group are the parent's to answer
  process.on('disconnect', () => process.exit());
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
  const port: Port = {
    postMessage: (m) => void (process.connected && process.send!(m)),
    on: (event, listener) => process.on(event, listener),
  };
  process.once('message', ({ data }: { data: Data }) => {
    try {
      const { made, info } = start(data);
      sayReady(port, info);
      serve(port, made);
    } catch (e) {
      refuseStart(port, e);
    }
  });
}
