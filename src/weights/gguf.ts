/**
 * GGUF v2 and v3: metadata and the table of tensors, never the tensors' bytes. Every length, count and offset is checked
 * against the file's size before it is used. Format: ggml/docs/gguf.md.
 */
import { errors } from '../errors.js';
import type { TensorInfo } from '../types.js';
import { GGML_TYPES } from './ggml-types.js';
import { HeaderError, HeaderReader } from './header-reader.js';
import { type GgufValue, readValue } from './metadata.js';
import { readModelFile } from './model-file.js';

export type { GgufValue } from './metadata.js';

export interface GgufFile {
  path: string;
  /** Bytes. */
  size: number;
  version: number;
  metadata: Map<string, GgufValue>;
  /** By name, in the file's order; offsets are from the start of the file. */
  tensors: Map<string, TensorInfo>;
  /** Bytes; every tensor begins at a multiple of it, counted from `dataOffset`. */
  alignment: number;
  /** First byte of the tensors' data. */
  dataOffset: number;
  /** The files of a model that is split, in their order; its tensors say in which of them they lie. */
  parts?: readonly GgufFile[];
}

const MAGIC = 0x46554747; // 'GGUF', little-endian
const MAX_KEY_BYTES = 65535;
const MAX_NAME_BYTES = 1024;
const MAX_DIMS = 4;
/** Bytes of the smallest possible entries: they bound a count by what the file can hold. */
const MIN_KEY_VALUE = 8 + 4 + 1;
const MIN_TENSOR = 8 + 4 + 4 + 8;

/** One file, be it a part or whole. @throws LongmindError file_missing, bad_gguf, io_error */
export function readGgufPart(path: string): GgufFile {
  const bad = (what: string) => errors.badGguf(path, what);
  return readModelFile(path, bad, (fd, size) => {
    try {
      return parse(path, new HeaderReader(fd, size));
    } catch (e) {
      throw e instanceof HeaderError ? bad(e.message) : e;
    }
  });
}

function parse(path: string, r: HeaderReader): GgufFile {
  const version = readMagic(r);
  const tensorCount = readCount(r, 'tensors', MIN_TENSOR);
  const keyCount = readCount(r, 'metadata entries', MIN_KEY_VALUE);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = r.string(`the name of metadata entry ${i}`, MAX_KEY_BYTES);
    if (metadata.has(key)) throw new HeaderError(`metadata entry '${key}' is there twice`);
    metadata.set(key, readValue(r, key));
  }
  const alignment = alignmentOf(metadata);
  const tensors = new Map<string, TensorInfo>();
  for (let i = 0; i < tensorCount; i++) {
    const tensor = readTensor(r, i);
    if (tensors.has(tensor.name)) throw new HeaderError(`tensor '${tensor.name}' is there twice`);
    tensors.set(tensor.name, tensor);
  }
  const dataOffset = Math.ceil(r.position / alignment) * alignment;
  place(tensors, dataOffset, alignment, r.fileSize);
  return { path, size: r.fileSize, version, metadata, tensors, alignment, dataOffset };
}

function readMagic(r: HeaderReader): number {
  if (r.fileSize < 24) throw new HeaderError(`it has ${r.fileSize} bytes, too few for a header`);
  const magic = r.u32('the magic number');
  if (magic !== MAGIC) throw new HeaderError(`it begins with 0x${magic.toString(16)}, not with 'GGUF'`);
  const version = r.u32('the version');
  if (version === 2 || version === 3) return version;
  const swapped =
    ((version & 0xff) << 24) | (((version >>> 8) & 0xff) << 16) | (((version >>> 16) & 0xff) << 8) | (version >>> 24);
  if (swapped === 2 || swapped === 3) throw new HeaderError('it is big-endian; only little-endian files can be read');
  throw new HeaderError(`its version is ${version}; versions 2 and 3 can be read`);
}

function readCount(r: HeaderReader, what: string, minBytes: number): number {
  const count = r.size(`the number of ${what}`);
  if (count > r.left / minBytes)
    throw new HeaderError(`it claims ${count} ${what}, more than ${r.fileSize} bytes can hold`);
  return count;
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>): number {
  const value = metadata.get('general.alignment') ?? 32;
  if (
    typeof value === 'number' &&
    Number.isInteger(value) &&
    value >= 1 &&
    value <= 2 ** 20 &&
    (value & (value - 1)) === 0
  )
    return value;
  throw new HeaderError(`general.alignment is ${String(value)}, not a power of two up to 1 MiB`);
}

/** One entry of the tensor table; `offset` is still relative to the data. */
function readTensor(r: HeaderReader, index: number): TensorInfo {
  const name = r.string(`the name of tensor ${index}`, MAX_NAME_BYTES);
  const what = `tensor '${name}'`;
  const dims = r.u32(`the dimensions of ${what}`);
  if (dims < 1 || dims > MAX_DIMS) throw new HeaderError(`${what} has ${dims} dimensions, 1 to ${MAX_DIMS} can be`);
  const shape: number[] = [];
  let elements = 1;
  for (let d = 0; d < dims; d++) {
    const n = r.size(`dimension ${d} of ${what}`);
    elements *= n;
    if (n < 1 || !Number.isSafeInteger(elements))
      throw new HeaderError(`${what} has the impossible shape (${[...shape, n].join(', ')}…)`);
    shape.push(n);
  }
  const typeId = r.u32(`the type of ${what}`);
  const type = GGML_TYPES.get(typeId);
  if (!type) throw new HeaderError(`${what} has type number ${typeId}, which is not known`);
  if (shape[0]! % type.blockSize !== 0)
    throw new HeaderError(
      `${what} has rows of ${shape[0]} values, not a multiple of ${type.name}'s block of ${type.blockSize}`,
    );
  const byteLength = (elements / type.blockSize) * type.blockBytes;
  return { name, type: type.name, shape, offset: r.size(`the offset of ${what}`), byteLength };
}

/** Makes offsets absolute; checks alignment, the file's end, and that no two tensors share bytes. */
function place(tensors: Map<string, TensorInfo>, dataOffset: number, alignment: number, fileSize: number): void {
  for (const t of tensors.values()) {
    if (t.offset % alignment !== 0)
      throw new HeaderError(`tensor '${t.name}' begins at ${t.offset}, not at a multiple of ${alignment}`);
    const end = dataOffset + t.offset + t.byteLength;
    if (!(end <= fileSize))
      throw new HeaderError(`tensor '${t.name}' ends at byte ${end}, but the file has ${fileSize} (truncated?)`);
    t.offset += dataOffset;
  }
  let last: TensorInfo | null = null;
  for (const t of [...tensors.values()].sort((a, b) => a.offset - b.offset)) {
    if (last && last.offset + last.byteLength > t.offset)
      throw new HeaderError(`tensors '${last.name}' and '${t.name}' overlap at byte ${t.offset}`);
    last = t;
  }
}
