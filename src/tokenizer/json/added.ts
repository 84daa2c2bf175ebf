/** Added tokens of tokenizer.json: found in the text before anything else is done to it. */
import { errors } from '../../errors.js';
import { flagAt, type Json, objectsAt, own, textAt } from './fields.js';
import { SPACES } from './regex.js';

export interface AddedToken {
  id: number;
  content: string;
  special: boolean;
  singleWord: boolean;
  lstrip: boolean;
  rstrip: boolean;
  /** Looked for in the normalised text. */
  normalized: boolean;
}

const WHERE = 'added_tokens';
/** No vocabulary comes near. */
export const MAX_ID = 2 ** 24;

/** @throws bad_tokenizer */
export function readAdded(json: Json): AddedToken[] {
  return objectsAt(json, 'added_tokens', 'tokenizer').map((t) => {
    const id = own(t, 'id');
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= MAX_ID)
      throw errors.badTokenizer(`an added token in tokenizer.json has no id that can be`);
    const special = flagAt(t, 'special', WHERE, false);
    return {
      id,
      content: textAt(t, 'content', WHERE),
      special,
      singleWord: flagAt(t, 'single_word', WHERE, false),
      lstrip: flagAt(t, 'lstrip', WHERE, false),
      rstrip: flagAt(t, 'rstrip', WHERE, false),
      normalized: flagAt(t, 'normalized', WHERE, !special),
    };
  });
}

/** A piece of text, or the token that its spelling stands for. */
export type Fragment = string | number;

const WORD = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}]/u;
const SPACE = new RegExp(`[${SPACES}]`, 'v');

/** Finds tokens by their spellings: from left to right, of those that begin at one place the longest. */
export class AddedFinder {
  readonly #bySpelling = new Map<string, AddedToken>();
  /** Spellings of tokens by their first character, longest first. */
  readonly #byFirst = new Map<string, string[]>();
  readonly #firsts: RegExp | null;

  /** `spell`: how a token is written where it is looked for. */
  constructor(tokens: readonly AddedToken[], spell: (content: string) => string) {
    for (const t of tokens) {
      const spelling = spell(t.content);
      if (spelling !== '') this.#bySpelling.set(spelling, t);
    }
    for (const spelling of this.#bySpelling.keys()) {
      const first = String.fromCodePoint(spelling.codePointAt(0)!);
      this.#byFirst.set(first, [...(this.#byFirst.get(first) ?? []), spelling]);
    }
    for (const list of this.#byFirst.values()) list.sort((a, b) => b.length - a.length);
    const escaped = [...this.#byFirst.keys()].map((c) => `\\u{${c.codePointAt(0)!.toString(16)}}`);
    this.#firsts = escaped.length > 0 ? new RegExp(`[${escaped.join('')}]`, 'gu') : null;
  }

  /** Tokens that are not wanted stay text. */
  split(text: string, wanted: (t: AddedToken) => boolean): Fragment[] {
    if (!this.#firsts) return text === '' ? [] : [text];
    const out: Fragment[] = [];
    let done = 0;
    this.#firsts.lastIndex = 0;
    for (let m = this.#firsts.exec(text); m !== null; m = this.#firsts.exec(text)) {
      const found = this.#byFirst.get(m[0])!.find((s) => text.startsWith(s, m.index));
      if (found === undefined) continue;
      const token = this.#bySpelling.get(found)!;
      this.#firsts.lastIndex = m.index + found.length;
      if (!wanted(token) || (token.singleWord && !isWord(text, m.index, m.index + found.length))) continue;
      const [start, stop] = stripped(text, token, m.index, m.index + found.length, done);
      if (start > done) out.push(text.slice(done, start));
      out.push(token.id);
      done = stop;
      this.#firsts.lastIndex = Math.max(stop, this.#firsts.lastIndex);
    }
    if (done < text.length) out.push(text.slice(done));
    return out;
  }
}

/** The token takes the spaces beside it along, where it says so. */
function stripped(text: string, t: AddedToken, from: number, to: number, done: number): [number, number] {
  let [start, stop] = [from, to];
  while (t.lstrip && start > done && SPACE.test(text[start - 1]!)) start--;
  while (t.rstrip && stop < text.length && SPACE.test(text[stop]!)) stop++;
  return [start, stop];
}

const charBefore = (text: string, at: number): string => Array.from(text.slice(Math.max(0, at - 2), at)).at(-1) ?? '';
const isWord = (text: string, from: number, to: number): boolean =>
  !WORD.test(charBefore(text, from)) && !WORD.test(String.fromCodePoint(text.codePointAt(to) ?? 0x20));
