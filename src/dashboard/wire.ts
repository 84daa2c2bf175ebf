/**
 * What the server sends, as the page reads it. Types of its own: the page shares no code with the engine, and its libraries
 * are the browser's. A test keeps them equal to the server's.
 */

/** GET /v1/engine. */
export interface EngineAbout {
  servedModelName: string;
  modelName: string;
  architecture: string;
  dims: { layers: number; dim: number; heads: number; kvHeads: number; headDim: number; ffDim: number; vocab: number };
  parameters: number;
  quantisation: string;
  contextLength: number;
  sessionLen: number;
  device: { name: string; isa: string; threads: number };
  memory: {
    freeBytes: number;
    weightBytes: number;
    workspaceBytes: number;
    kvBytes: number;
    kvBlocks: number;
    blockBytes: number;
    blockLen: number;
    bytesPerToken: number;
    arithmetic: string;
  };
  stepBudget: number;
  loadMs: number;
}

export interface EngineStats {
  requests: { waiting: number; running: number; finished: number; aborted: number; failed: number };
  tokens: { prompt: number; cached: number; generated: number; recomputed: number };
  steps: number;
  preemptions: number;
  lastStepMs: number;
  lastStepJsMs: number;
  stepBudget: number;
  sessions: number;
  cache: {
    blocks: { total: number; free: number; cached: number; active: number; grown: number };
    sequences: { total: number; active: number; cached: number; evicted: number };
    tokensKept: number;
    hits: number;
    partialHits: number;
    misses: number;
    tokensReused: number;
    tokensRecomputed: number;
    tokensComputed: number;
    tokensPrefixReused: number;
    blocksEvicted: number;
    tokensEvicted: number;
    forks: number;
    copies: number;
    sequencesDropped: number;
    growRefusals: number;
    tokensRestored: number;
    tiers: {
      host: { total: number; used: number };
      disk: { total: number; used: number };
      savedBlocks: number;
      waiting: number;
      outstanding: number;
      saves: number;
      demotions: number;
      hostLoads: number;
      diskLoads: number;
      hostEvicted: number;
      diskEvicted: number;
      saveFailures: number;
      loadFailures: number;
      savesCancelled: number;
    } | null;
  };
}

/** slot, session id or null, 1 = ours, state (0 evicted, 1 cached, 2 active), known tokens, computed tokens. */
export type SequenceRow = [number, string | null, 0 | 1, 0 | 1 | 2, number, number];

/** One event of GET /v1/engine/events: a whole picture, or what changed since the one before. */
export interface LiveMessage {
  kind: 'whole' | 'change';
  at: number;
  step: number;
  blockLen: number;
  blocks: number;
  high: number;
  index: string | null;
  state: string;
  holder: string;
  fill: string;
  order: string | null;
  batch: [number, number, number, number, number, number][];
  waiting: [number, number, number, number][];
  stats: EngineStats;
  ttft: { count: number; sum: number };
  sequences: SequenceRow[];
  gone: number[];
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

export const uint8Of = (base64: string): Uint8Array => bytesOf(base64);
export const uint16Of = (base64: string): Uint16Array => new Uint16Array(bytesOf(base64).buffer);
export const int32Of = (base64: string): Int32Array => new Int32Array(bytesOf(base64).buffer);
export const uint32Of = (base64: string): Uint32Array => new Uint32Array(bytesOf(base64).buffer);
