/** The thread that compiles grammars: a hostile or huge schema keeps nobody else waiting, and may be stopped. */
import { parentPort } from 'node:worker_threads';
import {
  compileJsonObject,
  compileJsonSchema,
  compileToolCalls,
  errors,
  type Grammar,
  LongmindError,
} from '../index.js';
import type { CompileReply, CompileRequest, GrammarSource } from './grammars.js';

function compile(source: GrammarSource): Grammar {
  if (source.kind === 'object') return compileJsonObject();
  if (source.kind === 'schema') return compileJsonSchema(source.schema);
  const { tools, choice, format, parallel } = source;
  return compileToolCalls(tools, { choice, format, parallel });
}

parentPort?.on('message', ({ id, source }: CompileRequest) => {
  let reply: CompileReply;
  try {
    reply = { id, grammar: compile(JSON.parse(source) as GrammarSource) };
  } catch (e) {
    const known = e instanceof LongmindError ? e : errors.engineFailed(`compiling a grammar: ${String(e)}`);
    reply = { id, error: known.toJSON() };
  }
  parentPort?.postMessage(reply);
});
