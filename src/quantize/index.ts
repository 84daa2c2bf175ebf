/** GGUF → GGUF with fewer bits: threads quantise pieces of tensors, which are written where they belong. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { type FileHandle, open, rename, rm, statfs } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { WorkerClient } from '../base/worker.js';
import { errors, formatBytes } from '../errors.js';
import type { TensorInfo } from '../types.js';
import { type GgufFile, readGguf } from '../weights/index.js';
import { DECODED_TYPES } from './decode.js';
import { FORMATS, type QuantType } from './encode.js';
import { headerOf, padded, type Written } from './header.js';
import { PRESETS, typeFor } from './mixture.js';
import type { Calls, Piece } from './pieces.js';

export const QUANTIZE_TYPES: readonly string[] = Object.keys(PRESETS);

export interface QuantizeOptions {
  /** One of QUANTIZE_TYPES, in any case. */
  type: string;
  /** An existing file is replaced (default false: refused). */
  force?: boolean;
  /** Default: all processors. */
  threads?: number;
  /** Bytes of the input. */
  onProgress?: (what: string, done: number, total: number) => void;
  onNote?: (note: string) => void;
  /** Aborted, nothing is left behind, and its reason is thrown. */
  signal?: AbortSignal;
}

export interface Quantized {
  path: string;
  /** Bytes of both files. */
  from: number;
  bytes: number;
  /** Tensors by type. */
  types: Record<string, number>;
}

/** Values a piece: some megabytes for each thread. */
const PIECE = 2 ** 20;

interface Job extends Piece {
  /** Where the result begins in the new file. */
  at: number;
}

/**
 * Quantises the GGUF file `input` (whole, or all parts of a split one) to `output`, in one file; metadata, the tokenizer and
 * chat template among them, stay. The file appears when it is complete.
 * @throws LongmindError invalid_option, file_missing, bad_gguf, unsupported_tensor_type, io_error; the signal's reason
 */
export async function quantize(input: string, output: string, options: QuantizeOptions): Promise<Quantized> {
  const name = options.type.toUpperCase();
  const preset = Object.hasOwn(PRESETS, name) ? PRESETS[name]! : null;
  if (!preset) throw errors.invalidOption('type', options.type, `one of ${QUANTIZE_TYPES.join(', ')}`);
  const { threads = 1 } = options;
  if (!Number.isInteger(threads) || threads < 1)
    throw errors.invalidOption('threads', threads, 'a whole number from 1');
  if (!options.force && existsSync(output))
    throw errors.invalidOption('output', output, 'a file that is not there yet (--force replaces it)');
  const gguf = readGguf(input);
  const layers = Number(gguf.metadata.get(`${String(gguf.metadata.get('general.architecture'))}.block_count`) ?? 0);
  const shape = { layers, tied: !gguf.tensors.has('output.weight') };
  const plan = [...gguf.tensors.values()].map((from) => ({ from, to: becomes(from, typeFor(from, preset, shape)) }));
  warn(plan, options);
  const written = layOut(plan);
  const header = headerOf(gguf.path, preset.fileType, written);
  const bytes = header.length + written.reduce((sum, t) => sum + padded(t.byteLength), 0);
  const jobs = plan.flatMap(({ from, to }, i) => piecesOf(gguf, from, to, header.length + written[i]!.offset));
  await writeWhole(output, bytes, options, async (file) => {
    await file.truncate(bytes);
    await file.write(header, 0, header.length, 0);
    await runJobs(jobs, file, options);
  });
  const types: Record<string, number> = {};
  for (const t of written) types[t.type] = (types[t.type] ?? 0) + 1;
  return { path: output, from: gguf.size, bytes, types };
}

interface Planned {
  from: TensorInfo;
  to: QuantType | null;
}

/** @throws unsupported_tensor_type */
function becomes(from: TensorInfo, to: QuantType | null): QuantType | null {
  if (to === null || to === from.type) return null;
  if (!DECODED_TYPES.includes(from.type)) throw errors.unsupportedTensorType(from.name, from.type, [...DECODED_TYPES]);
  return to;
}

