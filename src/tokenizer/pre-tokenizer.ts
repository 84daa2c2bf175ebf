/**
 * Splits text into words before byte-pair merges. A pre-tokenizer is a list of patterns: each splits every piece that the
 * ones before it left; what a pattern does not match is a piece of its own. Names and patterns are those of GGUF files
 * (`tokenizer.ggml.pre`); each pattern comes from the tokenizer of the model family that it is named after.
 * Classes of characters are those of Node's Unicode version: Node 20 does not know the letters of Unicode 16 yet.
 */
import { errors } from '../errors.js';

/** Unicode White_Space. JavaScript's \s also has U+FEFF and lacks U+0085. */
const W = '\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const S = `[${W}]`;
/** Spaces, but for the one before a word. */
const GAPS = `${S}+(?![^${W}])|${S}+`;
const CONTRACTIONS = `'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]`;
const LINES = `${S}*[\\r\\n]+`;

const GPT2 = `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${W}\\p{L}\\p{N}]+|${GAPS}`;
const WORD = '[^\\r\\n\\p{L}\\p{N}]?\\p{L}+';
const SYMBOLS = ` ?[^${W}\\p{L}\\p{N}]+[\\r\\n]*`;
const modern = (digits: string): string => `${CONTRACTIONS}|${WORD}|${digits}|${SYMBOLS}|${LINES}|${GAPS}`;

/** Cased letters, where only ASCII tells upper from lower. */
const UPPER = '[\\p{L}--[a-z]]';
const LOWER = '[\\p{L}--[A-Z]]';
const cased = (suffix: string): string =>
  `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+${suffix}|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*${suffix}`;
const SYMBOLS_AND_SLASH = ` ?[^${W}\\p{L}\\p{N}]+[\\r\\n\\/]*`;

const EAST_ASIAN = `[[\\u0800-\\u9fa5\\uac00-\\ud7ff]--[${W}]]+`;
const PUNCTUATED = `[!-\\/:-@\\[-\`\\{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|${LINES}|${GAPS}`;
const NOT_POINTS = ` ?[^\\(${W}\\|.,!?\\u2026\\u3002\\uff0c\\u3001\\u0964\\u06d4\\u060c\\)]+`;

