/**
 * How many guessed tokens a step should verify for one sequence. Verifying costs a row of the step for each; a guess that is
 * accepted saves a whole step. The chance that the k-th token of a guess is right is taken to be p^k, with p learned from
 * this sequence: also from guesses that nobody verified, since what was drawn tells whether they would have been right. So a
 * text that cannot be guessed costs no row at all, and one that begins to repeat itself is noticed at once.
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
   * Tokens to verify: as long as the chance that the next one is accepted too is worth more than its row.
   * `rowCost`: milliseconds of one row more; `tokenCost`: milliseconds that a token costs without guessing.
   */
  length(match: number, rowCost: number, tokenCost: number): number {
    const p = this.chance(match);
    const worth = rowCost / tokenCost;
    if (!(p > worth) || !(worth >= 0)) return 0;
    // with p^k > worth the k-th token pays for its row
    const k = worth <= 0 || p >= 1 ? MAX_DRAFT : Math.floor(Math.log(worth) / Math.log(p));
    return Math.max(0, Math.min(MAX_DRAFT, k));
  }

  /** Milliseconds that verifying so many tokens promises to save. */
  gain(match: number, length: number, rowCost: number, tokenCost: number): number {
    if (length === 0) return 0;
    const p = this.chance(match);
    let accepted = 0;
    for (let k = 1, all = p; k <= length; k++, all *= p) accepted += all;
    return accepted * tokenCost - length * rowCost;
  }

  #classOf(match: number): number {
    return Math.min(this.#p.length - 1, Math.max(0, 30 - Math.clz32(match)));
  }
}
