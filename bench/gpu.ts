/**
 * Decode and prefill of Llama-3-8B and SmolLM2-135M shapes on a GPU, through the device alone: steps in flight, sampling and
 * host work included. Random weights (every tensor of a type reads the same numbers). The targets are those of docs/cuda.md.
 * npm run bench:gpu -- [--json] [--no-fail] [--torch] [--only bf16,int8,Q4_K,Q8_0,smollm2,llama70] [--tp N]
 * --tp N: on one GPU and on N, with the ratios, and whether both gave the same bits. llama70 (70B shapes in 4 bits) needs it;
 * meetings: products of next to no inputs, so that what is left is what sums and norms cost.
 * --torch: PyTorch beside it in the same call (bench/cuda/torch_baseline.py; python3 with torch and transformers).
 */
import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createCudaDevice, findCuda } from '../src/device/cuda/index.js';
import { createStep, type Step, type StepLimits } from '../src/device/device.js';
import { type LlamaConfig, llama } from '../src/model/llama.js';
import type { TensorInfo } from '../src/types.js';
import { besidePyTorch } from './gpu-torch.js';
import { besideTransfers } from './gpu-transfers.js';
import { judge } from './targets.js';

const BLOCK = 64;
type Shape = Pick<LlamaConfig, 'layers' | 'dim' | 'heads' | 'kvHeads' | 'headDim' | 'ffDim' | 'vocab'>;
const LLAMA: Shape = { layers: 32, dim: 4096, heads: 32, kvHeads: 8, headDim: 128, ffDim: 14336, vocab: 128256 };
const SMOLLM2: Shape = { layers: 30, dim: 576, heads: 9, kvHeads: 3, headDim: 64, ffDim: 1536, vocab: 49152 };
const LLAMA70: Shape = { layers: 80, dim: 8192, heads: 64, kvHeads: 8, headDim: 128, ffDim: 28672, vocab: 128256 };
/** Twice a layer the sums of a row of 16 KiB meet. */
const MEETINGS: Shape = { layers: 64, dim: 4096, heads: 2, kvHeads: 2, headDim: 64, ffDim: 128, vocab: 1024 };

const configOf = (shape: Shape): LlamaConfig => ({
  ...shape,
  contextLength: 8192,
  rmsEps: 1e-5,
  tiedOutput: shape === SMOLLM2,
  flags: {},
  rope: {
    dims: shape.headDim,
    freqBase: 500000,
    neox: false,
    magnitude: 1,
    inverseFrequencies: Float32Array.from(
      { length: shape.headDim / 2 },
      (_, i) => 500000 ** ((-2 * i) / shape.headDim),
    ),
  },
});

/** Weights a block, and its bytes. */
const BLOCKS = { BF16: [1, 2], Q8_0: [32, 34], Q4_K: [256, 144] } as const;
type Type = keyof typeof BLOCKS;
/** Where the matrices' numbers begin in the file; before them: ones, for the norms. */
const NUMBERS_AT = 2 ** 16;
const SPREAD = 0.02;

const word = new Float32Array(1);
const bits = new Uint32Array(word.buffer);
const normal = () => SPREAD * Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
/** f16 of a small positive number. */
function half(x: number): number {
  const exponent = Math.max(-14, Math.floor(Math.log2(x)));
  const units = Math.round((x / 2 ** exponent) * 1024);
  return exponent === -14 && units < 1024 ? units : (exponent + 15) * 1024 + units - 1024;
}

/** About 16 MiB of whole blocks whose values have a spread of 0.02. */
function numbers(type: Type): Uint8Array {
  const bytes = BLOCKS[type][1];
  const out = new Uint8Array(2 ** 24 - (2 ** 24 % bytes));
  const view = new DataView(out.buffer);
  if (type !== 'BF16') for (let i = 0; i < out.length; i++) out[i] = 256 * Math.random();
  for (let at = 0; at < out.length; at += bytes) {
    if (type === 'BF16') {
      word[0] = normal();
      view.setUint16(at, bits[0]! >>> 16, true);
    }
    if (type === 'Q8_0') view.setUint16(at, half(SPREAD / 74), true);
    if (type === 'Q4_K') {
      view.setUint16(at, half(SPREAD / (9 * 15)), true);
      view.setUint16(at + 2, half(SPREAD / 20), true);
    }
  }
  return out;
}

function writeNumbers(file: string, type: Type, bytes: number): void {
  const out = openSync(file, 'w');
  writeSync(out, new Uint8Array(new Float32Array(NUMBERS_AT / 4).fill(1).buffer));
  const piece = numbers(type);
  for (let n = 0; n < bytes; n += piece.length) writeSync(out, piece);
  closeSync(out);
}

