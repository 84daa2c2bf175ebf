/** Arguments of a call as they stream in, as JSON. */
import { PARAMETER_END } from './tool-formats.js';
import { bareToJson, type Kinds } from './tool-kinds.js';

/** Reads some of `text` from `at`. */
export interface Arguments {
  read(text: string, at: number): Read;
}

interface Read {
  /** The next piece of the JSON object. */
  delta: string;
  /** Where reading stopped. */
  to: number;
  done: boolean;
}

/** Follows strings and brackets, the same in both notations. */
class Nesting {
  depth = 0;
  inString = false;
  private escaped = false;

  /** True if the character belongs to a string. */
  text(c: string): boolean {
    if (!this.inString) {
      this.inString = c === '"';
      return this.inString;
    }
    if (this.escaped) this.escaped = false;
    else if (c === '\\') this.escaped = true;
    else if (c === '"') this.inString = false;
    return true;
  }
}

/** A JSON object, from before its brace on. */
export class JsonArguments implements Arguments {
  private readonly nesting = new Nesting();

  read(text: string, at: number): Read {
    const { nesting } = this;
    let from = at;
    for (let i = at; i < text.length; i++) {
      const c = text[i];
      if (nesting.text(c)) continue;
      if (c === '{' || c === '[') nesting.depth++;
      else if (c === '}' || c === ']') {
        nesting.depth--;
        if (nesting.depth === 0) return { delta: text.slice(from, i + 1), to: i + 1, done: true };
      } else if (nesting.depth === 0) from = i + 1; // whitespace before the object
    }
    return { delta: text.slice(from), to: text.length, done: false };
  }
}

const LITERALS: Record<string, string> = { None: 'null', True: 'true', False: 'false' };

/** `key=value, …)`, from behind the opening parenthesis on. */
export class PythonArguments implements Arguments {
  private readonly nesting = new Nesting();
  private begun = false;
  private inKey = true;
  /** Of a key, or of a literal. */
  private word = '';

  read(text: string, at: number): Read {
    let delta = this.begun ? '' : '{';
    this.begun = true;
    for (let i = at; i < text.length; i++) {
      const c = text[i];
      if (c === ')' && this.nesting.depth === 0 && !this.nesting.inString)
        return { delta: `${delta}}`, to: i + 1, done: true };
      delta += this.inKey ? this.key(c) : this.value(c);
    }
    return { delta, to: text.length, done: false };
  }

  private key(c: string): string {
    if (/\w/.test(c)) {
      this.word += c;
      return '';
    }
    if (c !== '=') return c; // space
    const name = JSON.stringify(this.word);
    this.word = '';
    this.inKey = false;
    return `${name}: `;
  }

  private value(c: string): string {
    const { nesting } = this;
    if (nesting.text(c)) return c;
    if (this.word !== '' || c === 'N' || c === 'T' || c === 'F') {
      this.word += c;
      const literal = LITERALS[this.word];
      if (literal !== undefined) this.word = '';
      return literal ?? '';
    }
    if (c === '{' || c === '[') nesting.depth++;
    else if (c === '}' || c === ']') nesting.depth--;
    else if (c === ',' && nesting.depth === 0) this.inKey = true;
    return c;
  }
}

const FUNCTION_END = '</function>';

/** Arguments between tags, from behind `<function=NAME>` on. Strings stream; other values come when they are whole. */
export class XmlArguments implements Arguments {
  private begun = false;
  /** What was read and belongs to nothing yet: of a tag, or the beginning of what may be a closing one. */
  private held = '';
  /** Of the value that is being read; null: a tag is. */
  private kinds: Kinds | null = null;
  /** A value that does not stream. */
  private value = '';
  /** The line break behind the opening tag is still to come out of what is held. */
  private atStart = false;

  constructor(private readonly kindsOf: (name: string) => Kinds) {}

  read(text: string, at: number): Read {
    let delta = '';
    for (let i = at; i < text.length; i++) {
      delta += this.kinds ? this.character(text[i], this.kinds) : this.tag(text[i]);
      if (this.kinds || !this.held.endsWith(FUNCTION_END)) continue;
      return { delta: `${delta}${this.begun ? '}' : '{}'}`, to: i + 1, done: true };
    }
    return { delta, to: text.length, done: false };
  }

  private tag(c: string): string {
    this.held += c;
    const match = /<parameter=([^<>\n]+)>\n$/.exec(this.held);
    if (!match) return '';
    this.kinds = this.kindsOf(match[1]);
    this.held = '\n';
    this.atStart = true;
    const before = this.begun ? ', ' : '{';
    this.begun = true;
    return `${before}${JSON.stringify(match[1])}: ${streams(this.kinds) ? '"' : ''}`;
  }

  private character(c: string, kinds: Kinds): string {
    if (PARAMETER_END[this.held.length] !== c) {
      const sure = c === '\n' ? this.held : this.held + c;
      this.held = c === '\n' ? c : '';
      return this.take(sure, kinds);
    }
    this.held += c;
    if (this.held !== PARAMETER_END) return '';
    const { value } = this;
    this.held = this.value = '';
    this.kinds = null;
    return streams(kinds) ? '"' : bareToJson(value, kinds);
  }

  /** Characters that belong to the value. */
  private take(text: string, kinds: Kinds): string {
    const more = this.atStart ? text.slice(1) : text;
    if (text !== '') this.atStart = false;
    if (streams(kinds)) return inString(more);
    this.value += more;
    return '';
  }
}

const streams = (kinds: Kinds): boolean => kinds.size === 1 && kinds.has('string');

/** As JSON spells it, in any pieces: halves of a character are left as they are. */
const inString = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: JSON escapes them
  text.replace(/["\\\u0000-\u001f]/g, (c) => JSON.stringify(c).slice(1, -1));
