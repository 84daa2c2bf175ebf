/** GGUF files with fewer bits, and folders as GGUF files; llama.cpp reads what is written. */
import { existsSync } from 'node:fs';
import { errors } from '../errors.js';
import type { TensorInfo } from '../types.js';
import { GGML_TYPES } from '../weights/index.js';
import { DECODED_TYPES } from './decode.js';
import { headerOf, padded, type Written } from './header.js';
import { type Job, runJobs, type WriteOptions, writeWhole } from './jobs.js';
import { PRESETS, type Preset, typeFor } from './mixture.js';
import { type Extent, readSource, type Source, type SourceTensor } from './source.js';

export type { WriteOptions } from './jobs.js';

export const QUANTIZE_TYPES: readonly string[] = Object.keys(PRESETS);

export interface QuantizeOptions extends WriteOptions {
  /** One of QUANTIZE_TYPES, in any case. */
  type: string;
}

export interface Quantized {
  path: string;
  /** Bytes of the weights that were read, and of the file. */
  from: number;
  bytes: number;
  /** Tensors by type. */
  types: Record<string, number>;
}

/** Values a piece: some megabytes for each thread. */
const PIECE = 2 ** 20;

/**
 * Quantises a GGUF file (whole, or all parts of a split one) or a folder of safetensors to `output`, in one file; metadata,
 * the tokenizer and chat template among them, stay. The file appears when it is complete.
 * @throws LongmindError invalid_option, file_missing, bad_gguf, unsupported_tensor_type, io_error, and of a folder what
 *   `convert` throws; the signal's reason
 */
export async function quantize(input: string, output: string, options: QuantizeOptions): Promise<Quantized> {
  const name = options.type.toUpperCase();
  const preset = Object.hasOwn(PRESETS, name) ? PRESETS[name]! : null;
  if (!preset) throw errors.invalidOption('type', options.type, `one of ${QUANTIZE_TYPES.join(', ')}`);
  return write(input, output, preset, options);
}

/**
 * A folder of safetensors as a GGUF file, weights in the bits they have.
 * @throws LongmindError what `openModel` throws for a folder; unsupported_model for what has no form in GGUF, or none that
 *   is known here; invalid_option, io_error; the signal's reason
 */
export async function convert(folder: string, output: string, options: WriteOptions = {}): Promise<Quantized> {
  return write(folder, output, null, options);
}

interface Planned {
  from: SourceTensor;
  /** Its type in the new file. */
  type: string;
}

async function write(input: string, output: string, preset: Preset | null, options: WriteOptions): Promise<Quantized> {
  const { threads = 1, force } = options;
  if (!Number.isInteger(threads) || threads < 1)
    throw errors.invalidOption('threads', threads, 'a whole number from 1');
  if (!force && existsSync(output))
    throw errors.invalidOption('output', output, 'a file that is not there yet (--force replaces it)');
  const source = readSource(input, options.onNote);
  if (!preset && !source.isFolder) throw errors.invalidOption('folder', input, 'a folder with a config.json');
  const plan = planOf(source, preset);
  warn(plan, options);
  const written = layOut(plan);
  const header = headerOf(source.entries, preset?.fileType ?? fileTypeOf(plan), written);
  const bytes = header.length + written.reduce((sum, t) => sum + padded(t.byteLength), 0);
  const jobs = plan.flatMap((p, i) => piecesOf(p, header.length + written[i]!.offset));
  await writeWhole(output, bytes, options, async (file) => {
    await file.truncate(bytes);
    await file.write(header, 0, header.length, 0);
    await runJobs(preset ? 'quantising' : 'converting', jobs, file, options);
  });
  const types: Record<string, number> = {};
  for (const t of written) types[t.type] = (types[t.type] ?? 0) + 1;
  return { path: output, from: source.bytes, bytes, types };
}

