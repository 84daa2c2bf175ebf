/**
 * A worker thread and the one who started it, both sides. Calls are numbered and answered in any order; an error crosses as
 * plain data and is thrown here as it was thrown there. Beside calls either side may post messages of its own. When the
 * thread ends, asked for or not, everything that still waits for it fails.
 */
import { type MessagePort, parentPort, type Transferable, Worker } from 'node:worker_threads';
import { errors, invariant, LongmindError, reviveError, type SerializedError } from '../errors.js';

/** What a worker can be asked: by name, what goes there and what comes back. Plain data. */
export type CallTable<C> = { [K in keyof C]: { args: unknown; result: unknown } };

/** A call on its way to the worker. */
export type CallMessage<C extends CallTable<C>> = {
  [K in keyof C]: { type: 'call'; call: number; name: K; args: C[K]['args'] };
}[keyof C];

/** What comes back beside the worker's own messages. */
type Answer =
  | { type: 'ready'; info: unknown }
  | { type: 'fatal'; error: SerializedError }
  | { type: 'done'; call: number; value: unknown }
  | { type: 'refused'; call: number; error: SerializedError };

const ANSWERS = new Set(['ready', 'fatal', 'done', 'refused']);

/** Why a worker is gone. 'exit': it ended by itself, as it does when told to. */
export interface WorkerEnd {
  kind: 'memory' | 'error' | 'exit';
  detail: string;
  /** What those who wait for it get. */
  error: LongmindError;
}

export interface WorkerOptions {
  /** Its `workerData`. */
  data?: unknown;
  /** MiB of JavaScript objects; when it makes more, it ends. */
  maxHeapMib?: number;
  /** Node's own options; default: what this process loads before everything else. */
  execArgv?: string[];
}

// biome-ignore lint/suspicious/noExplicitAny: what event emitters say of their listeners
type Listener = (value: any) => void;

/** How a script is run elsewhere: a Worker, or a process that looks like one. */
export interface WorkerHost {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  on(event: string, listener: Listener): unknown;
  once(event: string, listener: Listener): unknown;
  ref(): void;
  unref(): void;
  terminate(): Promise<unknown>;
}
export type StartHost = (script: URL, options: WorkerOptions) => WorkerHost;

/** @throws engine_failed if Node refuses to start one */
const startThread: StartHost = (script, { data, maxHeapMib, execArgv = preloads(process.execArgv) }) => {
  const resourceLimits = maxHeapMib ? { maxOldGenerationSizeMb: maxHeapMib } : undefined;
  try {
    return new Worker(script, { workerData: data, resourceLimits, execArgv });
  } catch (e) {
    throw errors.engineFailed(`its thread cannot be started: ${(e as Error).message}`);
  }
};

/**
 * Of the options that this process was started with, the modules that are loaded first. Others are not for a worker: with
 * `--input-type` or `-e` its own script would be refused.
 */
function preloads(execArgv: readonly string[]): string[] {
  const kept: string[] = [];
  execArgv.forEach((flag, i) => {
    if (/^(--import|--require)=/.test(flag)) kept.push(flag);
    else if (/^(--import|--require|-r)$/.test(flag) && i + 1 < execArgv.length) kept.push(flag, execArgv[i + 1]!);
  });
  return kept;
}

export interface WorkerListener<Message> {
  onMessage?: (message: Message) => void;
  /** The thread is gone, and nobody here terminated it; told before what waits for it fails. */
  onEnd?: (end: WorkerEnd) => void;
}

interface Waiting {
  resolve: (value: never) => void;
  reject: (error: unknown) => void;
}

/** `Info`: what the worker says when it is ready; `To`, `From`: messages that are no calls. */
export class WorkerClient<C extends CallTable<C>, Info = null, To = never, From extends { type: string } = never> {
  /** Rejects with what the worker threw at its start. */
  readonly ready: Promise<Info>;
  /** Never rejects. */
  readonly ended: Promise<void>;
  readonly #worker: WorkerHost;
  /** By number of the call; 0: for `ready`. */
  readonly #waiting = new Map<number, Waiting>();
  #nextCall = 1;
  #end: LongmindError | null = null;

