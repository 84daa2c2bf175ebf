/** What the main thread and the engine worker say to each other. Plain data; token events go back in one message a step. */

import type { Grammar } from 'longmind-grammar';
import type { CallMessage } from '../base/worker.js';
import type { EngineConfig } from '../config.js';
import type { DeviceInfo, Program } from '../device/device.js';
import type { SerializedError } from '../errors.js';
import type { DiskProgram } from '../tiers/index.js';
import type {
  Checkpoint,
  EngineSnapshot,
  EngineStats,
  MemorySplit,
  SessionInfo,
  TensorSource,
  TierInfo,
  TokenBytes,
  TokenLogprob,
} from '../types.js';
import type { EngineRequest, FinishedRequest } from './request.js';

/** A small model that guesses for the other one. */
export interface DraftSource {
  program: Program;
  weights: TensorSource;
}

export interface WorkerData {
  program: Program;
  weights: TensorSource;
  draft?: DraftSource | null;
  config: EngineConfig;
  /** Of model and tokenizer: kept sessions of another are of no use. */
  fingerprint: string;
  /** Of the model file with its weights: KV of another is of no use. */
  modelKey: string;
  /** Of the program's adapters, what they are: hashes, where KV outlives the process. */
  adapterKeys?: readonly string[];
  /** Folder of NVRTC that was fetched (CUDA). */
  nvrtc?: string;
  /** What serves the disk cache, where it is to fail. */
  diskProgram?: DiskProgram;
}

/** What the thread is started with. */
export interface WorkerStart extends WorkerData {
  /** Under which its memory is promised: threads that follow each other in one engine have the same. */
  engineId: string;
}

/** What the engine must know of the vocabulary. Comes once, before the first request: weights load meanwhile. */
export interface Vocabulary {
  tokenBytes: TokenBytes;
  endOfTurn: readonly number[];
}

export interface CoreInfo {
  device: DeviceInfo;
  memory: MemorySplit;
  tiers: TierInfo | null;
  /** Memory of the draft model, if there is one. */
  draft: MemorySplit | null;
  /** It gives hidden states. */
  embeddings: boolean;
  sessionLen: number;
  stepBudget: number;
}

export interface Ready {
  info: CoreInfo;
  /** Set to 1, the step in flight is given up. */
  cancel: Int32Array;
}

/** Questions that are answered once. */
export interface Calls {
  stats: { args: null; result: EngineStats };
  snapshot: { args: null; result: EngineSnapshot };
  check: { args: null; result: null };
  listSessions: { args: { owner: number }; result: SessionInfo[] };
  getSession: { args: { id: string; owner: number }; result: SessionInfo };
  sessionTokens: { args: { id: string; owner: number }; result: Int32Array };
  forkSession: { args: { id: string; newId: string; length: number | null; owner: number }; result: SessionInfo };
  truncateSession: { args: { id: string; length: number; owner: number }; result: SessionInfo };
  checkpoint: { args: { name: string; owner: number }; result: Checkpoint };
  checkpointPath: { args: { name: string; owner: number }; result: { turns: Checkpoint[]; tokens: Int32Array } };
  deleteCheckpoint: { args: { name: string; owner: number }; result: null };
  deleteSession: { args: { id: string; owner: number }; result: null };
}

/** What is known of a request's prompt when its first token comes. */
export interface Begun {
  id: number;
  promptTokens: number;
  cachedTokens: number;
}

export type ToWorker =
  | { type: 'vocabulary'; vocabulary: Vocabulary }
  /** In one message what came at one moment: forks then find the request that they are forks of. */
  | { type: 'requests'; requests: EngineRequest[] }
  /** A grammar that requests will name; null: none will any more. */
  | { type: 'grammar'; id: number; grammar: Grammar | null }
  | { type: 'abort'; id: number }
  | CallMessage<Calls>
  | { type: 'close' };

export type FromWorker =
  | { type: 'progress'; what: string; done: number; total: number }
  | { type: 'problem'; problem: string }
  | {
      type: 'step';
      /** Requests whose first token is in this message. */
      begun: Begun[];
      /** (2 × tokens) request id, token id. */
      tokens: Int32Array;
      logprobs: (TokenLogprob | null)[] | null;
      finished: FinishedRequest[];
      failed: { id: number; error: SerializedError }[];
    };
