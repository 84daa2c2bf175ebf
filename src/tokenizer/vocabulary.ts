/** The vocabulary of a model file: tokens, their kinds, and the special ones. */
import { errors } from '../errors.js';
import { ByteIndex } from './byte-index.js';
import { metadataFlag, metadataId, metadataNumbers, metadataString, metadataStrings } from './metadata.js';
import { type PackedStrings, packStrings, unpackString } from './packed.js';
import type { Metadata, SpecialIds } from './types.js';

/** Text without special tokens to ids, appended to `out`; `text` is well-formed. */
export interface TextEncoder {
  encode(text: string, out: number[]): void;
}

/** `tokenizer.ggml.token_type` */
export const Kind = { undefined: 0, normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Tokens that end a turn or a text, whatever the file calls them. */
export const END_TEXTS = [
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
  '</s>',
];

export interface Vocabulary {
  model: 'gpt2' | 'llama';
  tokens: PackedStrings;
  size: number;
  /** (size) Kind */
  kinds: Uint8Array;
  /** (size) */
  scores: Float32Array;
  special: SpecialIds;
  endTokens: number[];
  /** Tokens that plain text may become: none that is control, unknown or a byte by its spelling. */
  textIndex: ByteIndex;
  /** (256) token of each byte (`<0x0A>`), -1 if there is none. */
  byteIds: Int32Array;
  /** Control, unknown and user-defined tokens by their spelling, longest first. */
  named: Map<string, number>;
}

const MODELS = ['gpt2', 'llama'];

/** @throws LongmindError bad_tokenizer */
export function readVocabulary(metadata: Metadata): Vocabulary {
  const model = readModel(metadata);
  const list = metadataStrings(metadata, 'tokenizer.ggml.tokens');
  if (!list || list.length === 0) throw errors.badTokenizer("metadata 'tokenizer.ggml.tokens' is missing");
  const tokens = packStrings(list);
  const size = list.length;
  const kinds = new Uint8Array(size).fill(Kind.normal);
  metadataNumbers(metadata, 'tokenizer.ggml.token_type', size)?.forEach((kind, i) => {
    kinds[i] = kind;
  });
  const ends = END_TEXTS.map((text) => findToken(tokens, text));
  for (const id of ends) if (id >= 0) kinds[id] = Kind.control; // some files forget to say so
  const special = readSpecial(metadata, model, size, ends);
  const textIndex = new ByteIndex(tokens, (id) => isText(kinds[id]!));
  return {
    model,
    tokens,
    size,
    kinds,
    scores: metadataNumbers(metadata, 'tokenizer.ggml.scores', size) ?? new Float32Array(size),
    special,
    endTokens: endTokens(special, ends),
    textIndex,
    byteIds: findBytes(tokens, kinds, textIndex),
    named: findNamed(tokens, kinds),
  };
}

function readModel(metadata: Metadata): Vocabulary['model'] {
  const model = metadataString(metadata, 'tokenizer.ggml.model');
  if (model === null) throw errors.badTokenizer("metadata 'tokenizer.ggml.model' is missing");
  if (MODELS.includes(model)) return model as Vocabulary['model'];
  throw errors.badTokenizer(`tokenizer model '${model}' is not supported (supported: ${MODELS.join(', ')})`);
}

const isText = (kind: number): boolean =>
  kind === Kind.normal || kind === Kind.userDefined || kind === Kind.unused || kind === Kind.undefined;

/** -1 if there is none. */
function findToken(tokens: PackedStrings, text: string): number {
  const wanted = Buffer.from(text, 'utf8');
  for (let id = tokens.starts.length - 1; id >= 0; id--) {
    const start = tokens.starts[id]!;
    if (tokens.lengths[id] === wanted.length && wanted.equals(tokens.bytes.subarray(start, start + wanted.length)))
      return id;
  }
  return -1;
}

function findBytes(tokens: PackedStrings, kinds: Uint8Array, textIndex: ByteIndex): Int32Array {
  // where a byte has no token of its own, the character may have one
  const ids = Int32Array.from({ length: 256 }, (_, b) => (b < 128 ? textIndex.find(Uint8Array.of(b), 0, 1) : -1));
  for (let id = 0; id < kinds.length; id++) {
    const byte = kinds[id] === Kind.byte ? byteOf(tokens, id) : -1;
    if (byte >= 0) ids[byte] = id;
  }
  return ids;
}

/** `<0x0A>` → 10; -1 if it is not spelled so. */
export function byteOf(tokens: PackedStrings, id: number): number {
  const m = /^<0x([0-9A-Fa-f]{2})>$/.exec(unpackString(tokens, id));
  return m ? Number.parseInt(m[1]!, 16) : -1;
}

function findNamed(tokens: PackedStrings, kinds: Uint8Array): Map<string, number> {
  const ids: number[] = [];
  for (let id = 0; id < kinds.length; id++) {
    const kind = kinds[id];
    if (kind === Kind.control || kind === Kind.unknown || kind === Kind.userDefined) ids.push(id);
  }
  ids.sort((a, b) => tokens.lengths[b]! - tokens.lengths[a]! || a - b);
  return new Map(ids.map((id) => [unpackString(tokens, id), id] as const).filter(([text]) => text !== ''));
}

function readSpecial(metadata: Metadata, model: Vocabulary['model'], size: number, ends: number[]): SpecialIds {
  const id = (name: string): number | null => metadataId(metadata, `tokenizer.ggml.${name}_token_id`, size);
  const isLlama = model === 'llama';
  return {
    bos: id('bos') ?? (isLlama && size > 1 ? 1 : null),
    eos: id('eos') ?? (isLlama && size > 2 ? 2 : null),
    eot: id('eot') ?? ends.slice(0, END_TEXTS.indexOf('</s>')).find((e) => e >= 0) ?? null,
    unknown: id('unknown') ?? (isLlama ? 0 : null),
  };
}

/** `ends`: ids of END_TEXTS, -1 where there is none. */
export function endTokens(special: Pick<SpecialIds, 'eos' | 'eot'>, ends: readonly number[]): number[] {
  const all = new Set(ends.filter((id) => id >= 0));
  for (const id of [special.eos, special.eot]) if (id !== null) all.add(id);
  // OpenAI's harmony format ends messages with <|end|>, and answers with <|return|> or <|call|>
  const [end, ret, call] = ['<|end|>', '<|return|>', '<|call|>'].map((t) => ends[END_TEXTS.indexOf(t)]!);
  if (end! >= 0 && ret! >= 0 && call! >= 0) all.delete(end!);
  return [...all].sort((a, b) => a - b);
}

export const wantsStart = (metadata: Metadata, fallback: boolean): boolean =>
  metadataFlag(metadata, 'tokenizer.ggml.add_bos_token') ?? fallback;
