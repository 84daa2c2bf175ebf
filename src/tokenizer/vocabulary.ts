/** The vocabulary of a model file: token texts, their kinds, the special ones, and the bytes each stands for. */
import { createHash } from 'node:crypto';
import { errors } from '../errors.js';
import { charsToBytes } from './byte-chars.js';
import { metadataFlag, metadataId, metadataNumbers, metadataString, metadataStrings } from './metadata.js';
import type { Metadata, SpecialIds, Strings, TokenBytes } from './types.js';

/** Text without special tokens to ids, appended to `out`; `text` is well-formed. */
export interface TextEncoder {
  encode(text: string, out: number[]): void;
}

/** `tokenizer.ggml.token_type` */
export const Kind = { undefined: 0, normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Tokens that end a turn or a text, whatever the file calls them. */
const END_TEXTS = [
  '<|eot_id|>',
  '<|im_end|>',
  '<|end|>',
  '<|return|>',
  '<|call|>',
  '<end_of_turn>',
  '<|endoftext|>',
  '<|eom_id|>',
  '<EOT>',
  '_<EOT>',
  '<|end_of_text|>',
  '<end_of_utterance>',
  '<\uff5cend\u2581of\u2581sentence\uff5c>',
];

export interface Vocabulary {
  model: 'gpt2' | 'llama';
  tokens: Strings;
  size: number;
  /** (size) Kind */
  kinds: Uint8Array;
  /** (size) */
  scores: Float32Array;
  special: SpecialIds;
  endTokens: number[];
  /** Tokens that plain text may become, by their spelling in the file. */
  textIds: Map<string, number>;
  /** Byte tokens `<0x0A>` by their spelling. */
  byteIds: Map<string, number>;
  /** Control, unknown and user-defined tokens by their spelling, longest first. */
  named: Map<string, number>;
}

const MODELS = ['gpt2', 'llama'];

/** @throws LongmindError bad_tokenizer */
export function readVocabulary(metadata: Metadata): Vocabulary {
  const model = metadataString(metadata, 'tokenizer.ggml.model');
  if (model === null) throw errors.badTokenizer("metadata 'tokenizer.ggml.model' is missing");
  if (!MODELS.includes(model))
    throw errors.badTokenizer(`tokenizer model '${model}' is not supported (supported: ${MODELS.join(', ')})`);
  const tokens = metadataStrings(metadata, 'tokenizer.ggml.tokens');
  if (!tokens || tokens.length === 0) throw errors.badTokenizer("metadata 'tokenizer.ggml.tokens' is missing");
  const size = tokens.length;
  const kinds = new Uint8Array(size).fill(Kind.normal);
  metadataNumbers(metadata, 'tokenizer.ggml.token_type', size)?.forEach((kind, i) => {
    kinds[i] = kind;
  });
  const scores = metadataNumbers(metadata, 'tokenizer.ggml.scores', size) ?? new Float32Array(size);
  const index = indexTexts(tokens, kinds);
  const special = readSpecial(metadata, model as Vocabulary['model'], size, index.all);
  const endTokens = findEnds(special, index.all, kinds);
  return {
    model: model as Vocabulary['model'],
    tokens,
    size,
    kinds,
    scores,
    special,
    endTokens,
    ...sortTexts(index.all, kinds),
  };
}

function indexTexts(tokens: Strings, kinds: Uint8Array): { all: Map<string, number> } {
  const all = new Map<string, number>();
  for (let id = 0; id < kinds.length; id++) all.set(tokens.at(id) ?? '', id);
  all.delete('');
  return { all };
}

/**
 * Control, unknown and byte tokens are kept apart: no text, and no merge, may become one by its spelling.
 */
function sortTexts(
  all: ReadonlyMap<string, number>,
  kinds: Uint8Array,
): Pick<Vocabulary, 'textIds' | 'byteIds' | 'named'> {
  const textIds = new Map<string, number>();
  const byteIds = new Map<string, number>();
  const named: [string, number][] = [];
  for (const [text, id] of all) {
    const kind = kinds[id];
    if (kind === Kind.byte) byteIds.set(text, id);
    else if (kind === Kind.control || kind === Kind.unknown) named.push([text, id]);
    else {
      textIds.set(text, id);
      if (kind === Kind.userDefined) named.push([text, id]);
    }
  }
  named.sort((a, b) => Buffer.byteLength(b[0]) - Buffer.byteLength(a[0]) || a[1] - b[1]);
  return { textIds, byteIds, named: new Map(named) };
}

function readSpecial(
  metadata: Metadata,
  model: Vocabulary['model'],
  size: number,
  all: ReadonlyMap<string, number>,
): SpecialIds {
  const id = (name: string): number | null => metadataId(metadata, `tokenizer.ggml.${name}_token_id`, size);
  const isLlama = model === 'llama';
  const eot = id('eot') ?? END_TEXTS.map((t) => all.get(t)).find((t) => t !== undefined) ?? null;
  return {
    bos: id('bos') ?? (isLlama && size > 1 ? 1 : null),
    eos: id('eos') ?? (isLlama && size > 2 ? 2 : null),
    eot,
    unknown: id('unknown') ?? (isLlama ? 0 : null),
  };
}

/** Also marks them as control tokens: some files forget to. */
function findEnds(special: SpecialIds, all: ReadonlyMap<string, number>, kinds: Uint8Array): number[] {
  const ends = new Set<number>();
  for (const id of [special.eos, special.eot]) if (id !== null) ends.add(id);
  for (const text of END_TEXTS) {
    const id = all.get(text);
    if (id !== undefined) {
      ends.add(id);
      kinds[id] = Kind.control;
    }
  }
  // OpenAI's harmony format ends messages with <|end|> and answers with <|return|> or <|call|>
  const [end, ret, call] = ['<|end|>', '<|return|>', '<|call|>'].map((t) => all.get(t));
  if (end !== undefined && ret !== undefined && call !== undefined) ends.delete(end);
  return [...ends].sort((a, b) => a - b);
}

/** `padTo`: ids up to there exist in the model, though not in the vocabulary; they stand for nothing. */
export function makeTokenBytes(v: Vocabulary, padTo: number): TokenBytes {
  const size = Math.max(v.size, padTo);
  const offsets = new Int32Array(size + 1);
  const special = new Uint8Array(size);
  const parts: Uint8Array[] = [];
  let end = 0;
  for (let id = 0; id < size; id++) {
    const bytes = id < v.size ? bytesOf(v, id) : null;
    if (bytes) {
      parts.push(bytes);
      end += bytes.length;
    }
    const kind = v.kinds[id];
    special[id] = kind === Kind.normal || kind === Kind.userDefined || kind === Kind.byte ? 0 : 1;
    offsets[id + 1] = end;
  }
  const bytes = new Uint8Array(end);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return { bytes, offsets, special };
}

function bytesOf(v: Vocabulary, id: number): Uint8Array | null {
  const text = v.tokens.at(id) ?? '';
  switch (v.kinds[id]) {
    case Kind.normal:
      return v.model === 'gpt2' ? charsToBytes(text) : Buffer.from(text.replaceAll('\u2581', ' '), 'utf8');
    case Kind.byte:
      return /^<0x[0-9A-Fa-f]{2}>$/.test(text) ? Uint8Array.of(Number.parseInt(text.slice(3, 5), 16)) : null;
    case Kind.control:
    case Kind.unknown:
    case Kind.userDefined:
      return Buffer.from(text, 'utf8');
    default:
      return null;
  }
}

/** Hash of all that decides which ids a text becomes. */
export function fingerprintOf(v: Vocabulary, table: TokenBytes, merges: Strings | null, rules: string): string {
  const hash = createHash('sha256');
  hash.update(`${v.model} ${rules} ${JSON.stringify(v.special)}\n`);
  for (const part of [table.bytes, table.offsets, v.kinds, v.scores]) {
    hash.update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
  }
  for (let i = 0; merges && i < merges.length; i += 1000) {
    let chunk = '';
    for (let j = i; j < Math.min(i + 1000, merges.length); j++) chunk += `${merges.at(j)}\n`;
    hash.update(chunk);
  }
  return hash.digest('hex').slice(0, 32);
}

export const wantsStart = (metadata: Metadata, fallback: boolean): boolean =>
  metadataFlag(metadata, 'tokenizer.ggml.add_bos_token') ?? fallback;
