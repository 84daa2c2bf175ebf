/** Low-rank adapters in the CPU device's memory: A in tiles of 16 ranks, B by ranks, each in the type of its file. */
import fs from 'node:fs';
import { errors } from '../../errors.js';
import type { Adapter, AdapterPart, TensorInfo } from '../../types.js';
import type { CompiledProgram } from './compile.js';
import { ADAPTER_FIELDS, describeCode, GGML_TYPES } from './layout.js';
import type { Handle, Native } from './native.js';

type Adapted = CompiledProgram['adapted'];

const VALUE_BYTES: Readonly<Record<string, number>> = { F32: 4, F16: 2, BF16: 2 };
/** Bytes; where A or B begins. */
const ALIGN = 64;
const up = (n: number, to: number): number => Math.ceil(n / to) * to;

interface Placed {
  part: AdapterPart;
  of: Adapted[number];
  a: number;
  b: number;
}

interface Layout {
  bytes: number;
  placed: Placed[];
  /** (adapters, adapted, ADAPTER_FIELDS) */
  table: Float64Array;
}

/** Where everything will lie. @throws unsupported_tensor_type */
export function layoutAdapters(adapters: readonly Adapter[], adapted: Adapted): Layout {
  const table = new Float64Array(adapters.length * adapted.length * ADAPTER_FIELDS.length);
  const placed: Placed[] = [];
  let bytes = 0;
  const take = (values: number, t: TensorInfo): number => {
    const at = bytes;
    bytes = up(at + values * valueBytes(t), ALIGN);
    return at;
  };
  adapters.forEach(({ parts }, i) => {
    const byWeight = new Map(parts.map((p) => [p.weight, p]));
    adapted.forEach((of, j) => {
      const part = byWeight.get(of.weight);
      if (!part) return;
      const a = take(up(part.rank, 16) * of.inFeatures, part.a);
      const b = take(part.rank * up(of.outFeatures, 16), part.b);
      placed.push({ part, of, a, b });
      const words = [part.rank, GGML_TYPES[part.a.type]!, GGML_TYPES[part.b.type]!, a, b, part.scale];
      table.set(words, (i * adapted.length + j) * ADAPTER_FIELDS.length);
    });
  });
  return { bytes, placed, table };
}

/** Returns the bytes they take. @throws unsupported_tensor_type, file_missing, bad_model_file, native_error */
export function loadAdapters(native: Native, handle: Handle, adapters: readonly Adapter[], adapted: Adapted): number {
  if (adapters.length === 0) return 0;
  const { bytes, placed, table } = layoutAdapters(adapters, adapted);
  const check = (code: number) => {
    if (code !== 0) throw errors.native(code, describeCode(code));
  };
  check(native.openAdapters(handle, adapters.length, adapted.length, table, bytes));
  for (const { part, of, a, b } of placed) {
    for (const [at, data] of [
      [a, tiled(part, of.inFeatures)],
      [b, byRank(part, of.outFeatures)],
    ] as const)
      check(native.loadAdapter(handle, at, data, data.length));
  }
  return bytes;
}

function valueBytes(t: TensorInfo): number {
  const bytes = VALUE_BYTES[t.type];
  if (!bytes) throw errors.unsupportedTensorType(t.name, t.type, Object.keys(VALUE_BYTES));
  return bytes;
}

type Values = Uint16Array | Uint32Array;

/** The bits of its values. */
function read(t: TensorInfo): Values {
  const bytes = new Uint8Array(t.byteLength);
  const file = t.file!;
  let fd: number;
  try {
    fd = fs.openSync(file, 'r');
  } catch {
    throw errors.fileMissing(file);
  }
  try {
    if (fs.readSync(fd, bytes, 0, bytes.length, t.offset) !== bytes.length)
      throw errors.badModelFile(file, `tensor '${t.name}' lies outside the file`);
  } finally {
    fs.closeSync(fd);
  }
  return valueBytes(t) === 2 ? new Uint16Array(bytes.buffer) : new Uint32Array(bytes.buffer);
}

const bytesOf = (v: Values): Uint8Array => new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
const zeros = (like: Values, length: number): Values =>
  like instanceof Uint16Array ? new Uint16Array(length) : new Uint32Array(length);

/** (tile, input, 16 ranks) */
function tiled({ a, rank }: AdapterPart, inputs: number): Uint8Array {
  const from = read(a);
  const to = zeros(from, up(rank, 16) * inputs);
  for (let r = 0; r < rank; r++) {
    const tile = (r >> 4) * 16 * inputs + (r & 15);
    for (let k = 0; k < inputs; k++) to[tile + 16 * k] = from[r * inputs + k]!;
  }
  return bytesOf(to);
}

/** (rank, outputs up to a multiple of 16) */
function byRank({ b, rank, rows }: AdapterPart, outputs: number): Uint8Array {
  const from = read(b);
  const stride = up(outputs, 16);
  const to = zeros(from, rank * stride);
  for (let o = 0; o < outputs; o++) {
    const row = rank * (rows ? rows[o]! : o);
    for (let r = 0; r < rank; r++) to[r * stride + o] = from[row + r]!;
  }
  return bytesOf(to);
}