const matrixBytes = (type: Type, values: number): number => (values / BLOCKS[type][0]) * BLOCKS[type][1];

function tensors({ layers, dim, heads, kvHeads, headDim, ffDim, vocab }: Shape, type: Type): Map<string, TensorInfo> {
  const map = new Map<string, TensorInfo>();
  const add = (name: string, ...shape: number[]) => {
    const values = shape.reduce((a, b) => a * b, 1);
    const vector = shape.length === 1;
    const byteLength = vector ? 4 * values : matrixBytes(type, values);
    map.set(name, { name, type: vector ? 'F32' : type, shape, offset: vector ? 0 : NUMBERS_AT, byteLength });
  };
  add('token_embd.weight', dim, vocab);
  add('output.weight', dim, vocab);
  add('output_norm.weight', dim);
  for (let l = 0; l < layers; l++) {
    const b = `blk.${l}.`;
    add(`${b}attn_norm.weight`, dim);
    add(`${b}attn_q.weight`, dim, heads * headDim);
    add(`${b}attn_k.weight`, dim, kvHeads * headDim);
    add(`${b}attn_v.weight`, dim, kvHeads * headDim);
    add(`${b}attn_output.weight`, heads * headDim, dim);
    add(`${b}ffn_norm.weight`, dim);
    add(`${b}ffn_gate.weight`, dim, ffDim);
    add(`${b}ffn_up.weight`, dim, ffDim);
    add(`${b}ffn_down.weight`, ffDim, dim);
  }
  return map;
}

/** What docs/cuda.md sets out for: [target, aim, floor] by the row's name; floors at 2.9 TB/s. */
const GOALS: Record<string, [target: number, aim: number | null, floor: number | null]> = {
  'BF16 decode 1 x 1024': [168, 182, 191],
  'BF16 decode 64 x 1024': [6700, 7200, 7520],
  'BF16 decode 256 x 1024': [12300, 13000, 13840],
  'BF16 decode 64 x 4096': [3500, 3600, 3710],
  'BF16 int8 KV decode 64 x 1024': [7200, 7548, null],
  'BF16 int8 KV decode 256 x 1024': [15500, 16334, null],
  'BF16 int8 KV decode 64 x 4096': [4800, 4979, null],
  'BF16 prefill 1 x 8192': [36000, 42000, 48000],
  'BF16 prefill 4 x 2048': [39500, 43000, 48000],
  'Q4_K decode 1 x 1024': [230, 300, 590],
  'Q4_K decode 64 x 1024': [6000, 7500, 13700],
  'SmolLM2 BF16 decode 1 x 256': [900, 1500, null],
  'SmolLM2 BF16 decode 1 x 1024': [900, 1500, null],
  'SmolLM2 Q8_0 decode 1 x 256': [900, 1500, null],
  'a decode step at 64 beside KV going to host memory': [3, null, null],
  'a decode step at 64 beside KV going from host memory': [3, null, null],
};

const median = (x: number[]): number => x.sort((a, b) => a - b)[x.length >> 1]!;
const rows: { work: string; ours?: number; unit?: string; baseline?: number | null }[] = [];
const json = process.argv.includes('--json');
const note = (row: { work: string; ours?: number; unit?: string; [more: string]: unknown }): void => {
  const [target, aim, floor] = GOALS[row.work] ?? [null, null, null];
  const goals = row.unit
    ? { baseline: null, target, aim, shareOfFloor: floor && row.ours ? row.ours / floor : null }
    : {};
  rows.push({ ...row, ...goals });
  console.error(JSON.stringify(row));
};

interface Plan {
  shape: Shape;
  type: Type;
  bits: 16 | 8;
  cases: { batch: number; context: number }[];
  /** (sequences, length) */
  prefills: [number, number][];
}

const NAMES = new Map([
  [SMOLLM2, 'SmolLM2 '],
  [LLAMA70, '70B '],
  [MEETINGS, 'meetings '],
]);

