export { createChatTemplate } from './chat-template.js';
export { createTokenizerClient, type TokenizerClient } from './client.js';
export { decodeTokens, TokenDecoder } from './decoder.js';
export { vocabularyDifference } from './difference.js';
export { metadataString } from './metadata.js';
export { reasoningTemplateOf } from './reasoning-template.js';
export { createTokenizer } from './tokenizer.js';
export { toolTemplateOf } from './tool-template.js';
export type { Tokenizer } from './types.js';
