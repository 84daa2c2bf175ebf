/** What a tokenizer's worker is made of, and what it can be asked. */
import type { ChatMessage, ReasoningTemplate, TokenBytes } from '../types.js';
import type { ChatOptions, RenderedChat } from './chat-template.js';
import type { PackedMetadata } from './packed.js';
import type { EncodeOptions, SpecialIds } from './types.js';

export interface WorkerData {
  metadata: PackedMetadata;
  modelVocab: number;
}

/** Ids and, of a chat, the text that they spell. */
export interface Calls {
  encode: { args: { text: string; options: EncodeOptions }; result: RenderedChat };
  chat: { args: { messages: readonly ChatMessage[]; options: ChatOptions; continued: boolean }; result: RenderedChat };
}

export interface TokenizerInfo {
  model: string;
  vocabSize: number;
  special: SpecialIds;
  endTokens: number[];
  startTokens: number[];
  tokenBytes: TokenBytes;
  warnings: string[];
  /** null: the file's own chat template; else what was taken instead. */
  templateInstead: string | null;
  /** How the file's own template has the model think; null: it does not. */
  reasoning: ReasoningTemplate | null;
}