/** Returns a digest of some logits. */
function measure(file: string, { shape, type, bits, cases, prefills }: Plan, tp: number): string {
  const name = NAMES.get(shape) ?? '';
  const what = `${tp > 1 ? `${tp} GPUs: ` : ''}${name}${type}${bits === 8 ? ' int8 KV' : ''}`;
  const { vocab, layers, kvHeads, headDim } = shape;
  const device = createCudaDevice({ tp, onBuild: (what, done, total) => done === total && console.error(what, total) });
  const session = 8192;
  const limits: StepLimits = {
    maxTokens: 8192,
    maxRows: 256,
    maxBlocksPerRow: session / BLOCK,
    maxLogits: 288,
    vocab,
  };
  const kv = { layers, kvHeads, headDim, blockLen: BLOCK, bits };
  const most = Math.max(...cases.map((c) => c.batch * Math.ceil((c.context + 128) / BLOCK)), 4 * (session / BLOCK) + 4);
  let started = performance.now();
  const program = llama(configOf(shape));
  device.load(program, { path: file, tensors: tensors(shape, type) }, { limits, kv, maxBlocks: most });
  note({ work: `${what} load`, seconds: (performance.now() - started) / 1000 });
  if (!device.growKv(most)) throw new Error('the KV pool does not fit');
  const steps = [createStep(limits), createStep(limits)];
  const per = (c: { context: number }) => Math.ceil((c.context + 128) / BLOCK);
  const tables = (blocks: number) => {
    for (const s of steps)
      for (let r = 0; r < limits.maxRows; r++)
        for (let b = 0; b < Math.min(blocks, limits.maxBlocksPerRow); b++)
          s.blockTables[r * limits.maxBlocksPerRow + b] = (r * blocks + b) % most;
  };
  const fill = (s: Step, list: [slot: number, from: number, count: number, drawn: boolean][]) => {
    s.rowCount = list.length;
    let t = 0;
    list.forEach(([slot, from, count, drawn], r) => {
      s.rowSlot[r] = slot;
      s.rowStart[r] = t;
      for (let i = 0; i < count; i++, t++) {
        s.tokens[t] = drawn ? -1 - r : (slot * 7919 + (from + i) * 104729) % vocab;
        s.positions[t] = from + i;
      }
      s.logitRows[r] = t - 1;
      s.rowStart[r + 1] = t;
    });
    s.tokenCount = t;
    s.logitCount = list.length;
    return s;
  };
  /** Texts alone, and the token after them beside others; these have blocks of their own. */
  const digest = (): string => {
    const hash = createHash('sha256');
    tables(16);
    for (const count of [60, 120, 250, 300, 1000]) {
      device.wait(device.submit(fill(steps[0]!, [[0, 0, count, false]])));
      hash.update(device.logits(0));
      for (const batch of [1, 7, 16, 32, 100, 200]) {
        const rows = Array.from({ length: batch }, (_, r): [number, number, number, boolean] => [r, count, 1, false]);
        device.wait(device.submit(fill(steps[0]!, rows)));
        hash.update(device.logits(0));
      }
    }
    return hash.digest('hex');
  };
  const bitsSeen = digest();
  for (const c of cases) {
    tables(per(c));
    for (let r = 0; r < c.batch; r += Math.floor(8192 / c.context)) {
      const n = Math.min(Math.floor(8192 / c.context), c.batch - r);
      const list = Array.from({ length: n }, (_, i): [number, number, number, boolean] => [r + i, 0, c.context, false]);
      device.wait(device.submit(fill(steps[0]!, list)));
    }
    const at = (i: number) =>
      Array.from({ length: c.batch }, (_, r): [number, number, number, boolean] => [r, c.context + i, 1, i > 0]);
    const times: number[] = [];
    const host: number[] = [];
    let ticket = device.submit(fill(steps[0]!, at(0)));
    started = performance.now();
    for (let i = 1; i < 100; i++) {
      const step = fill(steps[i % 2]!, at(i));
      const begun = performance.now();
      const next = device.submit(step);
      host.push(performance.now() - begun);
      const result = device.wait(ticket);
      if (result.status[0] !== 0) throw new Error('the model draws nothing');
      ticket = next;
      const now = performance.now();
      if (i > 10) times.push(now - started);
      started = now;
    }
    device.wait(ticket);
    const ms = median(times);
    note({
      work: `${what} decode ${c.batch} x ${c.context}`,
      ours: (1000 * c.batch) / ms,
      unit: 'tok/s',
      stepMs: ms,
      /** Of `submit` alone. */
      hostMs: median(host),
    });
    if (tp === 1 && shape === LLAMA && type === 'BF16' && bits === 16 && c.batch === 64 && c.context === 1024)
      besideTransfers(device, (i) => fill(steps[i % 2]!, at(i)), most).forEach(note);
  }
  for (const [count, length] of prefills) {
    tables(Math.ceil(length / BLOCK));
    const list = Array.from({ length: count }, (_, r): [number, number, number, boolean] => [r, 0, length, false]);
    const times = Array.from({ length: 6 }, () => {
      const begun = performance.now();
      device.wait(device.submit(fill(steps[0]!, list)));
      return performance.now() - begun;
    });
    const ms = median(times.slice(1));
    note({ work: `${what} prefill ${count} x ${length}`, ours: (1000 * count * length) / ms, unit: 'tok/s', ms });
  }
  device.close();
  return bitsSeen;
}

