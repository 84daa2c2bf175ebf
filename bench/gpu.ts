/**
 * Decode and prefill of Llama-3-8B shapes on a GPU, through the device alone: steps in flight, sampling and host work included.
 * Random bf16 weights (every tensor reads the same normal numbers). npm run bench:gpu -- [--json] [--quick] [--torch]
 * --torch: PyTorch beside it in the same call (bench/cuda/torch_baseline.py; python3 with torch, and transformers).
 */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { createCudaDevice, findCuda } from '../src/device/cuda/index.js';
import { createStep, type Device, type Step, type StepLimits } from '../src/device/device.js';
import { type LlamaConfig, llama } from '../src/model/llama.js';
import type { TensorInfo } from '../src/types.js';

const D = 4096;
const VOCAB = 128256;
const FF = 14336;
const LAYERS = 32;
const BLOCK = 64;
const config: LlamaConfig = {
  layers: LAYERS,
  dim: D,
  heads: 32,
  kvHeads: 8,
  headDim: 128,
  ffDim: FF,
  vocab: VOCAB,
  contextLength: 8192,
  rmsEps: 1e-5,
  tiedOutput: false,
  rope: {
    dims: 128,
    freqBase: 500000,
    neox: false,
    magnitude: 1,
    inverseFrequencies: Float32Array.from({ length: 64 }, (_, i) => 500000 ** (-i / 64)),
  },
};

/** A file of normal numbers in bf16, as long as the largest matrix. */
function writeNumbers(file: string, bytes: number): void {
  const piece = new Uint16Array(2 ** 23);
  const f = new Float32Array(1);
  const bits = new Uint32Array(f.buffer);
  for (let i = 0; i < piece.length; i++) {
    f[0] = 0.02 * Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    piece[i] = bits[0]! >>> 16;
  }
  const out = openSync(file, 'w');
  for (let n = 0; n < bytes; n += piece.byteLength) writeSync(out, piece);
  closeSync(out);
}

function tensors(): Map<string, TensorInfo> {
  const map = new Map<string, TensorInfo>();
  const add = (name: string, ...shape: number[]) => {
    const type = shape.length === 1 ? 'F32' : 'BF16';
    const byteLength = shape.reduce((a, b) => a * b, type === 'F32' ? 4 : 2);
    map.set(name, { name, type, shape, offset: 0, byteLength });
  };
  add('token_embd.weight', D, VOCAB);
  add('output.weight', D, VOCAB);
  add('output_norm.weight', D);
  for (let l = 0; l < LAYERS; l++) {
    const b = `blk.${l}.`;
    add(`${b}attn_norm.weight`, D);
    add(`${b}attn_q.weight`, D, D);
    add(`${b}attn_k.weight`, D, 1024);
    add(`${b}attn_v.weight`, D, 1024);
    add(`${b}attn_output.weight`, D, D);
    add(`${b}ffn_norm.weight`, D);
    add(`${b}ffn_gate.weight`, D, FF);
    add(`${b}ffn_up.weight`, D, FF);
    add(`${b}ffn_down.weight`, FF, D);
  }
  return map;
}

