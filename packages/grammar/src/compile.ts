/** Schema → grammar. Pure functions of their arguments, for any thread. */
import { GrammarBuilder } from './builder.js';
import { Emitter } from './emitter.js';
import { Budget } from './errors.js';
import { gap, textUntil } from './free-text.js';
import { SchemaReader } from './reader.js';
import type { Literals } from './shared.js';
import type { CompileOptions, Grammar, Tag } from './types.js';

/** What a compilation works with. */
export interface Compilation {
  options: CompileOptions;
  budget: Budget;
  builder: GrammarBuilder;
  reader: SchemaReader;
  emitter: Emitter;
}

export function beginCompilation(options: CompileOptions, literals?: Literals): Compilation {
  const budget = new Budget(options.param ?? 'response_format');
  const builder = new GrammarBuilder(budget);
  const reader = new SchemaReader(budget);
  return { budget, builder, reader, options, emitter: new Emitter(builder, reader, budget, options, literals) };
}

export function finishCompilation(c: Compilation, root: number, tags: readonly Tag[] = []): Grammar {
  c.emitter.run();
  const thought = thinkingBefore(c, root);
  const grammar = c.builder.finish(root, c.emitter.sharedStates, [...tags, ...(thought?.tags ?? [])]);
  if (!grammar) throw c.budget.invalid('', 'no document can satisfy it');
  return { ...grammar, thinking: thought && { before: thought.before, inside: thought.inside } };
}

/** Free text up to its closing mark, perhaps after its opening one; then the document. */
function thinkingBefore({ options, builder: b }: Compilation, root: number) {
  if (!options.reasoning) return null;
  const { open, close } = options.reasoning;
  const closed = gap(b, gap(b, root));
  const text = textUntil(b, close, closed, () => b.state());
  const opening = b.state(false, root);
  b.spell(opening, open, text[0]);
  const before = gap(b, gap(b, opening));
  const tags: Tag[] = [
    { text: open, states: [opening] },
    { text: close, states: text },
  ];
  return { before, inside: text[0], tags };
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
