/** The tokenizer as other threads use it: encoding in a worker, decoding here by the table of token bytes. */
import { Worker } from 'node:worker_threads';
import { errors, LongmindError, reviveError } from '../errors.js';
import type { ChatMessage, TokenBytes } from '../types.js';
import type { ChatOptions, RenderedChat } from './chat-template.js';
import { decodeTokens, TokenDecoder } from './decoder.js';
import { packMetadata } from './packed.js';
import type { FromWorker, Job, TokenizerInfo, WorkerData } from './protocol.js';
import type { DecodeOptions, EncodeOptions, Metadata, StreamDecoder } from './types.js';

export interface TokenizerClientOptions {
  /** Rows of the model's embedding, where they are more than the vocabulary has tokens. */
  modelVocab?: number;
  /** Milliseconds a chat template may take; then its worker is stopped and another is started (default 5,000). */
  templateTimeout?: number;
  /** Jobs that may wait (default 1,024). */
  maxPending?: number;
  /** Characters of all jobs that may wait (default 64 Mi). */
  maxPendingChars?: number;
}

/** Memory a worker may take: a template that fills it is stopped. Large vocabularies need about 150 MiB. */
const MAX_HEAP_MIB = 768;

interface Pending {
  job: Job;
  chars: number;
  resolve: (r: RenderedChat) => void;
  reject: (e: LongmindError) => void;
}

