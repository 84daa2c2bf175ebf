/** Plain data that crosses layers. What the grammar package defines is told by it; nothing else is imported. */
import type { ToolFormat } from 'longmind-grammar';

export type { TokenBytes, ToolFormat } from 'longmind-grammar';

// ---------------------------------------------------------------- weights

/** A tensor of a weight file, still in its own bits on disk. `shape[0]` is the contiguous (input) dimension, as in GGUF. */
export interface TensorInfo {
  name: string;
  /** GGML type name: 'F32' 'F16' 'BF16' 'Q8_0' 'Q4_0' 'Q4_1' 'Q4_K' 'Q5_K' 'Q6_K' … */
  type: string;
  shape: number[];
  /** Byte offset from the start of the file. */
  offset: number;
  byteLength: number;
  /** The file that it lies in, if it is another than the source's `path`. */
  file?: string;
  /**
   * The pieces of the file (or of others) that its rows are in, one after another; each but the last has a multiple of 16 rows.
   * Where they are packed: rows of `packed` (their own, or the tensor's) from `row` on.
   */
  runs?: { offset: number; rows: number; file?: string; packed?: PackedMatrix; row?: number }[];
  /** Type that a matrix of floats becomes while it is loaded. */
  as?: string;
  /** Added to each value of a vector while it is loaded (norms of Gemma are stored as what they differ from 1). */
  add?: number;
  /** Of a quantised checkpoint: how its file holds the matrix that becomes one of `type`. */
  packed?: PackedMatrix;
}

/** Bytes of a file that belong to a matrix. */
export interface FilePart {
  file: string;
  offset: number;
  byteLength: number;
}

/** A matrix of a quantised checkpoint: value (o, i) = (code - zero) * scale of the group of i. `offset` of its tensor is the codes'. */
export interface PackedMatrix {
  /** Inputs and outputs of the whole matrix in the file. */
  in: number;
  rows: number;
  /** First row that the tensor takes. */
  row: number;
  /** rows: row after row; gptq: words of consecutive inputs, for all outputs; awq: words of 8 shuffled outputs, for all inputs. */
  layout: 'rows' | 'gptq' | 'awq';
  bits: 4 | 8;
  code: 'uint' | 'int8' | 'e4m3' | 'e2m1';
  /** Inputs and outputs that share a scale. */
  groupSize: number;
  groupRows: number;
  scales: FilePart;
  scaleType: 'F32' | 'F16' | 'BF16' | 'E8M0';
  /** The scales of a group lie together, not those of an output. */
  scalesByGroup: boolean;
  /** Zero points; absent: `zeroAdd` alone. */
  zeros?: FilePart;
  zeroKind: 'none' | 'gptq' | 'awq' | 'rows' | 'int8';
  zeroAdd: number;
  /** Group of each input (I32). */
  order?: FilePart;
  /** Codes and scales become those of `type`; else the values are rounded to it. */
  exact: boolean;
}

/** Where a device finds the weights: a file (or several) and tensors by name. Checked against the files' sizes by the reader. */
export interface TensorSource {
  path: string;
  tensors: ReadonlyMap<string, TensorInfo>;
}

/** What a low-rank adapter (LoRA, Hu et al. 2021) adds to one matrix: W·x becomes W·x + scale·B·(A·x). */
export interface AdapterPart {
  /** The matrix's name in the program. */
  weight: string;
  rank: number;
  scale: number;
  /** (inFeatures, rank) in GGUF order. */
  a: TensorInfo;
  /** (rank, its rows); row `rows[i]` (null: i) makes output i. */
  b: TensorInfo;
  rows: Int32Array | null;
}

export interface Adapter {
  /** By which requests ask for it. */
  name: string;
  path: string;
  /** The highest of its parts. */
  rank: number;
  /** Bytes of A and B in its file. */
  bytes: number;
  parts: AdapterPart[];
}

// ---------------------------------------------------------------- models

export interface RopeConfig {
  /** Number of leading dimensions of a head that are rotated (pairs 2i, 2i+1 unless `neox`). */
  dims: number;
  freqBase: number;
  /** Pairs (i, i + dims/2) instead of (2i, 2i+1). */
  neox: boolean;
  /** Inverse frequencies already scaled (linear, llama3 …): (dims / 2) values; angle = position × inverse frequency. */
  inverseFrequencies: Float32Array;
  /** Multiplies cos and sin (YaRN); 1 otherwise. */
  magnitude: number;
}

