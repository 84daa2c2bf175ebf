/** The states that every grammar begins with, in the same order: whatever is learned about them serves all grammars. */
import type { GrammarBuilder } from './builder.js';
import { EDGE_CHAR, EDGE_CLOSE, EDGE_PLAIN } from './types.js';

/** Deepest indentation of one line, in spaces or tabs. */
const MAX_INDENT = 32;
/** Digits of a number without bounds. */
const WHOLE_DIGITS = 24;
const FRACTION_DIGITS = 24;

export interface Shared {
  /** Final, no way on: where strings, arrays, objects and literals end. */
  end: number;
  /** After the opening quote of a string whose content is free. */
  body: number;
  /** Rules: a free string, a line break with indentation. */
  string: number;
  indent: number;
  /** Start state of a string that counts its characters. */
  counted: number;
  /** Start states of the three literals. */
  nothing: number;
  truthy: number;
  falsy: number;
  /** Start state of a number, of an integer. */
  numberStart: number;
  integerStart: number;
  stringStart: number;
}

/** How the three literals are spelled. */
export interface Literals {
  nothing: string;
  truthy: string;
  falsy: string;
}

export const JSON_LITERALS: Literals = { nothing: 'null', truthy: 'true', falsy: 'false' };

export function buildShared(b: GrammarBuilder, literals: Literals): Shared {
  const end = b.state(true);
  const free = stringStates(b, end, false);
  const counted = stringStates(b, end, true);
  const literal = (text: string) => {
    const start = b.state();
    b.spell(start, text, end);
    return start;
  };
  const indentStart = b.state();
  let line = b.state(true);
  b.edge(indentStart, 0x0a, 0x0a, line);
  for (let i = 0; i < MAX_INDENT; i++) {
    const next = b.state(true);
    b.edge(line, 0x20, 0x20, next);
    b.edge(line, 0x09, 0x09, next);
    line = next;
  }
  const integerStart = freeNumber(b, false);
  const numberStart = freeNumber(b, true);
  const rule = (start: number) => {
    const r = b.rule();
    b.begin(r, start);
    return r;
  };
  return {
    end,
    body: free.body,
    string: rule(free.start),
    indent: rule(indentStart),
    counted: counted.start,
    nothing: literal(literals.nothing),
    truthy: literal(literals.truthy),
    falsy: literal(literals.falsy),
    numberStart,
    integerStart,
    stringStart: free.start,
  };
}

/**
 * A JSON string: well-formed UTF-8 and all escapes; a surrogate escape only as half of a pair, so that the text is
 * well-formed too. With `counted`, each character lowers the counters.
 */
function stringStates(b: GrammarBuilder, end: number, counted: boolean): { start: number; body: number } {
  const first = counted ? EDGE_CHAR : EDGE_PLAIN;
  const start = b.state();
  const body = b.state();
  b.edge(start, 0x22, 0x22, body);
  b.edge(body, 0x22, 0x22, end, counted ? EDGE_CLOSE : EDGE_PLAIN);
  b.edge(body, 0x20, 0x21, body, first);
  b.edge(body, 0x23, 0x5b, body, first);
  b.edge(body, 0x5d, 0x7f, body, first);
  wideCharacters(b, [body], body, first);
  const backslash = b.state();
  b.edge(body, 0x5c, 0x5c, backslash, first);
  for (const c of '"\\/bfnrt') b.edge(backslash, c.charCodeAt(0), c.charCodeAt(0), body);
  escapedUnit(b, backslash, body);
  return { start, body };
}

/**
 * Characters above 0x7f, well-formed (Unicode table 3-7), from each of `from` to `to`; `flag` on their first byte. Those whose
 * first byte is `except` are left out.
 */
export function wideCharacters(
  b: GrammarBuilder,
  from: readonly number[],
  to: number,
  flag: number = EDGE_PLAIN,
  except = -1,
): void {
  const tail = [to];
  for (let i = 1; i < 4; i++) {
    tail.push(b.state());
    b.edge(tail[i], 0x80, 0xbf, tail[i - 1]);
  }
  const lead = (lo: number, hi: number, next: number) => {
    if (lo <= except && except <= hi) {
      if (lo < except) lead(lo, except - 1, next);
      if (except < hi) lead(except + 1, hi, next);
    } else for (const s of from) b.edge(s, lo, hi, next, flag);
  };
  const second = (lo: number, hi: number, next: number) => {
    const s = b.state();
    b.edge(s, lo, hi, next);
    return s;
  };
  lead(0xc2, 0xdf, tail[1]);
  lead(0xe0, 0xe0, second(0xa0, 0xbf, tail[1]));
  lead(0xe1, 0xec, tail[2]);
  lead(0xed, 0xed, second(0x80, 0x9f, tail[1]));
  lead(0xee, 0xef, tail[2]);
  lead(0xf0, 0xf0, second(0x90, 0xbf, tail[2]));
  lead(0xf1, 0xf3, tail[3]);
  lead(0xf4, 0xf4, second(0x80, 0x8f, tail[2]));
}

