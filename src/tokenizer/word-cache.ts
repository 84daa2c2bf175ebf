/** Words that are kept with their ids; the cache starts anew when it is full. */
const WORDS = 20_000;
const LENGTH = 48;

export class WordCache {
  readonly #ids = new Map<string, readonly number[]>();

  constructor(private readonly encode: (word: string) => readonly number[]) {}

  ids(word: string): readonly number[] {
    const known = this.#ids.get(word);
    if (known !== undefined) return known;
    const ids = this.encode(word);
    if (word.length <= LENGTH) {
      if (this.#ids.size >= WORDS) this.#ids.clear();
      this.#ids.set(word, ids);
    }
    return ids;
  }
}
