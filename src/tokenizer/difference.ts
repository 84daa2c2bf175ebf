/** Whether token ids of one model mean the same in another. */
import { metadataString, metadataStrings } from './metadata.js';
import type { Metadata } from './types.js';

/** What sets two vocabularies apart; null: nothing. The same spellings under the same kind of tokenizer are the same bytes. */
export function vocabularyDifference(a: Metadata, b: Metadata): string | null {
  const [kind, otherKind] = [a, b].map((m) => metadataString(m, 'tokenizer.ggml.model'));
  if (kind !== otherKind) return `a tokenizer of type ${kind}, not ${otherKind}`;
  const [x, y] = [a, b].map((m) => metadataStrings(m, 'tokenizer.ggml.tokens'));
  if (!x || !y || x.length !== y.length) return `${x?.length ?? 0} tokens, not ${y?.length ?? 0}`;
  for (let i = 0; i < x.length; i++)
    if (x.at(i) !== y.at(i)) return `token ${i} is ${JSON.stringify(x.at(i))}, not ${JSON.stringify(y.at(i))}`;
  return null;
}
