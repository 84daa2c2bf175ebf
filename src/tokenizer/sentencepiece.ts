/**
 * SentencePiece's byte-pair model (Kudo & Richardson 2018) as LLaMA and LLaMA 2 use it: neighbours merge while their
 * concatenation is a token, highest score first; characters that are no token become byte tokens.
 */
import { errors } from '../errors.js';
import { MinHeap } from './heap.js';
import type { TextEncoder } from './vocabulary.js';

export class SentencePieceEncoder implements TextEncoder {
  /** (256) token of each byte, -1 if there is none. */
  readonly #byteIds: Int32Array;
  /** (vocab) place of the token in the order of scores; equal scores share a place. */
  readonly #order: Int32Array;
  readonly #longest: number;
  readonly #heap = new MinHeap();

  constructor(
    private readonly ids: ReadonlyMap<string, number>,
    bytes: ReadonlyMap<string, number>,
    scores: ArrayLike<number>,
    private readonly unknown: number | null,
  ) {
    this.#byteIds = Int32Array.from({ length: 256 }, (_, b) => {
      const name = `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`;
      return bytes.get(name) ?? (b < 128 ? ids.get(String.fromCharCode(b)) : undefined) ?? -1;
    });
    this.#order = orderOf(scores);
    let longest = 0;
    for (const text of ids.keys()) longest = Math.max(longest, text.length);
    this.#longest = longest;
  }

  encode(text: string, out: number[]): void {
    const escaped = text.replaceAll(' ', '\u2581');
    if (escaped === '') return;
    const starts: number[] = [];
    for (let i = 0; i < escaped.length; i += escaped.codePointAt(i)! > 0xffff ? 2 : 1) starts.push(i);
    this.#merge(escaped, Int32Array.from([...starts, escaped.length]), out);
  }

  /** `starts` (n + 1): where each character begins, and the end. */
  #merge(text: string, starts: Int32Array, out: number[]): void {
    const n = starts.length - 1;
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
      const id = this.ids.get(text.slice(from, to));
      if (id === undefined) return;
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
    for (let i = 0; i < n; i = next[i]!) this.#emit(text.slice(starts[i]!, starts[next[i]!]!), out);
  }

  #emit(piece: string, out: number[]): void {
    const id = this.ids.get(piece);
    if (id !== undefined) {
      out.push(id);
      return;
    }
    for (const byte of Buffer.from(piece, 'utf8')) {
      const byteId = this.#byteIds[byte]! >= 0 ? this.#byteIds[byte]! : this.unknown;
      if (byteId === null) throw errors.invalidRequest(`the vocabulary has no token for the character '${piece}'`);
      out.push(byteId);
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
