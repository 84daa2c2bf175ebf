/** The pre-tokenizers of tokenizer.json: text into words that the model encodes one by one. */
import { errors } from '../../errors.js';
import { nextMatch } from '../pre-tokenizer.js';
import { checkDepth, flagAt, type Json, objectAt, objectsAt, textAt } from './fields.js';
import { patternOf } from './normalizer.js';
import { compilePattern } from './regex.js';

/** `first`: the piece is the beginning of the text. `prefix` false: it goes on from another text. */
export interface PieceContext {
  first: boolean;
  prefix: boolean;
}

export interface PreTokenizer {
  split(text: string, context: PieceContext): string[];
  /** The model sees bytes (as the characters that stand for them), not characters. */
  bytes: boolean;
  /** A space may be put in front of a text. */
  addsPrefix: boolean;
}

type Behaviour = 'Removed' | 'Isolated' | 'MergedWithPrevious' | 'MergedWithNext' | 'Contiguous';
const BEHAVIOURS: readonly string[] = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'];
const WHERE = 'pre_tokenizer';
const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const each = (f: (text: string, c: PieceContext) => string[]): PreTokenizer => ({
  split: f,
  bytes: false,
  addsPrefix: false,
});

/** @throws bad_tokenizer */
export function createPreTokenizer(json: Json | null, depth = 0): PreTokenizer {
  checkDepth(depth);
  if (!json) return each((text) => [text]);
  const type = textAt(json, 'type', WHERE);
  switch (type) {
    case 'Sequence':
      return sequence(objectsAt(json, 'pretokenizers', WHERE).map((p) => createPreTokenizer(p, depth + 1)));
    case 'ByteLevel':
      return byteLevel(flagAt(json, 'add_prefix_space', WHERE, true), flagAt(json, 'use_regex', WHERE, true));
    case 'Split':
      return splitter(
        patternOf(objectAt(json, 'pattern', WHERE)),
        behaviourOf(json),
        flagAt(json, 'invert', WHERE, false),
      );
    case 'Digits':
      return splitter(
        compilePattern('\\p{N}'),
        flagAt(json, 'individual_digits', WHERE, false) ? 'Isolated' : 'Contiguous',
        false,
      );
    case 'Punctuation':
      return splitter(compilePattern('[!-/:-@\\[-`{-~]|\\p{P}'), behaviourOf(json, 'Isolated'), false);
    case 'Whitespace':
      return splitter(compilePattern('\\w+|[^\\w\\s]+'), 'Removed', true);
    case 'WhitespaceSplit':
      return splitter(compilePattern('\\s'), 'Removed', false);
    case 'Metaspace':
      return metaspace(json);
    default:
      throw errors.badTokenizer(`its pre-tokenizer is a '${type.slice(0, 80)}', which is not supported`);
  }
}

function behaviourOf(json: Json, fallback?: string): Behaviour {
  const name = textAt(json, 'behavior', WHERE, fallback);
  if (!BEHAVIOURS.includes(name)) throw errors.badTokenizer(`its pre-tokenizer splits '${name.slice(0, 80)}'`);
  return name as Behaviour;
}

function sequence(parts: PreTokenizer[]): PreTokenizer {
  return {
    bytes: parts.some((p) => p.bytes),
    addsPrefix: parts.some((p) => p.addsPrefix),
    split(text, { first, prefix }) {
      let pieces = [text];
      for (const part of parts)
        pieces = pieces.flatMap((piece, i) => part.split(piece, { first: first && i === 0, prefix: prefix || i > 0 }));
      return pieces;
    },
  };
}

function byteLevel(addPrefixSpace: boolean, useRegex: boolean): PreTokenizer {
  const words = useRegex ? splitter(compilePattern(GPT2), 'Isolated', false) : null;
  return {
    bytes: true,
    addsPrefix: addPrefixSpace,
    split(text, context) {
      const spaced = addPrefixSpace && context.prefix && !text.startsWith(' ') ? ` ${text}` : text;
      return words ? words.split(spaced, context) : [spaced];
    },
  };
}

function metaspace(json: Json): PreTokenizer {
  const mark = textAt(json, 'replacement', WHERE, '\u2581');
  const legacy = flagAt(json, 'add_prefix_space', WHERE, true) ? 'always' : 'never';
  const scheme = textAt(json, 'prepend_scheme', WHERE, legacy);
  if (!['always', 'first', 'never'].includes(scheme))
    throw errors.badTokenizer(`its pre-tokenizer has the prepend_scheme '${scheme.slice(0, 80)}'`);
  const words = flagAt(json, 'split', WHERE, true)
    ? splitter(new RegExp(mark.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'), 'gv'), 'MergedWithNext', false)
    : null;
  return {
    bytes: false,
    addsPrefix: scheme !== 'never',
    split(text, context) {
      const marked = text.replaceAll(' ', mark);
      const wanted = scheme === 'always' || (scheme === 'first' && context.first);
      const whole = wanted && context.prefix && !marked.startsWith(mark) ? mark + marked : marked;
      return words ? words.split(whole, context) : [whole];
    },
  };
}

interface Part {
  text: string;
  match: boolean;
}

function splitter(pattern: RegExp, behaviour: Behaviour, invert: boolean): PreTokenizer {
  return each((text) => join(partsOf(text, pattern, invert), behaviour));
}

/** The whole text in order, what matches and what does not. */
function partsOf(text: string, pattern: RegExp, invert: boolean): Part[] {
  const parts: Part[] = [];
  let end = 0;
  pattern.lastIndex = 0;
  for (let m = nextMatch(pattern, text); m !== null; m = nextMatch(pattern, text)) {
    const word = m[0];
    if (word === '') {
      pattern.lastIndex += (text.codePointAt(pattern.lastIndex) ?? 0) > 0xffff ? 2 : 1;
      continue;
    }
    if (m.index > end) parts.push({ text: text.slice(end, m.index), match: invert });
    parts.push({ text: word, match: !invert });
    end = m.index + word.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end), match: invert });
  return parts;
}

function join(parts: Part[], behaviour: Behaviour): string[] {
  const out: string[] = [];
  let before: boolean | null = null;
  let carried = '';
  for (const { text, match } of parts) {
    if (behaviour === 'Removed') {
      if (!match) out.push(text);
    } else if (behaviour === 'Contiguous' && match === before) out[out.length - 1] += text;
    else if (behaviour === 'MergedWithPrevious' && match && before === false) out[out.length - 1] += text;
    else if (behaviour === 'MergedWithNext') {
      if (match) {
        if (carried !== '') out.push(carried);
        carried = text;
      } else {
        out.push(carried + text);
        carried = '';
      }
    } else out.push(text);
    before = match;
  }
  if (carried !== '') out.push(carried);
  return out;
}
