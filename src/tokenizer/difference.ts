/** Whether token ids of one model mean the same in another. */
import { isJsonTokenizer, readJsonVocabulary } from './json/tokenizer.js';
import { metadataString, metadataStrings } from './metadata.js';
import type { Metadata, Strings } from './types.js';

/** The kind of tokenizer and its tokens by id, whatever the file's format. */
function vocabularyOf(metadata: Metadata): { kind: string | null; tokens: Strings | null } {
  if (isJsonTokenizer(metadata)) {
    const { model, tokens } = readJsonVocabulary(metadata);
    return { kind: model, tokens };
  }
  return {
    kind: metadataString(metadata, 'tokenizer.ggml.model'),
    tokens: metadataStrings(metadata, 'tokenizer.ggml.tokens'),
  };
}

/** What sets two vocabularies apart; null: nothing. The same spellings under the same kind of tokenizer are the same bytes. */
export function vocabularyDifference(a: Metadata, b: Metadata): string | null {
  const [{ kind, tokens: x }, { kind: otherKind, tokens: y }] = [vocabularyOf(a), vocabularyOf(b)];
  if (kind !== otherKind) return `a tokenizer of type ${kind}, not ${otherKind}`;
  if (!x || !y || x.length !== y.length) return `${x?.length ?? 0} tokens, not ${y?.length ?? 0}`;
  for (let i = 0; i < x.length; i++)
    if (x.at(i) !== y.at(i)) return `token ${i} is ${JSON.stringify(x.at(i))}, not ${JSON.stringify(y.at(i))}`;
  return null;
}