/** 'geluTanh': GELU by its tanh approximation (Gemma). */
export type Activation = 'silu' | 'geluTanh';

/** What is a layer's own. */
export interface LayerFlags {
  /** null: its positions are not rotated (SmolLM3). */
  rope: RopeConfig | null;
  /** Attention sees the last so many tokens; 0 = all. */
  window: number;
}

/** What tells one family of models from another, beside its dimensions; each flag is LLaMA's when it is left out. */
export interface FamilyFlags {
  /** Before attention and feed-forward (LLaMA), after them (OLMo 2), or both (Gemma 2 and 3). */
  norms: 'pre' | 'post' | 'both';
  /** Norm of queries and keys: of each head (Qwen3, Gemma 3), or of all heads together (OLMo 2). */
  qkNorm: 'none' | 'head' | 'all';
  biases: { qkv: boolean; output: boolean; gateUp: boolean; down: boolean };
  activation: Activation;
  /** Multiplies embeddings (Gemma, Granite). */
  embeddingScale: number;
  /** Multiplies what attention and feed-forward add to the stream (Granite). */
  residualScale: number;
  /** Multiplies logits (Granite). */
  logitScale: number;
  /** Multiplies scores; 0 = 1 / sqrt(headDim). */
  attentionScale: number;
  /** Bounds of scores and of logits (Gemma 2); 0 = none. */
  attentionSoftcap: number;
  logitSoftcap: number;
  /** One for each layer; empty: all have the model's rope and no window. */
  perLayer: LayerFlags[];
  /** Mixtures of experts in place of feed-forward blocks; null: none. */
  experts: ExpertFlags | null;
}

/** A mixture of experts (Mixtral, Qwen MoE, OLMoE): a router chooses a few feed-forward blocks for each token. */
export interface ExpertFlags {
  /** Experts of a layer, and those of them that a token uses. */
  count: number;
  used: number;
  /** Values between an expert's matrices (a layer's without experts: ModelDims.ffDim). */
  width: number;
  /** Weights are the softmax over the chosen experts alone, so that they sum to 1; else over all. */
  normalise: boolean;
  /** Multiplies the weights. */
  scale: number;
  /** Of an expert that every token uses; 0 = none. */
  sharedWidth: number;
  /** What that expert gives is multiplied by the sigmoid of a product of its own (Qwen2-MoE). */
  sharedGate: boolean;
  /** Layers that have a feed-forward block instead. */
  denseLayers: number[];
}

export interface ModelDims {
  layers: number;
  dim: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  ffDim: number;
  vocab: number;
  contextLength: number;
}

/** Ids to text, piece by piece; whole characters only. */
export interface StreamDecoder {
  /** Text that became complete with this token; invalid bytes are U+FFFD. */
  push(id: number): string;
  /** What is left at the end: U+FFFD for a character that was never completed. */
  flush(): string;
}

/** How a model writes function calls, as its chat template tells. */
export interface ToolTemplate {
  format: ToolFormat;
  /** The template itself writes calls and shows results; otherwise messages must. */
  known: boolean;
  /** It describes tools to the model; otherwise the system message must. Default: as `known`. */
  describes?: boolean;
  /** It wants the arguments of calls as text; default: as JSON values. */
  textArguments?: boolean;
  /** It wants ids of nine letters and digits. */
  shortIds?: boolean;
}

/** What stands around the thinking that a model writes before its answer. */
export interface ReasoningFormat {
  open: string;
  close: string;
  /** Around the answer after it (Granite 3.3): left out. */
  answer?: { open: string; close: string };
}

/** How a model thinks, as its chat template tells. */
export interface ReasoningTemplate extends ReasoningFormat {
  /** The template's value that turns thinking on and off; null: it has none. */
  switch: string | null;
  /** The template takes `reasoning_effort`. */
  effort: boolean;
}

/** What a prompt leaves to the model: it may begin to think, it is in its thinking, or it is past it. */
export type ReasoningStart = 'before' | 'inside' | 'after';

// ---------------------------------------------------------------- requests

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

// ---------------------------------------------------------------- what an engine says of itself

export interface MemorySplit {
  /** What was free on the device before anything was loaded. */
  freeBytes: number;
  /** Of these, what other engines of this user were promised and have not taken yet. */
  promisedBytes: number;
  weightBytes: number;
  workspaceBytes: number;
  kvBytes: number;
  kvBlocks: number;
  blockBytes: number;
  blockLen: number;
  bytesPerToken: number;
  /** GPUs that have an equal share each of all of these; default: 1. */
  gpus?: number;
  /** How cacheMaxEntryCount became kvBlocks, in words with the numbers. */
  arithmetic: string;
}

