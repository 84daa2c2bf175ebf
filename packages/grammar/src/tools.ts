/** Grammars for messages that may call functions, as the chat templates of three model families write them. */
import { beginCompilation, type Compilation, finishCompilation } from './compile.js';
import { limits } from './errors.js';
import { anyObject, type Conjunction, type ObjectFacet } from './facets.js';
import { objectStates } from './object.js';
import { isRecord } from './schema.js';
import { wideCharacters } from './shared.js';
import type { Grammar, Tag, ToolOptions, ToolSpec } from './types.js';

const OPEN = '<tool_call>';
const CLOSE = '</tool_call>';

/**
 * Messages that may or must call these functions. Arguments satisfy the function's schema; free text never holds a call.
 * With 'auto' the message is text until a call opens, and after the calls nothing follows. Errors as `compileJsonSchema`.
 */
export function compileToolCalls(tools: readonly ToolSpec[], options: ToolOptions): Grammar {
  const c = beginCompilation({ ...options, param: options.param ?? 'tools' });
  const wanted = choose(c, tools, options);
  const call = c.builder.rule();
  const rules = wanted.map((tool) => {
    const state = objectStates(c.emitter, callObject(c, tool, options));
    const rule = c.builder.rule();
    c.builder.begin(rule, state);
    c.builder.begin(call, state);
    return rule;
  });
  const message = writeMessage(c, call, options);
  c.emitter.run();
  rules.forEach((rule, i) => {
    if (!c.builder.canEnd(rule)) throw c.budget.invalid(`${wanted[i].name}#`, 'no document can satisfy it');
  });
  return finishCompilation(c, message.root, message.tags);
}

interface Message {
  root: number;
  tags: Tag[];
}

function writeMessage(c: Compilation, call: number, options: ToolOptions): Message {
  const auto = options.choice === 'auto';
  if (options.format === 'llama3') return { root: llama3(c, call, auto), tags: [] };
  const parallel = options.parallel ?? true;
  const opened = c.builder.state();
  const calls = options.format === 'hermes' ? hermes(c, call, opened) : smollm2(c, call, opened, parallel);
  const opens: number[] = [];
  if (options.format === 'hermes' && parallel) opens.push(again(c, calls.closed, opened));
  let root: number;
  if (auto) {
    const text = freeText(c, opened);
    opens.push(...text);
    root = text[0];
  } else {
    root = c.builder.state();
    c.builder.spell(root, OPEN, opened);
    opens.push(root);
  }
  const tags = [
    { text: OPEN, states: opens },
    { text: CLOSE, states: [calls.close] },
  ];
  return { root, tags };
}

function choose(c: Compilation, tools: readonly ToolSpec[], options: ToolOptions): readonly ToolSpec[] {
  if (tools.length === 0) throw c.budget.invalid('', 'there are no tools');
  if (tools.length > limits.tools) throw c.budget.tooLarge(`it has more than ${limits.tools} tools`, '');
  const names = new Set<string>();
  for (const { name } of tools) {
    if (!/^[A-Za-z0-9_.-]{1,128}$/.test(name)) throw c.budget.invalid('', `'${name}' is not a function name`);
    if (names.has(name)) throw c.budget.invalid('', `there are two tools '${name}'`);
    names.add(name);
  }
  if (typeof options.choice === 'string') return tools;
  const { name } = options.choice;
  if (!names.has(name)) throw c.budget.invalid('', `tool_choice names '${name}', which is not among the tools`);
  return tools.filter((t) => t.name === name);
}

/** `{"name": NAME, "arguments": {…}}`. */
function callObject(c: Compilation, tool: ToolSpec, options: ToolOptions): ObjectFacet {
  const { reader } = c;
  const name = { const: tool.name };
  const parameters = tool.parameters ?? { type: 'object', properties: {} };
  const path = `${tool.name}#`;
  const schema = reader.add(parameters, path, parameters);
  // arguments are an object even where the schema does not say so
  const object = { type: 'object', properties: {} };
  const anyArguments = { type: 'object' };
  const empty = isRecord(parameters) && Object.keys(parameters).length === 0;
  const shape = reader.add(empty ? object : anyArguments, path, empty ? object : anyArguments);
  const args: Conjunction = [...new Set([...schema, ...(empty || !isObject(parameters) ? shape : [])])].sort(
    (a, b) => a - b,
  );
  const props = new Map<string, Conjunction>([
    ['name', reader.add(name, path, name)],
    [options.format === 'llama3' ? 'parameters' : 'arguments', args],
  ]);
  const spec = { props, patterns: [], additional: null, additionalImplied: false, declares: true };
  return { ...anyObject(), specs: [spec], required: new Set(props.keys()) };
}

