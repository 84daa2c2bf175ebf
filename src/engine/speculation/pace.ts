/**
 * How many guessed tokens a step should verify for one sequence. Verifying costs a row of the step for each; a guess that is
 * accepted saves a whole step. Guesses are of classes, and the chance that one is right is learned by its class from this
 * sequence. Guesses that nobody verified teach too, since what was drawn tells whether they would have been right: so a text
 * that cannot be guessed costs no row at all, and one that begins to repeat itself is noticed at once.
 */

/** Rows more than this for one sequence are never worth it. */
export const MAX_DRAFT = 24;
/** Weight of the newest token. */
const LEARN = 0.1;

export class Pace {
  readonly #p: Float64Array;

  /** `prior`: chance of each class before anything is known. */
  constructor(prior: readonly number[]) {
    this.#p = Float64Array.from(prior);
  }

  /** The next token of a guess of this class was right or wrong. */
  learn(c: number, right: boolean): void {
    this.#p[c]! += LEARN * ((right ? 1 : 0) - this.#p[c]!);
  }

  /** Chance that the next token of such a guess is right. */
  chance(c: number): number {
    return this.#p[c]!;
  }

  /**
   * Tokens to verify: so many that the step gives the most tokens a millisecond. One more pays only if it is likelier to be
   * accepted than its row costs at the speed that the ones before it already give.
   * `classOf`: class of token k of the guess. `ms`: of a step with so many guesses (0: without); NaN where nothing is known.
   */
  length(classOf: (k: number) => number, ms: (guesses: number) => number): number {
    let tokens = 1;
    let all = 1;
    for (let k = 0; k < MAX_DRAFT; k++) {
      all *= this.chance(classOf(k));
      if (!((tokens + all) * ms(k) > tokens * ms(k + 1))) return k;
      tokens += all;
    }
    return MAX_DRAFT;
  }

  /** Tokens a millisecond that a step with so many guesses promises. */
  rate(classOf: (k: number) => number, guesses: number, ms: (guesses: number) => number): number {
    return (1 + this.expected(classOf, guesses)) / ms(guesses);
  }

  /** How many of so many guesses will be accepted, on average. */
  expected(classOf: (k: number) => number, guesses: number): number {
    let tokens = 0;
    for (let k = 0, all = 1; k < guesses; k++) {
      all *= this.chance(classOf(k));
      tokens += all;
    }
    return tokens;
  }
}
