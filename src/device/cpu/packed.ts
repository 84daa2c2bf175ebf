/** Matrices of quantised checkpoints: their scales, zero points and order are read whole, their codes are mapped. */
import { closeSync, openSync, readSync } from 'node:fs';
import { errors } from '../../errors.js';
import type { FilePart, PackedMatrix } from '../../types.js';
import {
  CODES,
  describeCode,
  E8M0,
  GGML_TYPES,
  PACKED_CODES,
  PACKED_FIELDS,
  PACKED_LAYOUTS,
  PACKED_ZEROS,
} from './layout.js';
import type { Handle, Native } from './native.js';

/** Rows of a tensor, and the rows of a quantised matrix that they come from; its codes begin at `offset` of the open file. */
export interface PackedRows {
  tensor: number;
  offset: number;
  first: number;
  rows: number;
  row: number;
  packed: PackedMatrix;
}

/** `name`: of the tensor, and of its file, for messages. @throws bad_model_file, io_error, native_error */
export function loadPacked(native: Native, handle: Handle, piece: PackedRows, name: string, file: string): void {
  const { packed: p } = piece;
  const scales = read(p.scales);
  const zeros = p.zeros ? read(p.zeros) : null;
  const order = p.order ? asInts(read(p.order)) : null;
  const bytes = (p.in * p.rows * p.bits) / 8;
  const code = native.loadPacked(
    handle,
    piece.tensor,
    piece.offset,
    bytes,
    specOf(p),
    scales,
    scales.length,
    zeros,
    zeros?.length ?? 0,
    order,
    order?.length ?? 0,
    piece.first,
    piece.rows,
    piece.row,
  );
  if (code === CODES.eZeros[0] || code === CODES.eOrder[0] || code === CODES.eArgument[0])
    throw errors.badModelFile(file, `the quantised matrix '${name}' cannot be read: ${describeCode(code)}`);
  if (code !== 0) throw errors.native(code, describeCode(code));
}

function specOf(p: PackedMatrix): Int32Array {
  const values: Record<(typeof PACKED_FIELDS)[number], number> = {
    in: p.in,
    rows: p.rows,
    layout: PACKED_LAYOUTS[p.layout],
    bits: p.bits,
    code: PACKED_CODES[p.code],
    groupSize: p.groupSize,
    groupRows: p.groupRows,
    scaleType: p.scaleType === 'E8M0' ? E8M0 : GGML_TYPES[p.scaleType]!,
    scalesByGroup: Number(p.scalesByGroup),
    zeroKind: PACKED_ZEROS[p.zeroKind],
    zeroAdd: p.zeroAdd,
    exact: Number(p.exact),
  };
  return Int32Array.from(PACKED_FIELDS, (name) => values[name]);
}

const asInts = (bytes: Uint8Array): Int32Array => new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);

function read({ file, offset, byteLength }: FilePart): Uint8Array {
  const bytes = new Uint8Array(byteLength);
  try {
    const fd = openSync(file, 'r');
    try {
      for (let at = 0; at < byteLength; ) {
        const n = readSync(fd, bytes, at, byteLength - at, offset + at);
        if (n === 0) throw new Error('it became shorter');
        at += n;
      }
    } finally {
      closeSync(fd);
    }
  } catch (e) {
    throw errors.io(`reading '${file}'`, (e as Error).message);
  }
  return bytes;
}