/** On one GPU and on several, in turn. */
function compare(file: string, plan: Plan, tp: number): void {
  const alone = rows.length;
  const one = measure(file, plan, 1);
  const together = rows.length;
  const all = measure(file, plan, tp);
  note({ work: `the same bits on 1 and ${tp} GPUs`, equal: one === all });
  const speeds = (list: typeof rows) =>
    new Map(list.flatMap((r) => (typeof r.ours === 'number' ? [[r.work.replace(/^\d+ GPUs: /, ''), r.ours]] : [])));
  const before = speeds(rows.slice(alone, together));
  const { shape } = plan;
  for (const [work, ours] of speeds(rows.slice(together))) {
    const other = before.get(work);
    if (other === undefined) continue;
    note({ work: `${tp} GPUs beside one: ${work}`, ratio: ours / other });
    if (shape !== MEETINGS) continue;
    const batch = Number(/decode (\d+)/.exec(work)![1]);
    const more = (1e6 * batch * (1 / ours - 1 / other)) / (2 * shape.layers);
    note({
      work: `a meeting of ${tp} GPUs over ${16 * batch} KiB, beside residual and norm on one`,
      microseconds: more,
    });
  }
}

const at = (context: number, ...batches: number[]) => batches.map((batch) => ({ batch, context }));
const prefills: [number, number][] = [
  [1, 8192],
  [4, 2048],
  [1, 1024],
];
const all: Record<string, Plan[]> = {
  bf16: [
    {
      shape: LLAMA,
      type: 'BF16',
      bits: 16,
      cases: [...at(1024, 1, 8, 64, 256), ...at(4096, 64)],
      prefills,
    },
  ],
  int8: [{ shape: LLAMA, type: 'BF16', bits: 8, cases: [...at(1024, 64, 256), ...at(4096, 64)], prefills: [] }],
  Q4_K: [{ shape: LLAMA, type: 'Q4_K', bits: 16, cases: at(1024, 1, 8, 64), prefills }],
  Q8_0: [{ shape: LLAMA, type: 'Q8_0', bits: 16, cases: at(1024, 1, 8, 64), prefills }],
  smollm2: (['BF16', 'Q8_0'] as const).map((type) => ({
    shape: SMOLLM2,
    type,
    bits: 16,
    cases: [...at(256, 1), ...at(1024, 1, 64)],
    prefills: [[1, 2048]],
  })),
  meetings: [{ shape: MEETINGS, type: 'BF16', bits: 16, cases: at(128, 1, 2, 4, 16, 64), prefills: [] }],
  llama70: [{ shape: LLAMA70, type: 'Q4_K', bits: 16, cases: at(1024, 1, 8), prefills: [[1, 2048]] }],
};
const tpAt = process.argv.indexOf('--tp');
const tp = tpAt < 0 ? 1 : Number(process.argv[tpAt + 1]);
const only = process.argv.indexOf('--only');
const names =
  only < 0 ? Object.keys(all).filter((n) => n !== 'llama70' && n !== 'meetings') : process.argv[only + 1]!.split(',');
let pytorch: object | null = null;
const folder = mkdtempSync(path.join(os.tmpdir(), 'longmind-gpu-'));
try {
  const file = path.join(folder, 'numbers');
  let written: string | null = null;
  for (const name of names)
    for (const plan of all[name]!) {
      const key = `${plan.type} ${plan.shape.dim * plan.shape.vocab}`;
      if (written !== key) writeNumbers(file, plan.type, matrixBytes(plan.type, plan.shape.dim * plan.shape.vocab));
      written = key;
      const { heads, kvHeads } = plan.shape;
      if (tp === 1 || heads % tp !== 0 || kvHeads % tp !== 0) measure(file, plan, 1);
      else if (plan.shape === LLAMA70) measure(file, plan, tp);
      else compare(file, plan, tp);
    }
  if (process.argv.includes('--torch')) pytorch = besidePyTorch(rows);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (json) {
  const { driver, gpus } = findCuda();
  const machine = `${gpus[0]!.name} (${os.hostname()})`;
  const command = `npm run bench:gpu -- ${process.argv.slice(2).join(' ')}`;
  console.log(
    JSON.stringify(
      { machine, driver: `CUDA ${driver}`, date: new Date().toISOString(), command, rows, pytorch },
      null,
      1,
    ),
  );
}
judge(
  rows.flatMap(({ work, ours, unit }) => {
    const goal = GOALS[work];
    if (!goal || !unit) return [];
    // per cent: what is lost
    const better = unit.startsWith('%') ? ('less' as const) : ('more' as const);
    return [{ name: work, value: ours ?? Number.NaN, target: goal[0], better, unit }];
  }),
  process.argv.includes('--no-fail'),
);
