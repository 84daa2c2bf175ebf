/** Writes small GGUF files for tests, good ones and broken ones. */
import { writeFileSync } from 'node:fs';

export type Value =
  | { u32: number }
  | { u64: bigint }
  | { f32: number }
  | { bool: boolean }
  | { string: string }
  | { strings: readonly string[] }
  | { f32s: ArrayLike<number> }
  | { i32s: ArrayLike<number> };

export interface TensorSpec {
  name: string;
  shape: readonly (number | bigint)[];
  /** GGML type number. */
  type: number;
  /** From the start of the data. */
  offset: number | bigint;
  data?: Uint8Array;
}

export const u32 = (n: number): Buffer => {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(n);
  return b;
};

export const u64 = (n: number | bigint): Buffer => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64LE(BigInt(n));
  return b;
};

const f32 = (n: number): Buffer => {
  const b = Buffer.alloc(4);
  b.writeFloatLE(n);
  return b;
};

const str = (s: string): Buffer => Buffer.concat([u64(Buffer.byteLength(s)), Buffer.from(s)]);

function valueBytes(v: Value): Buffer {
  if ('u32' in v) return Buffer.concat([u32(4), u32(v.u32)]);
  if ('u64' in v) return Buffer.concat([u32(10), u64(v.u64)]);
  if ('f32' in v) return Buffer.concat([u32(6), f32(v.f32)]);
  if ('bool' in v) return Buffer.concat([u32(7), Buffer.from([v.bool ? 1 : 0])]);
  if ('string' in v) return Buffer.concat([u32(8), str(v.string)]);
  if ('strings' in v) return Buffer.concat([u32(9), u32(8), u64(v.strings.length), ...v.strings.map(str)]);
  const [type, list] = 'f32s' in v ? [6, v.f32s] : [5, v.i32s];
  const bytes = 'f32s' in v ? Float32Array.from(list) : Int32Array.from(list);
  return Buffer.concat([u32(9), u32(type), u64(list.length), Buffer.from(bytes.buffer)]);
}

export interface GgufSpec {
  magic?: string;
  version?: Buffer;
  tensorCount?: number | bigint;
  keyCount?: number | bigint;
  metadata?: Record<string, Value>;
  tensors?: readonly TensorSpec[];
  /** Metadata entries in raw bytes, after the others (count them in keyCount). */
  raw?: Buffer;
}

export function ggufBytes(spec: GgufSpec): Buffer {
  const entries = Object.entries(spec.metadata ?? {});
  const tensors = spec.tensors ?? [];
  const head = Buffer.concat([
    Buffer.from(spec.magic ?? 'GGUF'),
    spec.version ?? u32(3),
    u64(spec.tensorCount ?? tensors.length),
    u64(spec.keyCount ?? entries.length),
    ...entries.map(([key, value]) => Buffer.concat([str(key), valueBytes(value)])),
    spec.raw ?? Buffer.alloc(0),
    ...tensors.map((t) =>
      Buffer.concat([str(t.name), u32(t.shape.length), ...t.shape.map(u64), u32(t.type), u64(t.offset)]),
    ),
  ]);
  const start = Math.ceil(head.length / 32) * 32;
  let end = start;
  for (const t of tensors) if (t.data) end = Math.max(end, start + Number(t.offset) + t.data.length);
  const out = Buffer.alloc(end);
  head.copy(out);
  for (const t of tensors) if (t.data) out.set(t.data, start + Number(t.offset));
  return out;
}

export function writeGguf(file: string, spec: GgufSpec): string {
  writeFileSync(file, ggufBytes(spec));
  return file;
}
