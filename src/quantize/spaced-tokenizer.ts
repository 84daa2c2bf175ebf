/**
 * SentencePiece's byte-pair models in GGUF's metadata, from tokenizer.model as it is, or from a tokenizer.json: there the scores
 * are lost, and follow from the order of the merges.
 */
import { errors } from '../errors.js';
import { entryOf } from './entries.js';
import type { TokenizerJson } from './tokenizer-json.js';

/** Types of tokens in GGUF. */
export const Kind = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

const MARK = '\u2581';
const BYTE = /^<0x[0-9A-F]{2}>$/;

/** Whether a space goes in front of a text; null: it is no such model, or does more than GGUF can say. */
export function spacePrefixOf({ model, normalizer, pre_tokenizer: pre }: TokenizerJson): boolean | null {
  if (model?.type !== 'BPE' || !model.byte_fallback) return null;
  const steps = normalizer?.type === 'Sequence' ? (normalizer.normalizers ?? []) : normalizer ? [normalizer] : [];
  const kinds = steps.map((n) => {
    if (n.type === 'Prepend') return `prepend ${n.prepend}`;
    return n.type === 'Replace' ? `${n.pattern?.String} to ${n.content}` : 'another';
  });
  // once spaces are replaced there are none to split at
  const splits = pre && !(pre.type === 'Split' && pre.pattern?.String === ' ');
  const spaces = `${' '} to ${MARK}`;
  if (splits) return null;
  if (kinds.join() === `prepend ${MARK},${spaces}`) return true;
  return kinds.join() === spaces ? false : null;
}

/** What `tokenizerEntries` has of a vocabulary; `kinds` of added tokens are set. */
interface Vocabulary {
  ids: ReadonlyMap<string, number>;
  tokens: readonly string[];
  kinds: number[];
}

/** @throws unsupported_model where scores would merge otherwise */
export function spacedEntries(json: TokenizerJson, spacePrefix: boolean, { ids, tokens, kinds }: Vocabulary): Buffer[] {
  const model = json.model!;
  for (const [token, id] of ids) if (kinds[id] === Kind.normal && BYTE.test(token)) kinds[id] = Kind.byte;
  const unknown = model.unk_token === undefined || model.unk_token === null ? undefined : ids.get(model.unk_token);
  if (unknown !== undefined) kinds[unknown] = Kind.unknown;
  return [
    ...vocabularyEntries(tokens, scoresOf(json, ids, kinds), kinds, spacePrefix),
    ...(unknown === undefined ? [] : [entryOf.u32('tokenizer.ggml.unknown_token_id', unknown)]),
  ];
}

/** Of a folder that has a tokenizer.model alone; `metadata` is as its reader gives it. */
export function pieceEntries(metadata: ReadonlyMap<string, unknown>, vocab: number): Buffer[] {
  const given = metadata.get('tokenizer.ggml.tokens') as string[];
  if (given.length > vocab)
    throw errors.unsupportedModel(`its tokenizer has ${given.length} pieces, its embedding ${vocab} rows`);
  const tokens = Array.from({ length: vocab }, (_, i) => given[i] ?? `[PAD${i}]`);
  const numbers = (name: string, fallback: number) => {
    const list = metadata.get(`tokenizer.ggml.${name}`) as ArrayLike<number>;
    return Array.from({ length: vocab }, (_, i) => list[i] ?? fallback);
  };
  const spacePrefix = metadata.get('tokenizer.ggml.add_space_prefix') as boolean;
  const ids = ['unknown', 'bos', 'eos'].flatMap((name) => {
    const key = `tokenizer.ggml.${name}_token_id`;
    const id = metadata.get(key);
    return typeof id === 'number' ? [entryOf.u32(key, id)] : [];
  });
  const bos = metadata.get('tokenizer.ggml.add_bos_token');
  const chat = metadata.get('tokenizer.chat_template');
  return [
    ...vocabularyEntries(tokens, numbers('scores', 0), numbers('token_type', Kind.unused), spacePrefix),
    ...ids,
    ...(typeof bos === 'boolean' ? [entryOf.bool('tokenizer.ggml.add_bos_token', bos)] : []),
    ...(typeof chat === 'string' ? [entryOf.text('tokenizer.chat_template', chat)] : []),
  ];
}

function vocabularyEntries(
  tokens: readonly string[],
  scores: readonly number[],
  kinds: readonly number[],
  spacePrefix: boolean,
): Buffer[] {
  return [
    entryOf.text('tokenizer.ggml.model', 'llama'),
    entryOf.text('tokenizer.ggml.pre', 'default'),
    entryOf.texts('tokenizer.ggml.tokens', tokens),
    entryOf.f32s('tokenizer.ggml.scores', scores),
    entryOf.i32s('tokenizer.ggml.token_type', kinds),
    entryOf.bool('tokenizer.ggml.add_space_prefix', spacePrefix),
  ];
}

/**
 * A merge takes the pair that comes first in the list; SentencePiece the pair whose union has the highest score, however it is
 * cut. The two are the same where the list has all cuts of each token, and those of a token together.
 */
function scoresOf({ model }: TokenizerJson, ids: ReadonlyMap<string, number>, kinds: readonly number[]): number[] {
  const refuse = (why: string) =>
    errors.unsupportedModel(`its tokenizer.json merges otherwise than a SentencePiece model would (${why})`);
  const isText = (piece: string): boolean => kinds[ids.get(piece) ?? -1] === Kind.normal;
  const found = new Map<string, { first: number; last: number; cuts: number }>();
  (model!.merges ?? []).forEach((merge, rank) => {
    const parts = typeof merge === 'string' ? merge.split(' ') : merge;
    const cut = parts.every(isText) ? 1 : 0;
    const known = found.get(parts.join(''));
    if (!known) found.set(parts.join(''), { first: rank, last: rank, cuts: cut });
    else if (cut) Object.assign(known, { last: rank, cuts: known.cuts + 1 });
  });
  const scores = kinds.map(() => 0);
  let end = -1;
  for (const [token, { first, last, cuts }] of found) {
    const id = ids.get(token);
    if (id === undefined) throw refuse(`'${token.slice(0, 40)}' is no token`);
    scores[id] = -first;
    // what text never becomes by merging does not count
    if (kinds[id] !== Kind.normal) continue;
    if (first <= end) throw refuse(`merges that make '${token.slice(0, 40)}' lie apart`);
    end = last;
    if (cuts !== cutsOf(token, isText)) throw refuse(`a way to make '${token.slice(0, 40)}' is missing`);
  }
  // characters that no merge makes
  for (const [token, id] of ids)
    if (!found.has(token)) {
      scores[id] = -(model!.merges?.length ?? 0);
      if (isText(token) && cutsOf(token, isText) > 0) throw refuse(`a way to make '${token.slice(0, 40)}' is missing`);
    }
  return scores;
}

/** In how many places the token can be cut into two tokens that text becomes. */
function cutsOf(token: string, isText: (piece: string) => boolean): number {
  let cuts = 0;
  for (let at = 1; at < token.length; at++) {
    // not between the halves of a character
    if (/[\udc00-\udfff]/.test(token[at]!)) continue;
    if (isText(token.slice(0, at)) && isText(token.slice(at))) cuts++;
  }
  return cuts;
}
