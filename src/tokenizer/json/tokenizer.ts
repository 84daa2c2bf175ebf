/** A tokenizer from the tokenizer.json of a model folder; ids are those of the `tokenizers` library on the same file. */
import { errors } from '../../errors.js';
import type { StreamDecoder, TokenBytes } from '../../types.js';
import { decodeTokens, TokenDecoder } from '../decoder.js';
import { metadataString } from '../metadata.js';
import { makeTokenBytes } from '../token-bytes.js';
import type { DecodeOptions, EncodeOptions, Metadata, SpecialIds, Strings, Tokenizer } from '../types.js';
import { END_TEXTS, endTokens } from '../vocabulary.js';
import { AddedFinder, type AddedToken, readAdded } from './added.js';
import { createBpe, type WordModel } from './bpe.js';
import { checkDepth, isObject, type Json, objectAt, objectOrNull, objectsAt, own, textAt } from './fields.js';
import { createNormalizer, type Normalizer } from './normalizer.js';
import { createPreTokenizer, type PreTokenizer } from './pre-tokenizer.js';
import { createUnigram } from './unigram.js';
import { readSpellings, type Spellings } from './vocabulary.js';

const FILE = 'tokenizer.huggingface.json';
const CONFIG = 'tokenizer.huggingface.config';
const ENDS = 'tokenizer.huggingface.ends';

/** A GGUF file may carry a tokenizer.json beside its own lists; those come first. */
export const isJsonTokenizer = (metadata: Metadata): boolean =>
  metadata.has(FILE) && !metadata.has('tokenizer.ggml.model');

function parse(text: string | null, what: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(text ?? '{}');
  } catch (e) {
    throw errors.badTokenizer(`${what} is not valid JSON: ${(e as Error).message.slice(0, 200)}`);
  }
  if (!isObject(value)) throw errors.badTokenizer(`${what} is not a JSON object`);
  return value;
}

/** Tokens by id. @throws bad_tokenizer */
export function readJsonVocabulary(metadata: Metadata): { model: string; tokens: Strings } {
  const json = parse(metadataString(metadata, FILE), 'tokenizer.json');
  const { bytes } = createPreTokenizer(objectOrNull(json, 'pre_tokenizer', 'tokenizer'));
  const { model, texts } = readSpellings(objectAt(json, 'model', 'tokenizer'), readAdded(json), bytes);
  return { model, tokens: texts };
}

/** `modelVocab`: rows of the model's embedding, where they are more than the vocabulary has tokens. @throws bad_tokenizer */
export function createJsonTokenizer(metadata: Metadata, modelVocab: number): Tokenizer {
  const json = parse(metadataString(metadata, FILE), 'tokenizer.json');
  const config = parse(metadataString(metadata, CONFIG), 'tokenizer_config.json');
  const added = readAdded(json);
  const model = objectAt(json, 'model', 'tokenizer');
  const preTokenizer = createPreTokenizer(objectOrNull(json, 'pre_tokenizer', 'tokenizer'));
  const spellings = readSpellings(model, added, preTokenizer.bytes);
  const control = new Set(added.filter((t) => t.special).map((t) => t.id));
  const parts: Parts = {
    spellings,
    added,
    normalizer: createNormalizer(objectOrNull(json, 'normalizer', 'tokenizer')),
    preTokenizer,
    model: Array.isArray(own(model, 'vocab'))
      ? createUnigram(model, spellings.ids, control)
      : createBpe(model, spellings.ids, preTokenizer.bytes, control),
    ...readSpecial(json, config, added, spellings, metadata.get(ENDS)),
  };
  return new JsonTokenizer(parts, makeTokenBytes(spellings, modelVocab));
}

interface SpecialTokens {
  special: SpecialIds;
  startTokens: number[];
  endTokens: number[];
}

function readSpecial(
  json: Json,
  config: Json,
  added: readonly AddedToken[],
  { ids, size }: Spellings,
  given: unknown,
): SpecialTokens {
  const byText = new Map([...ids, ...added.map((t) => [t.content, t.id] as const)]);
  const named = (name: string): number | null => {
    const text = own(config, name);
    return typeof text === 'string' ? (byText.get(text) ?? null) : null;
  };
  const controls = new Map(added.filter((t) => t.special).map((t) => [t.content, t.id]));
  const ends = END_TEXTS.map((text) => controls.get(text) ?? -1);
  const eot = ends.slice(0, END_TEXTS.indexOf('</s>')).find((e) => e >= 0) ?? null;
  const special = { bos: named('bos_token'), eos: named('eos_token'), eot, unknown: named('unk_token') };
  const more = (Array.isArray(given) ? given : []).filter((id): id is number => Number.isInteger(id) && id < size);
  const start = startOf(objectOrNull(json, 'post_processor', 'tokenizer'), byText);
  const wanted = own(config, 'add_bos_token');
  const startTokens = wanted === false ? [] : start.length > 0 ? start : wanted === true ? [special.bos] : [];
  return {
    special,
    startTokens: startTokens.filter((id) => id !== null),
    endTokens: [...new Set([...endTokens(special, ends), ...more])].sort((a, b) => a - b),
  };
}

