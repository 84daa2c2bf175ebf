/** What a tokenizer is to the rest: text to ids, ids to text. */
import type { StreamDecoder, TokenBytes } from '../types.js';

/** A list of strings: an array, or whatever decodes lazily. */
export interface Strings {
  readonly length: number;
  at(index: number): string | undefined;
}

/** Metadata of a model file, as far as tokenizers read it (`tokenizer.ggml.*`, `tokenizer.chat_template`). */
export type Metadata = ReadonlyMap<string, unknown>;

export interface EncodeOptions {
  /** Spellings of special tokens become those tokens. Never for text that comes from a user. */
  special: boolean;
  /** Put the start token in front, if the model has one (default false). */
  addBos?: boolean;
  /** The text follows other text: SentencePiece puts no space in front of it (default false). */
  continued?: boolean;
  /** Characters to leave out, after special tokens were found: they keep a spelling from being one. */
  leaveOut?: string;
}

export interface DecodeOptions {
  /** Special tokens appear by their names; otherwise they are left out (default false). */
  special?: boolean;
  /** Ids begin at the beginning of a text: drop the space that SentencePiece puts there (default false). */
  trimPrefix?: boolean;
}

export interface SpecialIds {
  bos: number | null;
  eos: number | null;
  /** End of turn, where the model has a token of its own for it. */
  eot: number | null;
  unknown: number | null;
}

export interface Tokenizer {
  /** 'gpt2' (byte-level BPE) or 'llama' (SentencePiece). */
  readonly model: string;
  readonly vocabSize: number;
  readonly special: SpecialIds;
  /** Tokens that end a generation. */
  readonly endTokens: readonly number[];
  /** What a fresh text begins with: the start token, if the model wants one. */
  readonly startTokens: readonly number[];
  readonly tokenBytes: TokenBytes;
  /** What had to be guessed about the file, in words. */
  readonly warnings: readonly string[];
  encode(text: string, options: EncodeOptions): Int32Array;
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  createDecoder(options?: DecodeOptions): StreamDecoder;
  /** The token as the file spells it. */
  tokenText(id: number): string;
  /** Spellings that no text from a user may turn into a token. */
  controlTexts(): string[];
  /** The special or user-defined token with that spelling. */
  tokenId(text: string): number | null;
}
