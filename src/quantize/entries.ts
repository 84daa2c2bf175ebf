/** Entries of GGUF's metadata, as bytes: key, type, value. */

const u32 = (n: number): Buffer => {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(n);
  return b;
};
const u64 = (n: number): Buffer => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64LE(BigInt(n));
  return b;
};

/** A text with its length before it. */
export function string(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([u64(bytes.length), bytes]);
}

const entry = (key: string, type: number, ...value: Buffer[]): Buffer =>
  Buffer.concat([string(key), u32(type), ...value]);

export const entryOf = {
  u32: (key: string, value: number) => entry(key, 4, u32(value)),
  f32: (key: string, value: number) => {
    const b = Buffer.alloc(4);
    b.writeFloatLE(value);
    return entry(key, 6, b);
  },
  bool: (key: string, value: boolean) => entry(key, 7, Buffer.from([value ? 1 : 0])),
  text: (key: string, value: string) => entry(key, 8, string(value)),
  texts: (key: string, values: readonly string[]) => entry(key, 9, u32(8), u64(values.length), ...values.map(string)),
  f32s: (key: string, values: readonly number[]) =>
    entry(key, 9, u32(6), u64(values.length), Buffer.from(Float32Array.from(values).buffer)),
  i32s: (key: string, values: readonly number[]) =>
    entry(key, 9, u32(5), u64(values.length), Buffer.from(Int32Array.from(values).buffer)),
};
