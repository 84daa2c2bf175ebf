/**
 * SentencePiece's byte-pair model (Kudo & Richardson 2018) as LLaMA and LLaMA 2 use it: neighbours merge while their
 * concatenation is a token, highest score first; characters that are no token become byte tokens.
 */
import { errors } from '../errors.js';
import type { ByteIndex } from './byte-index.js';
import { MinHeap } from './heap.js';
import type { TextEncoder, Vocabulary } from './vocabulary.js';

export class SentencePieceEncoder implements TextEncoder {
  /** Tokens that text may become. */
  readonly #index: ByteIndex;
  /** (256) token of each byte, -1 if there is none. */
  readonly #byteIds: Int32Array;
  /** (vocab) place of the token in the order of scores; equal scores share a place. */
  readonly #order: Int32Array;
  /** Bytes of the longest token. */
  readonly #longest: number;
  readonly #heap = new MinHeap();

  constructor(private readonly vocabulary: Vocabulary) {
    this.#index = vocabulary.textIndex;
    this.#byteIds = vocabulary.byteIds;
    this.#order = orderOf(vocabulary.scores);
    this.#longest = vocabulary.tokens.lengths.reduce((a, b) => Math.max(a, b), 0);
  }

  encode(text: string, out: number[]): void {
    const bytes = Buffer.from(text.replaceAll(' ', '\u2581'), 'utf8');
    if (bytes.length === 0) return;
    const starts = new Int32Array(bytes.length + 1);
    let n = 0;
    for (let i = 0; i < bytes.length; i++) if ((bytes[i]! & 0xc0) !== 0x80) starts[n++] = i;
    starts[n] = bytes.length;
    this.#merge(bytes, starts, n, out);
  }

  /** `starts` (n + 1): where each character begins, and the end. */
  #merge(bytes: Buffer, starts: Int32Array, n: number, out: number[]): void {
    const next = Int32Array.from({ length: n }, (_, i) => i + 1);
    const previous = Int32Array.from({ length: n }, (_, i) => i - 1);
    /** Token that a symbol makes with the next one, -1 if none. A heap entry is stale if its order is another. */
    const pair = new Int32Array(n).fill(-1);
    const heap = this.#heap;
    heap.clear();
    const consider = (left: number): void => {
      const right = next[left]!;
      pair[left] = -1;
      if (right >= n) return;
      const from = starts[left]!;
      const to = starts[next[right]!]!;
      if (to - from > this.#longest) return;
      const id = this.#index.find(bytes, from, to);
      if (id < 0) return;
      pair[left] = id;
      heap.push(this.#order[id]! * 2 ** 31 + left);
    };
    for (let i = 0; i < n; i++) consider(i);
    while (heap.size > 0) {
      const item = heap.pop();
      const left = item % 2 ** 31;
      const id = pair[left]!;
      if (id < 0 || this.#order[id] !== Math.floor(item / 2 ** 31)) continue;
      const right = next[left]!;
      pair[right] = -1;
      next[left] = next[right]!;
      if (next[left]! < n) previous[next[left]!] = left;
      if (previous[left]! >= 0) consider(previous[left]!);
      consider(left);
    }
    for (let i = 0; i < n; i = next[i]!) this.#emit(bytes, starts[i]!, starts[next[i]!]!, out);
  }

  #emit(bytes: Buffer, from: number, to: number, out: number[]): void {
    const id = this.#index.find(bytes, from, to);
    if (id >= 0) {
      out.push(id);
      return;
    }
    for (let i = from; i < to; i++) {
      const byteId = this.#byteIds[bytes[i]!]!;
      const known = byteId >= 0 ? byteId : this.vocabulary.special.unknown;
      if (known === null) {
        const char = bytes.toString('utf8', from, to);
        throw errors.invalidRequest(`the vocabulary has no token for the character '${char}'`);
      }
      out.push(known);
    }
  }
}

function orderOf(scores: ArrayLike<number>): Int32Array {
  const sorted = Float64Array.from(new Set(Array.from(scores)))
    .sort()
    .reverse();
  const place = new Map<number, number>();
  sorted.forEach((score, i) => {
    place.set(score, i);
  });
  return Int32Array.from(scores, (score) => place.get(score)!);
}
