/** A small vocabulary with everything that makes tokens awkward, and helpers to follow documents. */
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { createMatcher, type Grammar, type GrammarStart, type Matcher, type TokenBytes } from '../src/index.js';

const PIECES = [
  '{"',
  '":',
  '": ',
  '", "',
  '","',
  '"}',
  '"]',
  '}}',
  ']}',
  '},{"',
  '}]',
  '{}',
  '[]',
  '[[',
  '[{"',
  ',"',
  ', "',
  '":{"',
  '":["',
  'true',
  'false',
  'null',
  'tr',
  'ue',
  '12',
  '00',
  '1.',
  '.5',
  'e+',
  '-1',
  '-0',
  '1e',
  '0,',
  '1}',
  '1]',
  '7, ',
  'a":',
  'b":',
  'k1',
  'abc',
  'the',
  ' the',
  '  ',
  '\n  ',
  '\n',
  '\n}',
  ',\n    "',
  ' }',
  '\\u',
  '\\n',
  '\\"',
  'd83d',
  '\\ud83d',
  '\\ude00',
  'de00"',
  '\\\\',
  '\\u00',
  'é',
  'ß',
  '東京',
  '🏙️',
  '<tool',
  '_call>',
  '</',
  '{"name": "',
  '", "arguments": {',
  '}\n</tool_call>',
  '2020-01',
  '-02T',
  '0-9',
  '\n</parameter>',
];
/** Pieces of characters: tokens may begin and end inside them. */
const BROKEN = [
  [0xe6, 0x9d],
  [0xb1, 0x22],
  [0xf0, 0x9f],
  [0x8f, 0x99, 0xef],
  [0xc3],
  [0xed, 0xa0],
  [0xff, 0x22],
  [0xa9, 0x22, 0x7d],
];
const SPECIAL = ['<|end|>', '<|other|>', '<tool_call>', '</tool_call>'];

export interface TestVocabulary {
  table: TokenBytes;
  end: number;
  size: number;
  idOf: (name: string) => number;
}

function testVocabulary(): TestVocabulary {
  const tokens: Uint8Array[] = Array.from({ length: 256 }, (_, b) => Uint8Array.of(b));
  for (const p of PIECES) tokens.push(Buffer.from(p, 'utf8'));
  for (const b of BROKEN) tokens.push(Uint8Array.from(b));
  tokens.push(new Uint8Array(0), Buffer.from('abc', 'utf8'));
  const special = tokens.length;
  for (const s of SPECIAL) tokens.push(Buffer.from(s, 'utf8'));
  const offsets = new Int32Array(tokens.length + 1);
  tokens.forEach((t, i) => {
    offsets[i + 1] = offsets[i] + t.length;
  });
  const table = {
    bytes: Uint8Array.from(tokens.flatMap((t) => [...t])),
    offsets,
    special: Uint8Array.from(tokens, (_, i) => (i >= special ? 1 : 0)),
  };
  return { table, end: special, size: tokens.length, idOf: (name) => special + SPECIAL.indexOf(name) };
}

export const vocabulary = testVocabulary();

export function matcherOf(grammar: Grammar, start: GrammarStart = 'document'): Matcher {
  return createMatcher(grammar, vocabulary.table, [vocabulary.end], start);
}

/** True if the grammar accepts exactly this document, byte by byte. */
export function accepts(grammar: Grammar, text: string | Uint8Array): boolean {
  const m = matcherOf(grammar);
  for (const b of typeof text === 'string' ? Buffer.from(text, 'utf8') : text) if (!m.accept(b)) return false;
  return m.isComplete();
}

/** The bytes that a token stands for. */
export function bytesOf(token: number): Uint8Array {
  const { bytes, offsets } = vocabulary.table;
  return bytes.subarray(offsets[token], offsets[token + 1]);
}

export function allowed(m: Matcher): number[] {
  const words = Math.ceil(vocabulary.size / 32);
  const mask = new Int32Array(words + 2).fill(-1);
  m.fillMask(mask, 1);
  if (mask[0] !== -1 || mask[words + 1] !== -1) throw new Error('the mask wrote outside of its row');
  const out: number[] = [];
  for (let t = 0; t < words * 32; t++) if ((mask[1 + (t >> 5)] >>> (t & 31)) & 1) out.push(t);
  return out;
}

/** A repeatable stream of numbers in [0, 1): mulberry32. */
export function randomStream(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** An independent judge of documents. */
export function judge(): Ajv2020 {
  const ajv = new Ajv2020({ strict: false, allErrors: false, validateFormats: true });
  addFormats.default(ajv);
  return ajv;
}

const CLOSING = [256 + PIECES.indexOf('\n</parameter>'), ...['"', '}', ']'].map((c) => c.charCodeAt(0))];

/**
 * Walks at random until the document ends; returns its text. Looks at `check` before every step. After `steps` tokens it only
 * takes what is likely to close something.
 */
export function randomDocument(
  grammar: Grammar,
  random: () => number,
  steps: number,
  check?: (m: Matcher) => void,
): string {
  const m = matcherOf(grammar);
  const bytes: number[] = [];
  for (let n = 0; n < steps + 20_000; n++) {
    check?.(m);
    const may = allowed(m);
    if (may.length === 0) throw new Error(`stuck after ${Buffer.from(bytes).toString()}`);
    let token = may[Math.floor(random() * may.length)];
    if (may.includes(vocabulary.end) && (n > steps || random() < 0.5)) token = vocabulary.end;
    else if (random() < (n > steps ? 0.7 : 0.3)) {
      const closing = CLOSING.find((t) => may.includes(t));
      if (closing !== undefined) token = closing;
    }
    if (!m.accept(token)) throw new Error(`the mask allowed ${token}, accept refuses it`);
    if (token === vocabulary.end) return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes));
    bytes.push(...bytesOf(token));
  }
  throw new Error(`no end in sight after ${Buffer.from(bytes).toString().slice(0, 400)}`);
}
