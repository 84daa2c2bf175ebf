/**
 * What the server sends to the page. Types alone, for both: the page is built for browsers and shares no code with the
 * server.
 */
import type { EngineInfo, EngineStats } from '../../types.js';

/** GET /v1/engine. Where files lie on this machine is nobody's business. */
export interface EngineAbout extends Omit<EngineInfo, 'modelPath'> {
  servedModelName: string;
}

/**
 * number (a short one for this stream, in place of the engine's id), session id (null: it has none, or it is another
 * key's), whose it is (0 another key's, 1 the listener's), state (0 evicted, 1 cached, 2 active), known tokens, computed
 * tokens.
 */
export type SequenceRow = [number, string | null, 0 | 1, 0 | 1 | 2, number, number];

export type LiveStats = Omit<EngineStats, 'stepTimes' | 'sessionStates' | 'sessionStoreFailure'>;

/** What everybody sees alike. */
export interface LiveCommon {
  /** Milliseconds since the epoch. */
  at: number;
  step: number;
  blockLen: number;
  /** Blocks of the whole pool. */
  blocks: number;
  /** Blocks from here on were never used. */
  high: number;
  /** base64 of Uint32: the blocks that follow; null in a whole picture: blocks 0…high-1. */
  index: string | null;
  /** base64 of (changed blocks) Uint8, Int32, Uint16: see EngineSnapshot. */
  state: string;
  holder: string;
  fill: string;
  /** base64 of (changed blocks) Uint8, see TierSnapshot; null: there is no place below the device. */
  below: string | null;
  /** base64 of Int32: cached blocks, first to be evicted first; null = as before. */
  order: string | null;
  /** slot in the batch, sequence number, request, known, computed, generated. */
  batch: [number, number, number, number, number, number][];
  /** sequence number, request, known, computed. */
  waiting: [number, number, number, number][];
  /** What the page shows of them. */
  stats: LiveStats;
  /** Of all requests over HTTP so far: how many got a first token, and the seconds that took, summed. */
  ttft: { count: number; sum: number };
}

export interface LiveMessage extends LiveCommon {
  kind: 'whole' | 'change';
  /** Sequences that are new or changed. */
  sequences: SequenceRow[];
  /** Numbers of sequences that are gone. */
  gone: number[];
}
