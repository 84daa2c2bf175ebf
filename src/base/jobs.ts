/**
 * One call at a time to a worker that may hang or grow without bound, because what it works on comes from anybody. A job
 * that takes too long or too much memory costs the worker; the others wait and go to the next one. Idle, it keeps no process
 * alive.
 */
import { errors, LongmindError } from '../errors.js';
import { type CallTable, type StartHost, WorkerClient, type WorkerEnd, type WorkerOptions } from './worker.js';

interface QueueLimits {
  /** Jobs that may wait. */
  pending: number;
  /** Sizes of all jobs that wait or run, summed. One alone may be larger. */
  size: number;
}

/** Why a job was not done, where the worker did not say so itself. 'unsendable': what was asked is no plain data. */
export interface JobFailure {
  kind: 'time' | 'memory' | 'error' | 'exit' | 'unsendable';
  detail: string;
}

interface JobOptions {
  /** Counts against the limit of the queue. */
  size?: number;
  /** Milliseconds, from when the worker begins with it; then the worker is stopped. Default: no limit. */
  limitMs?: number;
  /** What its caller gets for a failure. */
  explain: (failure: JobFailure) => LongmindError;
}

interface Job extends JobOptions {
  start: () => Promise<unknown>;
  resolve: (value: never) => void;
  reject: (error: unknown) => void;
}

export class JobQueue<C extends CallTable<C>, Info = null> {
  readonly #waiting: Job[] = [];
  #worker: WorkerClient<C, Info> | null = null;
  #running: Job | null = null;
  /** What ended the worker under the running job; `error`: what the worker's callers get for it, if it ended by itself. */
  #failure: (JobFailure & { error?: LongmindError }) | null = null;
  #size = 0;
  #closed = false;

  /** The thread starts with the first job. */
  constructor(
    private readonly script: URL,
    private readonly options: WorkerOptions,
    private readonly limits: QueueLimits,
    /** Default: in a thread. */
    private readonly host?: StartHost,
  ) {}

  /** Starts the thread now. @throws LongmindError what it threw at its start */
  async start(): Promise<Info> {
    const worker = this.#open();
    const info = await worker.ready;
    if (!this.#running) worker.hold(false);
    return info;
  }

  /** @throws LongmindError queue_full, engine_closed, what the worker threw, or what `explain` makes of a failure */
  run<K extends keyof C>(name: K, args: C[K]['args'], options: JobOptions): Promise<C[K]['result']> {
    if (this.#closed) return Promise.reject(errors.engineClosed());
    const { pending, size } = this.limits;
    const own = options.size ?? 0;
    if (this.#waiting.length >= pending || (this.#size > 0 && this.#size + own > size))
      return Promise.reject(errors.queueFull(this.#waiting.length));
    return new Promise((resolve, reject) => {
      const start = () => this.#open().call(name, args);
      this.#waiting.push({ ...options, start, resolve, reject });
      this.#size += own;
      this.#next();
    });
  }

  /** What waits is refused; the worker ends. */
  async close(): Promise<void> {
    this.#closed = true;
    const running = this.#running;
    for (const job of [...(running ? [running] : []), ...this.#waiting.splice(0)]) job.reject(errors.engineClosed());
    await this.#worker?.terminate();
  }

  #next(): void {
    if (this.#running || this.#closed) return;
    this.#running = this.#waiting.shift() ?? null;
    if (this.#running) void this.#do(this.#running);
  }

  async #do(job: Job): Promise<void> {
    const worker = this.#open();
    let timer: NodeJS.Timeout | undefined;
    worker.hold(true);
    try {
      await worker.ready;
      if (job.limitMs !== undefined)
        timer = setTimeout(() => this.#stop({ kind: 'time', detail: `more than ${job.limitMs} ms` }), job.limitMs);
      job.resolve((await job.start()) as never);
    } catch (e) {
      job.reject(this.#reason(job, e));
    }
    clearTimeout(timer);
    if (!this.#closed) worker.hold(false);
    this.#failure = null;
    this.#running = null;
    this.#size -= job.size ?? 0;
    this.#next();
  }

  #reason(job: Job, e: unknown): LongmindError {
    const { kind, detail, error } = this.#failure ?? {};
    // it may have answered and then ended, in one moment
    if (kind && (!error || error === e)) return job.explain({ kind, detail: detail! });
    return e instanceof LongmindError ? e : job.explain({ kind: 'unsendable', detail: (e as Error).message });
  }

  #open(): WorkerClient<C, Info> {
    if (this.#worker) return this.#worker;
    const onEnd = (end: WorkerEnd) => {
      if (this.#worker !== worker) return;
      if (this.#running) this.#failure ??= end;
      this.#worker = null;
    };
    const worker: WorkerClient<C, Info> = new WorkerClient(this.script, this.options, { onEnd }, this.host);
    // one that cannot start is not kept: the next job tries again
    worker.ready.catch(() => {
      if (this.#worker === worker) this.#worker = null;
      void worker.terminate();
    });
    this.#worker = worker;
    return worker;
  }

  #stop(failure: JobFailure): void {
    const worker = this.#worker;
    this.#failure = failure;
    this.#worker = null;
    void worker?.terminate();
  }
}