const median = (x: number[]): number => x.sort((a, b) => a - b)[x.length >> 1]!;
/** Bounds from bytes and operations (2.9 TB/s), and what was set out for. */
const GOALS: Record<string, { floor?: number; target: number; aim?: number }> = {
  'decode, batch 1, context 1024, KV of 16 bits': { floor: 191, target: 168, aim: 182 },
  'decode, batch 64, context 1024, KV of 16 bits': { floor: 7520, target: 6700, aim: 7200 },
  'decode, batch 256, context 1024, KV of 16 bits': { floor: 13840, target: 12300, aim: 13000 },
  'decode, batch 64, context 4096, KV of 16 bits': { floor: 3710, target: 3500, aim: 3600 },
  'decode, batch 64, context 1024, KV of 8 bits': { target: 7200 },
  'decode, batch 256, context 1024, KV of 8 bits': { target: 15500 },
  'decode, batch 64, context 4096, KV of 8 bits': { target: 4800 },
  'prefill, 1 x 8192': { floor: 48000, target: 36000, aim: 42000 },
  'prefill, 4 x 2048': { floor: 48000, target: 39500, aim: 43000 },
  'submitting a decode step, batch 256, KV of 16 bits': { target: 300 },
  'a decode step at 64 beside KV going to host memory': { target: 3 },
  'a decode step at 64 beside KV going from host memory': { target: 3 },
};
interface Row {
  work: string;
  ours: number;
  unit: string;
  [more: string]: unknown;
}
const rows: Row[] = [];
const json = process.argv.includes('--json');
const note = (row: Row): void => {
  const { floor, target, aim } = GOALS[row.work] ?? {};
  const goals = {
    baseline: null,
    target: target ?? null,
    aim: aim ?? null,
    shareOfFloor: floor ? row.ours / floor : null,
  };
  rows.push({ ...row, ...goals });
  console.error(JSON.stringify(row));
};

/** The same decode step alone and beside copies of KV to and from host memory that never end, in turns. */
function besideTransfers(device: Device, step: (i: number) => Step, blocks: number): void {
  const { kv } = device;
  const host = Array.from({ length: 32 }, () => kv.allocateHost(kv.blockBytes));
  const open: (number | null)[] = host.map(() => null);
  let copied = 0;
  // blocks that no sequence of the batch has
  const pump = (kind: 'read' | 'write') =>
    host.forEach((memory, i) => {
      const transfer = open[i]!;
      if (transfer !== null && !kv.done(transfer)) return;
      open[i] = kv[kind](blocks - 1 - i, memory);
      copied++;
    });
  const run = (kind: 'read' | 'write' | null): number => {
    const times: number[] = [];
    let ticket = device.submit(step(0));
    let started = performance.now();
    for (let i = 1; i < 40; i++) {
      if (kind) pump(kind);
      const next = device.submit(step(i));
      device.wait(ticket);
      ticket = next;
      const now = performance.now();
      if (i > 8) times.push(now - started);
      started = now;
    }
    device.wait(ticket);
    while (!open.every((t) => t === null || kv.done(t)));
    open.fill(null);
    return median(times);
  };
  const alone: number[] = [];
  const beside = { read: [] as number[], write: [] as number[] };
  const rate = { read: 0, write: 0 };
  for (let turn = 0; turn < 3; turn++)
    for (const kind of ['read', 'write'] as const) {
      alone.push(run(null));
      copied = 0;
      const began = performance.now();
      beside[kind].push(run(kind));
      rate[kind] = (copied * kv.blockBytes) / (performance.now() - began) / 1e6;
    }
  for (const kind of ['read', 'write'] as const)
    note({
      work: `a decode step at 64 beside KV going ${kind === 'read' ? 'to' : 'from'} host memory`,
      ours: 100 * (median(beside[kind]) / median(alone) - 1),
      unit: '% slower',
      gigabytesPerSecond: rate[kind],
    });
  note({ work: 'a KV block from host memory, measured at start', ours: kv.writeRate! / 1e6, unit: 'GB/s' });
}

