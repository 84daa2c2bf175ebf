/** Turns automata over characters into byte states of JSON strings. */
import type { GrammarBuilder } from './builder.js';
import { type Dfa, universalStates } from './dfa.js';
import { type Range, utf8Sequences } from './ranges.js';
import type { Shared } from './shared.js';

/** Control characters that have an escape of two characters, as JSON.stringify writes them. */
const SHORT: Readonly<Record<number, string>> = { 8: 'b', 9: 't', 10: 'n', 12: 'f', 13: 'r', 34: '"', 92: '\\' };
/** Characters that a JSON string may hold as themselves. */
const RAW: readonly Range[] = [
  [0x20, 0x21],
  [0x23, 0x5b],
  [0x5d, 0x10ffff],
];

/** Draws edges for ranges of characters; the states behind their first bytes are shared. */
export function characterEdges(b: GrammarBuilder) {
  const tails = new Map<string, number>();
  /** A state from which `rest` is read, ending in `to`. */
  const tail = (rest: readonly Range[], to: number): number => {
    if (rest.length === 0) return to;
    const key = `${rest.join(';')}>${to}`;
    const known = tails.get(key);
    if (known !== undefined) return known;
    const s = b.state();
    tails.set(key, s);
    b.edge(s, rest[0][0], rest[0][1], tail(rest.slice(1), to));
    return s;
  };
  return (from: number, [lo, hi]: Range, to: number, flag?: number): void => {
    for (const [first, ...rest] of utf8Sequences(lo, hi)) b.edge(from, first[0], first[1], tail(rest, to), flag);
  };
}

/**
 * Start state of a JSON string (from its opening quote) whose text `d` accepts. A text is spelled in one way only, the one
 * of JSON.stringify, except where anything may follow: there all escapes are allowed.
 */
export function stringOf(b: GrammarBuilder, shared: Shared, d: Dfa): number {
  const universal = universalStates(d);
  const ids = d.accept.map((_, s) => (universal[s] ? shared.body : b.state()));
  const characters = characterEdges(b);
  d.next.forEach((row, s) => {
    if (universal[s]) return;
    if (d.accept[s]) b.edge(ids[s], 0x22, 0x22, shared.end);
    let backslash = -1;
    let long = -1;
    const escaped = (c: number, to: number) => {
      if (backslash < 0) {
        backslash = b.state();
        b.edge(ids[s], 0x5c, 0x5c, backslash);
      }
      const short = SHORT[c];
      if (short !== undefined) {
        b.edge(backslash, short.charCodeAt(0), short.charCodeAt(0), to);
        return;
      }
      if (long < 0) long = b.spell(backslash, 'u00');
      b.spell(long, c.toString(16).padStart(2, '0'), to);
    };
    for (const [lo, hi, t] of row) {
      for (let c = lo; c <= Math.min(hi, 0x1f); c++) escaped(c, ids[t]);
      for (const c of [0x22, 0x5c]) if (lo <= c && c <= hi) escaped(c, ids[t]);
      for (const [rawLo, rawHi] of RAW) {
        const from = Math.max(lo, rawLo);
        const to = Math.min(hi, rawHi);
        if (from <= to) characters(ids[s], [from, to], ids[t]);
      }
    }
  });
  const start = b.state();
  b.edge(start, 0x22, 0x22, ids[0]);
  return start;
}

/** False if the text holds half a surrogate pair. */
export function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}
