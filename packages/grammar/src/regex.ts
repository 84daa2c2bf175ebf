/** Reads the regular part of ECMA-262 patterns (with the `u` flag, as JSON Schema asks). What is not regular is refused by name. */
import { negate, normalise, type Range } from './ranges.js';

export type Regex =
  | { kind: 'set'; ranges: Range[] }
  | { kind: 'cat'; items: Regex[] }
  | { kind: 'or'; items: Regex[] }
  | { kind: 'repeat'; item: Regex; min: number; max: number }
  | { kind: 'start' }
  | { kind: 'end' };

/** Why a pattern cannot be used. */
export class PatternError extends Error {}

const DIGIT: Range[] = [[0x30, 0x39]];
const WORD: Range[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
const SPACE: Range[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const LINE_ENDS: Range[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const CONTROL: Record<string, number> = { n: 10, r: 13, t: 9, v: 11, f: 12, '0': 0 };
const MAX_NESTING = 100;

export function parsePattern(source: string): Regex {
  try {
    new RegExp(source, 'u');
  } catch (e) {
    throw new PatternError(`it is not a regular expression (${(e as Error).message})`);
  }
  return new PatternReader(source).read();
}

class PatternReader {
  private readonly chars: string[];
  private at = 0;
  private nesting = 0;

  constructor(source: string) {
    this.chars = Array.from(source);
  }

  read(): Regex {
    const all = this.alternatives();
    if (this.at < this.chars.length) throw new PatternError(`unexpected '${this.chars[this.at]}'`);
    return all;
  }

  private peek(): string | undefined {
    return this.chars[this.at];
  }

  private take(text: string): boolean {
    if (!this.chars.slice(this.at, this.at + text.length).every((c, i) => c === text[i])) return false;
    if (this.at + text.length > this.chars.length) return false;
    this.at += text.length;
    return true;
  }

  private alternatives(): Regex {
    if (++this.nesting > MAX_NESTING) throw new PatternError(`groups nest deeper than ${MAX_NESTING}`);
    const items = [this.sequence()];
    while (this.take('|')) items.push(this.sequence());
    this.nesting--;
    return items.length === 1 ? items[0] : { kind: 'or', items };
  }

  private sequence(): Regex {
    const items: Regex[] = [];
    for (let c = this.peek(); c !== undefined && c !== '|' && c !== ')'; c = this.peek()) {
      items.push(this.quantified(this.atom()));
    }
    return { kind: 'cat', items };
  }

  private quantified(item: Regex): Regex {
    const c = this.peek();
    let min = 1;
    let max = 1;
    if (c === '*' || c === '+' || c === '?') {
      this.at++;
      min = c === '+' ? 1 : 0;
      max = c === '?' ? 1 : Number.POSITIVE_INFINITY;
    } else if (c === '{') {
      this.at++;
      min = this.number();
      max = this.take(',') ? (this.peek() === '}' ? Number.POSITIVE_INFINITY : this.number()) : min;
      this.take('}');
    } else return item;
    this.take('?'); // lazy or greedy: the same strings match
    return { kind: 'repeat', item, min, max };
  }

  private number(): number {
    let digits = '';
    for (let c = this.peek(); c !== undefined && c >= '0' && c <= '9'; c = this.peek()) {
      digits += c;
      this.at++;
    }
    return Number(digits);
  }

  private atom(): Regex {
    const c = this.chars[this.at++];
    if (c === '^') return { kind: 'start' };
    if (c === '$') return { kind: 'end' };
    if (c === '.') return { kind: 'set', ranges: negate(LINE_ENDS) };
    if (c === '[') return { kind: 'set', ranges: this.charClass() };
    if (c === '(') return this.group();
    if (c === '\\') {
      const next = this.peek();
      if (next === 'b' || next === 'B') throw new PatternError(`word boundaries (\\${next}) are not supported`);
      if ((next !== undefined && next >= '1' && next <= '9') || next === 'k') {
        throw new PatternError('back references are not supported');
      }
      return { kind: 'set', ranges: this.escape() };
    }
    return { kind: 'set', ranges: single(c.codePointAt(0) as number) };
  }

  private group(): Regex {
    if (this.take('?:')) {
      // not captured; nothing is
    } else if (this.take('?<=') || this.take('?<!') || this.take('?=') || this.take('?!')) {
      throw new PatternError('look-ahead and look-behind are not supported');
    } else if (this.take('?<')) {
      while (this.chars[this.at++] !== '>');
    } else if (this.peek() === '?') {
      throw new PatternError('this kind of group is not supported');
    }
    const inner = this.alternatives();
    if (!this.take(')')) throw new PatternError('a group is not closed');
    return inner;
  }

  /** After a backslash: the set of one escape. */
  private escape(): Range[] {
    const c = this.chars[this.at++];
    const lower = c.toLowerCase();
    if (lower === 'd' || lower === 'w' || lower === 's') {
      const ranges = lower === 'd' ? DIGIT : lower === 'w' ? WORD : SPACE;
      return c === lower ? ranges : negate(ranges);
    }
    if (c === 'p' || c === 'P') throw new PatternError(`Unicode properties (\\${c}) are not supported`);
    if (c in CONTROL) return single(CONTROL[c]);
    if (c === 'c') return single((this.chars[this.at++].codePointAt(0) as number) & 31);
    if (c === 'x') return single(this.hex(2));
    if (c === 'u') return single(this.unicode());
    return single(c.codePointAt(0) as number);
  }

  private hex(digits: number): number {
    const text = this.chars.slice(this.at, this.at + digits).join('');
    this.at += digits;
    return Number.parseInt(text, 16);
  }

  private unicode(): number {
    if (this.take('{')) {
      const end = this.chars.indexOf('}', this.at);
      const code = this.hex(end - this.at);
      this.at++;
      return code;
    }
    const high = this.hex(4);
    if (high >= 0xd800 && high < 0xdc00 && this.take('\\u')) {
      const low = this.hex(4);
      if (low >= 0xdc00 && low < 0xe000) return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    }
    if (high >= 0xd800 && high < 0xe000) throw new PatternError('lone surrogates are not supported');
    return high;
  }

  private charClass(): Range[] {
    const inverted = this.take('^');
    const ranges: Range[] = [];
    while (!this.take(']')) {
      const from = this.classAtom();
      if (this.peek() === '-' && this.chars[this.at + 1] !== ']' && isSingle(from)) {
        this.at++;
        const to = this.classAtom();
        ranges.push([from[0][0], to[0][0]]);
      } else ranges.push(...from);
    }
    return inverted ? negate(ranges) : normalise(ranges);
  }

  private classAtom(): Range[] {
    const c = this.chars[this.at++];
    if (c !== '\\') return single(c.codePointAt(0) as number);
    if (this.peek() === 'b') {
      this.at++;
      return single(8);
    }
    return this.escape();
  }
}

const single = (c: number): Range[] => [[c, c]];
const isSingle = (r: readonly Range[]) => r.length === 1 && r[0][0] === r[0][1];
