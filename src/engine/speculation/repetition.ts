/**
 * Guesses the next tokens of a sequence from its own earlier ones: where the text repeats what stands before it (code that
 * is edited, facts copied from a document), and where it fills in a form that stands before it (records of one shape, rows of a
 * table), whose gaps hold something else each time. Two places may tell what comes next, and the likelier one is taken:
 *
 * - *context*: where the last tokens stood before;
 * - *aligned*: in a gap (the form was followed and then left), behind the place of the form that has the last token: one token
 *   is enough to know where the gap ended.
 *
 * How likely each is to be right is learned from this text, by the length of the match and by what had been said where the
 * guess comes from: a token that was guessed rightly there belongs to the form, one that was guessed wrongly to a gap.
 */
import { Lookup } from './lookup.js';
import { MAX_DRAFT, Pace } from './pace.js';

/** What had been guessed for a token before it was known. */
const NOTHING = 0;
const RIGHT = 1;
const WRONG = 2;
const SAID = 3;

/** Classes of guesses: context by length of the match (up to 3, 7, 15 tokens, longer), aligned; each by what was said. */
const LENGTHS = 4;
const CONTEXT = 0;
const ALIGNED = LENGTHS * SAID;

/** Chances before anything is known: long matches are trusted, short ones and gaps have to prove themselves. */
const PRIOR = [...[0.15, 0.4, 0.65, 0.8].flatMap((p) => [p, p + 0.15 * (1 - p), 0.4 * p]), ...[0.5, 0.7, 0.2]];

/** A match of so many tokens is a form: when the text leaves it, a gap begins. */
const FORM = 3;
/** One more tells alone where the text is. */
const CERTAIN = 4;
/** Tokens that a gap may have, here and in the form. */
const GAP = 16;

export class Repetition {
  readonly #lookup = new Lookup();
  readonly #pace = new Pace(PRIOR);
  /** (tokens) NOTHING, RIGHT or WRONG. */
  #said = new Uint8Array(256);
  /** Where the guess is taken from, or -1; its kind (first of its classes), and the length of its match. */
  #at = -1;
  #kind = CONTEXT;
  #match = 0;
  /** Where the form was left, or -1, and the tokens since then. */
  #left = -1;
  #gap = 0;

  get length(): number {
    return this.#lookup.length;
  }

  /** The text goes on; nothing is learned from tokens before `learn`, an index of `tokens`. */
  append(tokens: ArrayLike<number>, learn: number): void {
    if (learn > 0) {
      this.#lookup.append(tokens, 0, learn);
      this.#left = -1;
      this.#look();
    }
    for (let i = learn; i < tokens.length; i++) this.follow(tokens[i]!);
  }

  /** The text goes on with this token: what would have been guessed was right or wrong. */
  follow(token: number): void {
    const said = this.#judge(token);
    const index = this.#lookup.length;
    this.#lookup.append([token]);
    if (index >= this.#said.length) {
      const bigger = new Uint8Array(2 * index);
      bigger.set(this.#said);
      this.#said = bigger;
    }
    this.#said[index] = said;
    this.#look();
    if (this.#left < 0) return;
    this.#gap++;
    if (this.#gap > GAP || (this.#kind === CONTEXT && this.#match >= CERTAIN)) this.#left = -1;
  }

  /** Tokens that are worth verifying; `ms`: of a step with so many guesses. */
  worth(ms: (guesses: number) => number): number {
    return this.#at < 0 ? 0 : this.#pace.length(this.#classOf, ms);
  }

  /** Chance that token k of the guess is right if those before it are; 0 where there is none. */
  chance(k: number): number {
    return this.#at < 0 ? 0 : this.#pace.chance(this.#classOf(k));
  }

  /** Tokens a millisecond that a step with so many of its guesses promises. */
  rate(guesses: number, ms: (guesses: number) => number): number {
    return this.#pace.rate(this.#classOf, guesses, ms);
  }

  /** Writes the next `count` tokens (at most MAX_DRAFT) to out. Returns how many: 0 where there is no guess. */
  propose(count: number, out: Int32Array): number {
    if (this.#at < 0) return 0;
    for (let k = 0; k < Math.min(count, MAX_DRAFT); k++) out[k] = this.#guessed(k);
    return Math.min(count, MAX_DRAFT);
  }

  #guessed(k: number): number {
    return this.#lookup.token(this.#lookup.place(this.#at, k));
  }

  /** Class of token `k` of the guess. The second token of a match has the chance of one that is longer by one. */
  readonly #classOf = (k: number): number => {
    const said = this.#saidAt(this.#lookup.place(this.#at, k));
    if (this.#kind === ALIGNED) return ALIGNED + said;
    return SAID * Math.min(LENGTHS - 1, Math.max(0, 30 - Math.clz32(this.#match + k))) + said;
  };

  #saidAt(index: number): number {
    return this.#said[index] ?? NOTHING;
  }

  /** What was said of the next token, now that it is known. */
  #judge(token: number): number {
    const at = this.#at;
    if (at < 0) return NOTHING;
    const right = this.#guessed(0) === token;
    this.#pace.learn(this.#classOf(0), right);
    if (this.#kind === CONTEXT) {
      if (right) this.#left = -1;
      else if (this.#match >= FORM) {
        this.#left = at;
        this.#gap = 0;
      }
    } else this.#left = right ? at + 1 : at;
    return right ? RIGHT : WRONG;
  }

  /** Chooses the place that is likelier to tell the next token. */
  #look(): void {
    this.#at = -1;
    this.#match = this.#lookup.find();
    this.#kind = CONTEXT;
    let chance = 0;
    if (this.#match > 0) {
      this.#at = this.#lookup.at;
      chance = this.#pace.chance(this.#classOf(0));
    }
    if (this.#left < 0) return;
    const found = this.#lookup.findLast(this.#left, Math.min(this.#left + GAP, this.#lookup.length - 1));
    if (found < 0 || this.#pace.chance(ALIGNED + this.#saidAt(found + 1)) <= chance) return;
    this.#at = found + 1;
    this.#match = 1;
    this.#kind = ALIGNED;
  }
}
