/** A request inside the engine: what was asked (plain data) and how far it is. */

import type { GrammarStart, Matcher } from 'longmind-grammar';
import type { CacheManager, SequenceId } from '../cache/types.js';
import type { FinishReason, GenerationLimits, KeepAs, Pooling, SamplingParams } from '../types.js';
import { PooledStates } from './pooled-states.js';
import { rankOf, type Schedulable } from './scheduler.js';
import type { Shared, TurnChange } from './shared/kept.js';
import type { StopDetector } from './stop-detector.js';
import type { Turn } from './turn.js';

/** What the batch is asked for; plain data, as it crosses from the main thread. */
export interface EngineRequest {
  id: number;
  tokens: Int32Array;
  sampling: SamplingParams & { seed: number };
  limits: GenerationLimits;
  /** Tokens that end the generation (end-of-turn tokens unless ignoreEos, and stopTokens). */
  stopTokens: number[];
  sessionId: string | null;
  /**
   * Not null: only what is new. These follow what the session holds; `tokens` is for a session that holds nothing yet.
   * Null: `tokens` is the whole history.
   */
  continuation: Int32Array | null;
  /** Of the session that these follow, so many tokens stay; null, left out: all. */
  sessionLength?: number | null;
  priority: number;
  owner: number;
  /** Index of its adapter, -1: none; null, left out: that of its session, else none. */
  adapter?: number | null;
  /** Number of the grammar that limits what may be drawn; the grammar itself was sent before, once. */
  grammar: number | null;
  /** Where the grammar begins; default: in its document. */
  grammarStart?: GrammarStart;
  /** A request in the engine with the same prompt, which is computed once for both; null or gone: computed for this one. */
  forkOf: number | null;
  /** Not null: `continuation` follows what was kept under this name. */
  after?: string | null;
  /** Not null: what the turn leaves is kept under this name. */
  keepAs?: (KeepAs & { note: string }) | null;
  /** With a session store that several servers share: what it has of the session. */
  shared?: Shared | null;
  /** Not null: nothing is generated, the hidden states of the prompt are wanted. */
  embed?: Pooling | null;
}

export interface FinishedRequest {
  id: number;
  reason: FinishReason;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  /** Of these, the ones that were guessed and verified rather than drawn one by one. */
  acceptedDraftTokens: number;
  stopString: string | null;
  /** (dim) what `embed` asked for. */
  embedding?: Float32Array | null;
  /** See KvSources. */
  restoredTokens: number;
  recomputedTokens: number;
  /** Milliseconds from arrival in the engine to admission. */
  queueMs: number;
  /** Of a request that has `shared`: what the store must take before it is told that the turn has ended. */
  change?: TurnChange;
}

/** Distinct tokens of a sequence and how often each was generated, kept up to date token by token, for the penalties. */
export class TokenHistory {
  readonly #index = new Map<number, number>();
  tokens = new Int32Array(64);
  counts = new Int32Array(64);
  size = 0;

  /** A token of the prompt. */
  see(token: number): void {
    this.#place(token);
  }

