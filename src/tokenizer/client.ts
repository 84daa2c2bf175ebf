/** The tokenizer as an engine uses it: encoding in a process of its own, decoding here by the table of token bytes. */
import { type JobFailure, JobQueue } from '../base/jobs.js';
import { WorkerProcess } from '../base/process.js';
import { errors, type LongmindError } from '../errors.js';
import type { ChatMessage, ReasoningTemplate, StreamDecoder, TokenBytes } from '../types.js';
import type { ChatOptions, RenderedChat } from './chat-template.js';
import { decodeTokens, TokenDecoder } from './decoder.js';
import { packMetadata } from './packed.js';
import type { Calls, TokenizerInfo, WorkerData } from './protocol.js';
import { checkTemplateValues } from './template-values.js';
import type { DecodeOptions, EncodeOptions, Metadata } from './types.js';

interface TokenizerClientOptions {
  /** Rows of the model's embedding, where they are more than the vocabulary has tokens. */
  modelVocab?: number;
  /** Milliseconds a chat template may take; then its process is stopped and another is started (default 5,000). */
  templateTimeout?: number;
  /** Whether what a model thinks is told from what it answers (default 'auto'). */
  reasoningFormat?: 'auto' | 'none';
  /** Jobs that may wait (default 1,024). */
  maxPending?: number;
  /** Characters of all jobs that may wait (default 64 Mi). */
  maxPendingChars?: number;
}

/** Memory its process may take: a template that fills it is stopped. Large vocabularies need about 150 MiB. */
const MAX_HEAP_MIB = 768;

type Queue = JobQueue<Calls, TokenizerInfo>;

export class TokenizerClient {
  private constructor(
    private readonly queue: Queue,
    readonly info: TokenizerInfo,
    private readonly templateTimeout: number,
    private readonly current: () => WorkerProcess,
  ) {}

  /** `metadata`: of the model file. @throws LongmindError bad_tokenizer */
  static async start(metadata: Metadata, options: TokenizerClientOptions = {}): Promise<TokenizerClient> {
    const data: WorkerData = { metadata: packMetadata(metadata), modelVocab: options.modelVocab ?? 0 };
    const limits = { pending: options.maxPending ?? 1024, size: options.maxPendingChars ?? 64 * 2 ** 20 };
    const worker = { data, maxHeapMib: MAX_HEAP_MIB };
    let current!: WorkerProcess;
    const queue: Queue = new JobQueue(new URL('./worker.js', import.meta.url), worker, limits, (script, o) => {
      current = new WorkerProcess(script, o);
      return current;
    });
    const info = await queue.start();
    // copies: what came lies in the middle of a larger buffer
    const { bytes, offsets, special } = info.tokenBytes;
    const tokenBytes = { bytes: bytes.slice(), offsets: offsets.slice(), special: special.slice() };
    const reasoning = options.reasoningFormat === 'none' ? null : info.reasoning;
    return new TokenizerClient(
      queue,
      { ...info, tokenBytes, reasoning },
      options.templateTimeout ?? 5000,
      () => current,
    );
  }

  /** Of the process that was started last. */
  get pid(): number | undefined {
    return this.current().pid;
  }

  get tokenBytes(): TokenBytes {
    return this.info.tokenBytes;
  }

  get endTokens(): readonly number[] {
    return this.info.endTokens;
  }

  /** Null: there is nothing to tell apart. */
  get reasoning(): ReasoningTemplate | null {
    return this.info.reasoning;
  }

  get startTokens(): readonly number[] {
    return this.info.startTokens;
  }

  async encode(text: string, options: EncodeOptions): Promise<Int32Array> {
    const { ids } = await this.queue.run('encode', { text, options }, { size: text.length, explain });
    return ids.slice();
  }

  /** The conversation in the model's own format. */
  applyTemplate(messages: readonly ChatMessage[], options: ChatOptions = {}): Promise<RenderedChat> {
    return this.#chat(messages, options, false);
  }

  /** The whole conversation, ready for the assistant's answer. */
  async encodeChat(messages: readonly ChatMessage[], options: ChatOptions = {}): Promise<Int32Array> {
    return (await this.#chat(messages, options, false)).ids;
  }

  /** What follows an assistant's last content: its end of turn, the new messages, ready for the answer. */
  async encodeContinuation(messages: readonly ChatMessage[], options: ChatOptions = {}): Promise<Int32Array> {
    return (await this.#chat(messages, options, true)).ids;
  }

  async #chat(messages: readonly ChatMessage[], options: ChatOptions, continued: boolean): Promise<RenderedChat> {
    if (options.variables !== undefined) checkTemplateValues(options.variables);
    const { ids, text } = await this.queue.run(
      'chat',
      { messages, options, continued },
      { size: sizeOf(messages, options), limitMs: this.templateTimeout, explain: explainChat },
    );
    return { ids: ids.slice(), text };
  }

  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    return decodeTokens(this.info.tokenBytes, ids, options);
  }

  createDecoder(options: DecodeOptions = {}): StreamDecoder {
    return new TokenDecoder(this.info.tokenBytes, options);
  }

  /** What waits is refused; the process ends. */
  close(): Promise<void> {
    return this.queue.close();
  }
}

const explain = ({ detail }: JobFailure): LongmindError => errors.engineFailed(`tokenizing: ${detail}`);

function explainChat({ kind, detail }: JobFailure): LongmindError {
  if (kind === 'unsendable') return errors.invalidRequest(`the messages cannot be sent: ${detail}`, 'messages');
  if (kind === 'exit') return errors.badTemplate(`its process died: ${detail}`);
  return errors.badTemplate(kind === 'error' ? detail : `it needs ${detail} and was stopped`);
}

/** Characters of a request, roughly; its process checks what it really is. */
function sizeOf(messages: readonly ChatMessage[], options: ChatOptions): number {
  let chars = 0;
  for (const m of messages) chars += 16 + (typeof m?.content === 'string' ? m.content.length : 0);
  const { tools, variables } = options;
  return chars + (tools ? JSON.stringify(tools).length : 0) + (variables ? JSON.stringify(variables).length : 0);
}

/** Starts a tokenizer's process. @throws LongmindError bad_tokenizer */
export const createTokenizerClient = TokenizerClient.start;