const families: readonly { names: string[]; patterns: string[]; ignoreMerges?: boolean; addBos?: boolean }[] = [
  {
    names: ['default'],
    patterns: ['[\\p{P}$+<=>\\^~\\|]+', GPT2, '\\p{N}+', '[0-9][0-9][0-9]'],
  },
  {
    names: ['llama-bpe', 'llama3', 'llama-v3', 'falcon3', 'falcon-h1', 'pixtral', 'midm-2.0', 'lfm2'],
    patterns: [modern('\\p{N}{1,3}')],
    ignoreMerges: true,
    addBos: true,
  },
  { names: ['dbrx', 'smaug-bpe', 'chatglm-bpe', 'glm4'], patterns: [modern('\\p{N}{1,3}')] },
  {
    names: ['qwen2', 'stablelm2', 'deepseek-r1-qwen', 'megrez', 'hunyuan', 'grok-2', 'kormo'],
    patterns: [modern('\\p{N}')],
  },
  {
    names: ['smollm', 'starcoder', 'refact', 'command-r', 'codeshell', 'exaone', 'minerva-7b'],
    patterns: ['\\p{N}', GPT2],
  },
  {
    names: [
      'gpt-2',
      'phi-2',
      'mpt',
      'olmo',
      'jais',
      'trillion',
      'granite-docling',
      'exaone4',
      'gigachat',
      'a.x-4.0',
      'mellum',
    ],
    patterns: [GPT2],
  },
  {
    names: ['tekken'],
    patterns: [`${cased('')}|\\p{N}|${SYMBOLS_AND_SLASH}|${LINES}|${GAPS}`],
    ignoreMerges: true,
    addBos: true,
  },
  {
    names: ['gpt-4o', 'llama4', 'minimax-m2'],
    patterns: [`${cased(`(?:${CONTRACTIONS})?`)}|\\p{N}{1,3}|${SYMBOLS_AND_SLASH}|${LINES}|${GAPS}`],
  },
  {
    names: ['deepseek-llm'],
    patterns: [
      '[\\r\\n]',
      `${S}?[[\\p{Lu}\\p{Ll}\\p{Lt}]--[\\u{1d400}-\\u{1d7ff}]]+`,
      `${S}?[!-\\/:-~\\uff01-\\uff0f\\uff1a-\\uff5e\\u2018-\\u201f\\u3001-\\u3002]+`,
      `(?<!${S})${S}+$`, // looked for once a run, not at each of its characters
      EAST_ASIAN,
      '\\p{N}+',
    ],
  },
  { names: ['deepseek-coder'], patterns: ['[\\r\\n]', `${S}?\\p{L}+`, `${S}?\\p{P}+`, EAST_ASIAN, '\\p{N}'] },
  {
    names: ['deepseek-v3', 'hunyuan-dense'],
    patterns: ['\\p{N}{1,3}', '[\\u4e00-\\u9fa5\\u3040-\\u309f\\u30a0-\\u30ff]+', PUNCTUATED],
  },
  { names: ['falcon'], patterns: ['[\\p{P}$+<=>\\^~\\|`]+', GPT2, '[0-9][0-9][0-9]'] },
  { names: ['poro-chat', 'bloom', 'gpt3-finnish'], patterns: [NOT_POINTS] },
  { names: ['viking'], patterns: [NOT_POINTS, '\\p{N}'] },
  {
    names: ['seed-coder'],
    patterns: [`${CONTRACTIONS}|${WORD}|\\p{N}| ?[^${W}\\p{L}\\p{N}\\r\\n]+|${LINES}|${GAPS}`],
  },
  {
    names: ['bailingmoe', 'bailingmoe2', 'llada-moe'],
    patterns: [`'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|${WORD}|\\p{N}|${SYMBOLS}|${S}*[\\r\\n]|${GAPS}`],
  },
];

export interface PreTokenizer {
  name: string;
  /** A word that is a token as it stands is not built from merges. */
  ignoreMerges: boolean;
  /** Whether files of this family that do not say so want a start token. */
  addBos: boolean;
  /** Every character is in exactly one piece; `text` must be well-formed. */
  split(text: string): string[];
}

/** The pre-tokenizer of that name; null if it is not known. */
export function createPreTokenizer(name: string): PreTokenizer | null {
  const family = families.find((f) => f.names.includes(name));
  if (!family) return null;
  // 'v' allows differences of classes
  const patterns = family.patterns.map((p) => new RegExp(p, 'gv'));
  return {
    name,
    ignoreMerges: family.ignoreMerges ?? false,
    addBos: family.addBos ?? false,
    split: (text) => patterns.reduce(splitPieces, text === '' ? [] : [text]),
  };
}

/** The regular expression engine remembers a place for each character of a run, and gives up after some millions. @throws invalid_request */
export function nextMatch(pattern: RegExp, text: string): RegExpExecArray | null {
  try {
    return pattern.exec(text);
  } catch (e) {
    if (!(e instanceof RangeError)) throw e;
    throw errors.invalidRequest(
      `a text of ${text.length} characters has a run of one kind that is too long to tokenize`,
    );
  }
}

function splitPieces(pieces: string[], pattern: RegExp): string[] {
  const out: string[] = [];
  for (const piece of pieces) {
    let end = 0;
    pattern.lastIndex = 0;
    for (let m = nextMatch(pattern, piece); m !== null; m = nextMatch(pattern, piece)) {
      const word = m[0];
      if (m.index > end) out.push(piece.slice(end, m.index));
      out.push(word);
      end = m.index + word.length;
    }
    if (end < piece.length) out.push(end === 0 ? piece : piece.slice(end));
  }
  return out;
}
