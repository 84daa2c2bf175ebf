/**
 * Keeps text from outside from becoming special tokens when it is put into a chat template. Templates look at contents,
 * trim and split them, so contents stay as they are but for one thing: where a content spells a special token, or a part of
 * one at its edge that the text around it could complete, a mark is put in. A mark is one character of a private-use plane
 * that occurs nowhere else; it goes out again after the special tokens were found.
 */
import { randomInt } from 'node:crypto';
import { errors } from '../errors.js';

const FIRST = 0xf0000;
const LAST = 0xffffd;
const TRIES = 64;

export class Guard {
  readonly #longest: number;
  readonly #heads = new Set<string>();
  readonly #tails = new Set<string>();

  /** `spellings`: of the special tokens. Those of one character cannot be guarded and must not be looked for. */
  constructor(private readonly spellings: readonly string[]) {
    this.#longest = Math.max(0, ...spellings.map((s) => s.length));
    for (const s of spellings) {
      for (let k = 1; k < s.length; k++) {
        this.#heads.add(s.slice(0, k));
        this.#tails.add(s.slice(k));
      }
    }
  }

  /** A character that none of the texts has. */
  chooseMark(texts: readonly string[]): string {
    for (let i = 0; i < TRIES; i++) {
      const mark = String.fromCodePoint(randomInt(FIRST, LAST + 1));
      if (!texts.some((t) => t.includes(mark))) return mark;
    }
    throw errors.invalidRequest('the messages use too much of the private-use planes of Unicode', 'messages');
  }

  /** A message's content. */
  protect(text: string, mark: string): string {
    if (text === '') return text;
    const inside = text.length < this.#longest && this.spellings.some((s) => s.includes(text.trim()));
    const inner = this.#protectInner(text, mark);
    return inside ? mark + inner + mark : this.#protectEdges(inner, mark);
  }

  #protectInner(text: string, mark: string): string {
    let out = text;
    for (const s of this.spellings) {
      if (out.includes(s)) out = out.replaceAll(s, `${s[0]}${mark}${s.slice(1)}`);
    }
    return out;
  }

  /** Templates often trim, so the edges of the trimmed text count as well. */
  #protectEdges(text: string, mark: string): string {
    const body = text.trim();
    if (body === '' || body === text) return this.#edges(text, mark);
    const at = text.indexOf(body);
    return this.#edges(text.slice(0, at) + this.#edges(body, mark) + text.slice(at + body.length), mark);
  }

  #edges(text: string, mark: string): string {
    let head = false;
    let tail = false;
    for (let k = 1; k < this.#longest && k <= text.length; k++) {
      head ||= this.#tails.has(text.slice(0, k));
      tail ||= this.#heads.has(text.slice(-k));
    }
    return `${head ? mark : ''}${text}${tail ? mark : ''}`;
  }

  /** All strings of a JSON-like value. Templates look fields up by name and compare values, so short ones stay whole. */
  protectAll(value: unknown, mark: string): unknown {
    if (typeof value === 'string') return this.#protectEdges(this.#protectInner(value, mark), mark);
    if (Array.isArray(value)) return value.map((v) => this.protectAll(v, mark));
    if (typeof value === 'object' && value !== null) {
      return Object.fromEntries(
        Object.entries(value).map(([k, v]) => [this.#protectInner(k, mark), this.protectAll(v, mark)]),
      );
    }
    return value;
  }
}

/** All strings of a JSON-like value. */
export function stringsOf(value: unknown, out: string[] = []): string[] {
  if (typeof value === 'string') out.push(value);
  else if (typeof value === 'object' && value !== null) {
    for (const [k, v] of Object.entries(value)) {
      out.push(k);
      stringsOf(v, out);
    }
  }
  return out;
}
