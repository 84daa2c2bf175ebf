/**
 * SentencePiece's compiled normalisation: a double-array trie of what is replaced, and the replacements as strings that end
 * with 0 (sentencepiece, `normalizer.cc`; darts-clone).
 */
import { errors } from '../../errors.js';

const segmenter = new Intl.Segmenter('und', { granularity: 'grapheme' });

/** @throws bad_tokenizer */
export function readCharsMap(base64: string): (text: string) => string {
  const bytes = Buffer.from(base64, 'base64');
  if (bytes.length === 0) return (text) => text;
  const size = bytes.length < 4 ? -1 : bytes.readUInt32LE(0);
  if (size < 4 || size % 4 !== 0 || size > bytes.length - 4)
    throw errors.badTokenizer('its precompiled_charsmap is malformed');
  const units = new Uint32Array(size / 4);
  for (let i = 0; i < units.length; i++) units[i] = bytes.readUInt32LE(4 + 4 * i);
  const map = new CharsMap(units, bytes.subarray(4 + size));
  return (text) => map.normalize(text);
}

class CharsMap {
  constructor(
    private readonly units: Uint32Array,
    private readonly texts: Buffer,
  ) {}

  /** Graphemes of up to 6 bytes are looked up whole, then characters. */
  normalize(text: string): string {
    let out = '';
    for (const { segment } of segmenter.segment(text)) {
      const whole = Buffer.byteLength(segment) < 6 ? this.#find(segment) : null;
      if (whole !== null) out += whole;
      else for (const c of segment) out += this.#find(c) ?? c;
    }
    return out;
  }

  /** The replacement of the shortest beginning that has one. */
  #find(text: string): string | null {
    let at = offsetOf(this.units[0]!);
    for (const byte of Buffer.from(text)) {
      if (byte === 0) return null;
      at ^= byte;
      const unit = this.units[at];
      if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return null;
      at ^= offsetOf(unit);
      if ((unit >>> 8) & 1) {
        const start = (this.units[at] ?? 0) & 0x7fffffff;
        const end = this.texts.indexOf(0, start);
        return start <= this.texts.length
          ? this.texts.toString('utf8', start, end < 0 ? this.texts.length : end)
          : null;
      }
    }
    return null;
  }
}

const offsetOf = (unit: number): number => ((unit >>> 10) << ((unit & 0x200) >>> 6)) >>> 0;
