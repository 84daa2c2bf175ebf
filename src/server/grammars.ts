/**
 * Grammars of requests: compiled in a thread of their own with a time limit, and kept, so that an equal request gets the same
 * object (by which the engine knows the masks it has learned).
 */
import { createHash } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import {
  errors,
  type Grammar,
  LongmindError,
  reviveError,
  type SerializedError,
  type ToolFormat,
  type ToolSpec,
} from '../index.js';

/** What a grammar is made of. Plain data; equal sources are equal grammars. The order of properties counts. */
export type GrammarSource =
  | { kind: 'object' }
  | { kind: 'schema'; schema: unknown }
  | {
      kind: 'tools';
      tools: ToolSpec[];
      choice: 'auto' | 'required' | { name: string };
      format: ToolFormat;
      parallel: boolean;
    };

export interface CompileRequest {
  id: number;
  /** A GrammarSource as JSON: whatever can be written can be sent. */
  source: string;
}

export interface CompileReply {
  id: number;
  grammar?: Grammar;
  error?: SerializedError;
}

export interface GrammarLimits {
  /** Milliseconds for one grammar; then the thread is stopped, and another started for the next. */
  compileMs: number;
  /** Requests that may wait for the thread. */
  pending: number;
  /** Bytes of grammars that are kept. */
  bytes: number;
}

const defaults: GrammarLimits = { compileMs: 5_000, pending: 256, bytes: 32 * 2 ** 20 };

/** Memory of the thread; more than that is a schema that nobody needs. */
const MAX_HEAP_MIB = 256;

interface Job {
  key: string;
  source: string;
  kind: GrammarSource['kind'];
  resolve: (g: Grammar) => void;
  reject: (e: LongmindError) => void;
}

export class Grammars {
  readonly #limits: GrammarLimits;
  /** The last used last. */
  readonly #kept = new Map<string, { grammar: Grammar; bytes: number }>();
  #bytes = 0;
  readonly #coming = new Map<string, Promise<Grammar>>();
  readonly #queue: Job[] = [];
  #running: (Job & { id: number; timer: NodeJS.Timeout }) | null = null;
  #worker: Worker | null = null;
  #nextId = 1;
  #closed = false;

  constructor(limits: Partial<GrammarLimits> = {}) {
    this.#limits = { ...defaults, ...limits };
  }

  get count(): number {
    return this.#kept.size;
  }

  /** @throws LongmindError 400 that names what is wrong with the schema, 429 when too many wait */
  async get(source: GrammarSource): Promise<Grammar> {
    if (this.#closed) throw errors.engineClosed();
    const text = written(source);
    const key = createHash('sha256').update(text).digest('base64');
    const kept = this.#kept.get(key);
    if (kept) {
      this.#kept.delete(key);
      this.#kept.set(key, kept);
      return kept.grammar;
    }
    let coming = this.#coming.get(key);
    if (!coming) {
      if (this.#queue.length >= this.#limits.pending) throw errors.queueFull(this.#limits.pending);
      coming = new Promise<Grammar>((resolve, reject) =>
        this.#queue.push({ key, source: text, kind: source.kind, resolve, reject }),
      );
      this.#coming.set(key, coming);
      this.#next();
    }
    return coming;
  }

  async close(): Promise<void> {
    this.#closed = true;
    const worker = this.#worker;
    this.#worker = null;
    this.#finish()?.reject(errors.engineClosed());
    for (const job of this.#queue.splice(0)) this.#drop(job).reject(errors.engineClosed());
    await worker?.terminate();
  }

  #next(): void {
    if (this.#running || this.#closed) return;
    const job = this.#queue.shift();
    if (!job) return;
    this.#worker ??= this.#start();
    const limit = this.#limits.compileMs;
    const timer = setTimeout(() => this.#stop(tooLarge(job.kind, `compiling it needs more than ${limit} ms`)), limit);
    const id = this.#nextId++;
    this.#running = { ...job, id, timer };
    this.#worker.ref();
    this.#worker.postMessage({ id, source: job.source } satisfies CompileRequest);
  }

  #start(): Worker {
    const worker = new Worker(new URL('./grammar-worker.js', import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB },
    });
    const ended = (detail: string): void => {
      if (worker !== this.#worker) return;
      const job = this.#running;
      this.#stop(job ? tooLarge(job.kind, `compiling it needs more than ${detail}`) : errors.engineFailed(detail));
    };
    worker.on('message', (reply: CompileReply) => {
      if (worker !== this.#worker || reply.id !== this.#running?.id) return;
      const job = this.#finish();
      if (reply.grammar && job) this.#keep(job.key, reply.grammar);
      if (reply.grammar) job?.resolve(reply.grammar);
      else job?.reject(reviveError(reply.error!));
      this.#next();
    });
    worker.on('error', (e: NodeJS.ErrnoException) =>
      ended(e.code === 'ERR_WORKER_OUT_OF_MEMORY' ? `${MAX_HEAP_MIB} MiB of memory` : e.message),
    );
    worker.on('exit', () => ended('a thread that ended'));
    return worker;
  }

  /** The thread hangs or is gone: what it compiled fails, the next gets another. */
  #stop(error: LongmindError): void {
    const worker = this.#worker;
    this.#worker = null;
    void worker?.terminate();
    this.#finish()?.reject(error);
    this.#next();
  }

  #finish(): Job | null {
    const job = this.#running;
    this.#running = null;
    // an idle thread keeps no process alive
    this.#worker?.unref();
    if (!job) return null;
    clearTimeout(job.timer);
    return this.#drop(job);
  }

  #drop(job: Job): Job {
    this.#coming.delete(job.key);
    return job;
  }

  #keep(key: string, grammar: Grammar): void {
    const bytes = bytesOf(grammar);
    this.#kept.set(key, { grammar, bytes });
    this.#bytes += bytes;
    for (const [oldest, { bytes: freed }] of this.#kept) {
      if (this.#bytes <= this.#limits.bytes) break;
      this.#kept.delete(oldest);
      this.#bytes -= freed;
    }
  }
}

function bytesOf(grammar: Grammar): number {
  let bytes = 1024;
  for (const part of Object.values(grammar)) if (ArrayBuffer.isView(part)) bytes += part.byteLength;
  return bytes;
}

/** @throws schema_too_large for one that is nested so deeply that it cannot be written */
function written(source: GrammarSource): string {
  try {
    return JSON.stringify(source);
  } catch {
    throw tooLarge(source.kind, 'it is nested too deeply');
  }
}

function tooLarge(kind: GrammarSource['kind'], why: string): LongmindError {
  const param = kind === 'tools' ? 'tools' : 'response_format';
  return new LongmindError('schema_too_large', 400, `the schema is too large: ${why}`, param);
}