function warn(plan: readonly Planned[], { onNote }: QuantizeOptions): void {
  const again = plan.filter(({ from, to }) => to !== null && !/^B?F\d+$/.test(from.type));
  if (again.length === 0) return;
  const types = [...new Set(again.map(({ from }) => from.type))].join(', ');
  onNote?.(
    `${again.length} tensors are quantised already (${types}): quantised again they lose more than from 16 or 32 bits`,
  );
}

function layOut(plan: readonly Planned[]): Written[] {
  let offset = 0;
  return plan.map(({ from, to }) => {
    const values = from.shape.reduce((a, b) => a * b, 1);
    const byteLength = to ? (values / FORMATS[to].values) * FORMATS[to].bytes : from.byteLength;
    const tensor = { name: from.name, type: to ?? from.type, shape: from.shape, byteLength, offset };
    offset += padded(byteLength);
    return tensor;
  });
}

/** Whole rows, about PIECE values each. */
function piecesOf(gguf: GgufFile, from: TensorInfo, to: QuantType | null, at: number): Job[] {
  const row = from.shape[0]!;
  const rows = from.shape.slice(1).reduce((a, b) => a * b, 1);
  const step = Math.max(1, Math.floor(PIECE / row));
  const rowBytes = from.byteLength / rows;
  const newBytes = to ? (row / FORMATS[to].values) * FORMATS[to].bytes : rowBytes;
  const { name, type } = from;
  return Array.from({ length: Math.ceil(rows / step) }, (_, i) => {
    const first = i * step;
    const n = Math.min(step, rows - first);
    const offset = from.offset + first * rowBytes;
    const piece = { file: from.file ?? gguf.path, name, offset, bytes: n * rowBytes, type, count: n * row, to };
    return { ...piece, at: at + first * newBytes };
  });
}

/** Each thread takes the next piece when it has done one. */
async function runJobs(jobs: readonly Job[], file: FileHandle, options: QuantizeOptions): Promise<void> {
  const { onProgress, signal } = options;
  const total = jobs.reduce((sum, j) => sum + j.bytes, 0);
  const threads = Math.max(1, Math.min(options.threads ?? os.availableParallelism(), jobs.length));
  const workers = Array.from(
    { length: threads },
    () => new WorkerClient<Calls>(new URL('./worker.js', import.meta.url), {}),
  );
  const stop = () => void Promise.all(workers.map((w) => w.terminate()));
  signal?.addEventListener('abort', stop, { once: true });
  let next = 0;
  let done = 0;
  const run = async (worker: WorkerClient<Calls>): Promise<void> => {
    await worker.ready;
    while (next < jobs.length) {
      signal?.throwIfAborted();
      const { at, ...piece } = jobs[next++]!;
      const bytes = await worker.call('piece', piece);
      await file.write(bytes, 0, bytes.length, at);
      done += piece.bytes;
      onProgress?.('quantising', done, total);
    }
  };
  try {
    signal?.throwIfAborted();
    await Promise.all(workers.map(run));
  } catch (e) {
    signal?.throwIfAborted();
    throw e;
  } finally {
    signal?.removeEventListener('abort', stop);
    next = jobs.length;
    await Promise.all(workers.map((w) => w.terminate()));
  }
}

/** The file appears under its name when `fill` is done; before that nothing is there, and after a failure nothing is left. */
async function writeWhole(
  output: string,
  bytes: number,
  { force }: QuantizeOptions,
  fill: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const part = `${output}.${randomBytes(4).toString('hex')}.part`;
  const what = `writing '${output}'`;
  try {
    const { bavail, bsize } = await statfs(path.dirname(path.resolve(output)));
    if (bytes > bavail * bsize)
      throw errors.io(what, `it needs ${formatBytes(bytes)}, ${formatBytes(bavail * bsize)} are free`);
    const file = await open(part, 'wx');
    try {
      await fill(file);
      await file.sync();
    } finally {
      await file.close();
    }
    if (!force && existsSync(output)) throw errors.io(what, 'the file has appeared meanwhile');
    await rename(part, output);
  } catch (e) {
    await rm(part, { force: true });
    throw e instanceof Error && 'syscall' in e ? errors.io(what, e.message) : e;
  }
}
