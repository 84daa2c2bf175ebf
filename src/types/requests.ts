/** What is asked of an engine, and what it answers. */
/** How the next token is chosen. Missing fields take the defaults of `samplingOptions` in config.ts. */
export interface SamplingParams {
  /** 0 = greedy. */
  temperature: number;
  /** 0 = off. */
  topK: number;
  /** 1 = off. */
  topP: number;
  /** 0 = off. */
  minP: number;
  /** 1 = off. */
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  /** 53-bit integer; null = drawn at random when the request arrives. */
  seed: number | null;
  /** null = none; 0…20 alternatives beside the chosen token's log-probability. */
  logprobs: number | null;
  /** Token id → value added to its logit (-100 or less bans it). */
  logitBias: Record<number, number>;
}

export interface GenerationLimits {
  /** null = as much as session length and KV cache allow, at most 4,096. */
  maxTokens: number | null;
  /** Stop tokens are banned, and stop strings are text like any other, until so many tokens came out. */
  minTokens: number;
  /** Generation ends before the first of these strings; it is not part of the text. */
  stop: string[];
  stopTokens: number[];
  /** Keep going past end-of-turn tokens. */
  ignoreEos: boolean;
}

/** What a model's makers advise; used where a request says nothing. */
export type GenerationDefaults = Partial<
  Pick<SamplingParams, 'temperature' | 'topK' | 'topP' | 'minP' | 'repetitionPenalty'>
>;

export interface RequestOptions extends Partial<SamplingParams>, Partial<GenerationLimits> {
  /** Names a conversation that is kept after the request. */
  sessionId?: string;
  /**
   * With sessionId: the prompt or messages hold only what is new. Otherwise they hold the whole history, which is
   * matched by tokens with what is kept; a divergence truncates to the common part.
   */
  sessionAppend?: boolean;
  /**
   * With sessionAppend: what is new follows the session's first so many tokens, and what stands behind them is cut, so that
   * a request that is sent again is the same as once. A session that has fewer tokens refuses it.
   */
  sessionLength?: number;
  /** Goes on from what was kept under this name (`keepAs`): prompt or messages hold only what is new. Not with sessionId. */
  after?: string;
  /** Keeps the conversation as it stands at the end of this turn; a turn that is aborted or fails is not kept. */
  keepAs?: KeepAs;
  /** What may be generated: made by `compileJsonSchema`, `compileJsonObject` or `compileToolCalls`; plain data. */
  grammar?: object;
  /** Given to the chat template: the functions that the model may call, as in the OpenAI API. */
  tools?: unknown[];
  /** More values for the chat template, such as `{ enable_thinking: false }`; at most 64 names and 64 Ki characters. */
  chatTemplateKwargs?: Record<string, unknown>;
  /** Name of a LoRA adapter (option `lora`); null: the model alone. Left out: the session's own, of others the model alone. */
  adapter?: string | null;
  /** Higher goes first; default 0. Among requests of an owner a level is worth 10 s of waiting, between owners 2,048 tokens. */
  priority?: number;
  /** Sessions and, if prefixes are not shared, KV belong to their owner; default 0. */
  owner?: number;
  signal?: AbortSignal;
}

/** A name for a conversation at the end of a turn, and what its caller wants to find again with it. */
export interface KeepAs {
  name: string;
  /** Made when the turn's own tokens are known: the new ones if it continues something, else all of the prompt. */
  note: string | ((tokens: Int32Array) => string);
  /** As note, for what is the same from turn to turn: stored once as long as it is. */
  head: string;
}

/** What is kept of a turn: tokens [start, prompt) are what it was asked, [prompt, end) what it answered. */
export interface Checkpoint {
  /** '' for a turn whose name was deleted, or that belongs to the conversation this one branched from. */
  name: string;
  start: number;
  prompt: number;
  end: number;
  cachedTokens: number;
  finishReason: FinishReason;
  note: string;
  head: string;
}

/** What chat templates know; 'ipython' is what Llama 3 calls the answers of tools. */
export type ChatRole = 'system' | 'developer' | 'user' | 'assistant' | 'tool' | 'function' | 'ipython';

export interface ChatMessage {
  role: ChatRole;
  content: string;
  [extra: string]: unknown;
}

export interface CompletionRequest extends RequestOptions {
  /** Text (special-token spellings are plain text) or token ids. */
  prompt: string | ArrayLike<number>;
}

