/**
 * Small vocabularies as a model file's metadata, learnt from the test texts across word boundaries: the ids show where a
 * pre-tokenizer cuts. Deterministic, so that fixtures need not hold them.
 */
import { byteToUtf8 } from '../../src/tokenizer/byte-chars.js';
import type { Value } from '../weights/gguf-builder.js';
import { texts } from './texts.js';

export const PRE_TOKENIZERS = [
  'default',
  'llama-bpe',
  'dbrx',
  'qwen2',
  'smollm',
  'gpt-2',
  'tekken',
  'gpt-4o',
  'deepseek-llm',
  'deepseek-coder',
  'deepseek-v3',
  'falcon',
  'poro-chat',
  'viking',
  'seed-coder',
  'bailingmoe',
];

const CONTROL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<s>', '[INST]'];
const USER_DEFINED = ['<body', '\n\n\n'];

/** The most frequent pair becomes a symbol, again and again (ties: the first one in the texts). */
function learn(words: string[][], merges: number): [left: string, right: string][] {
  const learnt: [string, string][] = [];
  for (let m = 0; m < merges; m++) {
    const counts = new Map<string, number>();
    for (const word of words) {
      for (let i = 0; i + 1 < word.length; i++) {
        const key = `${word[i]}\u0000${word[i + 1]}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
    }
    let best = '';
    for (const [key, count] of counts) if (count > (counts.get(best) ?? 1)) best = key;
    if (best === '') break;
    const [left, right] = best.split('\u0000') as [string, string];
    learnt.push([left, right]);
    for (const word of words) {
      for (let i = 0; i + 1 < word.length; i++) {
        if (word[i] === left && word[i + 1] === right) word.splice(i, 2, left + right);
      }
    }
  }
  return learnt;
}

const sample = (): string[] => texts.slice(0, 160).map((t) => t.replace(/\p{Surrogate}/gu, '\ufffd'));
const charOf = (byte: number): string => Buffer.from(byteToUtf8[byte]!).toString('utf8');

/** Byte-level BPE: control tokens, user-defined tokens, 256 bytes, what was learnt. */
export function smallBpe(merges = 300): Record<string, Value> {
  const learnt = learn(
    sample().map((t) => [...Buffer.from(t, 'utf8')].map(charOf)),
    merges,
  );
  const bytes = Array.from({ length: 256 }, (_, b) => charOf(b));
  const tokens = [...new Set([...CONTROL, ...USER_DEFINED, ...bytes, ...learnt.map((m) => m.join(''))])];
  return {
    'general.architecture': { string: 'llama' },
    'llama.context_length': { u32: 128 },
    'tokenizer.ggml.model': { string: 'gpt2' },
    'tokenizer.ggml.tokens': { strings: tokens },
    'tokenizer.ggml.token_type': { i32s: tokens.map(kindOf) },
    'tokenizer.ggml.merges': { strings: learnt.map((m) => m.join(' ')) },
    'tokenizer.ggml.bos_token_id': { u32: 1 },
    'tokenizer.ggml.eos_token_id': { u32: 2 },
  };
}

const kindOf = (token: string): number => (CONTROL.includes(token) ? 3 : USER_DEFINED.includes(token) ? 4 : 1);

/** SentencePiece-style: unknown, start, end, bytes, what was learnt, single characters. */
export function smallSentencePiece(pieces = 300): Record<string, Value> {
  const words = sample().map((t) => [...t.replaceAll(' ', '\u2581')]);
  const chars = [...new Set(words.flat())].filter((_, i) => i % 3 !== 2); // some stay without a token
  const learnt = learn(
    words.map((w) => w.filter((c) => chars.includes(c))),
    pieces,
  ).map((m) => m.join(''));
  const bytes = Array.from({ length: 256 }, (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`);
  const head = ['<unk>', '<s>', '</s>', ...bytes];
  const tokens = [...new Set([...head, ...learnt, ...chars])];
  return {
    'general.architecture': { string: 'llama' },
    'llama.context_length': { u32: 128 },
    'tokenizer.ggml.model': { string: 'llama' },
    'tokenizer.ggml.tokens': { strings: tokens },
    'tokenizer.ggml.scores': { f32s: tokens.map((_, i) => (i < head.length ? 0 : head.length - i)) },
    'tokenizer.ggml.token_type': { i32s: tokens.map((_, i) => (i === 0 ? 2 : i < 3 ? 3 : i < head.length ? 6 : 1)) },
    'tokenizer.ggml.bos_token_id': { u32: 1 },
    'tokenizer.ggml.eos_token_id': { u32: 2 },
    'tokenizer.ggml.unknown_token_id': { u32: 0 },
  };
}

/** The metadata as a reader of the file would give it. */
export function asMetadata(values: Record<string, Value>): Map<string, unknown> {
  return new Map(
    Object.entries(values).map(([key, value]): [string, unknown] => [
      key,
      'f32s' in value ? Float32Array.from(value.f32s) : Object.values(value)[0],
    ]),
  );
}

/** How many of the texts the fixture of small vocabularies covers. */
export const SMALL_TEXTS = 244;

/** A short name for what a text becomes: fixtures hold these instead of the ids. */
export function digest(plain: ArrayLike<number>, special: ArrayLike<number>): string {
  let hash = 0x811c9dc5;
  for (const id of [plain.length, ...Array.from(plain), special.length, ...Array.from(special)])
    hash = Math.imul(hash ^ id, 0x01000193);
  return (hash >>> 0).toString(16);
}
