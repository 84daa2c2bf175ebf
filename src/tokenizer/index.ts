export { decodeTokens, TokenDecoder } from './decoder.js';
export { createTokenizer, type TokenizerOptions } from './tokenizer.js';
export type {
  DecodeOptions,
  EncodeOptions,
  Metadata,
  SpecialIds,
  StreamDecoder,
  TokenBytes,
  Tokenizer,
} from './types.js';
