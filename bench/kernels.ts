/**
 * Each kernel of the CPU device: time, and share of the limit that binds it (read bandwidth, int8 or f32 peak), both
 * measured in the same run. `node dist/bench/kernels.js [--json] [--isa avx512|avx2|portable] [--threads N]`
 */
import './plain-errors.js';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type CpuDevice, type CpuDeviceOptions, createCpuDevice } from '../src/device/cpu/index.js';
import { createStep, type Op, type Program, type Step } from '../src/device/device.js';
import type { TensorInfo, TensorSource } from '../src/types.js';
import { FORMATS } from '../test/reference/formats.js';
import { kvAttentions } from './kernels-kv.js';

const { values: args } = parseArgs({
  options: { json: { type: 'boolean' }, isa: { type: 'string' }, threads: { type: 'string' } },
});
const options: CpuDeviceOptions = {
  isa: args.isa as CpuDeviceOptions['isa'],
  threads: args.threads ? Number(args.threads) : undefined,
};

/** A row of the table: `share` of what the limit allows. */
interface Row {
  kernel: string;
  milliseconds: number;
  rate: string;
  limit: 'bandwidth' | 'int8' | 'f32';
  share: number;
}

interface Limits {
  bandwidth: number;
  int8: number;
  f32: number;
}

const TYPES = ['Q8_0', 'Q4_0', 'Q4_1', 'Q4_K', 'Q5_K', 'Q6_K', 'F16', 'BF16', 'F32'];
/** Inputs and outputs of the gate matrix of a 1 B model. */
const INPUTS = 2048;
const OUTPUTS = 8192;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-bench-'));

/** Bytes that are valid in every type: small positive scales, quants of any value. */
const pattern = new Uint8Array(1 << 20);
for (let i = 0, state = 1; i < pattern.length; i++) {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  pattern[i] = 0x10 + ((state >>> 24) & 0x1f);
}

function writeTensors(file: string, shapes: { name: string; type: string; shape: number[] }[]): TensorSource {
  const tensors = new Map<string, TensorInfo>();
  const fd = fs.openSync(path.join(folder, file), 'w');
  let offset = 0;
  for (const { name, type, shape } of shapes) {
    const { block, bytes } = FORMATS[type];
    const byteLength = (shape.reduce((a, b) => a * b, 1) / block) * bytes;
    tensors.set(name, { name, type, shape, offset, byteLength });
    for (let left = byteLength; left > 0; left -= pattern.length)
      fs.writeSync(fd, pattern, 0, Math.min(left, pattern.length));
    offset += byteLength;
  }
  fs.closeSync(fd);
  return { path: path.join(folder, file), tensors };
}

const best = (n: number, f: () => number) => Math.min(...Array.from({ length: n }, f));

function measureLimits(device: CpuDevice): Limits {
  const { native, handle } = device;
  return {
    bandwidth: -best(3, () => -native.benchRead(handle, 512e6, 1)),
    int8: -best(3, () => -native.benchPeak(handle, 0, 30)),
    f32: -best(3, () => -native.benchPeak(handle, 1, 30)),
  };
}

/** The gate matrix of a 1 B model for many columns; for one column a matrix far larger than the caches. */
function productDevice(type: string, outputs: number): { device: CpuDevice; index: number; bytes: number } {
  const source = writeTensors('products', [
    { name: 'embd', type: 'F32', shape: [INPUTS, 16] },
    { name: 'w', type, shape: [INPUTS, outputs] },
  ]);
  const buffers = [
    { name: 'x', width: INPUTS, perLogit: false },
    { name: 'y', width: outputs, perLogit: false },
  ];
  const ops: Op[] = [
    { op: 'embed', weight: 'embd', out: 'x' },
    { op: 'linear', in: 'x', outputs: [{ weight: 'w', bias: null, out: 'y' }], residual: null },
  ];
  const dims = { layers: 1, dim: INPUTS, heads: 1, kvHeads: 1, headDim: 64, ffDim: 1, vocab: 16, contextLength: 512 };
  const device = createCpuDevice(options);
  device.load({ dims, buffers, ops }, source, {
    limits: { maxTokens: 16, maxRows: 1, maxBlocksPerRow: 1, maxLogits: 1, vocab: 16 },
    kv: { layers: 1, kvHeads: 1, headDim: 64, blockLen: 16, bits: 16 },
    maxBlocks: 1,
  });
  return { device, index: device.tensorNames.indexOf('w'), bytes: source.tensors.get('w')!.byteLength };
}

