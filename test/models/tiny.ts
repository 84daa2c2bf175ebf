/**
 * The tiny models of test/fixtures/models as folders: config.json as transformers saves it, and weights that are a function of
 * their names (scripts/model-fixtures/weights.py makes the same ones), in as many files and of the type that the fixture says.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { numberToHalf } from '../reference/formats.js';

/** What transformers computes. */
export interface Expected {
  /** Tokens of the prompt; the rest of `ids` is its greedy continuation. */
  prompt: number;
  ids: number[];
  /** By position of ids[0 … -1): likeliest token, and how far it is ahead of the next. */
  argmax: number[];
  gap: number[];
  /** Positions whose logits are there. */
  watched: number[];
  logits: Float32Array[];
}

export interface Fixture extends Expected {
  name: string;
  dtype: 'bfloat16' | 'float16' | 'float32';
  shards: number;
  normsFromOne: boolean;
  config: Record<string, unknown>;
  tensors: Record<string, number[]>;
}

const FIXTURES = path.resolve(import.meta.dirname ?? '.', '../../../test/fixtures/models');

export const fixtureNames = (): string[] =>
  fs
    .readdirSync(FIXTURES)
    .filter((n) => n.endsWith('.json'))
    .map((n) => n.slice(0, -5));

export function readFixture(name: string): Fixture {
  return { ...readExpected(path.join(FIXTURES, `${name}.json`)), name } as Fixture;
}

function readExpected(file: string): Expected {
  const json = JSON.parse(fs.readFileSync(file, 'utf8'));
  const bytes = Buffer.from(json.logits, 'base64');
  const all = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const vocab = all.length / json.watched.length;
  const logits = json.watched.map((_: number, i: number) => all.subarray(i * vocab, (i + 1) * vocab));
  return { ...json, logits };
}

const CHECKPOINTS = path.resolve(FIXTURES, '../checkpoints');

export const checkpointNames = (): string[] => fs.readdirSync(CHECKPOINTS).sort();

/** A quantised checkpoint (scripts/model-fixtures/checkpoints.py) as a folder of its own. */
export function checkpoint(name: string): { expected: Expected; folder: string } {
  const folder = temporaryFolder();
  fs.cpSync(path.join(CHECKPOINTS, name), folder, { recursive: true });
  const config = JSON.parse(fs.readFileSync(path.join(folder, 'config.json'), 'utf8'));
  fs.writeFileSync(path.join(folder, 'tokenizer.json'), byteTokenizer(config.vocab_size));
  return { expected: readExpected(path.join(CHECKPOINTS, name, 'expected.json')), folder };
}

function seedOf(name: string): number {
  let h = 0x811c9dc5;
  for (const b of Buffer.from(name)) h = Math.imul(h ^ b, 0x01000193) >>> 0;
  return h;
}

function hash(seed: number, i: number): number {
  let x = (Math.imul(i, 0x9e3779b1) + seed) >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b) >>> 0;
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35) >>> 0;
  return (x ^ (x >>> 16)) & 0xff;
}

/** Values of a tensor; exact in every float type. */
export function valuesOf(f: Fixture, name: string): Float32Array {
  return valuesNamed(name, f.tensors[name]!, f.normsFromOne);
}

/** The same for any name and shape. */
export function valuesNamed(name: string, shape: number[], normsFromOne = false): Float32Array {
  const seed = seedOf(name);
  const count = shape.reduce((a, b) => a * b, 1);
  const spread = name.includes('embed') ? 1 / 16 : 2 ** Math.round(Math.log2(2 / Math.sqrt(shape.at(-1)!)));
  const isVector = shape.length === 1;
  const isNorm = isVector && name.endsWith('.weight');
  return Float32Array.from({ length: count }, (_, i) => {
    const k = hash(seed, i);
    if (isNorm) return (k % 128) / 128 + (normsFromOne ? -0.5 : 0.5);
    return isVector ? (k - 128) / 512 : ((k - 128) / 128) * spread;
  });
}

export const DTYPES = { bfloat16: 'BF16', float16: 'F16', float32: 'F32' } as const;

export function encode(values: Float32Array, type: 'BF16' | 'F16' | 'F32'): Buffer {
  if (type === 'F32') return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const half = Uint16Array.from(values, (v, i) => (type === 'F16' ? numberToHalf(v) : bits[i]! >>> 16));
  return Buffer.from(half.buffer);
}

/** A safetensors file. */
export function safetensors(list: { name: string; dtype: string; shape: number[]; data: Buffer }[]): Buffer {
  let at = 0;
  const entries = list.map(({ name, dtype, shape, data }) => {
    const entry = [name, { dtype, shape, data_offsets: [at, at + data.length] }];
    at += data.length;
    return entry;
  });
  return withHeader(
    JSON.stringify({ __metadata__: { format: 'pt' }, ...Object.fromEntries(entries) }),
    list.map((t) => t.data),
  );
}

export function withHeader(header: string, data: Buffer[] = []): Buffer {
  const padded = Buffer.from(header.padEnd(Math.ceil(header.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded, ...data]);
}

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** Entries of a file's header, and its data. */
export function readSafetensorsEntries(file: string): { entries: Record<string, Entry>; data: Buffer } {
  const bytes = fs.readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const { __metadata__, ...entries } = JSON.parse(bytes.toString('utf8', 8, 8 + length));
  return { entries, data: bytes.subarray(8 + length) };
}

const made: string[] = [];
process.on('exit', () => {
  for (const folder of made) fs.rmSync(folder, { recursive: true, force: true });
});

export function temporaryFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-model-'));
  made.push(folder);
  return folder;
}

/** Each token is a byte; enough for models that are given ids. */
const byteTokenizer = (vocab: number): string => {
  const tokens = Array.from({ length: vocab }, (_, i) => [i < 3 ? ['<pad>', '<s>', '</s>'][i]! : `t${i}`, i]);
  const added = [0, 1, 2].map((id) => ({ id, content: tokens[id]![0], special: true }));
  return JSON.stringify({
    version: '1.0',
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab: Object.fromEntries(tokens), merges: [] },
  });
};

/** Writes the folder; returns where it is. */
export function writeFolder(f: Fixture, folder = temporaryFolder()): string {
  fs.writeFileSync(path.join(folder, 'config.json'), JSON.stringify(f.config));
  fs.writeFileSync(path.join(folder, 'tokenizer.json'), byteTokenizer(f.config.vocab_size as number));
  const dtype = DTYPES[f.dtype];
  const list = Object.entries(f.tensors).map(([name, shape]) => ({
    name,
    dtype,
    shape,
    data: encode(valuesOf(f, name), dtype),
  }));
  if (f.shards === 1) {
    fs.writeFileSync(path.join(folder, 'model.safetensors'), safetensors(list));
    return folder;
  }
  const map: Record<string, string> = {};
  const bytes = list.reduce((sum, { data }) => sum + data.length, 0);
  for (let s = 0; s < f.shards; s++) {
    const file = `model-0000${s + 1}-of-0000${f.shards}.safetensors`;
    // neighbours go to different files
    const part = list.filter((_, i) => i % f.shards === s);
    for (const { name } of part) map[name] = file;
    fs.writeFileSync(path.join(folder, file), safetensors(part));
  }
  fs.writeFileSync(
    path.join(folder, 'model.safetensors.index.json'),
    JSON.stringify({ metadata: { total_size: bytes }, weight_map: map }),
  );
  return folder;
}
