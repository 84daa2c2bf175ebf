/** One request as its caller sees it: an async iterator of token events and a promise of the result. */
import { ReasoningSplitter, reasoningMarks } from '../base/reasoning.js';
import type {
  Generation,
  GenerationLimits,
  GenerationResult,
  ReasoningFormat,
  ReasoningStart,
  StreamDecoder,
  TokenBytes,
  TokenEvent,
  TokenLogprob,
} from '../types.js';
import type { Begun } from './protocol.js';
import type { FinishedRequest } from './request.js';
import { StopScanner } from './stop-scanner.js';

/** What a generation can ask of the engine. */
interface GenerationControl {
  abort(): void;
  fork(options: { seed?: number | null }): Generation;
}

export class RunningGeneration implements Generation {
  readonly id: string;
  prompt: Omit<Begun, 'id'> | null = null;
  /** What `embed` asked for, at the end. */
  embedding: Float32Array | null = null;
  readonly #scanner: StopScanner;
  readonly #minTokens: number;
  readonly #queue: TokenEvent[] = [];
  readonly #tokenIds: number[] = [];
  readonly #logprobs: TokenLogprob[] = [];
  readonly #started = performance.now();
  readonly #result: Promise<GenerationResult>;
  #resolve!: (r: GenerationResult) => void;
  #reject!: (e: unknown) => void;
  #firstAt = 0;
  #lastAt = 0;
  #text = '';
  #reasoning = '';
  #reasoningTokens = 0;
  /** Null: all of it is the answer. */
  #splitter: { parts: ReasoningSplitter; marks: ReadonlySet<string>; table: TokenBytes } | null = null;
  /** What comes from now on is past the thinking. */
  #answering = false;
  #ended = false;
  #error: unknown = null;
  #wake: (() => void) | null = null;
  #listener: ((event: TokenEvent) => void) | null = null;

  constructor(
    id: number,
    { stop, minTokens }: Pick<GenerationLimits, 'stop' | 'minTokens'>,
    private readonly decoder: StreamDecoder,
    private readonly control: GenerationControl,
  ) {
    this.id = `gen-${id}`;
    this.#scanner = new StopScanner(stop);
    this.#minTokens = minTokens;
    this.#result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // whoever iterates gets the error there; an unread result must not crash the process
    this.#result.catch(() => {});
  }

  result(): Promise<GenerationResult> {
    return this.#result;
  }

