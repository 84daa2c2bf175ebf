export { type ChatOptions, type ChatTemplate, createChatTemplate, type RenderedChat } from './chat-template.js';
export { createTokenizerClient, type TokenizerClient, type TokenizerClientOptions } from './client.js';
export { decodeTokens, TokenDecoder } from './decoder.js';
export { metadataString } from './metadata.js';
export type { TokenizerInfo } from './protocol.js';
export { createTokenizer, type TokenizerOptions } from './tokenizer.js';
export { toolTemplateOf } from './tool-template.js';
export type {
  DecodeOptions,
  EncodeOptions,
  Metadata,
  SpecialIds,
  Tokenizer,
} from './types.js';