/** @throws unsupported_tensor_type */
function planOf(source: Source, preset: Preset | null): Planned[] {
  const shape = { layers: source.layers, tied: !source.tensors.some((t) => t.name === 'output.weight') };
  return source.tensors.map((from) => {
    // llama.cpp wants vectors and routers as F32
    const small = from.shape.length === 1 || from.name.includes('.ffn_gate_inp');
    const kept = source.isFolder && small ? 'F32' : from.type;
    const type = (preset && typeFor(from, preset, shape)) ?? kept;
    if (type !== from.type && !DECODED_TYPES.includes(from.type))
      throw errors.unsupportedTensorType(from.name, from.type, [...DECODED_TYPES]);
    return { from, type };
  });
}

/** `general.file_type` of weights that keep their bits: that of the matrices. */
function fileTypeOf(plan: readonly Planned[]): number {
  const type = plan.find(({ from }) => from.shape.length > 1)?.type;
  return type === 'BF16' ? 32 : type === 'F16' ? 1 : 0;
}

function warn(plan: readonly Planned[], { onNote }: WriteOptions): void {
  const again = plan.filter(({ from, type }) => type !== from.type && !isFloat(from.type));
  if (again.length === 0) return;
  const types = [...new Set(again.map(({ from }) => from.type))].join(', ');
  onNote?.(
    `${again.length} tensors are quantised already (${types}): quantised again they lose more than from 16 or 32 bits`,
  );
}

const isFloat = (type: string): boolean => /^B?F\d+$/.test(type);
const countOf = ({ shape }: Pick<TensorInfo, 'shape'>): number => shape.reduce((a, b) => a * b, 1);

function bytesOf(type: string, count: number): number {
  const { blockSize, blockBytes } = [...GGML_TYPES.values()].find((t) => t.name === type)!;
  return (count / blockSize) * blockBytes;
}

function layOut(plan: readonly Planned[]): Written[] {
  let offset = 0;
  return plan.map(({ from, type }) => {
    const byteLength = bytesOf(type, countOf(from));
    const tensor = { name: from.name, type, shape: from.shape, byteLength, offset };
    offset += padded(byteLength);
    return tensor;
  });
}

/** Whole rows, about PIECE values each; `at`: where the tensor begins in the new file. */
function piecesOf({ from, type: to }: Planned, at: number): Job[] {
  const { name, type, add, interleavedHeads: heads, made } = from;
  // values of an interleaved bias change their places one by one
  const row = heads > 0 && from.shape.length === 1 ? 1 : from.shape[0]!;
  const rows = countOf(from) / row;
  const step = Math.max(1, Math.floor(PIECE / row));
  const rowBytes = from.byteLength / rows;
  return Array.from({ length: Math.ceil(rows / step) }, (_, i) => {
    const first = i * step;
    const n = Math.min(step, rows - first);
    const parts =
      heads === 0
        ? partsOf(from, first * rowBytes, n * rowBytes)
        : Array.from({ length: n }, (_, r) =>
            partsOf(from, interleaved(first + r, rows / heads) * rowBytes, rowBytes),
          ).flat();
    return { name, parts, made, type, add, count: n * row, to, at: at + bytesOf(to, first * row) };
  });
}

/** Where so many bytes of a tensor lie, from byte `from` of it on. */
function partsOf({ extents }: SourceTensor, from: number, bytes: number): Extent[] {
  const parts: Extent[] = [];
  let start = 0;
  for (const e of extents) {
    const [first, end] = [Math.max(from, start), Math.min(from + bytes, start + e.bytes)];
    if (first < end) parts.push({ file: e.file, offset: e.offset + first - start, bytes: end - first });
    start += e.bytes;
  }
  return parts;
}

/** The row that comes to place `row` when the halves of each head become neighbours. */
function interleaved(row: number, headDim: number): number {
  const i = row % headDim;
  return row - i + (i >> 1) + (i & 1 ? headDim / 2 : 0);
}
