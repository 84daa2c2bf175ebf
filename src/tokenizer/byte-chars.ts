/**
 * GPT-2's way of writing bytes as printable characters (Radford et al. 2019, `bytes_to_unicode`): printable Latin-1 stands
 * for itself, the 68 other bytes are U+0100 … U+0143. All of them are one or two bytes of UTF-8.
 */
const isPlain = (b: number): boolean =>
  (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);

/** (256) byte → code point. */
const byteToPoint: readonly number[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => (isPlain(b) ? b : next++));
})();

/** (256) byte → the UTF-8 of its character. */
export const byteToUtf8: readonly Uint8Array[] = byteToPoint.map((p) => Buffer.from(String.fromCharCode(p), 'utf8'));

/** (324) code point → byte, -1 where it stands for none. */
const pointToByte: Int16Array = (() => {
  const table = new Int16Array(256 + 68).fill(-1);
  byteToPoint.forEach((point, byte) => {
    table[point] = byte;
  });
  return table;
})();

/** Bytes to the UTF-8 of their characters, into `out`, which must have room for twice as many; returns how many. */
export function bytesToChars(bytes: Uint8Array, out: Uint8Array): number {
  let n = 0;
  for (const byte of bytes) for (const b of byteToUtf8[byte]!) out[n++] = b;
  return n;
}

/**
 * The UTF-8 of characters back to the bytes they stand for, into `out` at `at`; a character that stands for no byte keeps
 * its UTF-8. Returns the end in `out`.
 */
export function charsToBytes(utf8: Uint8Array, from: number, to: number, out: Uint8Array, at: number): number {
  let end = at;
  for (let i = from; i < to; i++) {
    const lead = utf8[i]!;
    if (lead < 0x80) {
      const byte = pointToByte[lead]!;
      out[end++] = byte >= 0 ? byte : lead;
    } else if (lead >= 0xc2 && lead < 0xc6 && i + 1 < to) {
      const byte = pointToByte[((lead & 0x1f) << 6) | (utf8[i + 1]! & 0x3f)] ?? -1;
      if (byte >= 0) {
        out[end++] = byte;
        i++;
      } else out[end++] = lead;
    } else out[end++] = lead;
  }
  return end;
}
