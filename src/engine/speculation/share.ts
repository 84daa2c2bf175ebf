/**
 * Which sequences of a step verify how many guesses. What a row more costs depends on how many the step has, and no kernel's time is
 * a straight line, so it is decided for all of them together: the likeliest guess of any of them first, as long as the step
 * gives more tokens a millisecond.
 */

/** A step with guesses must promise so many times the tokens a millisecond of one without: costs are not known better. */
const LEAST_GAIN = 1.05;

/** A sequence's guesses. */
export interface Chain {
  /** Tokens that may be verified. */
  most: number;
  /** Chance that token k is right if those before it are. */
  chance: (k: number) => number;
}

/**
 * Guesses for each chain, `most` in all at most.
 * `tokens`: what the step gives without them. `ms`: of the step with so many of them; NaN where nothing is known.
 */
export function shareGuesses(
  chains: readonly Chain[],
  most: number,
  tokens: number,
  ms: (guesses: number) => number,
): number[] {
  const counts = chains.map(() => 0);
  const all = chains.map((c) => (c.most > 0 ? c.chance(0) : 0));
  const order: number[] = [];
  let given = tokens;
  let best = 0;
  let rate = (LEAST_GAIN * tokens) / ms(0);
  // time goes up by jumps (tiles of rows): looked for as far as one more for each
  for (let n = 1; n <= most && n <= best + chains.length; n++) {
    const i = likeliest(all);
    if (!(all[i]! > 0)) break;
    given += all[i]!;
    order.push(i);
    const next = ++counts[i]!;
    all[i] = next < chains[i]!.most ? all[i]! * chains[i]!.chance(next) : 0;
    if (!(given / ms(n) > rate)) continue;
    rate = given / ms(n);
    best = n;
  }
  counts.fill(0);
  for (const i of order.slice(0, best)) counts[i]!++;
  return counts;
}

function likeliest(all: readonly number[]): number {
  let best = 0;
  for (let i = 1; i < all.length; i++) if (all[i]! > all[best]!) best = i;
  return best;
}
