/**
 * How many guessed tokens a step should verify for one sequence. Verifying costs a row of the step for each; a guess that is
 * accepted saves a whole step. The chance that a guess is right is learned from this sequence by the length of the match it
 * was made with; its second token has the chance of a match one longer, and so on. Guesses that nobody verified teach too,
 * since what was drawn tells whether they would have been right: so a text that cannot be guessed costs no row at all, and
 * one that begins to repeat itself is noticed at once.
 */

/** Rows more than this for one sequence are never worth it. */
export const MAX_DRAFT = 24;
/** Weight of the newest token. */
const LEARN = 0.15;
/**
 * Matches are told apart by length: up to 3, 7, 15 tokens, longer. Taken of a sequence of which nothing is known yet: long
 * ones are trusted, short ones have to prove themselves.
 */
const PRIOR = [0.15, 0.4, 0.65, 0.8];

export class Pace {
  readonly #p: Float64Array;

  /** `prior`: chance of each class of matches before anything is known; one is enough where the guesses are all of a kind. */
  constructor(prior: readonly number[] = PRIOR) {
    this.#p = Float64Array.from(prior);
  }

  /** A guess made with a match of `match` tokens was right or wrong in its next token. */
  learn(match: number, right: boolean): void {
    const c = this.#classOf(match);
    this.#p[c]! += LEARN * ((right ? 1 : 0) - this.#p[c]!);
  }

  /** Chance that the next token of such a guess is right. */
  chance(match: number): number {
    return this.#p[this.#classOf(match)]!;
  }

  /**
   * Tokens to verify: so many that the step gives the most tokens a millisecond. One more pays only if it is likelier to be
   * accepted than its row costs at the speed that the ones before it already give.
   * `ms`: of a step with so many guesses (0: without); NaN where nothing is known.
   */
  length(match: number, ms: (guesses: number) => number): number {
    let tokens = 1;
    let all = 1;
    for (let k = 0; k < MAX_DRAFT; k++) {
      all *= this.chance(match + k);
      if (!((tokens + all) * ms(k) > tokens * ms(k + 1))) return k;
      tokens += all;
    }
    return MAX_DRAFT;
  }

  /** Tokens a millisecond that a step with so many guesses promises. */
  rate(match: number, guesses: number, ms: (guesses: number) => number): number {
    let tokens = 1;
    for (let k = 0, all = 1; k < guesses; k++) {
      all *= this.chance(match + k);
      tokens += all;
    }
    return tokens / ms(guesses);
  }

  #classOf(match: number): number {
    return Math.min(this.#p.length - 1, Math.max(0, 30 - Math.clz32(match)));
  }
}