function isObject(parameters: unknown): boolean {
  return isRecord(parameters) && parameters.type === 'object';
}

/** A state that allows at most one line break or space before `to`. */
function gap(c: Compilation, to: number): number {
  const s = c.builder.state(false, to);
  c.builder.edge(s, 0x0a, 0x0a, to);
  c.builder.edge(s, 0x20, 0x20, to);
  return s;
}

/** Makes `s` behave as `to` with a gap before it. */
function gapFrom(c: Compilation, s: number, to: number): void {
  c.builder.also(s, gap(c, to));
}

/** What both tagged formats end with: the state before the closing tag, and the one after it. */
interface Calls {
  close: number;
  closed: number;
}

function hermes(c: Compilation, call: number, opened: number): Calls {
  const b = c.builder;
  const called = b.state();
  const value = b.state();
  b.call(value, call, called);
  gapFrom(c, opened, value);
  const close = b.state();
  const closed = b.spell(close, CLOSE, b.documentEnd());
  gapFrom(c, called, close);
  return { close, closed };
}

/** After a call: another one, perhaps after a line break. */
function again(c: Compilation, closed: number, opened: number): number {
  const next = c.builder.state();
  c.builder.spell(next, OPEN, opened);
  gapFrom(c, closed, next);
  return next;
}

function smollm2(c: Compilation, call: number, opened: number, parallel: boolean): Calls {
  const b = c.builder;
  const value = b.state();
  const called = b.state();
  b.call(value, call, called);
  const list = b.state();
  b.edge(list, 0x5b, 0x5b, gap(c, value));
  gapFrom(c, opened, list);
  if (parallel) b.edge(called, 0x2c, 0x2c, gap(c, value));
  const bracket = b.state();
  const listed = b.state();
  b.edge(bracket, 0x5d, 0x5d, listed);
  gapFrom(c, called, bracket);
  const close = b.state();
  gapFrom(c, listed, close);
  return { close, closed: b.spell(close, CLOSE, b.documentEnd()) };
}

/** The whole message is one call; with `auto`, any text that does not begin with a brace is a message too. */
function llama3(c: Compilation, call: number, auto: boolean): number {
  const b = c.builder;
  const root = auto ? b.documentEnd() : b.state();
  b.call(root, call, b.documentEnd());
  if (auto) {
    const text = b.documentEnd();
    b.edge(text, 0, 0x7f, text);
    // whitespace before a brace would make it a call to those who trim
    const blank = b.documentEnd();
    for (const s of [root, blank]) {
      b.edge(s, 0, 8, text);
      b.edge(s, 9, 10, blank);
      b.edge(s, 11, 12, text);
      b.edge(s, 13, 13, blank);
      b.edge(s, 14, 31, text);
      b.edge(s, 32, 32, blank);
      b.edge(s, 33, 0x7a, text);
      b.edge(s, 0x7c, 0x7f, text);
    }
    wideCharacters(b, [root, blank, text], text);
  }
  return root;
}

/** Text in which the opening tag is found wherever it appears; the message may end anywhere before.
 * Returns its states, the first one first. */
function freeText(c: Compilation, opened: number): number[] {
  const b = c.builder;
  // matched[i]: the last i bytes are the beginning of the tag; only its first byte is '<', so a mismatch falls back to 0 or 1
  const matched = Array.from({ length: OPEN.length }, () => b.documentEnd());
  matched.forEach((s, i) => {
    const want = OPEN.charCodeAt(i);
    const to = i + 1 === OPEN.length ? opened : matched[i + 1];
    b.edge(s, want, want, to);
    const fallback = (lo: number, hi: number, target: number) => {
      if (lo <= hi) b.edge(s, lo, hi, target);
    };
    const lt = 0x3c;
    const [first, second] = want < lt ? [want, lt] : [lt, want];
    fallback(0, first - 1, matched[0]);
    if (first !== second) fallback(first + 1, second - 1, matched[0]);
    fallback(second + 1, 0x7f, matched[0]);
    if (want !== lt) b.edge(s, lt, lt, matched[1]);
  });
  wideCharacters(b, matched, matched[0]);
  return matched;
}
