/** Takes apart messages that a grammar of tools.ts has constrained, as they stream in. */
import { invariant } from './errors.js';
import type { ToolFormat } from './types.js';

export type ToolEvent =
  /** Text of the message outside of calls. */
  | { kind: 'text'; text: string }
  /** A call begins; its arguments follow. */
  | { kind: 'call'; index: number; name: string }
  /** The next piece of a call's arguments, as the model spelled them; together they are one JSON object. */
  | { kind: 'arguments'; index: number; delta: string }
  /** The arguments of a call are complete. */
  | { kind: 'end'; index: number };

const OPEN = '<tool_call>';
/** From the opening brace of a call to where its arguments begin. */
const HEAD = /^\{\s*"name"\s*:\s*"([^"]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*$/;
/** No head is longer: names have at most 128 characters. */
const MAX_HEAD = 512;

/**
 * Feed it the text of the message with special tokens spelled out (a vocabulary may have the tags as tokens of their own). Only
 * for constrained messages: anything else breaks an invariant.
 */
export class ToolCallParser {
  private phase: 'start' | 'text' | 'between' | 'head' | 'arguments' | 'tail';
  /** Text that may turn out to be an opening tag, or the head of a call. */
  private held = '';
  private index = -1;
  private depth = 0;
  private inString = false;
  private escaped = false;

  constructor(private readonly format: ToolFormat) {
    this.phase = format === 'llama3' ? 'start' : 'text';
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
        // Llama 3: the whole message is a call, or none of it
        this.phase = text[at] === '{' ? 'between' : 'text';
        return at;
      case 'text':
        return this.plain(text, at, events, this.format !== 'llama3');
      case 'between':
        if (text[at] === '{') {
          this.phase = 'head';
          this.held = '';
        } else return at + 1;
        return at;
      case 'head':
        return this.head(text, at, events);
      case 'arguments':
        return this.arguments(text, at, events);
      case 'tail':
        if (text[at] === '}') this.phase = 'between';
        return at + 1;
    }
  }

  /** Text up to an opening tag; what may be the beginning of one is held back. */
  private plain(text: string, at: number, events: ToolEvent[], tags: boolean): number {
    const all = this.held + text.slice(at);
    const tag = tags ? all.indexOf(OPEN) : -1;
    let keep = 0;
    if (tag < 0 && tags) {
      for (let n = Math.min(OPEN.length - 1, all.length); n > 0 && keep === 0; n--)
        if (all.endsWith(OPEN.slice(0, n))) keep = n;
    }
    const out = tag >= 0 ? all.slice(0, tag) : all.slice(0, all.length - keep);
    if (out !== '') events.push({ kind: 'text', text: out });
    const before = this.held.length;
    this.held = tag >= 0 ? '' : all.slice(all.length - keep);
    if (tag < 0) return text.length;
    this.phase = 'between';
    return at + tag + OPEN.length - before;
  }

  private head(text: string, at: number, events: ToolEvent[]): number {
    for (let i = at; i < text.length; i++) {
      this.held += text[i];
      if (text[i] !== ':') continue;
      const match = HEAD.exec(this.held);
      if (!match) continue;
      this.index++;
      events.push({ kind: 'call', index: this.index, name: match[1] });
      this.held = '';
      this.phase = 'arguments';
      this.depth = 0;
      return i + 1;
    }
    invariant(this.held.length <= MAX_HEAD, 'the message holds a call that no grammar of tools writes');
    return text.length;
  }

  private arguments(text: string, at: number, events: ToolEvent[]): number {
    let from = at;
    let i = at;
    for (; i < text.length; i++) {
      const c = text[i];
      if (this.inString) {
        if (this.escaped) this.escaped = false;
        else if (c === '\\') this.escaped = true;
        else if (c === '"') this.inString = false;
      } else if (c === '"') this.inString = true;
      else if (c === '{' || c === '[') this.depth++;
      else if (c === '}' || c === ']') {
        this.depth--;
        if (this.depth === 0) break;
      } else if (this.depth === 0) from = i + 1; // whitespace before the object
    }
    const done = i < text.length;
    const delta = text.slice(from, done ? i + 1 : i);
    if (delta !== '') events.push({ kind: 'arguments', index: this.index, delta });
    if (!done) return text.length;
    events.push({ kind: 'end', index: this.index });
    this.phase = 'tail';
    return i + 1;
  }
}