export interface ChatRequest extends RequestOptions {
  messages: ChatMessage[];
}

/** Which hidden states stand for a text: that of its last token, or the mean of all. */
export type Pooling = 'last' | 'mean';

export interface EmbeddingRequest {
  /** Text (special-token spellings are plain text) or token ids. */
  prompt: string | ArrayLike<number>;
  pooling?: Pooling;
  adapter?: string | null;
  priority?: number;
  owner?: number;
  signal?: AbortSignal;
}

export interface EmbeddingResult {
  /** (dim) the last layer's normalised hidden state, pooled; not scaled to length 1. */
  embedding: Float32Array;
  usage: Usage;
}

export interface TokenLogprob {
  tokenId: number;
  logprob: number;
  top: { tokenId: number; logprob: number }[];
}

/** One generated token. `text` may be empty while a character or a possible stop string is incomplete. */
export interface TokenEvent {
  tokenId: number;
  /** Of the answer. */
  text: string;
  /** Of the thinking before the answer; null: the token does not belong to it. */
  reasoning: string | null;
  logprob: TokenLogprob | null;
}

export type FinishReason = 'stop' | 'length' | 'abort';

export interface Usage {
  promptTokens: number;
  /** Prompt tokens whose KV was still cached when the request was first admitted. */
  cachedTokens: number;
  completionTokens: number;
  /** Of the completion's tokens, those of the thinking, its marks included. */
  reasoningTokens: number;
  /** Of the completion's tokens, the ones that were guessed, and verified several in a step. */
  acceptedDraftTokens: number;
}

/** Milliseconds. */
export interface Timings {
  /** Arrival to admission. */
  queue: number;
  /** Arrival to first token. */
  ttft: number;
  /** Mean time between tokens after the first; 0 for one token. */
  perToken: number;
  total: number;
}

/** Where KV came from that a request did not simply compute, beside what was cached. */
export interface KvSources {
  /** Of the cached tokens of its prompt, those whose KV was brought back from a place below the device for it. */
  restoredTokens: number;
  /** Tokens computed again since their KV had been evicted; those of a request that was preempted count, too. */
  recomputedTokens: number;
}

export interface GenerationResult {
  /** The answer, without the thinking before it. */
  text: string;
  /** What the model thought before it answered; null: it did not, or it is not split off. */
  reasoning: string | null;
  tokenIds: number[];
  finishReason: FinishReason;
  /** The stop string that ended it, if one did. */
  stopString: string | null;
  usage: Usage;
  kv: KvSources;
  timings: Timings;
  logprobs: TokenLogprob[] | null;
  /** False: the session store did not answer, so that the session has nothing of this turn. Default: true. */
  kept?: boolean;
}

/** A running request: iterate over it for tokens, or listen for them, or await `result()`. */
export interface Generation extends AsyncIterable<TokenEvent> {
  readonly id: string;
  /** Of the prompt; known from the first token on. */
  readonly prompt: Pick<Usage, 'promptTokens' | 'cachedTokens'> | null;
  /** False, known from the first token on: the session store does not answer, and the turn will not be kept. Default: true. */
  readonly kept?: boolean;
  /**
   * Instead of iterating, and cheaper where there are many streams: called for each token at once, first for those that
   * came already. How it ends is what `result()` says, after the last token.
   */
  onToken(listener: (event: TokenEvent) => void): void;
  /**
   * Another answer to the same prompt, with the same options but for its seed. The prompt is computed once: it begins
   * where the prompt of this one ends. Not for a request of a session, which is one conversation.
   */
  fork(options?: { seed?: number | null }): Generation;
  result(): Promise<GenerationResult>;
  /** Ends it by the next step; iteration ends, result() resolves with what came so far and finishReason 'abort'. */
  abort(): void;
}

/** Where a session was forked: from which one, and after how many tokens. */
export interface ForkOrigin {
  id: string;
  tokens: number;
}

export interface SessionInfo {
  id: string;
  state: 'active' | 'cached' | 'evicted';
  tokens: number;
  /** Tokens whose KV is still in the cache. */
  cachedTokens: number;
  /** Milliseconds since the epoch. */
  lastUsed: number;
  /** null: it began by itself, or was restored from the session store, which does not keep this. */
  forkedFrom: ForkOrigin | null;
  /** Name of the LoRA adapter that it speaks with; null: none. */
  adapter?: string | null;
}
