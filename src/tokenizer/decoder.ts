/**
 * Ids to text by the table of token bytes alone: cheap, synchronous, for any thread. A character's bytes may be spread
 * over tokens: only whole characters come out.
 */

import type { StreamDecoder, TokenBytes } from '../types.js';
import type { DecodeOptions } from './types.js';

const SPACE = 0x20;

/** How many bytes the character has that begins with this byte; 0 if none can. */
function charLength(lead: number): number {
  if (lead < 0x80) return 1;
  if (lead < 0xc2) return 0;
  if (lead < 0xe0) return 2;
  if (lead < 0xf0) return 3;
  return lead < 0xf5 ? 4 : 0;
}

/** Where the last character begins if it is not complete, else the end. To cut before a first byte is always right. */
function completeEnd(bytes: Uint8Array, length: number): number {
  for (let back = 1; back <= Math.min(3, length); back++) {
    const byte = bytes[length - back]!;
    if (byte < 0x80) return length;
    if (byte >= 0xc0) return charLength(byte) > back ? length - back : length;
  }
  return length;
}

export class TokenDecoder implements StreamDecoder {
  #bytes = Buffer.allocUnsafeSlow(64);
  #length = 0;
  #trim: boolean;

  constructor(
    private readonly table: TokenBytes,
    private readonly options: DecodeOptions = {},
  ) {
    this.#trim = options.trimPrefix ?? false;
  }

  push(id: number): string {
    this.add(id);
    const end = completeEnd(this.#bytes, this.#length);
    if (end === 0) return '';
    const text = this.#bytes.toString('utf8', 0, end);
    this.#bytes.copyWithin(0, end, this.#length);
    this.#length -= end;
    return text;
  }

  /** Takes the token's bytes without putting text out. Ids outside the vocabulary stand for nothing. */
  add(id: number): void {
    const { bytes, offsets, special } = this.table;
    if (!(id >= 0 && id < special.length)) return;
    if (special[id] && !this.options.special) return;
    let from = offsets[id]!;
    const to = offsets[id + 1]!;
    if (from === to) return;
    if (this.#trim && bytes[from] === SPACE) from++;
    this.#trim = false;
    if (this.#length + to - from > this.#bytes.length) {
      const grown = Buffer.allocUnsafeSlow(2 * (this.#length + to - from));
      this.#bytes.copy(grown, 0, 0, this.#length);
      this.#bytes = grown;
    }
    for (let i = from; i < to; i++) this.#bytes[this.#length++] = bytes[i]!;
  }

  flush(): string {
    const text = this.#bytes.toString('utf8', 0, this.#length);
    this.#length = 0;
    return text;
  }
}

/** All ids at once; equal to what a TokenDecoder puts out piece by piece. */
export function decodeTokens(table: TokenBytes, ids: ArrayLike<number>, options: DecodeOptions = {}): string {
  const decoder = new TokenDecoder(table, options);
  for (let i = 0; i < ids.length; i++) decoder.add(ids[i]!);
  return decoder.flush();
}
