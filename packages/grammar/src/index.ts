/**
 * Constrained decoding that fails closed. `compile…` turns a request into a Grammar (plain data; any thread); `createMatcher`
 * follows it token by token where the sampler runs.
 */
export { compileJsonObject, compileJsonSchema } from './compile.js';
export { GrammarError, type GrammarErrorCode } from './errors.js';
export { createMatcher, type Matcher, prepareVocabulary } from './matcher.js';
export { bareValue, TOOL_FORMATS, type ToolFormat, toolMarks, writeToolCalls } from './tool-formats.js';
export { ToolCallParser, type ToolEvent } from './tool-parser.js';
export { compileToolCalls } from './tools.js';
export type { CompileOptions, Grammar, GrammarStart, TokenBytes, ToolOptions, ToolSpec } from './types.js';
