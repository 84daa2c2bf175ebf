/**
 * Grammars of requests: compiled in a thread of their own with a time limit, and kept, so that an equal request gets the same
 * object (by which the engine knows the masks it has learned).
 */
import { createHash } from 'node:crypto';
import { type JobFailure, JobQueue } from '../base/jobs.js';
import { errors, type Grammar, LongmindError } from '../index.js';
import type { Calls, GrammarSource } from './grammar-source.js';

interface GrammarLimits {
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

export class Grammars {
  readonly #limits: GrammarLimits;
  readonly #queue: JobQueue<Calls>;
  /** The last used last. */
  readonly #kept = new Map<string, { grammar: Grammar; bytes: number }>();
  #bytes = 0;
  readonly #coming = new Map<string, Promise<Grammar>>();

  constructor(limits: Partial<GrammarLimits> = {}) {
    this.#limits = { ...defaults, ...limits };
    const script = new URL('./grammar-worker.js', import.meta.url);
    this.#queue = new JobQueue(script, { maxHeapMib: MAX_HEAP_MIB }, { pending: this.#limits.pending, size: Infinity });
  }

  get count(): number {
    return this.#kept.size;
  }

  /** @throws LongmindError 400 that names what is wrong with the schema, 429 when too many wait */
  async get(source: GrammarSource): Promise<Grammar> {
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
      coming = this.#compile(key, text, source.kind).finally(() => this.#coming.delete(key));
      this.#coming.set(key, coming);
    }
    return coming;
  }

  close(): Promise<void> {
    return this.#queue.close();
  }

  async #compile(key: string, source: string, kind: GrammarSource['kind']): Promise<Grammar> {
    const explain = (f: JobFailure) =>
      f.kind === 'time' || f.kind === 'memory'
        ? tooLarge(kind, `compiling it needs ${f.detail}`)
        : errors.engineFailed(`compiling a grammar: ${f.detail}`);
    const grammar = await this.#queue.run('compile', source, { limitMs: this.#limits.compileMs, explain });
    this.#keep(key, grammar);
    return grammar;
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
