/** Byte-level byte-pair encoding of words (Sennrich et al. 2016; Radford et al. 2019). */
import { bytesToChars, byteToUtf8 } from './byte-chars.js';
import type { ByteIndex } from './byte-index.js';
import { Merges } from './merges.js';
import type { PackedStrings } from './packed.js';
import { PairMerger } from './pair-merger.js';
import type { PreTokenizer } from './pre-tokenizer.js';
import type { TextEncoder } from './vocabulary.js';
import { WordCache } from './word-cache.js';

export class BpeEncoder implements TextEncoder {
  readonly #merger: PairMerger;
  /** (256) first symbol of each byte. */
  readonly #byteSymbol: Int32Array;
  readonly #virtual: string[];
  readonly #words = new WordCache((word) => this.#word(word));

  constructor(
    merges: PackedStrings,
    /** Tokens that text may become. */
    private readonly index: ByteIndex,
    private readonly vocabSize: number,
    private readonly preTokenizer: PreTokenizer,
  ) {
    const table = new Merges(merges, index, vocabSize);
    this.#merger = new PairMerger(table.pairs);
    this.#byteSymbol = Int32Array.from(byteToUtf8, (utf8) => table.symbol(utf8));
    this.#virtual = table.virtualTexts();
  }

  encode(text: string, out: number[]): void {
    for (const word of this.preTokenizer.split(text)) for (const id of this.#words.ids(word)) out.push(id);
  }

  #word(word: string): number[] {
    const bytes = Buffer.from(word, 'utf8');
    if (this.preTokenizer.ignoreMerges) {
      const chars = Buffer.allocUnsafe(2 * bytes.length);
      const whole = this.index.find(chars, 0, bytesToChars(bytes, chars));
      if (whole >= 0) return [whole];
    }
    const symbols = new Int32Array(bytes.length);
    for (let i = 0; i < bytes.length; i++) symbols[i] = this.#byteSymbol[bytes[i]!]!;
    return this.#emit(symbols, this.#merger.merge(symbols));
  }

  /** Symbols that are no tokens are spelt out, as far as there are tokens for their characters. */
  #emit(symbols: Int32Array, count: number): number[] {
    const out: number[] = [];
    for (let i = 0; i < count; i++) {
      const symbol = symbols[i]!;
      if (symbol < this.vocabSize) out.push(symbol);
      else {
        for (const char of this.#virtual[symbol - this.vocabSize]!) {
          const id = this.index.findText(char);
          if (id >= 0) out.push(id);
        }
      }
    }
    return out;
  }
}
