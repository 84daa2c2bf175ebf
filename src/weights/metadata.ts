/** The values of a GGUF header. */
import { HeaderError, type HeaderReader } from './header-reader.js';
import { StringList } from './string-list.js';

/** 64-bit integers are numbers where they are safe integers, bigint else; arrays are typed arrays or a StringList. */
export type GgufValue =
  | number
  | bigint
  | boolean
  | string
  | StringList
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | BigUint64Array
  | BigInt64Array
  | Float64Array;

const MAX_STRING = 64 * 2 ** 20;
/** No vocabulary comes near; keeps the index of a corrupt list small. */
const MAX_STRINGS = 2 ** 24;

/** Type numbers in the file. */
const T = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
};

type NumericArray = Exclude<GgufValue, number | bigint | boolean | string | StringList>;

const ARRAYS: Partial<Record<number, new (buffer: ArrayBuffer) => NumericArray>> = {
  [T.u8]: Uint8Array,
  [T.i8]: Int8Array,
  [T.u16]: Uint16Array,
  [T.i16]: Int16Array,
  [T.u32]: Uint32Array,
  [T.i32]: Int32Array,
  [T.f32]: Float32Array,
  [T.bool]: Uint8Array,
  [T.u64]: BigUint64Array,
  [T.i64]: BigInt64Array,
  [T.f64]: Float64Array,
};

const WIDTH: Partial<Record<number, number>> = {
  [T.u8]: 1,
  [T.i8]: 1,
  [T.u16]: 2,
  [T.i16]: 2,
  [T.u32]: 4,
  [T.i32]: 4,
  [T.f32]: 4,
  [T.bool]: 1,
  [T.u64]: 8,
  [T.i64]: 8,
  [T.f64]: 8,
};

export function readValue(r: HeaderReader, key: string): GgufValue {
  const type = r.u32(`the type of '${key}'`);
  if (type === T.string) return r.string(`'${key}'`, MAX_STRING);
  if (type === T.array) return readArray(r, key);
  const width = WIDTH[type];
  if (width === undefined) throw new HeaderError(`metadata entry '${key}' has type number ${type}, which is not known`);
  const at = r.take(width, `'${key}'`);
  return scalar(r.buffer, at, type);
}

function scalar(b: Buffer, at: number, type: number): number | bigint | boolean {
  switch (type) {
    case T.u8:
      return b.readUInt8(at);
    case T.i8:
      return b.readInt8(at);
    case T.u16:
      return b.readUInt16LE(at);
    case T.i16:
      return b.readInt16LE(at);
    case T.u32:
      return b.readUInt32LE(at);
    case T.i32:
      return b.readInt32LE(at);
    case T.f32:
      return b.readFloatLE(at);
    case T.bool:
      return b.readUInt8(at) !== 0;
    case T.u64:
      return safe(b.readBigUInt64LE(at));
    case T.i64:
      return safe(b.readBigInt64LE(at));
    default:
      return b.readDoubleLE(at);
  }
}

function safe(n: bigint): number | bigint {
  const small = Number(n);
  return Number.isSafeInteger(small) ? small : n;
}

function readArray(r: HeaderReader, key: string): GgufValue {
  const type = r.u32(`the element type of '${key}'`);
  const length = r.size(`the length of '${key}'`);
  if (type === T.string) return readStrings(r, key, length);
  const width = WIDTH[type];
  const make = ARRAYS[type];
  if (width === undefined || make === undefined)
    throw new HeaderError(`metadata entry '${key}' is an array of type number ${type}, which cannot be read`);
  if (length > r.left / width) throw new HeaderError(`'${key}' claims ${length} values, more than the file can hold`);
  const at = r.take(length * width, `'${key}'`);
  const copy = new Uint8Array(length * width);
  copy.set(r.buffer.subarray(at, at + length * width));
  return new make(copy.buffer);
}

function readStrings(r: HeaderReader, key: string, length: number): StringList {
  if (length > Math.min(r.left / 8, MAX_STRINGS))
    throw new HeaderError(`'${key}' claims ${length} strings, more than can be`);
  const starts = new Int32Array(length);
  const lengths = new Int32Array(length);
  const first = r.position;
  const what = `a string of '${key}'`;
  for (let i = 0; i < length; i++) {
    const bytes = r.size(what);
    if (bytes > MAX_STRING) throw new HeaderError(`string ${i} of '${key}' is ${bytes} bytes long`);
    starts[i] = r.take(bytes, what) - first;
    lengths[i] = bytes;
  }
  return new StringList(new Uint8Array(r.buffer.subarray(first, r.position)), starts, lengths);
}
