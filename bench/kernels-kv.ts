/**
 * Attention over KV of 16, 8 and 4 bits, the three in turns on the same shapes: what fewer bits cost or save in time. Every
 * block is written before it is read (pages never touched would all be read from the one page of zeros).
 * Rows of `npm run bench:kernels`; alone: `node dist/bench/kernels-kv.js [--json] [--isa …] [--threads N] [--runs N]`.
 */
import './plain-errors.js';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type CpuDevice, type CpuDeviceOptions, createCpuDevice } from '../src/device/cpu/index.js';
import { createStep, type KvLayout, kvBytesPerToken, type Op, type Program, type Step } from '../src/device/device.js';
import type { TensorInfo } from '../src/types.js';

export interface KvRow {
  kernel: string;
  milliseconds: number;
  rate: string;
  limit: 'bandwidth' | 'f32';
  share: number;
  /** Time over that of 16 bits: median of the runs, in each of which the three follow each other. */
  toF16: number;
}

interface Work {
  name: string;
  heads: number;
  kvHeads: number;
  /** Sequences, tokens each computes at the end of its context. */
  sequences: number;
  tokens: number;
  context: number;
}

const HEAD_DIM = 64;
const LAYERS = 4;
const BLOCK = 64;
const BITS = [16, 8, 4] as const;
/** Query and KV heads of SmolLM2-135M, and of a 1 B model. */
const SHAPES = { '9/3 heads': [9, 3], '32/8 heads': [32, 8] } as const;
const WORKS = [
  { name: 'decode 1 at 2,048', sequences: 1, tokens: 1, context: 2048 },
  { name: 'decode 1 at 8,192', sequences: 1, tokens: 1, context: 8192 },
  { name: 'decode 16 at 1,024', sequences: 16, tokens: 1, context: 1024 },
  { name: 'prefill of 512', sequences: 1, tokens: 512, context: 512 },
  { name: 'last 512 of 8,192', sequences: 1, tokens: 512, context: 8192 },
];

function programOf({ heads, kvHeads, context }: Work): Program {
  const inverseFrequencies = Float32Array.from({ length: HEAD_DIM / 2 }, (_, i) => 1e4 ** ((-2 * i) / HEAD_DIM));
  const rope = { dims: HEAD_DIM, freqBase: 1e4, neox: false, magnitude: 1, inverseFrequencies };
  const ops: Op[] = [
    { op: 'embed', weight: 'embd', out: 'q' },
    { op: 'embed', weight: 'embk', out: 'k' },
    { op: 'embed', weight: 'embk', out: 'v' },
  ];
  for (let layer = 0; layer < LAYERS; layer++) {
    ops.push({ op: 'ropeAndStore', layer, q: 'q', k: 'k', v: 'v', rope });
    ops.push({ op: 'attention', layer, q: 'q', out: 'out', scale: 0.125 });
  }
  const width = heads * HEAD_DIM;
  const buffers = ['q', 'k', 'v', 'out'].map((name) => ({
    name,
    width: name === 'q' || name === 'out' ? width : kvHeads * HEAD_DIM,
    perLogit: false,
  }));
  const shape = { heads, kvHeads, headDim: HEAD_DIM, ffDim: 1, vocab: 16, contextLength: context };
  return { dims: { layers: LAYERS, dim: width, ...shape }, buffers, ops };
}

/** 16 rows of numbers between -1 and 1 for queries, and for keys and values. */
function writeEmbeddings(file: string, { heads, kvHeads }: Work): Map<string, TensorInfo> {
  const tensors = new Map<string, TensorInfo>();
  const values: number[] = [];
  let state = 1;
  for (const [name, count] of [
    ['embd', heads],
    ['embk', kvHeads],
  ] as const) {
    const shape = [count * HEAD_DIM, 16];
    const length = shape[0]! * 16;
    tensors.set(name, { name, type: 'F32', shape, offset: 4 * values.length, byteLength: 4 * length });
    for (let i = 0; i < length; i++) {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      values.push(state / 2 ** 31 - 1);
    }
  }
  fs.writeFileSync(file, Float32Array.from(values));
  return tensors;
}

/** A loaded shape whose KV blocks have all been written. */
class Attention {
  readonly bytesPerToken: number;
  readonly #step: Step;

