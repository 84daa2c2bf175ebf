/**
 * Regular expressions of tokenizer.json, which are Oniguruma's (Ruby syntax), as JavaScript's with flag v: classes of Unicode,
 * anchors of lines, letters of either case, possessive repetition. What is not known is refused, never guessed.
 */
import { errors } from '../../errors.js';

/** Unicode White_Space, which \s means there. */
export const SPACES = '\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const CLASSES: Readonly<Record<string, string>> = {
  s: `[${SPACES}]`,
  S: `[^${SPACES}]`,
  d: '\\p{Nd}',
  D: '\\P{Nd}',
  w: '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]',
  W: '[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]',
  h: '[0-9a-fA-F]',
};
const CONTROLS = 'nrtfv';
const LINE_START = '(?<![^\\n])';
const LINE_END = '(?![^\\n])';
/** Of a class with flag v. */
const CLASS_SYNTAX = /[()[\]{}/\-\\|&!#$%*+,.:;<=>?@^`~]/;
const MAX_PATTERN = 20_000;
const MAX_DEPTH = 100;

/** @throws bad_tokenizer */
export function compilePattern(pattern: string): RegExp {
  const bad = (why: string) => errors.badTokenizer(`its pattern ${JSON.stringify(pattern.slice(0, 120))} ${why}`);
  if (pattern.length > MAX_PATTERN) throw bad('is too long');
  const source = new Translator(pattern, bad).run();
  try {
    return new RegExp(source, 'gv');
  } catch (e) {
    throw bad(`cannot be used: ${(e as Error).message.slice(-200)}`);
  }
}

/** A text as a pattern that matches it alone. */
export const literalPattern = (text: string): RegExp => new RegExp(text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'), 'gv');

class Translator {
  #at = 0;
  #captures = 0;

  constructor(
    private readonly text: string,
    private readonly bad: (why: string) => Error,
  ) {}

  run(): string {
    const out = this.#alternatives(false, 0);
    if (this.#at < this.text.length) throw this.bad(`has a ')' too many`);
    return out;
  }

  /** Up to the end, or to the ')' that closes the group. */
  #alternatives(anyCase: boolean, depth: number): string {
    if (depth > MAX_DEPTH) throw this.bad('is nested too deeply');
    let out = '';
    let ignore = anyCase;
    while (this.#at < this.text.length && this.text[this.#at] !== ')') {
      if (this.text.startsWith('(?i)', this.#at)) {
        this.#at += 4;
        ignore = true;
      } else if (this.text[this.#at] === '|') {
        this.#at++;
        out += '|';
      } else out += this.#repeated(this.#atom(ignore, depth));
    }
    return out;
  }

  /** The atom with what repeats it. In Ruby's syntax ?+, *+ and ++ take all they can and give nothing back. */
  #repeated(atom: string): string {
    let out = atom;
    for (;;) {
      const m = /^(?:[?*+]|\{\d*,?\d*\})/.exec(this.text.slice(this.#at, this.#at + 24));
      if (!m || m[0] === '{}' || m[0] === '{,}') return out;
      this.#at += m[0].length;
      const count = m[0].replace('{,', '{0,');
      const next = this.text[this.#at];
      if (next === '?') {
        this.#at++;
        out = `${out}${count}?`;
      } else if (next === '+' && m[0].length === 1) {
        this.#at++;
        out = `(?:(?=(${out}${count}))\\${++this.#captures})`;
      } else out = `(?:${out}${count})`;
    }
  }

  #atom(ignore: boolean, depth: number): string {
    const c = this.#next();
    switch (c) {
      case '(':
        return this.#group(ignore, depth);
      case '[':
        return this.#class(ignore, depth);
      case '\\':
        return this.#escape(false);
      case '.':
        return '[^\\n]';
      case '^':
        return LINE_START;
      case '$':
        return LINE_END;
      case '?':
      case '*':
      case '+':
        throw this.bad('repeats nothing');
      default:
        return ignore ? this.#eitherCase(c) : literal(c);
    }
  }

  #group(ignore: boolean, depth: number): string {
    const m = /^\?(?:([:=!]|<[=!])|(i):|(-i):)/.exec(this.text.slice(this.#at, this.#at + 6));
    if (!m && this.text[this.#at] === '?') throw this.bad('has a kind of group that is not known');
    if (m) this.#at += m[0].length;
    const kind = m?.[1] ?? ':';
    const own = m?.[2] ? true : m?.[3] ? false : ignore;
    const inner = this.#alternatives(own, depth + 1);
    if (this.#next() !== ')') throw this.bad("lacks a ')'");
    return `(?${kind}${inner})`;
  }

  #next(): string {
    const point = this.text.codePointAt(this.#at);
    if (point === undefined) throw this.bad('ends too early');
    const c = String.fromCodePoint(point);
    this.#at += c.length;
    return c;
  }

  #escape(inClass: boolean): string {
    const c = this.#next();
    if (Object.hasOwn(CLASSES, c)) return CLASSES[c]!;
    if (CONTROLS.includes(c)) return `\\${c}`;
    if (c === 'p' || c === 'P') return this.#property(c);
    if (c === 'u' || c === 'x') return this.#codePoint(c);
    if (!inClass && (c === 'A' || c === 'z')) return c === 'A' ? '(?<![\\s\\S])' : '(?![\\s\\S])';
    if (/[A-Za-z0-9]/.test(c)) throw this.bad(`has '\\${c}', which is not known`);
    return inClass ? member(c) : literal(c);
  }

  #property(kind: string): string {
    const m = /^\{(\^?)([\w =]+)\}/.exec(this.text.slice(this.#at, this.#at + 64));
    if (!m) throw this.bad(`has a '\\${kind}' without a name`);
    this.#at += m[0].length;
    const name = m[2]!.replace(/^Is/, '');
    const not = (kind === 'P') !== (m[1] === '^');
    for (const form of [name, `Script=${name}`]) {
      const found = `\\${not ? 'P' : 'p'}{${form}}`;
      try {
        new RegExp(found, 'v');
        return found;
      } catch {
        // the other form, then
      }
    }
    throw this.bad(`has a property '${name}' that is not known`);
  }

  #codePoint(kind: string): string {
    const m = (kind === 'u' ? /^([0-9a-fA-F]{4})/ : /^(?:\{([0-9a-fA-F]{1,6})\}|([0-9a-fA-F]{2}))/).exec(
      this.text.slice(this.#at, this.#at + 10),
    );
    const point = m && Number.parseInt(m[1] ?? m[2]!, 16);
    if (point === null || point > 0x10ffff) throw this.bad('has a code point that is none');
    this.#at += m![0].length;
    return `\\u{${point.toString(16)}}`;
  }

  #class(ignore: boolean, depth: number): string {
    if (depth > MAX_DEPTH) throw this.bad('is nested too deeply');
    let out = '[';
    if (this.text[this.#at] === '^') {
      this.#at++;
      out += '^';
    }
    for (let first = true; ; first = false) {
      if (this.text.startsWith('&&', this.#at)) throw this.bad("has '&&', which is not known");
      if (this.text.startsWith('[:', this.#at)) throw this.bad("has '[:', which is not known");
      const c = this.#next();
      if (c === ']' && !first) return `${out}]`;
      if (c === '[') {
        out += this.#class(ignore, depth + 1);
        continue;
      }
      const from = c === '\\' ? this.#escape(true) : member(c);
      if (this.text[this.#at] === '-' && this.text[this.#at + 1] !== ']' && !/^(\[|\\[pP])/.test(from)) {
        this.#at++;
        const d = this.#next();
        const to = d === '\\' ? this.#escape(true) : member(d);
        out += ignore ? this.#rangeOfEitherCase(from, to) : `${from}-${to}`;
      } else out += ignore && /^[A-Za-z]$/.test(from) ? casesOf(from) : from;
    }
  }

  #rangeOfEitherCase(from: string, to: string): string {
    const both = /^[a-z]$/.test(from) && /^[a-z]$/.test(to);
    return both ? `${from}-${to}${from.toUpperCase()}-${to.toUpperCase()}` : `${from}-${to}`;
  }

  #eitherCase(c: string): string {
    if (/^[A-Za-z]$/.test(c)) return `[${casesOf(c)}]`;
    if (c.toLowerCase() !== c.toUpperCase()) throw this.bad(`has '${c}' in either case, which is not known`);
    return literal(c);
  }
}

/** Both cases of an ASCII letter, and what folds to it: U+017F is an s, U+212A a k. */
const casesOf = (c: string): string =>
  `${c.toLowerCase()}${c.toUpperCase()}${/s/i.test(c) ? '\\u017f' : /k/i.test(c) ? '\\u212a' : ''}`;
const literal = (c: string): string => (/[\\^$.*+?()[\]{}|/]/.test(c) ? `\\${c}` : c);
const member = (c: string): string => (CLASS_SYNTAX.test(c) ? `\\${c}` : c);
