/** Schema → grammar. Pure functions of their arguments, for any thread. */
import { GrammarBuilder } from './builder.js';
import { Emitter } from './emitter.js';
import { Budget } from './errors.js';
import { SchemaReader } from './reader.js';
import type { CompileOptions, Grammar, Tag } from './types.js';

/** What a compilation works with. */
export interface Compilation {
  budget: Budget;
  builder: GrammarBuilder;
  reader: SchemaReader;
  emitter: Emitter;
}

export function beginCompilation(options: CompileOptions): Compilation {
  const budget = new Budget(options.param ?? 'response_format');
  const builder = new GrammarBuilder(budget);
  const reader = new SchemaReader(budget);
  return { budget, builder, reader, emitter: new Emitter(builder, reader, budget, options) };
}

export function finishCompilation(c: Compilation, root: number, tags: readonly Tag[] = []): Grammar {
  c.emitter.run();
  const grammar = c.builder.finish(root, c.emitter.sharedStates, tags);
  if (!grammar) throw c.budget.invalid('', 'no document can satisfy it');
  return grammar;
}

function document(c: Compilation, rule: number): Grammar {
  const root = c.builder.state();
  c.builder.call(root, rule, c.builder.documentEnd());
  return finishCompilation(c, root);
}

/**
 * Documents that satisfy a JSON Schema. Throws GrammarError: `unsupported_schema` (names keyword and path),
 * `invalid_schema`, or `schema_too_large`. Nothing in a schema is ignored but annotations.
 */
export function compileJsonSchema(schema: unknown, options: CompileOptions = {}): Grammar {
  const c = beginCompilation(options);
  return document(c, c.emitter.value(c.reader.add(schema, '#', schema)));
}

/** Any JSON object. */
export function compileJsonObject(options: CompileOptions = {}): Grammar {
  const c = beginCompilation(options);
  return document(c, c.emitter.anyObject);
}