export class TokenizerClient {
  readonly info: TokenizerInfo;
  readonly #data: WorkerData;
  readonly #limits: Required<Omit<TokenizerClientOptions, 'modelVocab'>>;
  readonly #queue: Pending[] = [];
  #chars = 0;
  #running: Pending | null = null;
  #worker: Worker | null;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  private constructor(worker: Worker, info: TokenizerInfo, data: WorkerData, options: TokenizerClientOptions) {
    this.#worker = worker;
    this.info = info;
    this.#data = data;
    this.#limits = {
      templateTimeout: options.templateTimeout ?? 5000,
      maxPending: options.maxPending ?? 1024,
      maxPendingChars: options.maxPendingChars ?? 64 * 2 ** 20,
    };
    this.#listen(worker);
  }

  /** `metadata`: of the model file. @throws LongmindError bad_tokenizer */
  static async start(metadata: Metadata, options: TokenizerClientOptions = {}): Promise<TokenizerClient> {
    const data: WorkerData = { metadata: packMetadata(metadata), modelVocab: options.modelVocab ?? 0 };
    const { worker, info } = await startWorker(data);
    return new TokenizerClient(worker, info, data, options);
  }

  get tokenBytes(): TokenBytes {
    return this.info.tokenBytes;
  }

  get endTokens(): readonly number[] {
    return this.info.endTokens;
  }

  get startTokens(): readonly number[] {
    return this.info.startTokens;
  }

  async encode(text: string, options: EncodeOptions): Promise<Int32Array> {
    return (await this.#submit({ type: 'encode', text, options }, text.length)).ids;
  }

  /** The conversation in the model's own format. */
  applyTemplate(messages: readonly ChatMessage[], options: ChatOptions = {}): Promise<RenderedChat> {
    return this.#submit({ type: 'chat', messages, options, continued: false }, sizeOf(messages, options));
  }

  /** The whole conversation, ready for the assistant's answer. */
  async encodeChat(messages: readonly ChatMessage[], options: ChatOptions = {}): Promise<Int32Array> {
    return (await this.applyTemplate(messages, options)).ids;
  }

  /** What follows an assistant's last content: its end of turn, the new messages, ready for the answer. */
  async encodeContinuation(messages: readonly ChatMessage[], options: ChatOptions = {}): Promise<Int32Array> {
    const job: Job = { type: 'chat', messages, options, continued: true };
    return (await this.#submit(job, sizeOf(messages, options))).ids;
  }

  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    return decodeTokens(this.info.tokenBytes, ids, options);
  }

  createDecoder(options: DecodeOptions = {}): StreamDecoder {
    return new TokenDecoder(this.info.tokenBytes, options);
  }

  /** What waits is refused; the worker ends. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#failAll(errors.engineClosed());
    const worker = this.#worker;
    this.#worker = null;
    await worker?.terminate();
  }

  // ---------------------------------------------------------------- one job at a time

  #submit(job: Job, chars: number): Promise<RenderedChat> {
    if (this.#closed) return Promise.reject(errors.engineClosed());
    const { maxPending, maxPendingChars } = this.#limits;
    if (this.#queue.length >= maxPending || (this.#chars > 0 && this.#chars + chars > maxPendingChars))
      return Promise.reject(errors.queueFull(this.#queue.length));
    return new Promise((resolve, reject) => {
      this.#queue.push({ job, chars, resolve, reject });
      this.#chars += chars;
      this.#next();
    });
  }

  #next(): void {
    if (this.#running || !this.#worker) return;
    const next = this.#queue.shift();
    if (!next) return;
    this.#running = next;
    try {
      this.#worker.postMessage(next.job);
    } catch (e) {
      this.#finish()?.reject(errors.invalidRequest(`the messages cannot be sent: ${(e as Error).message}`, 'messages'));
      return;
    }
    if (next.job.type === 'chat') {
      const limit = this.#limits.templateTimeout;
      this.#timer = setTimeout(
        () => this.#restart(errors.badTemplate(`it did not end within ${limit} ms and was stopped`)),
        limit,
      );
    }
  }

  #listen(worker: Worker): void {
    worker.on('message', (m: FromWorker) => {
      if (worker !== this.#worker || (m.type !== 'done' && m.type !== 'failed')) return;
      const job = this.#finish();
      if (m.type === 'done') job?.resolve({ ids: m.ids, text: m.text });
      else job?.reject(reviveError(m.error));
    });
    worker.on('error', (e) => {
      if (worker !== this.#worker) return;
      const detail =
        (e as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY' ? 'it ran out of memory' : e.message;
      const isChat = this.#running?.job.type === 'chat';
      this.#restart(isChat ? errors.badTemplate(detail) : errors.engineFailed(`tokenizing: ${detail}`));
    });
    worker.on('exit', (code) => {
      if (worker === this.#worker) this.#restart(errors.engineFailed(`the tokenizer's thread ended with code ${code}`));
    });
  }

  /** The running job is over: returns it and sends the next one. */
  #finish(): Pending | null {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    const job = this.#running;
    this.#running = null;
    if (job) this.#chars -= job.chars;
    this.#next();
    return job;
  }

  /** The worker hangs or is gone: the job it had fails, the others go to a new one. */
  #restart(error: LongmindError): void {
    const old = this.#worker;
    this.#worker = null;
    this.#finish()?.reject(error);
    void old?.terminate();
    startWorker(this.#data).then(
      ({ worker }) => {
        if (this.#closed) {
          void worker.terminate();
          return;
        }
        this.#worker = worker;
        this.#listen(worker);
        this.#next();
      },
      (e) => {
        this.#closed = true;
        this.#failAll(e instanceof LongmindError ? e : errors.engineFailed(String(e)));
      },
    );
  }

  #failAll(error: LongmindError): void {
    const waiting = this.#queue.splice(0);
    const running = this.#finish();
    this.#chars = 0;
    for (const job of running ? [running, ...waiting] : waiting) job.reject(error);
  }
}

/** Characters of a request, roughly; the worker checks what it really is. */
function sizeOf(messages: readonly ChatMessage[], options: ChatOptions): number {
  let chars = 0;
  for (const m of messages) chars += 16 + (typeof m?.content === 'string' ? m.content.length : 0);
  return chars + (options.tools ? JSON.stringify(options.tools).length : 0);
}

function startWorker(data: WorkerData): Promise<{ worker: Worker; info: TokenizerInfo }> {
  const worker = new Worker(new URL('./worker.js', import.meta.url), {
    workerData: data,
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB },
  });
  return new Promise((resolve, reject) => {
    worker.once('message', (m: FromWorker) => {
      worker.off('error', reject);
      if (m.type === 'ready') resolve({ worker, info: m.info });
      else {
        void worker.terminate();
        reject(m.type === 'refused' ? reviveError(m.error) : errors.engineFailed('the tokenizer did not start'));
      }
    });
    worker.once('error', reject);
  });
}

/** Starts a tokenizer worker. @throws LongmindError bad_tokenizer */
export const createTokenizerClient = TokenizerClient.start;