  /** A generated token. */
  add(token: number): void {
    this.counts[this.#place(token)]!++;
  }

  /** What it would be with these tokens generated too, while `look` looks at it. */
  with(tokens: Int32Array, look: (count: number) => void): void {
    const { size } = this;
    look(0);
    for (let i = 0; i < tokens.length; i++) {
      this.add(tokens[i]!);
      look(i + 1);
    }
    for (const t of tokens) this.counts[this.#index.get(t)!]!--;
    for (let i = size; i < this.size; i++) this.#index.delete(this.tokens[i]!);
    this.size = size;
  }

  #place(token: number): number {
    const known = this.#index.get(token);
    if (known !== undefined) return known;
    if (this.size === this.tokens.length) {
      this.tokens = grown(this.tokens);
      this.counts = grown(this.counts);
    }
    this.#index.set(token, this.size);
    this.counts[this.size] = 0;
    this.tokens[this.size] = token;
    return this.size++;
  }
}

function grown(a: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const b = new Int32Array(2 * a.length);
  b.set(a);
  return b;
}

export class LiveRequest implements Schedulable {
  // First what every step reads: it shares few cache lines, and with hundreds of requests that is most of what a step costs.
  /** Row of the block tables while in the batch; -1 outside. */
  slot = -1;
  /** Ids that a caller may see. */
  known: number;
  /** Tokens that were submitted to the device while it is in the batch: those computed, and those in flight. */
  scheduled = 0;
  /** Tokens that steps in flight draw (0 or 1), and the logit row of the last step submitted that draws one. */
  drawing = 0;
  drawnBy = -1;
  /** Guessed tokens that a step in flight verifies. */
  drafting = 0;
  generated = 0;
  maxTokens = 0;
  readonly minTokens: number;
  lastToken: number;
  /** Index of its adapter, or -1. */
  adapter = -1;
  readonly owner: number;
  /** Log-probabilities that are wanted of each token, or null. */
  readonly logprobs: number | null;
  /** Out of the engine; a step in flight may still hold a row of it. */
  ended = false;
  aborted = false;
  /** Follows the grammar, token by token. */
  matcher: Matcher | null = null;
  history: TokenHistory | null = null;
  stops: StopDetector | null = null;
  /** Hidden states so far, if they are wanted. */
  readonly states: PooledStates | null;
  /** It waits until this one's prompt is computed, to fork it; and these wait to fork this one. See forks.ts. */
  readonly waitingForks: LiveRequest[] = [];
  forkFrom: LiveRequest | null = null;
  /** It waits until this one has computed so much, and these wait for it. See prefix-waits.ts. */
  readonly waiters: LiveRequest[] = [];
  waitsFor: LiveRequest | null = null;
  waitsUntil = 0;
  /** Tokens with a bias, how many they are, and those that may not be drawn before `minTokens`. */
  readonly biased: number;
  readonly biasTokens: Int32Array;
  readonly biasValues: Float32Array;
  readonly bans: Int32Array;
  recomputedTokens = 0;
  acceptedDrafts = 0;
  readonly rank: number;
  admittedAt = -1;
  cachedTokens = 0;
  /** Tokens whose KV came back from a place below the device so far; of those, the ones cached when it was first admitted. */
  broughtBack = 0;
  restoredTokens = 0;
  /** Known tokens when the generation began. */
  promptTokens = 0;
  /** What it changed of its session, if it has one. */
  turn: Turn | null = null;
  /** KV that lies below the device may be waited for. See restores.ts. */
  mayRestore = true;
  readonly seedLow: number;
  readonly seedHigh: number;

  constructor(
    readonly request: EngineRequest,
    public sequence: SequenceId,
    private readonly cache: CacheManager,
    readonly arrival: number,
  ) {
    this.rank = rankOf(arrival, request.priority);
    this.owner = request.owner;
    this.minTokens = request.limits.minTokens;
    this.logprobs = request.sampling.logprobs;
    this.known = cache.known(sequence);
    this.lastToken = cache.tokenAt(sequence, this.known - 1);
    this.states = request.embed ? new PooledStates(request.embed) : null;
    this.bans = Int32Array.from(request.stopTokens);
    const bias = Object.entries(request.sampling.logitBias);
    this.biased = bias.length;
    this.biasTokens = Int32Array.from(bias, ([t]) => Number(t));
    this.biasValues = Float32Array.from(bias, ([, v]) => (v <= -100 ? -Infinity : v));
    this.seedLow = request.sampling.seed >>> 0;
    this.seedHigh = Math.floor(request.sampling.seed / 2 ** 32) >>> 0;
  }

  /** Tokens that may be scheduled: the known ones, and the one being drawn if the row after it needs no more than its id. */
  get length(): number {
    return this.drawing > 0 && this.#runsAhead ? this.known + this.drawing : this.known;
  }

  /** Masks and penalties of the next token depend on this one; forks wait for the prompt's end; the last needs no KV. */
  get #runsAhead(): boolean {
    return (
      this.drafting === 0 &&
      this.matcher === null &&
      this.history === null &&
      this.waitingForks.length === 0 &&
      this.generated + this.drawing < this.maxTokens
    );
  }

  get computed(): number {
    return this.cache.computed(this.sequence);
  }

  /** The last token drawn needs no KV. */
  get limit(): number {
    return this.promptTokens + this.maxTokens - 1;
  }

  needed(length: number): number {
    return this.cache.needed(this.sequence, length);
  }

  get usesPenalties(): boolean {
    const s = this.request.sampling;
    return s.repetitionPenalty !== 1 || s.presencePenalty !== 0 || s.frequencyPenalty !== 0;
  }

  finished(reason: FinishReason, stopString: string | null): FinishedRequest {
    return {
      id: this.request.id,
      reason,
      promptTokens: this.promptTokens,
      cachedTokens: this.cachedTokens,
      completionTokens: this.generated,
      acceptedDraftTokens: this.acceptedDrafts,
      stopString,
      embedding: this.states?.result() ?? null,
      restoredTokens: this.restoredTokens,
      recomputedTokens: this.recomputedTokens,
      queueMs: this.admittedAt < 0 ? 0 : this.admittedAt - this.arrival,
    };
  }
}
