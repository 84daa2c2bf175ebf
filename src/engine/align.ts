/**
 * Finds out how much of a kept conversation a new prompt repeats. A client sends its history as text, and the same text may
 * be cut into other tokens than the model had generated; so tokens are compared by the bytes they stand for. Special
 * tokens stand for themselves: text that merely spells one is different.
 */

import type { TokenBytes } from '../types.js';

export interface Alignment {
  /** Leading kept tokens that stay. */
  keep: number;
  /** Tokens of the prompt from here on follow them. */
  from: number;
}

/** Longest beginning of `kept` that spells a beginning of `prompt` and ends on a token boundary of both. */
export function alignHistory(kept: ArrayLike<number>, prompt: ArrayLike<number>, table: TokenBytes): Alignment {
  let i = 0;
  let j = 0;
  while (i < kept.length && j < prompt.length && kept[i] === prompt[j]) {
    i++;
    j++;
  }
  let keep = i;
  let from = j;
  // from the first difference on: walk both byte streams, note every place where both tokens end
  let a = 0; // bytes of kept[i] consumed
  let b = 0;
  while (i < kept.length && j < prompt.length) {
    const s = kept[i]!;
    const t = prompt[j]!;
    if (table.special[s] || table.special[t]) {
      if (s !== t || a > 0 || b > 0) break;
      i++;
      j++;
    } else {
      const endS = table.offsets[s + 1]! - table.offsets[s]!;
      const endT = table.offsets[t + 1]! - table.offsets[t]!;
      while (a < endS && b < endT && table.bytes[table.offsets[s]! + a] === table.bytes[table.offsets[t]! + b]) {
        a++;
        b++;
      }
      if (a < endS && b < endT) break;
      if (a === endS) {
        i++;
        a = 0;
      }
      if (b === endT) {
        j++;
        b = 0;
      }
    }
    if (a === 0 && b === 0) {
      keep = i;
      from = j;
    }
  }
  return { keep, from };
}
