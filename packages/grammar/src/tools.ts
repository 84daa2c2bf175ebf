/** Grammars for messages that may call functions, from the table of formats. */
import type { GrammarBuilder } from './builder.js';
import { beginCompilation, type Compilation, finishCompilation } from './compile.js';
import { limits } from './errors.js';
import { settle } from './exclude.js';
import { anyObject, type Conjunction, type ObjectFacet } from './facets.js';
import { gap, textUntil } from './free-text.js';
import { type ObjectStyle, objectStates, type Values } from './object.js';
import { isRecord } from './schema.js';
import { wideCharacters } from './shared.js';
import { type CallSyntax, TOOL_FORMATS } from './tool-formats.js';
import type { Grammar, Tag, ToolOptions, ToolSpec } from './types.js';
import { TAGS, xmlValues } from './xml-arguments.js';

const PYTHON_LITERALS = { nothing: 'None', truthy: 'True', falsy: 'False' };
const PYTHON_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** Keywords of a call; what the schema does not declare has no name to be given. */
const PARENTHESES: ObjectStyle = { open: 0x28, comma: 0x2c, close: 0x29, extras: false };

/**
 * Messages that may or must call these functions. Arguments satisfy the function's schema; free text never holds a call.
 * With 'auto' the message is text until a call opens, and after the calls nothing follows. Errors as `compileJsonSchema`.
 */
