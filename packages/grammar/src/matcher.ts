/** Follows one document token by token. */

import { compileJsonObject, compileJsonSchema } from './compile.js';
import { invariant } from './errors.js';
import type { Place } from './level.js';
import { type Masker, maskerOf } from './masks.js';
import { trieOf } from './trie.js';
import type { Grammar, GrammarStart, Tag, TokenBytes } from './types.js';

/** Not thread-safe, like everything that runs in the engine worker. */
export interface Matcher {
  /**
   * Writes `words` words (default: ceil(vocab / 32)) from `out[offset]`: bit t = token t may come next. End tokens only where
   * the document is complete, other special tokens never (but tags of tool calls). False if no token may come at all: the vocabulary cannot spell what must
   * follow, and the request must fail.
   */
  fillMask(out: Int32Array, offset: number, words?: number): boolean;
  /** Goes on by one token; false, and nothing changes, if the mask would not have allowed it. */
  accept(tokenId: number): boolean;
  /** The document may end here. */
  isComplete(): boolean;
  /** An end token was accepted. */
  isEnded(): boolean;
  /** An independent copy, in constant time. */
  clone(): Matcher;
}

/**
 * A matcher at the beginning of a document. The first one of a vocabulary builds its trie (see `prepareVocabulary`); the
 * first one of a grammar builds nothing: states are made as they are met. `start`: for grammars that were compiled with `reasoning`.
 */
export function createMatcher(
  grammar: Grammar,
  vocabulary: TokenBytes,
  endTokens: readonly number[],
  start: GrammarStart = 'document',
): Matcher {
  const masker = maskerOf(grammar, vocabulary);
  const state = start === 'document' ? grammar.root : (grammar.thinking?.[start] ?? grammar.root);
  const tags = grammar.tags.length > 0 ? tagTokens(vocabulary, grammar.tags) : [];
  return new TokenMatcher({ masker, table: vocabulary, endTokens, tags }, masker.network.begin(state), false);
}

/**
 * Builds what all matchers of a vocabulary share: the trie and the masks of free strings. Worth doing when a model is loaded, so
 * that the first request does not wait for it (about 50 ms for 49 k tokens).
 */
export function prepareVocabulary(vocabulary: TokenBytes): void {
  const out = new Int32Array(trieOf(vocabulary).words);
  const free = compileJsonObject();
  const counted = compileJsonSchema({ type: 'object', additionalProperties: { type: 'string', maxLength: 1_000_000 } });
  for (const grammar of [free, counted]) {
    const masker = maskerOf(grammar, vocabulary);
    let place: Place | null = masker.network.begin(grammar.root);
    for (const byte of Buffer.from('{"a":"b\\u')) {
      masker.or(place, out, 0);
      place = masker.network.step(place, byte);
      invariant(place, 'the warm-up document is refused');
    }
  }
}

interface TagToken {
  token: number;
  states: readonly number[];
}

/** Special tokens that spell a tag. */
function tagTokens(vocabulary: TokenBytes, tags: readonly Tag[]): TagToken[] {
  const { bytes, offsets, special } = vocabulary;
  const spellings = tags.map(({ text, states }) => ({ spelling: Buffer.from(text, 'utf8'), states }));
  const out: TagToken[] = [];
  for (let t = 0; t < special.length; t++) {
    if (!special[t]) continue;
    const name = bytes.subarray(offsets[t], offsets[t + 1]);
    for (const { spelling, states } of spellings) if (spelling.equals(name)) out.push({ token: t, states });
  }
  return out;
}

/** What does not change while a document is followed. */
interface Fixed {
  masker: Masker;
  table: TokenBytes;
  endTokens: readonly number[];
  tags: readonly TagToken[];
}

class TokenMatcher implements Matcher {
  constructor(
    private readonly fixed: Fixed,
    private place: Place,
    private ended: boolean,
  ) {}

  fillMask(out: Int32Array, offset: number, words: number = this.fixed.masker.trie.words): boolean {
    out.fill(0, offset, offset + words);
    if (this.ended) return false;
    const { masker, endTokens, tags } = this.fixed;
    masker.or(this.place, out, offset);
    for (const { token, states } of tags) {
      if (masker.network.isAt(this.place, states)) out[offset + (token >> 5)] |= 1 << (token & 31);
    }
    const complete = this.isComplete();
    for (const t of endTokens) {
      if (complete) out[offset + (t >> 5)] |= 1 << (t & 31);
      else out[offset + (t >> 5)] &= ~(1 << (t & 31));
    }
    for (let w = 0; w < words; w++) if (out[offset + w] !== 0) return true;
    return false;
  }

  accept(tokenId: number): boolean {
    if (this.ended) return false;
    const { masker, table, endTokens, tags } = this.fixed;
    if (endTokens.includes(tokenId)) {
      this.ended = this.isComplete();
      return this.ended;
    }
    const { bytes, offsets, special } = table;
    if (!(tokenId >= 0 && tokenId < special.length)) return false;
    if (special[tokenId]) {
      const tag = tags.find((t) => t.token === tokenId);
      if (!tag || !masker.network.isAt(this.place, tag.states)) return false;
    }
    const end = offsets[tokenId + 1];
    if (offsets[tokenId] === end) return false;
    let place: Place | null = this.place;
    for (let i = offsets[tokenId]; i < end; i++) {
      place = masker.network.step(place, bytes[i]);
      if (!place) return false;
    }
    this.place = place;
    return true;
  }

  isComplete(): boolean {
    return this.fixed.masker.network.complete(this.place);
  }

  isEnded(): boolean {
    return this.ended;
  }

  clone(): Matcher {
    return new TokenMatcher(this.fixed, this.place, this.ended);
  }
}