  abort(): void {
    if (!this.#ended) this.control.abort();
  }

  fork(options: { seed?: number | null } = {}): Generation {
    return this.control.fork(options);
  }

  /** Ends with what came so far, without the engine (it never saw the request). */
  get ended(): boolean {
    return this.#ended;
  }

  async *[Symbol.asyncIterator](): AsyncIterator<TokenEvent> {
    try {
      for (;;) {
        while (this.#queue.length > 0) yield this.#queue.shift()!;
        if (this.#error) throw this.#error;
        if (this.#ended) return;
        await new Promise<void>((wake) => {
          this.#wake = wake;
        });
      }
    } finally {
      // a consumer that leaves the loop early wants no more tokens
      this.abort();
    }
  }

  onToken(listener: (event: TokenEvent) => void): void {
    this.#listener = listener;
    for (const event of this.#queue.splice(0)) this.#tell(event);
  }

  // ---- told by the engine client

  begun({ promptTokens, cachedTokens }: Begun): void {
    this.prompt = { promptTokens, cachedTokens };
  }

  token(tokenId: number, logprob: TokenLogprob | null): void {
    this.#lastAt = performance.now();
    if (this.#tokenIds.length === 0) this.#firstAt = this.#lastAt;
    this.#tokenIds.push(tokenId);
    if (logprob) this.#logprobs.push(logprob);
    const text = this.#scanner.push(this.decoder.push(tokenId), this.#tokenIds.length < this.#minTokens);
    this.#tell({ tokenId, ...this.#take(tokenId, text), logprob });
  }

  /** Thinking and answer come apart; before the first token. */
  split(format: ReasoningFormat, start: ReasoningStart, table: TokenBytes): void {
    this.#splitter = { parts: new ReasoningSplitter(format, start), marks: new Set(reasoningMarks(format)), table };
  }

  #take(tokenId: number, text: string): Pick<TokenEvent, 'text' | 'reasoning'> {
    if (!this.#splitter) {
      this.#text += text;
      return { text, reasoning: null };
    }
    const { parts, marks, table } = this.#splitter;
    const wasThinking = parts.thinking;
    // decoding leaves special tokens out
    const special = table.special[tokenId]
      ? Buffer.from(table.bytes.subarray(table.offsets[tokenId], table.offsets[tokenId + 1])).toString()
      : '';
    const said = parts.push(marks.has(special) ? text + special : text);
    const other = special !== '' && !marks.has(special);
    if (other) said.text += parts.interrupt().text;
    this.#text += said.text;
    this.#reasoning += said.reasoning;
    const thinking = wasThinking || parts.thinking;
    if (parts.began && !thinking && (other || said.text !== '')) this.#answering = true;
    const belongs = parts.began && !this.#answering;
    if (belongs) this.#reasoningTokens = this.#tokenIds.length;
    return { text: said.text, reasoning: belongs ? said.reasoning : null };
  }

  /** What was held back. */
  #rest(): Pick<TokenEvent, 'text' | 'reasoning'> {
    const text = this.#scanner.push(this.decoder.flush()) + this.#scanner.flush();
    if (!this.#splitter) return { text, reasoning: null };
    const { parts } = this.#splitter;
    const [said, last] = [parts.push(text), parts.end()];
    return { text: said.text + last.text, reasoning: said.reasoning + last.reasoning || null };
  }

  finish(f: FinishedRequest): void {
    const rest = this.#rest();
    const last = this.#queue[this.#queue.length - 1];
    if (rest.text !== '' || rest.reasoning !== null) {
      this.#text += rest.text;
      this.#reasoning += rest.reasoning ?? '';
      // the end of the text belongs to the last token
      if (last) {
        last.text += rest.text;
        if (rest.reasoning !== null) last.reasoning = (last.reasoning ?? '') + rest.reasoning;
      } else this.#tell({ tokenId: this.#tokenIds[this.#tokenIds.length - 1] ?? -1, ...rest, logprob: null });
    }
    const n = this.#tokenIds.length;
    this.embedding = f.embedding ?? null;
    this.#ended = true;
    this.#resolve({
      text: this.#text,
      reasoning: this.#splitter?.parts.began ? this.#reasoning : null,
      tokenIds: this.#tokenIds,
      finishReason: f.reason,
      stopString: f.stopString,
      usage: {
        promptTokens: f.promptTokens,
        cachedTokens: f.cachedTokens,
        completionTokens: n,
        reasoningTokens: this.#reasoningTokens,
        acceptedDraftTokens: f.acceptedDraftTokens,
      },
      kv: { restoredTokens: f.restoredTokens, recomputedTokens: f.recomputedTokens },
      timings: {
        queue: f.queueMs,
        ttft: n > 0 ? this.#firstAt - this.#started : 0,
        perToken: n > 1 ? (this.#lastAt - this.#firstAt) / (n - 1) : 0,
        total: performance.now() - this.#started,
      },
      logprobs: this.#logprobs.length > 0 ? this.#logprobs : null,
    });
    this.#awake();
  }

  fail(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#reject(error);
    this.#awake();
  }

  #tell(event: TokenEvent): void {
    if (!this.#listener) {
      this.#queue.push(event);
      this.#awake();
      return;
    }
    try {
      this.#listener(event);
    } catch (error) {
      // its own fault, not that of the requests whose tokens came in the same step
      this.#listener = () => {};
      this.abort();
      this.fail(error);
    }
  }

  #awake(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }
}
