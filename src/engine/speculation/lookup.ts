/**
 * Guesses the next tokens of a sequence from its own earlier ones: where the text repeats what stands before it (code that
 * is edited, facts copied from a document, JSON of the same shape), what followed then is likely to follow now.
 *
 * Found as deflate finds matches: hash chains over all runs of MIN_MATCH tokens, the longest match among the latest
 * candidates wins, the later one of two equals. 8 bytes a token and O(1) for each token added.
 */

/** Shorter repetitions say nothing. */
export const MIN_MATCH = 2;
/** Longer ones say no more. */
export const MAX_MATCH = 32;
/** Earlier occurrences that are compared. */
const CANDIDATES = 8;

export class Lookup {
  #tokens = new Int32Array(256);
  /** (tokens) the occurrence before this one of the run that ends here, or -1. */
  #previous = new Int32Array(256);
  /** (power of two) last end of a run with this hash, or -1. */
  #last = new Int32Array(512).fill(-1);
  #length = 0;
  /** Where the text went on after the match; set by `find`. */
  #at = -1;

  get length(): number {
    return this.#length;
  }

  /** Adds tokens[from … to). */
  append(tokens: ArrayLike<number>, from = 0, to = tokens.length): void {
    this.#ensure(this.#length + to - from);
    for (let i = from; i < to; i++) this.#add(tokens[i]!);
  }

  /** Tokens that the end of the text shares with an earlier place, 0 if it is new: how far the guess can be trusted. */
  find(): number {
    this.#at = -1;
    const end = this.#length;
    if (end < MIN_MATCH) return 0;
    let best = 0;
    let candidate = this.#previous[end - 1]!;
    for (let n = 0; n < CANDIDATES && candidate >= 0 && best < MAX_MATCH; n++) {
      const length = this.#common(candidate, end - 1);
      if (length > best && length >= MIN_MATCH) {
        best = length;
        this.#at = candidate + 1;
      }
      candidate = this.#previous[candidate]!;
    }
    return best;
  }

  /** Writes the guess to out[at …), at most `count` tokens; a text that repeats itself goes on repeating. Returns how many. */
  propose(count: number, out: Int32Array, at: number): number {
    if (this.#at < 0) return 0;
    const period = this.#length - this.#at;
    for (let i = 0; i < count; i++) out[at + i] = this.#tokens[this.#at + (i % period)]!;
    return count;
  }

  /** Both texts that end at a and b (inclusive) agree in so many tokens. */
  #common(a: number, b: number): number {
    let n = 0;
    while (n < MAX_MATCH && n <= a && this.#tokens[a - n] === this.#tokens[b - n]) n++;
    return n;
  }

  #add(token: number): void {
    const i = this.#length++;
    this.#tokens[i] = token;
    if (i < MIN_MATCH - 1) {
      this.#previous[i] = -1;
      return;
    }
    const h = this.#hash(i);
    this.#previous[i] = this.#last[h]!;
    this.#last[h] = i;
  }

  #hash(end: number): number {
    let h = 0;
    for (let n = 0; n < MIN_MATCH; n++) h = Math.imul(h ^ this.#tokens[end - n]!, 0x9e3779b1);
    return (h ^ (h >>> 15)) & (this.#last.length - 1);
  }

  #ensure(size: number): void {
    if (size <= this.#tokens.length) return;
    let capacity = this.#tokens.length;
    while (capacity < size) capacity *= 2;
    const grow = (a: Int32Array) => {
      const b = new Int32Array(capacity);
      b.set(a.subarray(0, this.#length));
      return b;
    };
    this.#tokens = grow(this.#tokens);
    this.#previous = grow(this.#previous);
    this.#last = new Int32Array(2 * capacity).fill(-1);
    for (let i = MIN_MATCH - 1; i < this.#length; i++) {
      const h = this.#hash(i);
      this.#previous[i] = this.#last[h]!;
      this.#last[h] = i;
    }
  }
}