  constructor(
    readonly device: CpuDevice,
    private readonly work: Work,
    bits: KvLayout['bits'],
    file: string,
  ) {
    const { kvHeads, sequences, context } = work;
    const columns = context / BLOCK;
    const limits = { maxTokens: 512, maxRows: 16, maxBlocksPerRow: columns, maxLogits: 1, vocab: 16 };
    const kv = { layers: LAYERS, kvHeads, headDim: HEAD_DIM, blockLen: BLOCK, bits };
    this.bytesPerToken = kvBytesPerToken(kv) / LAYERS;
    const maxBlocks = sequences * columns;
    device.load(programOf(work), { path: file, tensors: writeEmbeddings(file, work) }, { limits, kv, maxBlocks });
    device.growKv(maxBlocks);
    this.#step = createStep(limits);
    this.#fill(maxBlocks);
    for (let s = 0; s < sequences; s++) {
      this.#step.rowSlot[s] = s;
      for (let b = 0; b < columns; b++) this.#step.blockTables[s * columns + b] = s * columns + b;
    }
  }

  /** Every block in turn stands at the beginning of a sequence and is written there. */
  #fill(blocks: number): void {
    const some = Math.min(512, this.work.context) / BLOCK;
    for (let at = 0; at < blocks; at += some) {
      for (let b = 0; b < some; b++) this.#step.blockTables[b] = at + b;
      this.#run(1, some * BLOCK, 0);
    }
  }

  #run(sequences: number, tokens: number, position: number): number {
    const step = this.#step;
    step.rowCount = sequences;
    step.tokenCount = sequences * tokens;
    for (let s = 0; s < sequences; s++) {
      step.rowStart[s + 1] = (s + 1) * tokens;
      for (let i = 0; i < tokens; i++) {
        step.tokens[s * tokens + i] = (s + i) % 16;
        step.positions[s * tokens + i] = position + i;
      }
    }
    const started = performance.now();
    this.device.wait(this.device.submit(step));
    return (performance.now() - started) / 1e3;
  }

  /** Seconds of one layer. */
  time(): number {
    const { sequences, tokens, context } = this.work;
    return this.#run(sequences, tokens, context - tokens) / LAYERS;
  }
}

const median = (a: number[]) => [...a].sort((x, y) => x - y)[a.length >> 1]!;

function measure(work: Work, options: CpuDeviceOptions, runs: number, file: string): KvRow[] {
  const arms: Attention[] = [];
  try {
    for (const bits of BITS) arms.push(new Attention(createCpuDevice(options), work, bits, file));
    const { native, handle } = arms[0]!.device;
    const seconds = arms.map((): number[] => []);
    for (let run = -1; run < runs; run++)
      arms.forEach((arm, a) => {
        const s = arm.time();
        if (run >= 0) seconds[a]!.push(s);
      });
    const decode = work.tokens === 1;
    const limit = decode
      ? Math.max(...[1, 2, 3].map(() => native.benchRead(handle, 256e6, 1)))
      : Math.max(...[1, 2, 3].map(() => native.benchPeak(handle, 1, 30)));
    const { sequences, tokens, context, heads } = work;
    const operations = 4 * (tokens * (context - tokens) + (tokens * (tokens + 1)) / 2) * heads * HEAD_DIM;
    return BITS.map((bits, a): KvRow => {
      const best = Math.min(...seconds[a]!);
      const done = (decode ? sequences * context * arms[a]!.bytesPerToken : operations) / best;
      const toF16 = median(seconds[a]!.map((s, run) => s / seconds[0]![run]!));
      return {
        kernel: `attention ${work.name}, KV ${bits} bits`,
        milliseconds: best * 1e3,
        rate: bits === 16 ? 'f16' : `${toF16.toFixed(2)}× f16`,
        limit: decode ? 'bandwidth' : 'f32',
        share: done / limit,
        toF16,
      };
    });
  } finally {
    for (const arm of arms) arm.device.close();
  }
}

export function* kvAttentions(options: CpuDeviceOptions, folder: string, runs = 15): Generator<KvRow> {
  const file = path.join(folder, 'embeddings');
  for (const [shape, [heads, kvHeads]] of Object.entries(SHAPES)) {
    for (const work of WORKS)
      yield* measure({ ...work, name: `${shape}, ${work.name}`, heads, kvHeads }, options, runs, file);
  }
}

function main(): void {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean' },
      isa: { type: 'string' },
      threads: { type: 'string' },
      runs: { type: 'string', default: '15' },
    },
  });
  const options = {
    isa: values.isa as CpuDeviceOptions['isa'],
    threads: values.threads ? Number(values.threads) : undefined,
  };
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-bench-'));
  const rows: KvRow[] = [];
  for (const r of kvAttentions(options, folder, Number(values.runs))) {
    rows.push(r);
    if (!values.json)
      console.log(
        `${r.kernel.padEnd(56)} ${r.milliseconds.toFixed(3).padStart(9)} ms ${r.rate.padStart(10)}  ${(100 * r.share).toFixed(0).padStart(3)}% of ${r.limit}`,
      );
  }
  fs.rmSync(folder, { recursive: true });
  if (values.json) console.log(JSON.stringify(rows));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
