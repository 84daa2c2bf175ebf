/**
 * A set of numbers below a bound that gives its smallest: a bit each, and above each 32 words a word that says which of
 * them are not empty, and so on. An eighth of a byte a number, and a few instructions an operation.
 */
export class NumberSet {
  size = 0;
  /** Level 0 holds the numbers; the last level is one word. */
  readonly #levels: Int32Array[] = [];
  readonly #words: Int32Array;
  /** Words of level 0 before this one are empty. */
  #low = 0;

  constructor(bound: number) {
    let n = bound;
    do {
      n = (n + 31) >>> 5;
      this.#levels.push(new Int32Array(n));
    } while (n > 1);
    this.#words = this.#levels[0]!;
  }

  get bytes(): number {
    return this.#levels.reduce((n, words) => n + words.byteLength, 0);
  }

  has(x: number): boolean {
    return ((this.#words[x >>> 5]! >>> (x & 31)) & 1) !== 0;
  }

  add(x: number): void {
    this.size++;
    const w = x >>> 5;
    const before = this.#words[w]!;
    this.#words[w] = before | (1 << (x & 31));
    if (w < this.#low) this.#low = w;
    if (before === 0) this.#mark(w);
  }

  /** Takes the smallest out. The set must not be empty. */
  takeSmallest(): number {
    this.size--;
    let w = this.#low;
    if (this.#words[w] === 0) this.#low = w = this.#firstWord();
    const word = this.#words[w]!;
    const left = word & (word - 1);
    this.#words[w] = left;
    if (left === 0) this.#unmark(w);
    return (w << 5) | lowestBit(word);
  }

  /** Word w of level 0 is not empty any more. */
  #mark(w: number): void {
    for (let k = 1; k < this.#levels.length; k++) {
      const words = this.#levels[k]!;
      const before = words[w >>> 5]!;
      words[w >>> 5] = before | (1 << (w & 31));
      if (before !== 0) return;
      w >>>= 5;
    }
  }

  #unmark(w: number): void {
    for (let k = 1; k < this.#levels.length; k++) {
      const words = this.#levels[k]!;
      const left = words[w >>> 5]! & ~(1 << (w & 31));
      words[w >>> 5] = left;
      if (left !== 0) return;
      w >>>= 5;
    }
  }

  #firstWord(): number {
    let w = 0;
    for (let k = this.#levels.length - 1; k > 0; k--) w = (w << 5) | lowestBit(this.#levels[k]![w]!);
    return w;
  }
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}
