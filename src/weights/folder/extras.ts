/** What a folder holds beside the weights: tokenizer, chat template, and how its makers want it to generate. */
import path from 'node:path';
import { errors } from '../../errors.js';
import type { GenerationDefaults } from '../../types.js';
import { Fields, isObject, readJson, readSmallFile } from './json.js';
import { type AddedPiece, readSentencePiece } from './sentencepiece.js';

const MAX_TOKENIZER = 64 * 2 ** 20;
const MAX_SMALL = 8 * 2 ** 20;

/** Keys as tokenizers read them; texts of JSON files stay texts, so that they are parsed where they are used. */
export function readTokenizerFiles(folder: string): Map<string, unknown> {
  const config = readJson(path.join(folder, 'tokenizer_config.json'), MAX_SMALL) ?? {};
  const metadata = readTokenizer(folder, config);
  const template = readSmallFile(path.join(folder, 'chat_template.jinja'), MAX_SMALL)?.toString('utf8');
  const chat = template ?? templateOf(config.chat_template);
  if (chat) metadata.set('tokenizer.chat_template', chat);
  return metadata;
}

function readTokenizer(folder: string, config: Record<string, unknown>): Map<string, unknown> {
  const file = path.join(folder, 'tokenizer.json');
  const tokenizer = readSmallFile(file, MAX_TOKENIZER);
  if (tokenizer)
    return new Map<string, unknown>([
      ['tokenizer.huggingface.json', tokenizer.toString('utf8')],
      ['tokenizer.huggingface.config', JSON.stringify(specialTokensOf(config))],
      ['tokenizer.huggingface.ends', readEnds(folder)],
    ]);
  const other = path.join(folder, 'tokenizer.model');
  const pieces = readSmallFile(other, MAX_TOKENIZER);
  if (!pieces) throw errors.badModelFile(file, 'it is missing, and there is no tokenizer.model either');
  const metadata = readSentencePiece(other, pieces, addedPieces(config));
  if (typeof config.add_bos_token === 'boolean') metadata.set('tokenizer.ggml.add_bos_token', config.add_bos_token);
  return metadata;
}

/** Tokens that tokenizer_config.json puts in the place of others, or behind them. */
function addedPieces({ added_tokens_decoder: added }: Record<string, unknown>): AddedPiece[] {
  if (!isObject(added)) return [];
  return Object.entries(added).flatMap(([id, token]) =>
    /^\d{1,7}$/.test(id) && isObject(token) && typeof token.content === 'string'
      ? [{ id: Number(id), content: token.content, special: token.special === true }]
      : [],
  );
}

/** What tokenizers read of tokenizer_config.json. */
function specialTokensOf(config: Record<string, unknown>): Record<string, unknown> {
  const text = (value: unknown): unknown => (isObject(value) ? value.content : value);
  const texts = ['bos_token', 'eos_token', 'unk_token'].map((name) => [name, text(config[name])] as const);
  return Object.fromEntries([
    ...texts.filter(([, t]) => typeof t === 'string'),
    ...(typeof config.add_bos_token === 'boolean' ? [['add_bos_token', config.add_bos_token] as const] : []),
  ]);
}

/** A text, or a list of named ones, of which 'default' is for conversations. */
function templateOf(value: unknown): string | null {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return null;
  const named = value.filter(isObject).filter((t) => typeof t.template === 'string');
  const found = named.find((t) => t.name === 'default') ?? named[0];
  return found ? (found.template as string) : null;
}

/** Token ids that end a generation, as generation_config.json and config.json name them. */
function readEnds(folder: string): number[] {
  const ids = new Set<number>();
  for (const name of ['generation_config.json', 'config.json']) {
    const json = readJson(path.join(folder, name), MAX_SMALL) ?? {};
    const text = isObject(json.text_config) ? json.text_config : {};
    for (const value of [json.eos_token_id, text.eos_token_id])
      for (const id of Array.isArray(value) ? value : [value])
        if (typeof id === 'number' && Number.isInteger(id) && id >= 0) ids.add(id);
  }
  return [...ids].slice(0, 64);
}

/** Values out of range are left out: they are advice. */
export function readGenerationDefaults(folder: string): GenerationDefaults {
  const file = path.join(folder, 'generation_config.json');
  const json = readJson(file, MAX_SMALL);
  if (!json) return {};
  const fields = new Fields(file, json);
  const number = (name: string, min: number, max: number): number | undefined => {
    const value = fields.object[name];
    return typeof value === 'number' && value >= min && value <= max ? value : undefined;
  };
  const topK = number('top_k', 0, 2 ** 31 - 1);
  const defaults: GenerationDefaults = {
    temperature: json.do_sample === false ? 0 : number('temperature', 0, 100),
    topP: number('top_p', 0, 1),
    minP: number('min_p', 0, 1),
    topK: Number.isInteger(topK) ? topK : undefined,
    repetitionPenalty: number('repetition_penalty', 0.01, 100),
  };
  return Object.fromEntries(Object.entries(defaults).filter(([, v]) => v !== undefined));
}
