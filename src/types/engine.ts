/** What an engine says of itself, and the engine. */
import type { ModelDims, ReasoningTemplate, ToolTemplate } from './models.js';
import type {
  ChatRequest,
  Checkpoint,
  CompletionRequest,
  EmbeddingRequest,
  EmbeddingResult,
  Generation,
  GenerationDefaults,
  SessionInfo,
} from './requests.js';

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