function hexEdges(b: GrammarBuilder, from: number, lo: number, hi: number, to: number): void {
  const edge = (a: number, z: number, base: number) => {
    const from2 = Math.max(lo, a);
    const to2 = Math.min(hi, z);
    if (from2 <= to2) b.edge(from, base + from2 - a, base + to2 - a, to);
  };
  edge(0, 9, 0x30);
  edge(10, 15, 0x41);
  edge(10, 15, 0x61);
}

/** `u` and four hex digits; two surrogates in a row are one character. */
function escapedUnit(b: GrammarBuilder, backslash: number, body: number): void {
  const u = b.state();
  b.edge(backslash, 0x75, 0x75, u);
  const hex = (to: number) => {
    const s = b.state();
    hexEdges(b, s, 0, 15, to);
    return s;
  };
  const last1 = hex(body);
  const last2 = hex(last1);
  const last3 = hex(last2);
  hexEdges(b, u, 0, 12, last3);
  hexEdges(b, u, 14, 15, last3);
  const d = b.state();
  hexEdges(b, u, 13, 13, d);
  hexEdges(b, d, 0, 7, last2);
  // high surrogate: two more digits, then \uDC00 … \uDFFF
  const low = b.state();
  hexEdges(b, low, 12, 15, last2);
  const lowD = b.state();
  hexEdges(b, lowD, 13, 13, low);
  const lowU = b.state();
  b.edge(lowU, 0x75, 0x75, lowD);
  const slash = b.state();
  b.edge(slash, 0x5c, 0x5c, lowU);
  hexEdges(b, d, 8, 11, hex(hex(slash)));
}

/**
 * A number whose digits are bounded. Exponents only after one digit (-)d(.d…)e±x with x ≤ 307, so that no double overflows.
 */
function freeNumber(b: GrammarBuilder, real: boolean): number {
  const start = b.state();
  const unsigned = b.state();
  b.also(start, unsigned);
  b.edge(start, 0x2d, 0x2d, unsigned);
  const exponent = real ? exponentStates(b) : -1;
  const withExponent = (s: number) => {
    if (!real) return;
    b.edge(s, 0x45, 0x45, exponent);
    b.edge(s, 0x65, 0x65, exponent);
  };
  /** After a point: digits, then perhaps an exponent. */
  const fraction = (mayScale: boolean) => {
    const point = b.state();
    let at = point;
    for (let i = 0; i < FRACTION_DIGITS; i++) {
      const next = b.state(true);
      b.edge(at, 0x30, 0x39, next);
      if (mayScale) withExponent(next);
      at = next;
    }
    return point;
  };
  const short = real ? fraction(true) : -1;
  const long = real ? fraction(false) : -1;
  const zero = b.state(true);
  b.edge(unsigned, 0x30, 0x30, zero);
  let at = b.state(true);
  b.edge(unsigned, 0x31, 0x39, at);
  if (real) {
    for (const s of [zero, at]) {
      b.edge(s, 0x2e, 0x2e, short);
      withExponent(s);
    }
  }
  for (let i = 1; i < WHOLE_DIGITS; i++) {
    const next = b.state(true);
    b.edge(at, 0x30, 0x39, next);
    if (real) b.edge(next, 0x2e, 0x2e, long);
    at = next;
  }
  return start;
}

function exponentStates(b: GrammarBuilder): number {
  const start = b.state();
  const digits = b.state();
  b.edge(start, 0x2b, 0x2b, digits);
  b.edge(start, 0x2d, 0x2d, digits);
  b.also(start, digits);
  const last = b.state(true);
  const two = b.state(true);
  b.edge(two, 0x30, 0x39, last);
  const lowTwo = b.state(true);
  b.edge(lowTwo, 0x30, 0x39, two);
  b.edge(digits, 0x30, 0x32, lowTwo); // up to 299
  b.edge(digits, 0x34, 0x39, two); // up to 99
  const three = b.state(true);
  b.edge(digits, 0x33, 0x33, three);
  const thirty = b.state(true);
  b.edge(three, 0x30, 0x30, thirty);
  b.edge(three, 0x31, 0x39, last); // 31 to 39
  b.edge(thirty, 0x30, 0x37, last); // 300 to 307
  return start;
}