  constructor(
    script: URL,
    options: WorkerOptions,
    private readonly listener: WorkerListener<From> = {},
    start: StartHost = startThread,
  ) {
    const { maxHeapMib } = options;
    this.#worker = start(script, options);
    this.ready = new Promise<Info>((resolve, reject) => this.#waiting.set(0, { resolve, reject }));
    this.ready.catch(() => {});
    this.ended = new Promise((resolve) => this.#worker.once('exit', () => resolve()));
    this.#worker.on('message', (m: Answer | From) => {
      if (ANSWERS.has(m.type)) this.#settle(m as Answer);
      else this.listener.onMessage?.(m as From);
    });
    this.#worker.on('error', (e: NodeJS.ErrnoException) => {
      const memory = e.code === 'ERR_WORKER_OUT_OF_MEMORY';
      const detail = memory ? `more than ${maxHeapMib} MiB of memory` : e.message;
      this.#die({ kind: memory ? 'memory' : 'error', detail, error: errors.engineFailed(detail) });
    });
    this.#worker.on('exit', (code: number | string) =>
      this.#die({
        kind: 'exit',
        detail: `it ended with ${typeof code === 'number' ? 'code ' : ''}${code}`,
        error: errors.engineClosed(),
      }),
    );
  }

  /** @throws LongmindError what the worker threw, or that it is gone; a DataCloneError for what cannot be sent */
  call<K extends keyof C>(name: K, args: C[K]['args']): Promise<C[K]['result']> {
    if (this.#end) return Promise.reject(this.#end);
    const call = this.#nextCall++;
    return new Promise((resolve, reject) => {
      this.#worker.postMessage({ type: 'call', call, name, args });
      this.#waiting.set(call, { resolve, reject });
    });
  }

  post(message: To, transfer: Transferable[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  /** Whether this process stays for it. */
  hold(stay: boolean): void {
    if (stay) this.#worker.ref();
    else this.#worker.unref();
  }

  /** Stops it wherever it is. */
  async terminate(): Promise<void> {
    this.#end ??= errors.engineClosed();
    await this.#worker.terminate();
  }

  #settle(m: Answer): void {
    const call = m.type === 'done' || m.type === 'refused' ? m.call : 0;
    const waiting = this.#waiting.get(call);
    invariant(waiting, `an answer to unknown call ${call}`);
    this.#waiting.delete(call);
    if (m.type === 'ready') waiting.resolve(m.info as never);
    else if (m.type === 'done') waiting.resolve(m.value as never);
    else {
      const error = reviveError(m.error);
      // it said why it ends; its exit may come before anybody heard
      if (m.type === 'fatal') this.#end ??= error;
      waiting.reject(error);
    }
  }

  #die(end: WorkerEnd): void {
    if (!this.#end) {
      this.#end = end.error;
      this.listener.onEnd?.(end);
    }
    for (const w of this.#waiting.values()) w.reject(this.#end);
    this.#waiting.clear();
  }
}

// ---------------------------------------------------------------- the worker's side

/** Answers to calls, by name. `State`: what the worker made at its start. */
export type Answers<C extends CallTable<C>, State> = {
  [K in keyof C]: (args: C[K]['args'], state: State) => C[K]['result'];
};

/** The worker's end of the line to its client. */
export type Port = Pick<MessagePort, 'postMessage'> & {
  on(event: 'message', listener: Listener): unknown;
};

export function sayReady(port: Port, info: unknown): void {
  port.postMessage({ type: 'ready', info } satisfies Answer);
}

export function refuseStart(port: Port, e: unknown): void {
  port.postMessage({ type: 'fatal', error: typed(e).toJSON() } satisfies Answer);
}

export function reply(port: Port, call: number, value: unknown, transfer: Transferable[] = []): void {
  port.postMessage({ type: 'done', call, value } satisfies Answer, transfer);
}

export function refuse(port: Port, call: number, e: unknown): void {
  port.postMessage({ type: 'refused', call, error: typed(e).toJSON() } satisfies Answer);
}

export function answer<C extends CallTable<C>, State>(
  port: Port,
  { call, name, args }: CallMessage<C>,
  answers: Answers<C, State>,
  state: State,
  transfer: (value: C[keyof C]['result']) => Transferable[] = () => [],
): void {
  try {
    const value = answers[name](args, state);
    reply(port, call, value, transfer(value));
  } catch (e) {
    refuse(port, call, e);
  }
}

/**
 * What the worker is: `start` makes what it needs, `info` is what the client gets as `ready`. If `start` throws, that is
 * what `ready` rejects with, and the thread ends.
 */
export function begin<T>(
  start: (port: MessagePort) => { made: T; info: unknown },
): { port: MessagePort; made: T } | null {
  invariant(parentPort, 'this is the script of a worker thread');
  const port = parentPort;
  try {
    const { made, info } = start(port);
    sayReady(port, info);
    return { port, made };
  } catch (e) {
    refuseStart(port, e);
    port.close();
    return null;
  }
}

/** Whatever was thrown, as what may cross. */
export function typed(e: unknown): LongmindError {
  if (e instanceof LongmindError) return e;
  return errors.engineFailed(e instanceof Error ? (e.stack ?? e.message) : String(e));
}
