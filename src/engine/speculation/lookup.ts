/**
 * A text's tokens, and where its end stood before: what followed there is likely to follow now.
 *
 * Found as deflate finds matches: hash chains over all runs of MIN_MATCH tokens, the longest match among the latest
 * candidates wins, the later one of two equals. 8 bytes a token and O(1) for each token added.
 */

/** Shorter repetitions say nothing. */
export const MIN_MATCH = 2;
/** Longer ones say no more. */
export const MAX_MATCH = 32;
/** Earlier occurrences that are compared. */
const CANDIDATES = 16;

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

  /** Where the text went on after the match that `find` found last, or -1. */
  get at(): number {
    return this.#at;
  }

  token(index: number): number {
    return this.#tokens[index]!;
  }

  /** Adds tokens[from … to). */
  append(tokens: ArrayLike<number>, from = 0, to = tokens.length): void {
    this.#ensure(this.#length + to - from);
    for (let i = from; i < to; i++) this.#add(tokens[i]!);
  }

  /** Tokens that the end of the text shares with an earlier place (`at`), 0 if it is new: how far it can be trusted. */
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

  /** The first place in [from, to) with the token that the text ends with, or -1. */
  findLast(from: number, to: number): number {
    const token = this.#tokens[this.#length - 1]!;
    for (let i = from; i < to; i++) if (this.#tokens[i] === token) return i;
    return -1;
  }

  /** The place that a guess takes its token `k` from: a text that repeats itself goes on repeating. */
  place(at: number, k: number): number {
    return at + (k % (this.#length - at));
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
