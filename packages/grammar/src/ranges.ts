/** Sets of Unicode scalar values as sorted, disjoint, inclusive ranges [lo, hi]; and how UTF-8 spells them. */

export type Range = readonly [lo: number, hi: number];

/** Every scalar value: surrogates are none. */
export const ALL: readonly Range[] = [
  [0, 0xd7ff],
  [0xe000, 0x10ffff],
];

/** Sorted, merged, without surrogates. */
export function normalise(ranges: readonly Range[]): Range[] {
  const sorted = ranges
    .flatMap(([lo, hi]): Range[] => [
      [lo, Math.min(hi, 0xd7ff)],
      [Math.max(lo, 0xe000), hi],
    ])
    .filter(([lo, hi]) => lo <= hi)
    .sort((a, b) => a[0] - b[0]);
  const out: [number, number][] = [];
  for (const [lo, hi] of sorted) {
    const last = out.at(-1);
    if (last && lo <= last[1] + 1 && !(last[1] === 0xd7ff && lo === 0xe000)) last[1] = Math.max(last[1], hi);
    else out.push([lo, hi]);
  }
  return out;
}

export function negate(ranges: readonly Range[]): Range[] {
  const out: Range[] = [];
  let from = 0;
  for (const [lo, hi] of normalise(ranges)) {
    if (lo > from) out.push([from, lo - 1]);
    from = hi + 1;
  }
  if (from <= 0x10ffff) out.push([from, 0x10ffff]);
  return normalise(out);
}

const LENGTH_ENDS = [0x7f, 0x7ff, 0xffff, 0x10ffff];

function bytesOf(c: number): number[] {
  if (c < 0x80) return [c];
  if (c < 0x800) return [0xc0 | (c >> 6), 0x80 | (c & 63)];
  if (c < 0x10000) return [0xe0 | (c >> 12), 0x80 | ((c >> 6) & 63), 0x80 | (c & 63)];
  return [0xf0 | (c >> 18), 0x80 | ((c >> 12) & 63), 0x80 | ((c >> 6) & 63), 0x80 | (c & 63)];
}

/** Sequences of byte ranges that spell exactly the scalar values lo … hi (which must hold no surrogate). */
export function utf8Sequences(lo: number, hi: number): Range[][] {
  for (const end of LENGTH_ENDS) {
    if (lo <= end && hi > end) return [...utf8Sequences(lo, end), ...utf8Sequences(end + 1, hi)];
  }
  if (hi < 0x80) return [[[lo, hi]]];
  // split until all trailing bytes but a common prefix cover their whole range
  for (let bits = 6; bits < 21; bits += 6) {
    const m = (1 << bits) - 1;
    if ((lo & ~m) !== (hi & ~m)) {
      if ((lo & m) !== 0) return [...utf8Sequences(lo, lo | m), ...utf8Sequences((lo | m) + 1, hi)];
      if ((hi & m) !== m) return [...utf8Sequences(lo, (hi & ~m) - 1), ...utf8Sequences(hi & ~m, hi)];
    }
  }
  const a = bytesOf(lo);
  const b = bytesOf(hi);
  return [a.map((byte, i): Range => [byte, b[i]])];
}
