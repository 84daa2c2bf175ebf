/** A folder's tokenizer in GGUF's metadata: BPE over bytes, with the ways to split text that GGUF has a name for, or SentencePiece's. */
import { errors } from '../errors.js';
import { entryOf } from './entries.js';
import { Kind, pieceEntries, spacedEntries, spacePrefixOf } from './spaced-tokenizer.js';
import type { AddedToken, Template, TokenizerJson } from './tokenizer-json.js';

const MODERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|DIGITS| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const LLAMA3 = MODERN.replace('DIGITS', '\\p{N}{1,3}');
const QWEN2 = MODERN.replace('DIGITS', '\\p{N}');
/** The same words: what is possessive has nothing to give back, and the last line break of a run ends both. */
const CL100K = LLAMA3.replace(']?\\p{L}', ']?+\\p{L}').replace('N}]+[', 'N}]++[').replace('[\\r\\n]+|', '[\\r\\n]|');

/** `tokenizer.ggml.pre`; null where it has no name. */
function nameOfSplitting(json: TokenizerJson): string | null {
  const list = json.pre_tokenizer?.type === 'Sequence' ? json.pre_tokenizer.pretokenizers : [json.pre_tokenizer ?? {}];
  const kinds = (list ?? []).map((p) => {
    if (p.type === 'Split') return `Split ${p.pattern?.Regex}`;
    if (p.type === 'Digits') return `Digits ${p.individual_digits === true}`;
    return p.type === 'ByteLevel' && !p.add_prefix_space ? `Bytes ${p.use_regex !== false}` : 'another';
  });
  switch (kinds.join(', ')) {
    case `Split ${LLAMA3}, Bytes false`:
      return json.model?.ignore_merges ? 'llama-bpe' : 'smaug-bpe';
    case `Split ${CL100K}, Bytes false`:
      return json.model?.ignore_merges ? 'llama-bpe' : 'dbrx';
    case `Split ${QWEN2}, Bytes false`:
      return json.model?.ignore_merges ? null : 'qwen2';
    case 'Digits true, Bytes true':
      return 'smollm';
    case 'Bytes true':
      return 'gpt-2';
    default:
      return null;
  }
}

/**
 * @param metadata what `openModel` read of a folder
 * @param vocab rows of the embedding: ids without a token are named as unused
 * @throws unsupported_model where GGUF has no form for it
 */
export function tokenizerEntries(
  metadata: ReadonlyMap<string, unknown>,
  vocab: number,
  onNote?: (note: string) => void,
): Buffer[] {
  const text = metadata.get('tokenizer.huggingface.json');
  if (typeof text !== 'string') return pieceEntries(metadata, vocab);
  const json = JSON.parse(text) as TokenizerJson;
  const { model, normalizer } = json;
  const spacePrefix = spacePrefixOf(json);
  const splitting = !normalizer || normalizer.type === 'NFC' ? nameOfSplitting(json) : null;
  if (model?.type !== 'BPE' || !model.vocab || (!splitting && spacePrefix === null))
    throw errors.unsupportedModel(
      `its tokenizer (${model?.type ?? 'unnamed'}, ${json.pre_tokenizer?.type ?? 'no pre-tokenizer'}) has no form in GGUF that is known here`,
    );
  const ids = new Map(Object.entries(model.vocab));
  for (const { content, id } of json.added_tokens ?? []) ids.set(content, id);
  const tokens = Array.from({ length: vocab }, (_, i) => `[PAD${i}]`);
  const kinds = Array.from({ length: vocab }, (): number => Kind.unused);
  for (const [token, id] of ids) {
    if (!Number.isInteger(id) || id < 0 || id >= vocab)
      throw errors.unsupportedModel(`its token '${token.slice(0, 40)}' has id ${id}, its embedding ${vocab} rows`);
    tokens[id] = token;
    kinds[id] = Kind.normal;
  }
  for (const { id, special } of json.added_tokens ?? []) kinds[id] = special ? Kind.control : Kind.userDefined;
  noteStripping(json.added_tokens ?? [], onNote);
  const special = specialEntries(metadata, json, ids);
  if (spacePrefix !== null) return [...spacedEntries(json, spacePrefix, { ids, tokens, kinds }), ...special];
  const merges = (model.merges ?? []).map((m) => (typeof m === 'string' ? m : m.join(' ')));
  return [
    entryOf.text('tokenizer.ggml.model', 'gpt2'),
    entryOf.text('tokenizer.ggml.pre', splitting!),
    entryOf.texts('tokenizer.ggml.tokens', tokens),
    entryOf.i32s('tokenizer.ggml.token_type', kinds),
    entryOf.texts('tokenizer.ggml.merges', merges),
    ...special,
  ];
}

function noteStripping(added: readonly AddedToken[], onNote?: (note: string) => void): void {
  const stripping = added.filter((t) => t.lstrip || t.rstrip || t.single_word);
  if (stripping.length > 0)
    onNote?.(
      `${stripping.length} added tokens of its tokenizer.json take the spaces beside them along ('${stripping[0]!.content.slice(0, 40)}' …), which GGUF cannot say: from the file, text beside them keeps its spaces`,
    );
}

function specialEntries(
  metadata: ReadonlyMap<string, unknown>,
  json: TokenizerJson,
  ids: ReadonlyMap<string, number>,
): Buffer[] {
  const config = JSON.parse(String(metadata.get('tokenizer.huggingface.config') ?? '{}')) as Record<string, unknown>;
  const ends = (metadata.get('tokenizer.huggingface.ends') ?? []) as number[];
  const idOf = (name: string) => ids.get(String(config[name]));
  const bos = idOf('bos_token');
  const eos = idOf('eos_token') ?? ends[0];
  const post = json.post_processor;
  const templates = post && 'processors' in post ? post.processors : [post as Template | null];
  const first = templates.find((t) => t?.type === 'TemplateProcessing')?.single?.[0]?.SpecialToken?.id;
  const startsWithBos = first !== undefined && ids.get(first) === bos;
  const chat = metadata.get('tokenizer.chat_template');
  return [
    ...(bos === undefined ? [] : [entryOf.u32('tokenizer.ggml.bos_token_id', bos)]),
    ...(eos === undefined ? [] : [entryOf.u32('tokenizer.ggml.eos_token_id', eos)]),
    entryOf.bool('tokenizer.ggml.add_bos_token', bos !== undefined && startsWithBos),
    ...(typeof chat === 'string' ? [entryOf.text('tokenizer.chat_template', chat)] : []),
  ];
}
