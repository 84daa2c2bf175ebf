/** Text that ends where a mark begins. */
import type { GrammarBuilder } from './builder.js';
import { invariant } from './errors.js';
import { wideCharacters } from './shared.js';

/** A state that allows at most one line break or space before `to`. */
export function gap(b: GrammarBuilder, to: number): number {
  const s = b.state(false, to);
  b.edge(s, 0x0a, 0x0a, to);
  b.edge(s, 0x20, 0x20, to);
  return s;
}

/**
 * Any text in which `mark` is found wherever it appears, and leads to `found`. Returns the states in which a character may begin, the
 * first one first; `state` makes them. Where the mark has a character above 0x7f, others with the same first byte are left out.
 */
export function textUntil(b: GrammarBuilder, mark: string, found: number, state: () => number): number[] {
  const bytes = Buffer.from(mark, 'utf8');
  const first = bytes[0];
  // so a mismatch falls back to nothing matched, or to the first byte
  invariant(first < 0x80 && bytes.lastIndexOf(first) === 0, `'${mark}' cannot be looked for`);
  const begins = [...bytes].map((byte) => (byte & 0xc0) !== 0x80);
  const matched = begins.map((begin) => (begin ? state() : b.state()));
  matched.forEach((s, i) => {
    const want = bytes[i];
    b.edge(s, want, want, i + 1 === bytes.length ? found : matched[i + 1]);
    if (!begins[i]) return;
    // the other characters of one byte, in order
    const others = i === 0 || want >= 0x80 ? [first] : [Math.min(want, first), Math.max(want, first)];
    let from = 0;
    for (const taken of [...others, 0x80]) {
      if (from < taken) b.edge(s, from, taken - 1, matched[0]);
      from = taken + 1;
    }
    if (i > 0) b.edge(s, first, first, matched[1] ?? found);
    if (want >= 0x80) wideCharacters(b, [s], matched[0], undefined, want);
  });
  wideCharacters(
    b,
    matched.filter((_, i) => begins[i] && bytes[i] < 0x80),
    matched[0],
  );
  return matched.filter((_, i) => begins[i]);
}
