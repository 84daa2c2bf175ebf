/** The byte-pair model of tokenizer.json, over bytes or over characters: merges by rank, leftmost first. */
import { errors } from '../../errors.js';
import { byteToUtf8 } from '../byte-chars.js';
import { PairMerger } from '../pair-merger.js';
import { PairTable } from '../pair-table.js';
import { WordCache } from '../word-cache.js';
import { flagAt, type Json, listAt, own, textAt } from './fields.js';

/** A word to ids, appended to `out`. */
export interface WordModel {
  encode(word: string, out: number[]): void;
}

const WHERE = 'model';

/** `control`: tokens that no text becomes, whatever it spells. @throws bad_tokenizer */
export function createBpe(
  json: Json,
  vocab: ReadonlyMap<string, number>,
  bytes: boolean,
  control: ReadonlySet<number>,
): WordModel {
  for (const name of ['continuing_subword_prefix', 'end_of_word_suffix', 'dropout'])
    if (own(json, name)) throw errors.badTokenizer(`its model has a ${name}, which is not supported`);
  return new Bpe(
    vocab,
    readMerges(json, vocab, control),
    bytes,
    flagAt(json, 'ignore_merges', WHERE, false),
    flagAt(json, 'byte_fallback', WHERE, false) ? byteTokens(vocab) : null,
    own(json, 'unk_token') === undefined ? null : (vocab.get(textAt(json, 'unk_token', WHERE)) ?? null),
    flagAt(json, 'fuse_unk', WHERE, false),
    control,
  );
}

/** (256) token of each byte (`<0x0A>`), -1 where there is none. */
export const byteTokens = (vocab: ReadonlyMap<string, number>): Int32Array =>
  Int32Array.from({ length: 256 }, (_, b) => vocab.get(`<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`) ?? -1);

/** Merges are 'left right' or ['left', 'right']; of equal ones the last counts. */
function readMerges(json: Json, vocab: ReadonlyMap<string, number>, control: ReadonlySet<number>): PairTable {
  const list = listAt(json, 'merges', WHERE);
  const table = new PairTable(list.length);
  list.forEach((merge, rank) => {
    const pair = typeof merge === 'string' ? splitPair(merge) : Array.isArray(merge) ? merge : [];
    const [left, right] = pair as unknown[];
    if (pair.length !== 2 || typeof left !== 'string' || typeof right !== 'string')
      throw errors.badTokenizer(`merge ${rank} in tokenizer.json is malformed`);
    const ids = [left, right, left + right].map((t) => vocab.get(t));
    if (ids.some((id) => id === undefined))
      throw errors.badTokenizer(`merge ${rank} in tokenizer.json names a token that the vocabulary lacks`);
    if (!control.has(ids[2]!)) table.set(ids[0]!, ids[1]!, rank, ids[2]!);
  });
  return table;
}

function splitPair(merge: string): string[] {
  const at = merge.indexOf(' ', 1);
  return at < 0 ? [] : [merge.slice(0, at), merge.slice(at + 1)];
}

class Bpe implements WordModel {
  readonly #words = new WordCache((word) => this.#word(word));
  readonly #merger: PairMerger;
  /** (256) token of the character that stands for each byte, -1 where there is none. */
  readonly #byteSymbols: Int32Array;

  constructor(
    private readonly vocab: ReadonlyMap<string, number>,
    merges: PairTable,
    private readonly bytes: boolean,
    private readonly ignoreMerges: boolean,
    private readonly fallback: Int32Array | null,
    private readonly unknown: number | null,
    private readonly fuseUnknown: boolean,
    private readonly control: ReadonlySet<number>,
  ) {
    this.#merger = new PairMerger(merges);
    this.#byteSymbols = Int32Array.from(byteToUtf8, (utf8) => vocab.get(Buffer.from(utf8).toString('utf8')) ?? -1);
  }

  encode(word: string, out: number[]): void {
    for (const id of this.#words.ids(word)) out.push(id);
  }

  #word(word: string): readonly number[] {
    if (this.ignoreMerges) {
      const whole = this.vocab.get(this.bytes ? spelled(word) : word);
      if (whole !== undefined && !this.control.has(whole)) return [whole];
    }
    const symbols = Int32Array.from(this.bytes ? this.#ofBytes(word) : this.#ofChars(word));
    return Array.from(symbols.subarray(0, this.#merger.merge(symbols)));
  }

  #ofBytes(word: string): number[] {
    const out: number[] = [];
    let open = false;
    for (const byte of Buffer.from(word, 'utf8')) {
      const id = this.#byteSymbols[byte]!;
      if (id >= 0) out.push(id);
      else if (this.unknown !== null && !(this.fuseUnknown && open)) out.push(this.unknown);
      open = id < 0;
    }
    return out;
  }

  #ofChars(word: string): number[] {
    const out: number[] = [];
    let open = false;
    for (const char of word) {
      const id = this.vocab.get(char);
      const bytes = id === undefined && this.fallback ? Array.from(Buffer.from(char), (b) => this.fallback![b]!) : [-1];
      const spelt = bytes.every((b) => b >= 0);
      if (id !== undefined) out.push(id);
      else if (spelt) out.push(...bytes);
      else if (this.unknown !== null && !(this.fuseUnknown && open)) out.push(this.unknown);
      open = id === undefined && !spelt;
    }
    return out;
  }
}

/** The word as the vocabulary spells its bytes. */
const spelled = (word: string): string =>
  Array.from(Buffer.from(word, 'utf8'), (b) => Buffer.from(byteToUtf8[b]!).toString('utf8')).join('');
