/**
 * SentencePiece's own files (`tokenizer.model`, a protocol buffer: sentencepiece_model.proto) as the metadata of a GGUF file,
 * which tokenizers read already.
 */
import { errors } from '../../errors.js';

/** Wire types of protocol buffers. */
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** Numbers of the fields that are read. */
const FIELD = { pieces: 1, trainer: 2, normalizer: 3 };
const PIECE = { text: 1, score: 2, kind: 3 };
const TRAINER = { modelType: 3, unknown: 40, bos: 41, eos: 42 };
const NORMALIZER = { charsMap: 2, addDummyPrefix: 3, removeExtraWhitespaces: 4 };
const BPE = 2;
const MAX_PIECES = 2 ** 20;

interface Field {
  number: number;
  /** Of a varint (as a signed 32-bit number where it is longer). */
  value: number;
  /** Of a string, bytes or a message; of a fixed number. */
  bytes: Buffer;
}

export interface AddedPiece {
  id: number;
  content: string;
  special: boolean;
}

/** @throws bad_model_file, unsupported_model */
export function readSentencePiece(path: string, file: Buffer, added: readonly AddedPiece[]): Map<string, unknown> {
  const bad = (what: string) => errors.badModelFile(path, what);
  const tokens: string[] = [];
  const scores: number[] = [];
  const kinds: number[] = [];
  let special: [string, number][] = [];
  let addDummyPrefix = true;
  for (const { number, bytes } of fields(file, bad)) {
    if (number === FIELD.pieces) {
      if (tokens.length >= MAX_PIECES) throw bad(`it has more than ${MAX_PIECES} pieces`);
      const piece = readPiece(bytes, bad);
      tokens.push(piece.text);
      scores.push(piece.score);
      kinds.push(piece.kind);
    } else if (number === FIELD.trainer) special = readTrainer(bytes, bad);
    else if (number === FIELD.normalizer) addDummyPrefix = readNormalizer(bytes, bad);
  }
  if (tokens.length === 0) throw bad('it holds no pieces');
  for (const { id, content, special: control } of added) {
    if (id > tokens.length + 65_536) throw bad(`an added token has the id ${id}, with ${tokens.length} pieces`);
    for (; tokens.length <= id; tokens.push('')) {
      scores.push(0);
      kinds.push(5);
    }
    tokens[id] = content;
    kinds[id] = control ? 3 : 4;
  }
  return new Map<string, unknown>([
    ['tokenizer.ggml.model', 'llama'],
    ['tokenizer.ggml.tokens', tokens],
    ['tokenizer.ggml.scores', Float32Array.from(scores)],
    ['tokenizer.ggml.token_type', Int32Array.from(kinds)],
    ['tokenizer.ggml.add_space_prefix', addDummyPrefix],
    ...special.map(([name, id]) => [`tokenizer.ggml.${name}_token_id`, id] as const),
  ]);
}

type Bad = (what: string) => Error;

function readPiece(bytes: Buffer, bad: Bad): { text: string; score: number; kind: number } {
  const piece = { text: '', score: 0, kind: 1 };
  for (const f of fields(bytes, bad)) {
    if (f.number === PIECE.text) piece.text = f.bytes.toString('utf8');
    else if (f.number === PIECE.score && f.bytes.length === 4) piece.score = f.bytes.readFloatLE(0);
    else if (f.number === PIECE.kind) piece.kind = f.value;
  }
  if (!Number.isFinite(piece.score) || piece.kind < 1 || piece.kind > 6) throw bad('a piece of it is malformed');
  return piece;
}

/** Ids of the special tokens. */
function readTrainer(bytes: Buffer, bad: Bad): [string, number][] {
  const ids = new Map([
    ['unknown', 0],
    ['bos', 1],
    ['eos', 2],
  ]);
  let type = 1;
  for (const { number, value } of fields(bytes, bad)) {
    if (number === TRAINER.modelType) type = value;
    if (number === TRAINER.unknown) ids.set('unknown', value);
    if (number === TRAINER.bos) ids.set('bos', value);
    if (number === TRAINER.eos) ids.set('eos', value);
  }
  if (type !== BPE)
    throw errors.unsupportedModel(`its tokenizer.model is of type ${type}, and only byte-pair models (2) can be read`);
  return [...ids].filter(([, id]) => id >= 0);
}

/** Whether a space goes in front of a text. */
function readNormalizer(bytes: Buffer, bad: Bad): boolean {
  let prefix = true;
  let squeezes = true;
  for (const { number, value, bytes: content } of fields(bytes, bad)) {
    if (number === NORMALIZER.charsMap && content.length > 0)
      throw errors.unsupportedModel(
        'its tokenizer.model normalises text, which cannot be done without a tokenizer.json',
      );
    if (number === NORMALIZER.addDummyPrefix) prefix = value !== 0;
    if (number === NORMALIZER.removeExtraWhitespaces) squeezes = value !== 0;
  }
  if (squeezes)
    throw errors.unsupportedModel('its tokenizer.model removes spaces, which cannot be done without a tokenizer.json');
  return prefix;
}

/** The fields of a message, in order. */
function* fields(message: Buffer, bad: Bad): Generator<Field> {
  let at = 0;
  const varint = (): number => {
    let low = 0;
    for (let i = 0; i < 10; i++) {
      const byte = message[at++];
      if (byte === undefined) throw bad('it is truncated');
      if (i < 5) low |= (byte & 0x7f) << (7 * i);
      if (byte < 0x80) return low;
    }
    throw bad('it is no protocol buffer');
  };
  const take = (length: number): Buffer => {
    if (length < 0 || length > message.length - at) throw bad('it is truncated');
    at += length;
    return message.subarray(at - length, at);
  };
  while (at < message.length) {
    const tag = varint();
    const number = tag >>> 3;
    switch (tag & 7) {
      case VARINT:
        yield { number, value: varint(), bytes: message.subarray(0, 0) };
        break;
      case FIXED64:
        yield { number, value: 0, bytes: take(8) };
        break;
      case BYTES:
        yield { number, value: 0, bytes: take(varint()) };
        break;
      case FIXED32:
        yield { number, value: 0, bytes: take(4) };
        break;
      default:
        throw bad('it is no protocol buffer');
    }
  }
}
