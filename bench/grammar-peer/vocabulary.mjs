// The vocabulary of a real model, as each side wants it.
import { createTokenizer } from '../../dist/src/tokenizer/tokenizer.js';
import { readGguf } from '../../dist/src/weights/index.js';

export function openVocabulary(file) {
  const tokenizer = createTokenizer(readGguf(file).metadata);
  const { tokenBytes, endTokens } = tokenizer;
  return {
    table: tokenBytes,
    ends: [...endTokens],
    size: tokenBytes.offsets.length - 1,
    /** Text to ids; text never becomes a special token. */
    encode: (text) => Int32Array.from(tokenizer.encode(text, { special: false })),
  };
}

/** Characters that stand for bytes in GPT-2 vocabularies: printable ones for themselves, the others from U+0100 on. */
const BYTE_CHARS = (() => {
  let next = 256;
  const printable = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++));
})();

/** Tokens spelled as in a byte-level vocabulary file. */
export function byteLevelTokens({ bytes, offsets, special }) {
  return Array.from(special, (isSpecial, t) => {
    const own = bytes.subarray(offsets[t], offsets[t + 1]);
    return isSpecial ? Buffer.from(own).toString('utf8') : Array.from(own, (b) => BYTE_CHARS[b]).join('');
  });
}
