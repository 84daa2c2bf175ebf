/** Takes apart messages that a grammar of tools.ts has constrained, as they stream in. */
import { invariant } from './errors.js';
import { type Arguments, JsonArguments, PythonArguments, XmlArguments } from './tool-arguments.js';
import { type CallSyntax, TOOL_FORMATS, type ToolFormat } from './tool-formats.js';
import { argumentKinds } from './tool-kinds.js';
import type { ToolSpec } from './types.js';

export type ToolEvent =
  /** Text of the message outside of calls. */
  | { kind: 'text'; text: string }
  /** A call begins; its arguments follow. */
  | { kind: 'call'; index: number; name: string }
  /** The next piece of a call's arguments; together they are one JSON object, spelled as the model did where it wrote JSON. */
  | { kind: 'arguments'; index: number; delta: string }
  /** The arguments of a call are complete. */
  | { kind: 'end'; index: number };

/** No head is longer: names have at most 128 characters. */
const MAX_HEAD = 512;

/**
 * Feed it the text of the message with special tokens spelled out (a vocabulary may have the marks as tokens of their own). Only
 * for constrained messages: anything else breaks an invariant. `tools`: those the message was constrained by; of some formats
 * their schemas tell which kind of value a text is.
 */
export class ToolCallParser {
  private phase: 'start' | 'text' | 'head' | 'arguments' | 'tail';
  /** Text that may turn out to be an opening mark, or the head of a call. */
  private held = '';
  private index = -1;
  private arguments: Arguments = new JsonArguments();
  private readonly syntax: CallSyntax;
  private readonly head: RegExp;

  constructor(
    format: ToolFormat,
    private readonly tools: readonly ToolSpec[],
  ) {
    this.syntax = TOOL_FORMATS[format];
    this.head = headOf(this.syntax);
    this.phase = this.syntax.open === '' ? 'start' : 'text';
  }

  /** Calls that have begun so far. */
  get calls(): number {
    return this.index + 1;
  }

  push(text: string): ToolEvent[] {
    const events: ToolEvent[] = [];
    let at = 0;
    while (at < text.length) at = this.step(text, at, events);
    return events;
  }

  /** The message is over: text that was held back. */
  end(): ToolEvent[] {
    const text = this.phase === 'text' ? this.held : '';
    this.held = '';
    return text === '' ? [] : [{ kind: 'text', text }];
  }

  /** Reads some of `text` from `at`; returns where it stopped. */
  private step(text: string, at: number, events: ToolEvent[]): number {
    switch (this.phase) {
      case 'start':
        // the whole message is calls, or none of it
        this.phase = text[at] === (this.syntax.more?.kind === 'list' ? '[' : '{') ? 'head' : 'text';
        return at;
      case 'text':
        return this.plain(text, at, events);
      case 'head':
        return this.name(text, at, events);
      case 'arguments':
        return this.read(text, at, events);
      case 'tail':
        // perhaps an id, which holds no brace
        if (text[at] === '}') this.phase = 'head';
        return at + 1;
    }
  }

  /** Text up to an opening mark; what may be the beginning of one is held back. */
  private plain(text: string, at: number, events: ToolEvent[]): number {
    const { open } = this.syntax;
    const all = this.held + text.slice(at);
    const found = open === '' ? -1 : all.indexOf(open);
    let keep = 0;
    if (found < 0) {
      for (let n = Math.min(open.length - 1, all.length); n > 0 && keep === 0; n--)
        if (all.endsWith(open.slice(0, n))) keep = n;
    }
    const out = found >= 0 ? all.slice(0, found) : all.slice(0, all.length - keep);
    if (out !== '') events.push({ kind: 'text', text: out });
    const before = this.held.length;
    this.held = found >= 0 ? '' : all.slice(all.length - keep);
    if (found < 0) return text.length;
    this.phase = 'head';
    return at + found + open.length - before;
  }

  /** Everything up to where the arguments begin. */
  private name(text: string, at: number, events: ToolEvent[]): number {
    for (let i = at; i < text.length; i++) {
      this.held += text[i];
      const match = this.head.exec(this.held);
      if (!match) continue;
      this.index++;
      events.push({ kind: 'call', index: this.index, name: match[1] });
      this.held = '';
      this.phase = 'arguments';
      this.arguments = this.argumentsOf(match[1]);
      return i + 1;
    }
    invariant(this.held.length <= MAX_HEAD, 'the message holds a call that no grammar of tools writes');
    return text.length;
  }

  private argumentsOf(name: string): Arguments {
    const { kind } = this.syntax.call;
    if (kind === 'python') return new PythonArguments();
    if (kind !== 'xml') return new JsonArguments();
    const tool = this.tools.find((t) => t.name === name) ?? {};
    return new XmlArguments((argument) => argumentKinds(tool, argument));
  }

  private read(text: string, at: number, events: ToolEvent[]): number {
    const { delta, to, done } = this.arguments.read(text, at);
    if (delta !== '') events.push({ kind: 'arguments', index: this.index, delta });
    if (!done) return to;
    events.push({ kind: 'end', index: this.index });
    this.phase = this.syntax.call.kind === 'json' ? 'tail' : 'head';
    return to;
  }
}

const NAME = '([A-Za-z0-9_.-]{1,128})';
const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** Matches what stands before a call's arguments, whatever was between it and the call before. */
function headOf({ call }: CallSyntax): RegExp {
  if (call.kind === 'python') return new RegExp(`${NAME}\\($`);
  if (call.kind === 'named') return new RegExp(`${escaped(call.before)}${NAME}${escaped(call.middle)}$`);
  if (call.kind === 'xml') return new RegExp(`${escaped(call.before)}${NAME}>\\n$`);
  return new RegExp(`\\{\\s*"name"\\s*:\\s*"${NAME}"\\s*,\\s*"${call.arguments}"\\s*:\\s*$`);
}