function measure(file: string, bits: 16 | 8, cases: { batch: number; context: number }[], prefills: number[][]): void {
  const device = createCudaDevice({ onBuild: (what, done, total) => done === total && console.error(what, total) });
  const session = 8192;
  const limits: StepLimits = {
    maxTokens: 8192,
    maxRows: 256,
    maxBlocksPerRow: session / BLOCK,
    maxLogits: 288,
    vocab: VOCAB,
  };
  const kv = { layers: LAYERS, kvHeads: 8, headDim: 128, blockLen: BLOCK, bits };
  const most = Math.max(...cases.map((c) => c.batch * Math.ceil((c.context + 128) / BLOCK)), 4 * (session / BLOCK) + 4);
  let started = performance.now();
  const program = llama(config);
  device.load(program, { path: file, tensors: tensors() }, { limits, kv, maxBlocks: most });
  note({ work: `load, KV of ${bits} bits`, ours: (performance.now() - started) / 1000, unit: 's' });
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
        s.tokens[t] = drawn ? -1 - r : (slot * 7919 + (from + i) * 104729) % VOCAB;
        s.positions[t] = from + i;
      }
      s.logitRows[r] = t - 1;
      s.rowStart[r + 1] = t;
    });
    s.tokenCount = t;
    s.logitCount = list.length;
    return s;
  };
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
      work: `decode, batch ${c.batch}, context ${c.context}, KV of ${bits} bits`,
      ours: (1000 * c.batch) / ms,
      unit: 'tok/s',
      stepMs: ms,
    });
    note({
      work: `submitting a decode step, batch ${c.batch}, KV of ${bits} bits`,
      ours: 1000 * median(host),
      unit: 'µs',
      context: c.context,
    });
    if (bits === 16 && c.batch === 64 && c.context === 1024)
      besideTransfers(device, (i) => fill(steps[i % 2]!, at(i)), most);
  }
  for (const [count, length] of prefills as [number, number][]) {
    tables(Math.ceil(length / BLOCK));
    const list = Array.from({ length: count }, (_, r): [number, number, number, boolean] => [r, 0, length, false]);
    const times = Array.from({ length: 6 }, () => {
      const begun = performance.now();
      device.wait(device.submit(fill(steps[0]!, list)));
      return performance.now() - begun;
    });
    const ms = median(times.slice(1));
    note({ work: `prefill, ${count} x ${length}`, ours: (1000 * count * length) / ms, unit: 'tok/s', ms });
  }
  device.close();
}

/** Their figures into the rows of the same work; the better of the two is the baseline. */
function besidePyTorch(): object {
  const script = fileURLToPath(new URL('../../bench/cuda/torch_baseline.py', import.meta.url));
  const { stdout, stderr } = spawnSync('python3', [script, '--transformers'], { encoding: 'utf8', maxBuffer: 2 ** 26 });
  const line = stdout.split('\n').findLast((l) => l.startsWith('{'));
  if (!line) return { failed: stderr.slice(-2000) };
  const theirs = JSON.parse(line) as Record<'plain' | 'transformers', { work: string; value: number }[] | undefined>;
  for (const { work, value } of [...(theirs.plain ?? []), ...(theirs.transformers ?? [])]) {
    const row = rows.find((r) => r.work === work);
    if (row) row.baseline = Math.max(value, (row.baseline as number | null) ?? 0);
  }
  console.error(JSON.stringify(theirs));
  return theirs;
}

let pytorch: object | null = null;
const { gpus, driver } = findCuda();
const folder = mkdtempSync(path.join(os.tmpdir(), 'longmind-gpu-'));
try {
  const file = path.join(folder, 'numbers');
  writeNumbers(file, 2 * D * VOCAB);
  const cases = [1, 8, 64].map((batch) => ({ batch, context: 1024 }));
  const more = [
    { batch: 256, context: 1024 },
    { batch: 64, context: 4096 },
  ];
  const quick = process.argv.includes('--quick');
  measure(file, 16, quick ? cases : [...cases, ...more], [
    [1, 8192],
    [4, 2048],
    [1, 1024],
  ]);
  if (!quick) measure(file, 8, [cases[2]!, ...more], []);
  if (process.argv.includes('--torch')) pytorch = besidePyTorch();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (json)
  console.log(
    JSON.stringify(
      {
        machine: `${gpus[0]!.name}, ${os.availableParallelism()} processors`,
        driver: `for CUDA ${driver}`,
        date: new Date().toISOString(),
        command: `npm run bench:gpu -- ${process.argv.slice(2).join(' ')}`,
        rows,
        pytorch,
      },
      null,
      1,
    ),
  );
