/** Follows one document token by token. */
import type { Place } from './level.js';
import { type Masker, maskerOf } from './masks.js';
import { trieOf } from './trie.js';
import type { Grammar, TokenBytes } from './types.js';

/** Not thread-safe, like everything that runs in the engine worker. */
export interface Matcher {
  /**
   * Writes `words` words (default: ceil(vocab / 32)) from `out[offset]`: bit t = token t may come next. End tokens only where
   * the document is complete, special tokens never. False if no token may come at all: the vocabulary cannot spell what must
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
 * first one of a grammar builds nothing: states are made as they are met.
 */
export function createMatcher(grammar: Grammar, vocabulary: TokenBytes, endTokens: readonly number[]): Matcher {
  const table = grammar.tags.length > 0 ? withTags(vocabulary, grammar.tags) : vocabulary;
  const masker = maskerOf(grammar, table);
  return new TokenMatcher(masker, table, endTokens, masker.network.start, false);
}

/** Builds what all matchers of a vocabulary share, so that the first request does not wait for it. */
export function prepareVocabulary(vocabulary: TokenBytes): void {
  trieOf(vocabulary);
}

const taggedTables = new WeakMap<TokenBytes, Map<string, TokenBytes>>();

/** The table in which special tokens with these spellings are ordinary; the same table if there are none. */
function withTags(vocabulary: TokenBytes, tags: readonly string[]): TokenBytes {
  let tables = taggedTables.get(vocabulary);
  if (!tables) {
    tables = new Map();
    taggedTables.set(vocabulary, tables);
  }
  const key = tags.join('\0');
  let table = tables.get(key);
  if (!table) {
    const { bytes, offsets } = vocabulary;
    const special = vocabulary.special.slice();
    const spellings = tags.map((t) => Buffer.from(t, 'utf8'));
    let found = false;
    for (let t = 0; t < special.length; t++) {
      if (!special[t] || !spellings.some((s) => s.equals(bytes.subarray(offsets[t], offsets[t + 1])))) continue;
      special[t] = 0;
      found = true;
    }
    table = found ? { bytes, offsets, special } : vocabulary;
    tables.set(key, table);
  }
  return table;
}

class TokenMatcher implements Matcher {
  constructor(
    private readonly masker: Masker,
    private readonly table: TokenBytes,
    private readonly endTokens: readonly number[],
    private place: Place,
    private ended: boolean,
  ) {}

  fillMask(out: Int32Array, offset: number, words: number = this.masker.trie.words): boolean {
    out.fill(0, offset, offset + words);
    if (this.ended) return false;
    this.masker.or(this.place, out, offset);
    const complete = this.isComplete();
    for (const t of this.endTokens) {
      if (complete) out[offset + (t >> 5)] |= 1 << (t & 31);
      else out[offset + (t >> 5)] &= ~(1 << (t & 31));
    }
    for (let w = 0; w < words; w++) if (out[offset + w] !== 0) return true;
    return false;
  }

  accept(tokenId: number): boolean {
    if (this.ended) return false;
    if (this.endTokens.includes(tokenId)) {
      this.ended = this.isComplete();
      return this.ended;
    }
    const { bytes, offsets, special } = this.table;
    if (!(tokenId >= 0 && tokenId < special.length) || special[tokenId]) return false;
    const end = offsets[tokenId + 1];
    if (offsets[tokenId] === end) return false;
    let place: Place | null = this.place;
    for (let i = offsets[tokenId]; i < end; i++) {
      place = this.masker.network.step(place, bytes[i]);
      if (!place) return false;
    }
    this.place = place;
    return true;
  }

  isComplete(): boolean {
    return this.masker.network.complete(this.place);
  }

  isEnded(): boolean {
    return this.ended;
  }

  clone(): Matcher {
    return new TokenMatcher(this.masker, this.table, this.endTokens, this.place, this.ended);
  }
}
