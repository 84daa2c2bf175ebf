/** The vocabulary of tokenizer.json: the model's tokens and the added ones, by id. */
import { errors } from '../../errors.js';
import { packStrings } from '../packed.js';
import { Kind, type Vocabulary } from '../vocabulary.js';
import { type AddedToken, MAX_ID } from './added.js';
import { type Json, objectAt, own, textAt } from './fields.js';
import { readPieces } from './unigram.js';

export type Spellings = Pick<Vocabulary, 'model' | 'tokens' | 'size' | 'kinds'> & {
  /** Of the model alone. */
  ids: ReadonlyMap<string, number>;
  texts: readonly string[];
};

/** @throws bad_tokenizer */
export function readSpellings(model: Json, added: readonly AddedToken[], bytes: boolean): Spellings {
  const ids = readIds(model);
  const size = Math.max(-1, ...maxima(ids.values()), ...maxima(added.map((t) => t.id))) + 1;
  if (size === 0) throw errors.badTokenizer('tokenizer.json has no tokens');
  const most = ids.size + added.length;
  // holes cost memory: a hostile id must not
  if (size > 4 * most + 65_536)
    throw errors.badTokenizer(`tokenizer.json has ${most} tokens, but ids up to ${size - 1}`);
  const texts = new Array<string>(size).fill('');
  const kinds = new Uint8Array(size).fill(Kind.unused);
  const unknown = own(model, 'unk_token');
  for (const [text, id] of ids) {
    texts[id] = text;
    kinds[id] = /^<0x[0-9A-F]{2}>$/.test(text) && !bytes ? Kind.byte : text === unknown ? Kind.unknown : Kind.normal;
  }
  for (const { id, content, special } of added) {
    texts[id] = content;
    kinds[id] = special ? Kind.control : Kind.userDefined;
  }
  return { model: bytes ? 'gpt2' : 'llama', tokens: packStrings(texts), size, kinds, ids, texts };
}

/** The greatest, or nothing: spreading a whole vocabulary would overflow the stack. */
function maxima(numbers: Iterable<number>): number[] {
  let most: number | null = null;
  for (const n of numbers) if (most === null || n > most) most = n;
  return most === null ? [] : [most];
}

function readIds(model: Json): Map<string, number> {
  const type = textAt(model, 'type', 'model', Array.isArray(own(model, 'vocab')) ? 'Unigram' : 'BPE');
  if (type === 'Unigram') return new Map(readPieces(model).map(([piece], id) => [piece, id]));
  if (type !== 'BPE')
    throw errors.badTokenizer(
      `its model is a '${type.slice(0, 80)}', which is not supported (supported: BPE, Unigram)`,
    );
  const entries = Object.entries(objectAt(model, 'vocab', 'model'));
  for (const [text, id] of entries)
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= MAX_ID)
      throw errors.badTokenizer(`token ${JSON.stringify(text.slice(0, 80))} in tokenizer.json has no id that can be`);
  return new Map(entries as [string, number][]);
}
