/** The normalizers of tokenizer.json: text before it is cut. */
import { errors } from '../../errors.js';
import { readCharsMap } from './chars-map.js';
import { checkDepth, flagAt, type Json, objectAt, objectsAt, own, textAt } from './fields.js';
import { compilePattern, literalPattern, SPACES } from './regex.js';

/** `prefix` false: what is put in front of a text is left out, since the text goes on from another. */
export type Normalizer = (text: string, prefix: boolean) => string;

const WHERE = 'normalizer';
const LEFT = new RegExp(`^[${SPACES}]+`, 'v');
const RIGHT = new RegExp(`[${SPACES}]+$`, 'v');

/** @throws bad_tokenizer */
export function createNormalizer(json: Json | null, depth = 0): Normalizer {
  if (!json) return (text) => text;
  checkDepth(depth);
  const type = textAt(json, 'type', WHERE);
  switch (type) {
    case 'Sequence': {
      const parts = objectsAt(json, 'normalizers', WHERE).map((n) => createNormalizer(n, depth + 1));
      return (text, prefix) => parts.reduce((t, f) => bounded(f(t, prefix), text), text);
    }
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD':
      return (text) => text.normalize(type);
    case 'Lowercase':
      // each character by itself: the last sigma of a word is one like the others
      return (text) => Array.from(text, (c) => c.toLowerCase()).join('');
    case 'StripAccents':
      return (text) => text.replace(/\p{Mn}/gu, '');
    case 'Strip': {
      const [left, right] = [flagAt(json, 'strip_left', WHERE, true), flagAt(json, 'strip_right', WHERE, true)];
      return (text) => (right ? without(RIGHT) : same)((left ? without(LEFT) : same)(text));
    }
    case 'Prepend': {
      const first = textAt(json, 'prepend', WHERE);
      return (text, prefix) => (prefix && text !== '' ? first + text : text);
    }
    case 'Replace': {
      const pattern = patternOf(objectAt(json, 'pattern', WHERE));
      const content = textAt(json, 'content', WHERE);
      return (text) => text.replace(pattern, () => content);
    }
    case 'Precompiled':
      return readCharsMap(textAt(json, 'precompiled_charsmap', WHERE));
    default:
      throw errors.badTokenizer(`its normalizer is a '${type.slice(0, 80)}', which is not supported`);
  }
}

/** Replacements of replacements could fill the memory. */
function bounded(made: string, text: string): string {
  if (made.length > 64 * text.length + 4096)
    throw errors.badTokenizer(`its normalizer makes ${made.length} characters of ${text.length}`);
  return made;
}

const same = (text: string): string => text;
const without =
  (pattern: RegExp) =>
  (text: string): string =>
    text.replace(pattern, '');

/** `{ "Regex": … }` or `{ "String": … }`. */
export function patternOf(json: Json): RegExp {
  const regex = own(json, 'Regex');
  if (typeof regex === 'string') return compilePattern(regex);
  return literalPattern(textAt(json, 'String', 'pattern'));
}