/** Places below the device, as they were opened. */
export interface TierInfo {
  hostBlocks: number;
  disk: {
    dir: string;
    bytes: number;
    blocks: number /** Blocks of an earlier process that are still good. */;
    found: number;
  } | null;
}

export interface EngineInfo {
  modelName: string;
  modelPath: string;
  architecture: string;
  dims: Omit<ModelDims, 'contextLength'>;
  parameters: number;
  quantisation: string;
  contextLength: number;
  sessionLen: number;
  /** `library`: the file of the native code, where it is one. */
  device: { name: string; isa: string; threads: number; library?: string };
  memory: MemorySplit;
  /** Null: KV that leaves the device is computed again. */
  tiers: TierInfo | null;
  /** The small model that guesses for this one; null: none does. */
  draftModel?: { modelName: string; modelPath: string; parameters: number; memory: MemorySplit } | null;
  /** LoRA adapters that requests may ask for; their bytes are among those of the weights. Default: none. */
  adapters?: { name: string; path: string; rank: number; bytes: number }[];
  /** Tokens one step may hold, as measured or set. */
  stepBudget: number;
  /** The device gives hidden states: `embed` works. Default: no. */
  embeddings?: boolean;
  /** Default: hermes, not known. */
  toolCalls?: ToolTemplate;
  /** Null: the model does not think, or its thinking is not split off. Default: null. */
  reasoning?: ReasoningTemplate | null;
  /** What the model's makers advise, where a request says nothing. */
  generationDefaults?: GenerationDefaults;
  loadMs: number;
}

export interface CacheStats {
  blocks: { total: number; free: number; cached: number; active: number; grown: number };
  sequences: { total: number; active: number; cached: number; evicted: number };
  tokensKept: number;
  /** Sequences that came back with tokens computed before, counted when they first get blocks: all, some, none left. */
  hits: number;
  partialHits: number;
  misses: number;
  tokensReused: number;
  /** Tokens computed a second time because their KV was evicted. */
  tokensRecomputed: number;
  tokensComputed: number;
  tokensPrefixReused: number;
  blocksEvicted: number;
  tokensEvicted: number;
  forks: number;
  copies: number;
  sequencesDropped: number;
  /** How often the device refused to make more blocks usable. */
  growRefusals: number;
  /** Tokens whose KV came back from a place below the device, instead of being computed again. */
  tokensRestored: number;
  /** null: there is no place below the device. */
  tiers: TierStats | null;
}

/** Places below the device, and what moved between them. */
export interface TierStats {
  /** Slots; `used` ones hold a copy or will when an order is done. */
  host: { total: number; used: number };
  disk: { total: number; used: number };
  /** Blocks on the device that have a copy below, or will when an order is done. */
  savedBlocks: number;
  /** Transfers that wait, and those under way. */
  waiting: number;
  outstanding: number;
  /** Transfers done: block → first place below, host → disk, a place below → block, by that place. */
  saves: number;
  demotions: number;
  hostLoads: number;
  diskLoads: number;
  /** Copies that made room for others. */
  hostEvicted: number;
  diskEvicted: number;
  saveFailures: number;
  loadFailures: number;
  /** Saves given up since the block was needed before its turn came. */
  savesCancelled: number;
}

/** Compact picture of the block map. */
export interface CacheSnapshot {
  blockLen: number;
  /** (total) 0 never used, 1 free, 2 cached, 3 active. */
  state: Uint8Array;
  /** (total) id of a sequence that holds the block, or -1. */
  sequence: Float64Array;
  /** (total) tokens stored in the block. */
  fill: Uint16Array;
  /** Cached blocks in eviction order, first to go first (bounded to 4,096). */
  evictionOrder: Int32Array;
  /** Only where there are places below the device. */
  tiers?: TierSnapshot;
}

/** What the places below the device hold. */
export interface TierSnapshot {
  /** (blocks) where else the block's KV is: 0 nowhere, 1 in host memory, 2 on disk, 3 both. */
  below: Uint8Array;
  /** (slots) 0 free, 1 a copy, 2 being written. */
  host: Uint8Array;
  disk: Uint8Array;
}