export function compileToolCalls(tools: readonly ToolSpec[], options: ToolOptions): Grammar {
  const format: CallSyntax = TOOL_FORMATS[options.format];
  const python = format.call.kind === 'python';
  const c = beginCompilation({ ...options, param: options.param ?? 'tools' }, python ? PYTHON_LITERALS : undefined);
  const wanted = choose(c, tools, options);
  const marks = new Marks(c.builder, format.marks);
  const call = c.builder.rule();
  const rules = wanted.map((tool) => {
    const state = oneCall(c, marks, tool, format);
    const rule = c.builder.rule();
    c.builder.begin(rule, state);
    c.builder.begin(call, state);
    return rule;
  });
  const writer = new MessageWriter(c.builder, marks, format, call, options.parallel ?? true);
  const root = writer.message(options.choice === 'auto');
  c.emitter.run();
  rules.forEach((rule, i) => {
    if (!c.builder.canEnd(rule)) throw c.budget.invalid(`${wanted[i].name}#`, 'no document can satisfy it');
  });
  return finishCompilation(c, root, marks.tags);
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

// ---------------------------------------------------------------- one call

/** Start state of a rule that is a call of this function, without the marks around it. */
function oneCall(c: Compilation, marks: Marks, tool: ToolSpec, { call }: CallSyntax): number {
  const b = c.builder;
  const args = argumentsOf(c, tool);
  if (call.kind === 'json') return objectStates(c.emitter, callObject(c, tool, args, call));
  const start = b.state();
  if (call.kind === 'named') {
    const value = marks.spell(start, `${tool.name}${call.middle}`);
    b.call(value, c.emitter.value(args), c.emitter.shared.end);
    return start;
  }
  const inside = b.rule();
  const xml = call.kind === 'xml';
  const values = xml ? xmlValues(c, tool) : pythonValues(c);
  for (const { object } of settle(c.reader, c.reader.expand(args), c.options))
    if (object) b.begin(inside, objectStates(values, object, xml ? TAGS : PARENTHESES));
  b.call(b.spell(start, xml ? `${tool.name}>\n` : tool.name), inside, c.emitter.shared.end);
  return start;
}

/** Schemas of the arguments: an object, even where the schema does not say so. */
function argumentsOf({ reader }: Compilation, tool: ToolSpec): Conjunction {
  const parameters = tool.parameters ?? { type: 'object', properties: {} };
  const path = `${tool.name}#`;
  const schema = reader.add(parameters, path, parameters);
  const empty = isRecord(parameters) && Object.keys(parameters).length === 0;
  const shape = empty ? { type: 'object', properties: {} } : { type: 'object' };
  const more = empty || !isObject(parameters) ? reader.add(shape, path, shape) : [];
  return [...new Set([...schema, ...more])].sort((a, b) => a - b);
}

/** `{"name": NAME, "arguments": {…}}`. */
function callObject(
  { reader }: Compilation,
  tool: ToolSpec,
  args: Conjunction,
  call: { arguments: string; id?: boolean },
): ObjectFacet {
  const path = `${tool.name}#`;
  const name = { const: tool.name };
  const props = new Map<string, Conjunction>([
    ['name', reader.add(name, path, name)],
    [call.arguments, args],
  ]);
  const required = new Set(props.keys());
  const id = { type: 'string', pattern: '^[A-Za-z0-9]{9}$' };
  if (call.id) props.set('id', reader.add(id, path, id));
  const spec = { props, patterns: [], additional: null, additionalImplied: false, declares: true };
  return { ...anyObject(), specs: [spec], required };
}

function isObject(parameters: unknown): boolean {
  return isRecord(parameters) && parameters.type === 'object';
}

/** `key=value` instead of `"key": value`. */
function pythonValues(c: Compilation): Values {
  const { emitter: e, builder: b } = c;
  const key = (name: string): number => {
    if (!PYTHON_NAME.test(name))
      throw c.budget.unsupported(
        'properties',
        '',
        `the model writes calls in Python, where '${name}' names no argument`,
      );
    const start = b.state();
    b.spell(start, name, e.shared.end);
    const rule = b.rule();
    b.begin(rule, start);
    return rule;
  };
  const colon = (value: number, after: number): number => {
    const v = b.state();
    b.call(v, value, after);
    const s = b.state();
    b.edge(s, 0x3d, 0x3d, v);
    return s;
  };
  return {
    ...{ b, reader: c.reader, budget: c.budget, options: c.options, shared: e.shared, key, colon },
    value: (schemas) => e.value(schemas),
    space: (to) => e.space(to),
    closing: (s, bracket) => e.closing(s, bracket),
    stringIn: (d) => e.stringIn(d),
  };
}

// ---------------------------------------------------------------- the message around the calls

/** Spells text in which marks may come as tokens of their own. */
class Marks {
  readonly #states: Map<string, number[]>;

  constructor(
    private readonly b: GrammarBuilder,
    marks: readonly string[],
  ) {
    this.#states = new Map(marks.map((m) => [m, []]));
  }

  get tags(): Tag[] {
    return [...this.#states].map(([text, states]) => ({ text, states }));
  }

  /** The mark may come in these states. */
  at(mark: string, states: readonly number[]): void {
    this.#states.get(mark)?.push(...states);
  }

  /** As the builder's. */
  spell(from: number, text: string, to?: number): number {
    let at = from;
    let rest = text;
    while (rest !== '') {
      const marks = [...this.#states.keys()];
      const mark = marks.find((m) => rest.startsWith(m));
      const next = marks.map((m) => rest.indexOf(m, 1)).filter((i) => i > 0);
      const piece = mark ?? rest.slice(0, Math.min(rest.length, ...next));
      if (mark) this.at(mark, [at]);
      rest = rest.slice(piece.length);
      at = this.b.spell(at, piece, rest === '' ? to : undefined);
    }
    return at;
  }
}

class MessageWriter {
  constructor(
    private readonly b: GrammarBuilder,
    private readonly marks: Marks,
    private readonly format: CallSyntax,
    private readonly call: number,
    private readonly parallel: boolean,
  ) {}

  /** The state in which the message begins. */
  message(auto: boolean): number {
    const { b, format } = this;
    const opened = b.state();
    this.#calls(opened);
    if (format.open === '') return this.#untagged(opened, auto);
    if (auto) {
      const text = textUntil(b, format.open, opened, () => b.documentEnd());
      this.marks.at(format.open, text);
      return text[0];
    }
    const root = b.state();
    this.marks.spell(root, format.open, opened);
    return root;
  }

  /** What follows the opening mark. */
  #calls(opened: number): void {
    const { b, format, marks } = this;
    const { more, close, open } = format;
    const last = close === '' ? b.documentEnd() : b.state();
    const first = more?.kind === 'list' ? this.#list(last) : this.#one(last);
    b.also(opened, open === '' ? first : this.#spaced(first));
    let closed = last;
    if (close !== '') {
      closed = b.documentEnd();
      const end = b.state();
      marks.spell(end, close, closed);
      b.also(last, this.#spaced(end));
    }
    if (!this.parallel) return;
    if (more?.kind === 'after') this.#write(last, more.text, last);
    if (more?.kind === 'anew') {
      const next = b.state();
      marks.spell(next, open, opened);
      b.also(closed, more.text === '' ? next : gap(b, next));
    }
  }

  /** Start of `[call, call]`, then `to`. */
  #list(to: number): number {
    const { b } = this;
    const listed = b.state();
    const value = this.#one(listed);
    const list = b.state();
    b.edge(list, 0x5b, 0x5b, gap(b, value));
    if (this.parallel) b.edge(listed, 0x2c, 0x2c, gap(b, value));
    const bracket = b.state();
    b.edge(bracket, 0x5d, 0x5d, to);
    b.also(listed, gap(b, bracket));
    return list;
  }

  /** Start of a call with the marks that each call has, then `to`. */
  #one(to: number): number {
    const s = this.b.state();
    this.#write(s, '', to);
    return s;
  }

  /** From `from`: this text, a call with its marks, then `to`. */
  #write(from: number, text: string, to: number): void {
    const { b, marks, format } = this;
    const { before, after } = 'before' in format.call ? format.call : { before: '', after: '' };
    const called = after === '' ? to : b.state();
    b.call(marks.spell(from, text + before), this.call, called);
    if (after !== '') marks.spell(called, after, to);
  }

  /** JSON may have space around it; marks stand as they are. */
  #spaced(to: number): number {
    return this.format.call.kind === 'json' ? gap(this.b, to) : to;
  }

  /** The whole message is calls; with `auto`, any text that does not begin as they do is a message too. */
  #untagged(opened: number, auto: boolean): number {
    const { b, format } = this;
    const begin = auto ? b.documentEnd() : b.state();
    b.also(begin, opened);
    if (!auto) return begin;
    const bracket = format.more?.kind === 'list' ? 0x5b : 0x7b;
    const text = b.documentEnd();
    b.edge(text, 0, 0x7f, text);
    // whitespace before a bracket would make it a call to those who trim
    const blank = b.documentEnd();
    for (const s of [begin, blank]) {
      for (let byte = 0; byte < 0x80; byte++) {
        const space = byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;
        if (byte !== bracket) b.edge(s, byte, byte, space ? blank : text);
      }
    }
    wideCharacters(b, [begin, blank, text], text);
    return begin;
  }
}