/** The special tokens that a template puts in front of a text. */
function startOf(processor: Json | null, byText: ReadonlyMap<string, number>, depth = 0): number[] {
  if (!processor) return [];
  checkDepth(depth);
  const type = textAt(processor, 'type', 'post_processor');
  if (type === 'Sequence')
    return objectsAt(processor, 'processors', 'post_processor').flatMap((p) => startOf(p, byText, depth + 1));
  if (type !== 'TemplateProcessing') return [];
  const out: number[] = [];
  for (const part of objectsAt(processor, 'single', 'post_processor')) {
    const token = objectOrNull(part, 'SpecialToken', 'post_processor');
    if (!token) break;
    const id = byText.get(textAt(token, 'id', 'post_processor'));
    if (id === undefined) throw errors.badTokenizer('its post_processor names a token that the vocabulary lacks');
    out.push(id);
  }
  return out;
}

interface Parts extends SpecialTokens {
  spellings: Spellings;
  added: readonly AddedToken[];
  normalizer: Normalizer;
  preTokenizer: PreTokenizer;
  model: WordModel;
}

const LONE_SURROGATE = /\p{Surrogate}/gu;

class JsonTokenizer implements Tokenizer {
  readonly model: string;
  readonly vocabSize: number;
  readonly special: SpecialIds;
  readonly endTokens: readonly number[];
  readonly startTokens: readonly number[];
  readonly warnings = [];
  /** Of tokens that are looked for in the text as it is, and as it is normalised. */
  readonly #raw: AddedFinder;
  readonly #normalised: AddedFinder;
  readonly #byText: ReadonlyMap<string, number>;
  readonly #trims: boolean;

  constructor(
    private readonly parts: Parts,
    readonly tokenBytes: TokenBytes,
  ) {
    const { spellings, added, normalizer } = parts;
    this.model = spellings.model;
    this.vocabSize = spellings.size;
    this.special = parts.special;
    this.endTokens = parts.endTokens;
    this.startTokens = parts.startTokens;
    this.#raw = new AddedFinder(
      added.filter((t) => !t.normalized),
      (content) => content,
    );
    this.#normalised = new AddedFinder(
      added.filter((t) => t.normalized),
      (content) => normalizer(content, true),
    );
    this.#byText = new Map(added.map((t) => [t.content, t.id]));
    this.#trims = parts.preTokenizer.addsPrefix || normalizer('x', true) !== normalizer('x', false);
  }

  encode(text: string, options: EncodeOptions): Int32Array {
    const out: number[] = options.addBos ? [...this.startTokens] : [];
    const wanted = (t: AddedToken): boolean => options.special || !t.special;
    const { normalizer, preTokenizer, model } = this.parts;
    let first = true;
    let prefix = !options.continued;
    for (const fragment of this.#raw.split(text.replace(LONE_SURROGATE, '\ufffd'), wanted)) {
      const pieces =
        typeof fragment === 'number' ? [fragment] : this.#normalised.split(normalizer(fragment, prefix), wanted);
      for (const piece of pieces) {
        if (typeof piece === 'number') out.push(piece);
        else {
          const plain = options.leaveOut ? piece.replaceAll(options.leaveOut, '') : piece;
          if (plain === '') continue;
          for (const word of preTokenizer.split(plain, { first, prefix })) if (word !== '') model.encode(word, out);
        }
        first = false;
        prefix = true;
      }
    }
    return Int32Array.from(out);
  }

  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    return decodeTokens(this.tokenBytes, ids, this.#decodeOptions(options));
  }

  createDecoder(options: DecodeOptions = {}): StreamDecoder {
    return new TokenDecoder(this.tokenBytes, this.#decodeOptions(options));
  }

  #decodeOptions(options: DecodeOptions): DecodeOptions {
    return { special: options.special, trimPrefix: options.trimPrefix && this.#trims };
  }

  tokenText(id: number): string {
    return this.parts.spellings.texts[id] ?? '';
  }

  controlTexts(): string[] {
    return this.parts.added.filter((t) => t.special && t.content !== '').map((t) => t.content);
  }

  tokenId(text: string): number | null {
    return this.#byText.get(text) ?? null;
  }
}
