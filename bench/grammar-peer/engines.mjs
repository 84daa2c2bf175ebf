// Both sides behind one interface. An engine: compile(source) → grammar, open(grammar) → a document that is followed.
// A source is { schema }, 'object' or { tools }, as in bench/grammar-cases.ts.
import {
  compileJsonObject,
  compileJsonSchema,
  compileToolCalls,
  createMatcher,
  GrammarError,
  prepareVocabulary,
} from 'longmind-grammar';
import { loadPeer } from './load.mjs';
import { byteLevelTokens } from './vocabulary.mjs';

/** An error of `compile`: how the engine said no. 'refused': an error to catch and show; 'aborted': the instance is lost. */
export class No extends Error {
  constructor(how, message) {
    super(message);
    this.how = how;
  }
}

/** `open`: undeclared properties and items as the standard says (true) or none (false); each side's default is false. */
export async function createEngine(name, vocabulary, open) {
  return name === 'ours' ? ours(vocabulary, open) : peer(vocabulary, open);
}

function ours({ table, ends, size }, open) {
  prepareVocabulary(table);
  const words = Math.ceil(size / 32);
  const options = { undeclared: open ? 'open' : 'closed' };
  const compile = (source) => {
    if (source === 'object') return compileJsonObject(options);
    if (source.tools) return compileToolCalls(source.tools, { ...options, choice: 'auto', format: 'hermes' });
    return compileJsonSchema(source.schema, options);
  };
  return {
    async compile(source) {
      try {
        return compile(source);
      } catch (e) {
        throw e instanceof GrammarError ? new No('refused', e.message) : e;
      }
    },
    async open(grammar) {
      const matcher = createMatcher(grammar, table, ends);
      const row = new Int32Array(words);
      return {
        async mask() {
          matcher.fillMask(row, 0);
          return row;
        },
        accept: (token) => matcher.accept(token),
        close() {},
      };
    },
    release() {},
  };
}

/** Its instance is made anew after an abort: what it leaves behind is undefined. */
async function peer({ table, ends, size }, open) {
  const tokens = byteLevelTokens(table);
  let library;
  let compiler;
  const start = async () => {
    library = loadPeer();
    const info = await library.TokenizerInfo.createTokenizerInfo(tokens, 'byte_level', false, size, ends);
    compiler = await library.GrammarCompiler.createGrammarCompiler(info, false);
  };
  const compile = (source) => {
    if (source === 'object') return compiler.compileBuiltinJSONGrammar();
    if (source.tools) return compiler.compileStructuralTag(structuralTag(source.tools));
    return compiler.compileJSONSchema(JSON.stringify(source.schema), true, undefined, undefined, !open);
  };
  await start();
  return {
    async compile(source) {
      try {
        return await compile(source);
      } catch (e) {
        const aborted = e instanceof WebAssembly.RuntimeError || /abort/i.test(String(e?.message ?? e));
        await start();
        throw new No(aborted ? 'aborted' : 'refused', String(e?.message ?? e).split('\n')[0]);
      }
    },
    async open(grammar) {
      const matcher = await library.GrammarMatcher.createGrammarMatcher(grammar);
      return {
        mask: () => matcher.getNextTokenBitmask(),
        accept: (token) => matcher.acceptToken(token),
        close: () => matcher.dispose(),
      };
    },
    release: (grammar) => grammar.dispose(),
  };
}

/** The Hermes notation in the peer's terms. */
function structuralTag(tools) {
  const tags = tools.map(({ name, parameters }) => ({
    type: 'tag',
    begin: `<tool_call>\n{"name": "${name}", "arguments": `,
    content: { type: 'json_schema', json_schema: parameters },
    end: '}\n</tool_call>',
  }));
  return { type: 'structural_tag', format: { type: 'triggered_tags', triggers: ['<tool_call>'], tags } };
}

/** Microseconds of this process on any processor: what others do at the same time does not count. */
export const cpuTime = () => {
  const { user, system } = process.cpuUsage();
  return user + system;
};
export const wallTime = () => performance.now() * 1000;

/** Whether the masks let a document through to its end, and microseconds of each mask with its accept, pushed to `times`. */
export async function follow(engine, grammar, ids, ends, times, clock) {
  const document = await engine.open(grammar);
  try {
    for (const id of ids) {
      const started = clock();
      const mask = await document.mask();
      const allowed = ((mask[id >> 5] >>> (id & 31)) & 1) === 1;
      const accepted = document.accept(id);
      times.push(clock() - started);
      if (allowed !== accepted) throw new Error(`mask and accept disagree about token ${id}`);
      if (!accepted) return false;
    }
    const mask = await document.mask();
    return ends.some((end) => ((mask[end >> 5] >>> (end & 31)) & 1) === 1);
  } finally {
    document.close();
  }
}
