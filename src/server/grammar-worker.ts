/** The thread that compiles grammars: a hostile or huge schema keeps nobody else waiting, and may be stopped. */
import { type Answers, answer, begin, type CallMessage } from '../base/worker.js';
import { compileJsonObject, compileJsonSchema, compileToolCalls, type Grammar } from '../index.js';
import type { Calls, GrammarSource } from './grammar-source.js';

function compile(source: GrammarSource): Grammar {
  const { reasoning } = source;
  if (source.kind === 'object') return compileJsonObject({ reasoning });
  if (source.kind === 'schema') return compileJsonSchema(source.schema, { reasoning });
  const { tools, choice, format, parallel } = source;
  return compileToolCalls(tools, { choice, format, parallel, reasoning });
}

const answers: Answers<Calls, null> = { compile: (source) => compile(JSON.parse(source) as GrammarSource) };

const begun = begin(() => ({ made: null, info: null }));
begun?.port.on('message', (m: CallMessage<Calls>) => answer(begun.port, m, answers, null));
