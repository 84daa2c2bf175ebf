/** A model's files, whatever their format: a GGUF file, or a folder as the hub publishes them. */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, existsSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import path from 'node:path';
import type { WeightsChoice } from '../config.js';
import type { GenerationDefaults, TensorInfo, TensorSource } from '../types.js';
import { readFolderConfig } from './folder/config.js';
import { readGenerationDefaults, readTokenizerFiles } from './folder/extras.js';
import { readGguf } from './gguf-split.js';
import { type ModelConfig, readModelConfig } from './model-config.js';

export interface ModelFiles {
  /** As it was given. */
  path: string;
  config: ModelConfig;
  /** Tensors by their roles. */
  source: TensorSource;
  /** What tokenizers and chat templates read (`tokenizer.*`). */
  metadata: ReadonlyMap<string, unknown>;
  generation: GenerationDefaults;
  /** Beginnings of files that say what the model is; the whole file where no length is given. */
  headers: { file: string; bytes: number | null }[];
}

export interface OpenOptions {
  /** Longest sequence that will be; 0 = the model's context length. */
  sessionLen: number;
  weights: WeightsChoice;
}

/** @throws LongmindError file_missing, bad_gguf, bad_model_file, unsupported_architecture, unsupported_model, io_error */
export function openModel(file: string, { sessionLen, weights }: OpenOptions): ModelFiles {
  const model = isFolder(file) ? openFolder(file, sessionLen) : openGguf(file, sessionLen);
  const tensors = new Map([...model.source.tensors].map(([name, t]) => [name, { ...t, ...become(name, t, weights) }]));
  return { ...model, source: { ...model.source, tensors } };
}

function isFolder(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isDirectory() === true;
}

function openGguf(file: string, sessionLen: number): ModelFiles {
  const gguf = readGguf(file);
  const config = readModelConfig(gguf, sessionLen);
  const source = { path: gguf.path, tensors: config.tensors };
  const headers = (gguf.parts ?? [gguf]).map((part) => ({ file: part.path, bytes: part.dataOffset }));
  return { path: file, config, source, metadata: gguf.metadata, generation: {}, headers };
}

function openFolder(folder: string, sessionLen: number): ModelFiles {
  const config = readFolderConfig(folder, sessionLen);
  const files = [...config.tensors.values()].flatMap((t) => extentsOf(t).map((e) => e.file ?? t.file!));
  const shards = [...new Set(files)].sort();
  return {
    path: folder,
    config,
    source: { path: shards[0]!, tensors: config.tensors },
    metadata: readTokenizerFiles(folder),
    generation: readGenerationDefaults(folder),
    headers: [
      ...['config.json', 'tokenizer.json', 'tokenizer.model']
        .map((name) => ({ file: path.join(folder, name), bytes: null }))
        .filter(({ file }) => existsSync(file)),
      ...shards.map((file) => ({ file, bytes: headerBytes(file) })),
    ],
  };
}

function headerBytes(file: string): number {
  const length = Buffer.alloc(8);
  withFile(file, (fd) => readSync(fd, length, 0, 8, 0));
  return 8 + Number(length.readBigUInt64LE(0));
}

// ---------------------------------------------------------------- what weights become

const FLOATS = ['F32', 'F16', 'BF16'];

/** Matrices of floats become 8 or 4 bits, or 16; the first and the last one, which decide most, never have fewer than 8. */
function become(name: string, { type, shape }: TensorInfo, weights: WeightsChoice): { as?: string } {
  if (weights === 'file' || shape.length < 2 || !FLOATS.includes(type)) return {};
  if (weights === 'bf16') return type === 'F32' ? { as: 'BF16' } : {};
  // what chooses experts decides much and weighs nothing
  if (shape[0]! % 32 !== 0 || name.includes('.ffn_gate_inp')) return {};
  const outer = name === 'token_embd.weight' || name === 'output.weight';
  return { as: weights === 'q8' || outer ? 'Q8_0' : 'Q4_0' };
}

// ---------------------------------------------------------------- which model it is

/** Hash of what says what the model is: metadata, the tokenizer included, and the lists of tensors. */
export function fingerprintOf(model: Pick<ModelFiles, 'headers'>): string {
  const hash = createHash('sha256');
  for (const { file, bytes } of model.headers) withFile(file, (fd) => hashStart(hash, fd, bytes));
  return hash.digest('hex');
}

function hashStart(hash: Hash, fd: number, bytes: number | null): void {
  const start = Buffer.alloc(bytes ?? fstatSync(fd).size);
  readSync(fd, start, 0, start.length, 0);
  hash.update(start);
}

/** Pieces of so many bytes of each tensor are looked at: weights that were trained further differ everywhere. */
const PIECE = 4096;

/** Hash of the fingerprint, the files' sizes and times, and of pieces of every tensor: KV of other weights must never be taken. */
export function weightsKeyOf(model: ModelFiles, weights: WeightsChoice): string {
  const hash = createHash('sha256').update(fingerprintOf(model));
  if (weights !== 'file') hash.update(weights);
  const byFile = new Map<string, Extent[]>();
  for (const t of model.source.tensors.values()) {
    for (const run of extentsOf(t)) {
      const file = run.file ?? t.file ?? model.source.path;
      const list = byFile.get(file) ?? [];
      if (list.length === 0) byFile.set(file, list);
      list.push(run);
    }
  }
  for (const [file, tensors] of byFile) withFile(file, (fd) => hashPieces(hash, fd, tensors));
  return hash.digest('hex');
}

type Extent = Pick<TensorInfo, 'offset' | 'byteLength' | 'file'>;

/** Where a tensor's bytes lie, scales and zero points of a quantised one included. */
function extentsOf(t: TensorInfo): Extent[] {
  const runs = t.runs ?? [];
  const rows = runs.reduce((n, run) => n + run.rows, 0);
  const own = t.runs ? runs.map((run) => ({ ...run, byteLength: (t.byteLength / rows) * run.rows })) : [t];
  const packed = new Set([t, ...runs].map((x) => x.packed));
  const parts = [...packed].flatMap((p) => (p ? [p.scales, p.zeros, p.order] : []));
  return [...own, ...parts.filter((part) => part !== undefined)];
}

function hashPieces(hash: Hash, fd: number, tensors: readonly Extent[]): void {
  const piece = Buffer.alloc(PIECE);
  const { size, mtimeMs } = fstatSync(fd);
  hash.update(`${size} ${mtimeMs}`);
  for (const { offset, byteLength } of tensors) {
    for (const at of [0, Math.floor(byteLength / 2), Math.max(0, byteLength - PIECE)]) {
      const n = readSync(fd, piece, 0, Math.min(PIECE, byteLength - at), offset + at);
      hash.update(piece.subarray(0, n));
    }
  }
}

function withFile<T>(file: string, use: (fd: number) => T): T {
  const fd = openSync(file, 'r');
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}
