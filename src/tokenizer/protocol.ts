/** Messages between a tokenizer client and its worker. One job at a time is with the worker. */
import type { SerializedError } from '../errors.js';
import type { ChatMessage, TokenBytes } from '../types.js';
import type { ChatOptions } from './chat-template.js';
import type { PackedMetadata } from './packed.js';
import type { EncodeOptions, SpecialIds } from './types.js';

export interface WorkerData {
  metadata: PackedMetadata;
  modelVocab: number;
}

export type Job =
  | { type: 'encode'; text: string; options: EncodeOptions }
  | { type: 'chat'; messages: readonly ChatMessage[]; options: ChatOptions; continued: boolean };

export interface TokenizerInfo {
  model: string;
  vocabSize: number;
  special: SpecialIds;
  endTokens: number[];
  startTokens: number[];
  tokenBytes: TokenBytes;
  fingerprint: string;
  warnings: string[];
  /** null: the file's own chat template; else what was taken instead. */
  templateInstead: string | null;
}

export type FromWorker =
  | { type: 'ready'; info: TokenizerInfo }
  | { type: 'refused'; error: SerializedError }
  | { type: 'done'; ids: Int32Array; text: string }
  | { type: 'failed'; error: SerializedError };
