/** What may be generated, compiled by `longmind-grammar`: its errors become ours, everything else is the package's own. */
import * as grammar from 'longmind-grammar';
import { LongmindError } from './errors.js';

export {
  bareValue,
  type Grammar,
  ToolCallParser,
  type ToolEvent,
  type ToolSpec,
  toolMarks,
  writeToolCalls,
} from 'longmind-grammar';

/**
 * Documents that satisfy a JSON Schema.
 * @throws LongmindError 400 `unsupported_schema` (names keyword and path), `invalid_schema` or `schema_too_large`
 */
export function compileJsonSchema(schema: unknown, options?: grammar.CompileOptions): grammar.Grammar {
  return callers(() => grammar.compileJsonSchema(schema, options));
}

/** Any JSON object. */
export function compileJsonObject(options?: grammar.CompileOptions): grammar.Grammar {
  return callers(() => grammar.compileJsonObject(options));
}

/**
 * Messages that may, or must, call functions.
 * @throws LongmindError 400, as `compileJsonSchema`
 */
export function compileToolCalls(tools: readonly grammar.ToolSpec[], options: grammar.ToolOptions): grammar.Grammar {
  return callers(() => grammar.compileToolCalls(tools, options));
}

function callers<T>(compile: () => T): T {
  try {
    return compile();
  } catch (e) {
    if (e instanceof grammar.GrammarError) throw new LongmindError(e.code, 400, e.message, e.param);
    throw e;
  }
}