export interface EngineStats {
  requests: { waiting: number; running: number; finished: number; aborted: number; failed: number };
  tokens: { prompt: number; cached: number; generated: number; recomputed: number };
  steps: number;
  preemptions: number;
  /** Tokens guessed and verified, and how many of them were right; `byModel`: of these, the draft model's. */
  drafts: { verified: number; accepted: number; byModel?: { verified: number; accepted: number } };
  /** Milliseconds of the last step, and of JavaScript in it. */
  lastStepMs: number;
  lastStepJsMs: number;
  /** Steps by duration; `counts` has one entry more than `boundsMs` has upper edges. */
  stepTimes: { boundsMs: readonly number[]; counts: readonly number[]; sumMs: number };
  stepBudget: number;
  sessions: number;
  sessionStates: { active: number; cached: number; evicted: number };
  /** Of the sessions kept on disk: why they are no longer written, or null. */
  sessionStoreFailure: string | null;
  /** Only with a store that several servers share. */
  store?: StoreStats;
  cache: CacheStats;
}

/** A session store that several servers share. */
export interface StoreStats {
  /** Answers by duration; `counts` has one entry more than `boundsMs` has upper edges. */
  times: { boundsMs: readonly number[]; counts: readonly number[]; sumMs: number };
  /** What was asked → how often no answer came. */
  errors: Record<string, number>;
  leasesLost: number;
}

/** One moment of the engine, for whoever wants to see it. Every value comes from the manager and the batch. */
export interface EngineSnapshot extends CacheSnapshot {
  /** Steps run so far. */
  step: number;
  /** Sequences that have a name or are in the batch (at most 1,000, the last used). */
  sequences: {
    sequence: number;
    sessionId: string | null;
    owner: number;
    state: 'active' | 'cached' | 'evicted';
    known: number;
    computed: number;
  }[];
  /** Rows of the batch. */
  batch: { slot: number; sequence: number; request: number; known: number; computed: number; generated: number }[];
  waiting: { sequence: number; request: number; known: number; computed: number }[];
  stats: EngineStats;
}

/** The public engine: see src/index.ts. */
export interface Engine extends AsyncDisposable {
  readonly info: EngineInfo;
  complete(request: CompletionRequest): Generation;
  chat(request: ChatRequest): Generation;
  /** A text as a vector. @throws LongmindError embeddings_unsupported by a device that gives no hidden states */
  embed(request: EmbeddingRequest): Promise<EmbeddingResult>;
  /** What was kept by `keepAs`; unknown names, and those of other owners, are `checkpoint_not_found`. */
  checkpoints: {
    get(name: string, owner?: number): Promise<Checkpoint>;
    /** All turns of its conversation from the first to this one, and the token ids. */
    path(name: string, owner?: number): Promise<{ turns: Checkpoint[]; tokens: Int32Array }>;
    /** Tokens that no other name needs are forgotten. */
    delete(name: string, owner?: number): Promise<void>;
  };
  /** The prompt that `chat` makes of a whole history. */
  encodeChat(request: Pick<ChatRequest, 'messages' | 'tools' | 'chatTemplateKwargs'>): Promise<Int32Array>;
  /** Text → ids off this thread. `special`: spellings of special tokens become those tokens (default false). */
  encode(text: string, options?: { special?: boolean }): Promise<Int32Array>;
  decode(ids: ArrayLike<number>, options?: { special?: boolean }): string;
  sessions: {
    list(owner?: number): Promise<SessionInfo[]>;
    get(id: string, owner?: number): Promise<SessionInfo>;
    tokens(id: string, owner?: number): Promise<Int32Array>;
    fork(id: string, newId: string, options?: { length?: number; owner?: number }): Promise<SessionInfo>;
    truncate(id: string, length: number, owner?: number): Promise<SessionInfo>;
    delete(id: string, owner?: number): Promise<void>;
  };
  stats(): Promise<EngineStats>;
  snapshot(): Promise<EngineSnapshot>;
  /**
   * Called when something goes wrong that is no request's fault, and the engine goes on: the session store cannot be
   * written; our own code failed, and batch and cache were made anew.
   */
  onProblem(listener: (problem: string) => void): void;
  /** Checks every invariant of batch and cache; rejects if one is broken. */
  check(): Promise<void>;
  /**
   * Ends what runs and frees everything. An engine that is idle keeps no process alive: one that nobody closed is closed when
   * the process has nothing else to do.
   */
  close(): Promise<void>;
}
