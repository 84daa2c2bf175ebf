/**
 * GPT-2's way of writing bytes as printable characters (Radford et al. 2019, `bytes_to_unicode`): printable Latin-1 stands
 * for itself, the 68 other bytes are U+0100 … U+0143.
 */
const isPlain = (b: number): boolean =>
  (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);

/** (256) byte → character. */
export const byteToChar: readonly string[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(isPlain(b) ? b : next++));
})();

/** (324) UTF-16 unit → byte, -1 where it stands for none. */
const charToByte: Int16Array = (() => {
  const table = new Int16Array(256 + 68).fill(-1);
  byteToChar.forEach((char, byte) => {
    table[char.charCodeAt(0)] = byte;
  });
  return table;
})();

/** A token's bytes; a character that stands for no byte keeps its UTF-8. */
export function charsToBytes(text: string): Uint8Array {
  const out = Buffer.allocUnsafe(3 * text.length);
  let n = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    const byte = unit < charToByte.length ? charToByte[unit]! : -1;
    if (byte >= 0) out[n++] = byte;
    else {
      const char = String.fromCodePoint(text.codePointAt(i)!);
      n += out.write(char, n, 'utf8');
      i += char.length - 1;
    }
  }
  return out.subarray(0, n);
}
