/**
 * How model families write calls: one table, from which the masks, the parser and what is written for a model that has made calls
 * before are made.
 */

/** `{"name": …, "arguments": {…}}`; with `id`, perhaps `"id"` after it, nine letters and digits. */
interface JsonCall {
  kind: 'json';
  arguments: 'arguments' | 'parameters';
  id?: boolean;
}

/** The name between marks, then the arguments as JSON. */
interface NamedCall {
  kind: 'named';
  before: string;
  middle: string;
  after: string;
}

/** `name(key=value, …)`, values as Python spells them. */
interface PythonCall {
  kind: 'python';
}

/** `<function=NAME>`, then each argument between tags, strings as they are. */
interface XmlCall {
  kind: 'xml';
  before: string;
  /** The rest of the closing tag, whose beginning tells that no argument follows. */
  after: string;
}

/** Ends an argument that stands between tags. */
export const PARAMETER_END = '\n</parameter>';

export interface CallSyntax {
  /** Begins the calls: what comes before is text. Empty: a message is calls or text, as its first character tells. */
  open: string;
  call: JsonCall | NamedCall | PythonCall | XmlCall;
  close: string;
  /** How more than one call is written: in a list, after this text, opened and closed anew, or not at all. */
  more: { kind: 'list' } | { kind: 'after'; text: string } | { kind: 'anew'; text: string } | null;
  /** What of it some vocabularies have as tokens of their own. */
  marks: readonly string[];
}

const json: JsonCall = { kind: 'json', arguments: 'arguments' };
const table = <T extends Record<string, CallSyntax>>(formats: T): { readonly [K in keyof T]: CallSyntax } => formats;

const DEEPSEEK = [
  '<｜tool▁calls▁begin｜>',
  '<｜tool▁call▁begin｜>',
  '<｜tool▁sep｜>',
  '<｜tool▁call▁end｜>',
  '<｜tool▁calls▁end｜>',
];

export const TOOL_FORMATS = table({
  /** Qwen 2.5 and 3, Hermes, SmolLM3, Granite 4. */
  hermes: {
    open: '<tool_call>',
    call: json,
    close: '</tool_call>',
    more: { kind: 'anew', text: '\n' },
    marks: ['<tool_call>', '</tool_call>'],
  },
  smollm2: {
    open: '<tool_call>',
    call: json,
    close: '</tool_call>',
    more: { kind: 'list' },
    marks: ['<tool_call>', '</tool_call>'],
  },
  /** Llama 3.1 to 3.3; the `<|python_tag|>` that some write before it says nothing, and is not let through. */
  llama3: { open: '', call: { kind: 'json', arguments: 'parameters' }, close: '', more: null, marks: [] },
  /** Llama 3.2 (small ones) and 4. */
  pythonic: { open: '', call: { kind: 'python' }, close: '', more: { kind: 'list' }, marks: [] },
  /** Mistral up to tokenizer v7. */
  mistral: {
    open: '[TOOL_CALLS]',
    call: { ...json, id: true },
    close: '',
    more: { kind: 'list' },
    marks: ['[TOOL_CALLS]'],
  },
  /** Mistral from tokenizer v11 on. */
  'mistral-v11': {
    open: '[TOOL_CALLS]',
    call: { kind: 'named', before: '', middle: '[ARGS]', after: '' },
    close: '',
    more: { kind: 'anew', text: '' },
    marks: ['[TOOL_CALLS]', '[ARGS]'],
  },
  /** DeepSeek V3, R1 and what was distilled from it. */
  'deepseek-v3': {
    open: '<｜tool▁calls▁begin｜>',
    call: {
      kind: 'named',
      before: '<｜tool▁call▁begin｜>function<｜tool▁sep｜>',
      middle: '\n```json\n',
      after: '\n```<｜tool▁call▁end｜>',
    },
    close: '<｜tool▁calls▁end｜>',
    more: { kind: 'after', text: '\n' },
    marks: DEEPSEEK,
  },
  'deepseek-v3.1': {
    open: '<｜tool▁calls▁begin｜>',
    call: {
      kind: 'named',
      before: '<｜tool▁call▁begin｜>',
      middle: '<｜tool▁sep｜>',
      after: '<｜tool▁call▁end｜>',
    },
    close: '<｜tool▁calls▁end｜>',
    more: { kind: 'after', text: '' },
    marks: DEEPSEEK,
  },
  /** Qwen3-Coder. */
  'qwen3-coder': {
    open: '<tool_call>',
    call: { kind: 'xml', before: '\n<function=', after: 'function>\n' },
    close: '</tool_call>',
    more: { kind: 'anew', text: '\n' },
    marks: ['<tool_call>', '</tool_call>'],
  },
  /** Granite 3. */
  granite: { open: '<|tool_call|>', call: json, close: '', more: { kind: 'list' }, marks: ['<|tool_call|>'] },
  /** Phi-4-mini. */
  phi4: {
    open: '<|tool_call|>',
    call: json,
    close: '<|/tool_call|>',
    more: { kind: 'list' },
    marks: ['<|tool_call|>', '<|/tool_call|>'],
  },
});

export type ToolFormat = keyof typeof TOOL_FORMATS;

/** What of a format some vocabularies have as tokens of their own. */
export const toolMarks = (format: ToolFormat): readonly string[] => TOOL_FORMATS[format].marks;

/** The calls of one message, as the grammar of the format has them written. */
export function writeToolCalls(
  calls: readonly { name: string; arguments: Record<string, unknown> }[],
  format: ToolFormat,
): string {
  const f: CallSyntax = TOOL_FORMATS[format];
  const written = calls.map((call) => writeCall(call, f.call));
  const blank = f.call.kind === 'json' && f.more?.kind === 'anew' ? '\n' : '';
  const wrap = (inside: string): string => `${f.open}${blank}${inside}${blank}${f.close}`;
  if (f.more?.kind === 'list') return wrap(`[${written.join(f.call.kind === 'python' ? ', ' : ',')}]`);
  if (f.more?.kind === 'after') return wrap(written.join(f.more.text));
  return written.map(wrap).join(f.more?.text ?? '\n');
}

function writeCall(
  { name, arguments: args }: { name: string; arguments: Record<string, unknown> },
  call: CallSyntax['call'],
) {
  if (call.kind === 'json') return JSON.stringify({ name, [call.arguments]: args });
  if (call.kind === 'named') return `${call.before}${name}${call.middle}${JSON.stringify(args)}${call.after}`;
  if (call.kind === 'xml') {
    const tags = Object.entries(args).map(([key, v]) => `<parameter=${key}>\n${bareValue(v)}${PARAMETER_END}\n`);
    return `${call.before}${name}>\n${tags.join('')}</${call.after}`;
  }
  const given = Object.entries(args).map(([key, value]) => `${key}=${python(value)}`);
  return `${name}(${given.join(', ')})`;
}

/** A value between tags: strings as they are, all else as JSON, spaced as in the calls that models have seen. */
export function bareValue(value: unknown): string {
  return typeof value === 'string' ? value : spaced(value);
}

function spaced(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(spaced).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${spaced(v)}`);
  return `{${entries.join(', ')}}`;
}

function python(value: unknown): string {
  if (value === null) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (Array.isArray(value)) return `[${value.map(python).join(', ')}]`;
  if (typeof value !== 'object') return JSON.stringify(value);
  const entries = Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${python(v)}`);
  return `{${entries.join(', ')}}`;
}