function* products(): Generator<Row> {
  for (const type of TYPES) {
    for (const n of [1, 16, 512]) {
      const outputs = n > 1 ? OUTPUTS : FORMATS[type].block > 1 ? 49152 : 16384;
      const { device, index, bytes } = productDevice(type, outputs);
      const limits = measureLimits(device);
      const seconds = best(5, () =>
        device.native.benchLinear(device.handle, index, n, n === 512 ? 1 : n === 16 ? 6 : 2),
      );
      device.close();
      const operations = 2 * INPUTS * outputs * n;
      const limit = n === 1 ? 'bandwidth' : FORMATS[type].block === 1 ? 'f32' : 'int8';
      const done = (n === 1 ? bytes : operations) / seconds;
      const rate = n === 1 ? `${(done / 1e9).toFixed(1)} GB/s` : `${(done / 1e9).toFixed(0)} GOPS`;
      yield {
        kernel: `product ${type}, ${n} columns`,
        milliseconds: seconds * 1e3,
        rate,
        limit,
        share: done / limits[limit],
      };
    }
  }
}

function runTokens(device: CpuDevice, step: Step, position: number, count: number): number {
  step.tokenCount = step.rowStart[1] = count;
  for (let i = 0; i < count; i++) {
    step.tokens[i] = i % 16;
    step.positions[i] = position + i;
  }
  const start = performance.now();
  device.wait(device.submit(step));
  return (performance.now() - start) / 1e3;
}

/** Drawing 16 tokens at once from 49,152 logits each; the small product that makes the logits is included. */
function samples(): Row[] {
  const vocab = 49152;
  const n = 16;
  const source = writeTensors('sample', [{ name: 'w', type: 'Q8_0', shape: [32, vocab] }]);
  const program: Program = {
    dims: { layers: 1, dim: 32, heads: 1, kvHeads: 1, headDim: 16, ffDim: 1, vocab, contextLength: 512 },
    buffers: [
      { name: 'x', width: 32, perLogit: false },
      { name: 'last', width: 32, perLogit: true },
      { name: 'logits', width: vocab, perLogit: true },
    ],
    ops: [
      { op: 'embed', weight: 'w', out: 'x' },
      { op: 'gather', in: 'x', out: 'last' },
      { op: 'linear', in: 'last', outputs: [{ weight: 'w', bias: null, out: 'logits' }], residual: null },
      { op: 'sample', in: 'logits' },
    ],
  };
  const limits = { maxTokens: n, maxRows: 1, maxBlocksPerRow: 1, maxLogits: n, vocab };
  const device = createCpuDevice(options);
  device.load(program, source, {
    limits,
    kv: { layers: 1, kvHeads: 1, headDim: 16, blockLen: 16, bits: 16 },
    maxBlocks: 1,
  });
  device.growKv(1);
  const step = createStep(limits);
  step.rowCount = 1;
  step.logitCount = n;
  for (let i = 0; i < n; i++) step.logitRows[i] = i;
  const s = step;
  const kinds: [string, () => void][] = [
    ['greedy', () => s.temperature.fill(0)],
    ['temperature', () => s.temperature.fill(1)],
    ['top-k 40', () => s.topK.fill(40)],
    ['top-k 40, top-p 0.95', () => s.topP.fill(0.95)],
    ['top-p 0.95', () => s.topK.fill(0)],
    ['top-p 0.95, 20 log-probabilities', () => s.topLogprobs.fill(20)],
  ];
  const bandwidth = measureLimits(device).bandwidth;
  const rows = kinds.map(([name, set]): Row => {
    set();
    const seconds = best(20, () => runTokens(device, step, 0, n));
    const bytes = 4 * vocab * n;
    return {
      kernel: `sample ${name}, 16 × 49,152 logits`,
      milliseconds: seconds * 1e3,
      rate: `${(bytes / seconds / 1e9).toFixed(1)} GB/s`,
      limit: 'bandwidth',
      share: bytes / seconds / bandwidth,
    };
  });
  device.close();
  return rows;
}

const limitsDevice = createCpuDevice(options);
const limits = measureLimits(limitsDevice);
const machine = `${os.cpus()[0].model.trim()}, ${limitsDevice.info.threads} threads, ${limitsDevice.info.isa}`;
limitsDevice.close();
if (!args.json) {
  const { bandwidth, int8, f32 } = limits;
  console.log(
    `${machine}: ${(bandwidth / 1e9).toFixed(1)} GB/s, int8 ${(int8 / 1e9).toFixed(0)} GOPS, f32 ${(f32 / 1e9).toFixed(0)} GFLOPS`,
  );
}
const rows: Row[] = [];
const kvBits = () => kvAttentions(options, folder);
for (const group of [products, kvBits, samples]) {
  for (const r of group()) {
    rows.push(r);
    if (args.json) continue;
    const share = `${(100 * r.share).toFixed(0).padStart(3)}% of ${r.limit}`;
    console.log(`${r.kernel.padEnd(64)} ${r.milliseconds.toFixed(3).padStart(9)} ms ${r.rate.padStart(12)}  ${share}`);
  }
}
fs.rmSync(folder, { recursive: true, force: true });
if (args.json) console.log(JSON.stringify({ machine, limits, rows }, null, 1));
