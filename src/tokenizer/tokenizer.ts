/** A tokenizer from a model file's own metadata; ids are those of llama.cpp on the same file. */
import { errors } from '../errors.js';
import type { StreamDecoder, TokenBytes } from '../types.js';
import { BpeEncoder } from './bpe.js';
import { decodeTokens, TokenDecoder } from './decoder.js';
import { createJsonTokenizer, isJsonTokenizer } from './json/tokenizer.js';
import { metadataFlag, metadataString, metadataStrings } from './metadata.js';
import { packStrings, unpackString } from './packed.js';
import { createPreTokenizer, type PreTokenizer } from './pre-tokenizer.js';
import { SentencePieceEncoder } from './sentencepiece.js';
import { splitSpecial } from './special-split.js';
import { makeTokenBytes } from './token-bytes.js';
import type { DecodeOptions, EncodeOptions, Metadata, Tokenizer } from './types.js';
import { Kind, readVocabulary, type TextEncoder, type Vocabulary, wantsStart } from './vocabulary.js';

interface TokenizerOptions {
  /** Rows of the model's embedding, where they are more than the vocabulary has tokens. */
  modelVocab?: number;
}

/** @throws LongmindError bad_tokenizer */
export function createTokenizer(metadata: Metadata, options: TokenizerOptions = {}): Tokenizer {
  if (isJsonTokenizer(metadata)) return createJsonTokenizer(metadata, options.modelVocab ?? 0);
  const vocabulary = readVocabulary(metadata);
  const warnings: string[] = [];
  if (vocabulary.model === 'llama') return sentencePiece(metadata, vocabulary, options, warnings);
  const list = metadataStrings(metadata, 'tokenizer.ggml.merges');
  if (!list) throw errors.badTokenizer("metadata 'tokenizer.ggml.merges' is missing");
  const merges = packStrings(list);
  const pre = preTokenizer(metadata, warnings);
  const encoder = new BpeEncoder(merges, vocabulary.textIndex, vocabulary.size, pre);
  const table = makeTokenBytes(vocabulary, options.modelVocab ?? 0);
  const rules: Rules = {
    spacePrefix: false,
    addBos: wantsStart(metadata, pre.addBos),
  };
  return new FileTokenizer(vocabulary, encoder, table, rules, warnings);
}

function sentencePiece(
  metadata: Metadata,
  vocabulary: Vocabulary,
  options: TokenizerOptions,
  warnings: string[],
): Tokenizer {
  const encoder = new SentencePieceEncoder(vocabulary);
  const spacePrefix = metadataFlag(metadata, 'tokenizer.ggml.add_space_prefix') ?? true;
  const table = makeTokenBytes(vocabulary, options.modelVocab ?? 0);
  const rules: Rules = {
    spacePrefix,
    addBos: wantsStart(metadata, true),
  };
  return new FileTokenizer(vocabulary, encoder, table, rules, warnings);
}

function preTokenizer(metadata: Metadata, warnings: string[]): PreTokenizer {
  const name = metadataString(metadata, 'tokenizer.ggml.pre');
  const found = createPreTokenizer(name ?? 'default');
  if (name === null) warnings.push("the file names no pre-tokenizer ('tokenizer.ggml.pre'); 'default' is used");
  if (found) return found;
  warnings.push(`pre-tokenizer '${name}' is not known; 'default' is used, and some words may be cut otherwise`);
  return createPreTokenizer('default')!;
}

interface Rules {
  /** A space goes in front of text at the beginning and after special tokens. */
  spacePrefix: boolean;
  addBos: boolean;
}

const LONE_SURROGATE = /\p{Surrogate}/gu;

class FileTokenizer implements Tokenizer {
  readonly model: string;
  readonly vocabSize: number;
  readonly special: Tokenizer['special'];
  readonly endTokens: readonly number[];
  readonly startTokens: readonly number[];

  constructor(
    private readonly vocabulary: Vocabulary,
    private readonly encoder: TextEncoder,
    readonly tokenBytes: TokenBytes,
    private readonly rules: Rules,
    readonly warnings: readonly string[],
  ) {
    this.model = vocabulary.model;
    this.vocabSize = vocabulary.size;
    this.special = vocabulary.special;
    this.endTokens = vocabulary.endTokens;
    this.startTokens = rules.addBos && vocabulary.special.bos !== null ? [vocabulary.special.bos] : [];
  }

  encode(text: string, options: EncodeOptions): Int32Array {
    const out: number[] = options.addBos ? [...this.startTokens] : [];
    const { named, kinds } = this.vocabulary;
    const wellFormed = text.replace(LONE_SURROGATE, '\ufffd');
    const wanted = (id: number): boolean => options.special || kinds[id] === Kind.userDefined;
    let atStart = !options.continued;
    for (const fragment of splitSpecial(wellFormed, named, wanted)) {
      if (typeof fragment === 'number') {
        out.push(fragment);
        atStart = true;
      } else {
        const piece = options.leaveOut ? fragment.replaceAll(options.leaveOut, '') : fragment;
        if (piece === '') continue;
        this.encoder.encode(this.rules.spacePrefix && atStart ? ` ${piece}` : piece, out);
        atStart = false;
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
    return { special: options.special, trimPrefix: options.trimPrefix && this.rules.spacePrefix };
  }

  tokenText(id: number): string {
    return id >= 0 && id < this.vocabSize ? unpackString(this.vocabulary.tokens, id) : '';
  }

  controlTexts(): string[] {
    const { named, kinds } = this.vocabulary;
    return [...named].filter(([, id]) => kinds[id] !== Kind.userDefined).map(([text]) => text);
  }

  tokenId(text: string): number | null {
    return this.vocabulary.named.get(text) ?? null;
  }
}
