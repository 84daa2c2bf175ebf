/** One request as its caller sees it: an async iterator of token events and a promise of the result. */
import type {
  Generation,
  GenerationLimits,
  GenerationResult,
  StreamDecoder,
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
    this.#text += text;
    this.#tell({ tokenId, text, logprob });
  }

  finish(f: FinishedRequest): void {
    const rest = this.#scanner.push(this.decoder.flush()) + this.#scanner.flush();
    const last = this.#queue[this.#queue.length - 1];
    if (rest !== '') {
      this.#text += rest;
      // the end of the text belongs to the last token
      if (last) last.text += rest;
      else this.#tell({ tokenId: this.#tokenIds[this.#tokenIds.length - 1] ?? -1, text: rest, logprob: null });
    }
    const n = this.#tokenIds.length;
    this.embedding = f.embedding ?? null;
    this.#ended = true;
    this.#resolve({
      text: this.#text,
      tokenIds: this.#tokenIds,
      finishReason: f.reason,
      stopString: f.stopString,
      usage: {
        promptTokens: f.promptTokens,
        cachedTokens: f.cachedTokens,
        completionTokens: n,
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
