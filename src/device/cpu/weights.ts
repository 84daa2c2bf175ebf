/** Weights of a program: their types and shapes checked, then read from their files in one go, file after file. */
import { errors } from '../../errors.js';
import type { TensorInfo, TensorSource } from '../../types.js';
import type { LoadOptions } from '../device.js';
import type { CompiledProgram } from './compile.js';
import { describeCode, Flag, GGML_TYPES } from './layout.js';
import type { Handle, Native } from './native.js';
import { loadPacked, type PackedRows } from './packed.js';

type Wanted = CompiledProgram['tensors'][number];

/** A tensor as it will lie in memory. */
interface Shaped {
  wanted: Wanted;
  info: TensorInfo;
  /** GGML's numbers of the type in memory and of the type in the file. */
  type: number;
  source: number;
  /** Output features; 1 for a vector. */
  out: number;
  bytes: number;
}

const isFloat = (type: string): boolean => type === 'F32' || type === 'F16' || type === 'BF16';

/** The type that the tensor has in memory. */
export const typeInMemory = (info: TensorInfo | undefined): string => info?.as ?? info?.type ?? 'F32';

/** Float weights multiply f32 activations, quantised ones int8. */
export const needOf = (type: string): number => (isFloat(type) ? Flag.f32 : Flag.q8);

/** @throws bad_model_file, unsupported_tensor_type */
export function shapeOf(native: Native, t: Wanted, source: TensorSource): Shaped {
  const info = source.tensors.get(t.name);
  if (!info) throw errors.badModelFile(source.path, `tensor '${t.name}' is missing`);
  const name = typeInMemory(info);
  const [type, from] = [GGML_TYPES[name], GGML_TYPES[info.type]];
  // matrices of experts lie one after another
  const out = t.isVector ? 1 : info.shape.slice(1).reduce((a, b) => a * b, 1);
  if (type === undefined || from === undefined || (t.isVector && !isFloat(name)))
    throw errors.unsupportedTensorType(t.name, info.type, Object.keys(GGML_TYPES));
  const shape = `(${info.shape.join(', ')})`;
  const wrongOut = t.outFeatures !== null && out < t.outFeatures;
  const inputs = info.shape[0]!;
  if (inputs !== t.width || wrongOut || (t.isVector && info.shape.slice(1).some((n) => n !== 1)))
    throw errors.badModelFile(
      source.path,
      `tensor '${t.name}' has shape ${shape}, the model needs (${t.width}, ${t.outFeatures ?? 1})`,
    );
  const bytes = native.tensorBytes(type, inputs, out, t.isVector ? 1 : 0);
  if (bytes <= 0)
    throw errors.badModelFile(source.path, `tensor '${t.name}' of type ${name} cannot have ${inputs} inputs`);
  return { wanted: t, info, type, source: from, out, bytes };
}

/** Bytes the weights take in memory. @throws what `shapeOf` throws, file_missing, native_error */
export function loadWeights(
  native: Native,
  handle: Handle,
  tensors: readonly Wanted[],
  source: TensorSource,
  onProgress?: LoadOptions['onProgress'],
): number {
  const shaped = tensors.map((t) => shapeOf(native, t, source));
  const table = shaped.flatMap((s) => [s.type, s.info.shape[0]!, s.out, s.wanted.isVector ? 1 : 0, s.source]);
  check(native.openWeights(handle, shaped.length, Float64Array.from(table)));
  const total = shaped.reduce((sum, s) => sum + s.info.byteLength, 0);
  let done = 0;
  for (const [file, pieces] of byFile(shaped, source.path)) {
    const code = native.openFile(handle, file);
    if (code === -3) throw errors.fileMissing(file);
    check(code);
    for (const piece of pieces) {
      const of = shaped[piece.tensor]!;
      if (isPacked(piece)) loadPacked(native, handle, piece, of.info.name, file);
      else loadPiece(native, handle, piece, of, file);
      done += piece.bytes;
      onProgress?.(done, total);
    }
  }
  native.closeFile(handle);
  return shaped.reduce((sum, s) => sum + s.bytes, 0);
}

/** Rows [first, first + rows) of a tensor, somewhere in a file. */
interface Piece {
  tensor: number;
  offset: number;
  bytes: number;
  first: number;
  rows: number;
  /** Of a quantised matrix: its rows from `row` on. */
  row: number;
  packed: PackedRows['packed'] | null;
}

const isPacked = (piece: Piece): piece is Piece & PackedRows => piece.packed !== null;

/** The pieces of each file, in the order in which they lie there: the file is read once, from its beginning. */
function byFile(shaped: readonly Shaped[], path: string): Map<string, Piece[]> {
  const files = new Map<string, Piece[]>();
  shaped.forEach(({ info, out }, tensor) => {
    let first = 0;
    const whole: NonNullable<TensorInfo['runs']> = [{ offset: info.offset, rows: out }];
    for (const run of info.runs ?? whole) {
      const file = run.file ?? info.file ?? path;
      const pieces = files.get(file) ?? [];
      if (pieces.length === 0) files.set(file, pieces);
      const bytes = (info.byteLength / out) * run.rows;
      const packed = run.packed ?? info.packed ?? null;
      const row = run.row ?? packed?.row ?? 0;
      pieces.push({ tensor, offset: run.offset, bytes, first, rows: run.rows, row, packed });
      first += run.rows;
    }
  });
  for (const list of files.values()) list.sort((a, b) => a.offset - b.offset);
  return files;
}

function loadPiece(native: Native, handle: Handle, p: Piece, { info, wanted }: Shaped, file: string): void {
  const add = wanted.isVector ? (info.add ?? 0) : 0;
  const code = native.loadRows(handle, p.tensor, p.offset, p.bytes, p.first, p.rows, add);
  if (code === -1)
    throw errors.badModelFile(file, `tensor '${info.name}' lies outside the file or is shorter than its shape says`);
  check(code);
}

function check(code: number): void {
  if (code !== 0) throw errors.native(code, describeCode(code));
}
