/** Plain data that crosses layers. What the grammar package defines is told by it; nothing else is imported. */
export type { TokenBytes, ToolFormat } from 'longmind-grammar';
export * from './types/engine.js';
export * from './types/models.js';
export * from './types/requests.js';
export * from './types/weights.js';
