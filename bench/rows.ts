/**
 * npm run bench:rows -- FILE… [--rows 1,2,4,8,16,64,512 --context 512 --library OTHER.so --isa avx2 --threads 2 --seconds 2
 * --profile --processor-time --json]: milliseconds of a step with so many rows of one sequence, logits at all of them up to 32 rows (what
 * verifying a guess costs), the last alone beyond (a prefill). With --library a second build of the native library, in turns
 * with this one, least time of each. --processor-time: of one thread, which other programs on the machine disturb little.
 */
import './plain-errors.js';
import { parseArgs } from 'node:util';
import { compileProgram } from '../src/device/cpu/compile.js';
import { type CpuDevice, type CpuDeviceOptions, createCpuDevice } from '../src/device/cpu/index.js';
import { Flag, Kind, OP_WORDS } from '../src/device/cpu/layout.js';
import { createResult, createStep, type Program, type Step } from '../src/device/device.js';
import { llama } from '../src/model/llama.js';
import { readGguf, readModelConfig } from '../src/weights/index.js';

const { values: args, positionals: files } = parseArgs({
  allowPositionals: true,
  options: {
    rows: { type: 'string', default: '1,2,4,8,16,64,512' },
    context: { type: 'string', default: '512' },
    library: { type: 'string' },
    isa: { type: 'string' },
    threads: { type: 'string' },
    seconds: { type: 'string', default: '2' },
    profile: { type: 'boolean', default: false },
    'processor-time': { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const counts = args.rows.split(',').map(Number);
const context = Number(args.context);
const BLOCK = 64;
const MOST_LOGITS = 32;

/** Milliseconds that only differences of count. */
function clock(): number {
  if (!args['processor-time']) return performance.now();
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e3;
}

interface Loaded {
  device: CpuDevice;
  step: Step;
}

function load(program: Program, file: string, library: string | undefined): Loaded {
  const threads = args['processor-time'] ? 1 : args.threads ? Number(args.threads) : undefined;
  const device = createCpuDevice({ threads, isa: args.isa as CpuDeviceOptions['isa'], library });
  const { layers, kvHeads, headDim, vocab } = program.dims;
  const maxTokens = Math.max(...counts, 256);
  const maxBlocks = Math.ceil((context + maxTokens) / BLOCK);
  const limits = { maxTokens, maxRows: 1, maxBlocksPerRow: maxBlocks, maxLogits: MOST_LOGITS, vocab };
  const { tensors } = readGguf(file);
  const kv = { layers, kvHeads, headDim, blockLen: BLOCK, bits: 16 as const };
  device.load(program, { path: file, tensors }, { limits, kv, maxBlocks });
  device.growKv(maxBlocks);
  const step = createStep(limits);
  for (let i = 0; i < maxBlocks; i++) step.blockTables[i] = i;
  step.rowCount = 1;
  for (let at = 0; at < context; at += 256) run({ device, step }, at, Math.min(256, context - at));
  return { device, step };
}

function fill(step: Step, at: number, count: number): void {
  step.tokenCount = step.rowStart[1] = count;
  for (let i = 0; i < count; i++) {
    step.tokens[i] = (37 * (at + i)) % 1000;
    step.positions[i] = at + i;
  }
  step.logitCount = count <= MOST_LOGITS ? count : 1;
  for (let i = 0; i < step.logitCount; i++) step.logitRows[i] = count - step.logitCount + i;
}

function run({ device, step }: Loaded, at: number, count: number): number {
  fill(step, at, count);
  const begun = clock();
  device.wait(device.submit(step));
  return clock() - begun;
}

const NAMES = Object.entries(Kind);

/** Milliseconds of each kind of operation, every one in a call of its own. */
function profile({ device, step }: Loaded, program: Program, count: number, quantised: boolean): Map<string, number> {
  fill(step, context, count);
  const { ops, count: n } = compileProgram(program, () => (quantised ? Flag.q8 : Flag.f32), true);
  const { bytes } = createResult({ maxTokens: 1, maxRows: 1, maxBlocksPerRow: 1, maxLogits: MOST_LOGITS, vocab: 1 });
  const best = new Float64Array(n).fill(1e9);
  for (let repeat = 0; repeat < 20; repeat++)
    for (let i = 0; i < n; i++) {
      const t = clock();
      device.native.step(device.handle, i, i + 1, step.bytes, step.bytes.length, bytes, bytes.length, device.cancel);
      best[i] = Math.min(best[i]!, clock() - t);
    }
  const sums = new Map<string, number>();
  best.forEach((ms, i) => {
    const kind = NAMES.find(([, k]) => k === ops[i * OP_WORDS])?.[0] ?? '?';
    const name = kind === 'linear' && i >= n - 2 ? 'linear (logits)' : kind;
    sums.set(name, (sums.get(name) ?? 0) + ms);
  });
  return sums;
}

const rows = [];
for (const file of files) {
  const gguf = readGguf(file);
  const { dims, rmsEps, rope, tiedOutput, flags } = readModelConfig(gguf);
  const program = llama({ ...dims, rmsEps, rope, tiedOutput, flags });
  const sides = [undefined, ...(args.library ? [args.library] : [])].map((l) => load(program, file, l));
  if (!args.json) console.log(`${file}, ${sides[0]!.device.info.isa}, ${sides[0]!.device.info.threads} threads`);
  let one = 0;
  for (const count of counts) {
    const best = sides.map(() => Number.POSITIVE_INFINITY);
    const end = performance.now() + 1e3 * Number(args.seconds);
    for (let n = 0; n < 3 || performance.now() < end; n++)
      sides.forEach((side, i) => {
        best[i] = Math.min(best[i]!, run(side, context, count));
      });
    if (count === 1) one = best[0]!;
    const [ms, other] = best as [number, number?];
    const rowCost = one > 0 && count > 1 ? (ms - one) / (count - 1) / one : null;
    rows.push({ file, rows: count, ms, other, rowCost });
    if (args.json) continue;
    const cost = rowCost === null ? '' : `   a row more: ${(100 * rowCost).toFixed(1)}% of a step`;
    const than = other === undefined ? '' : `   other library: ${other.toFixed(2)} ms (${(other / ms).toFixed(2)}×)`;
    console.log(`${String(count).padStart(4)} rows ${ms.toFixed(2).padStart(8)} ms${cost}${than}`);
    if (!args.profile) continue;
    const type = gguf.tensors.get('blk.0.attn_output.weight')!.type;
    for (const [name, t] of profile(sides[0]!, program, count, !/^B?F\d/.test(type)))
      console.log(`       ${name.padEnd(16)} ${t.toFixed(2).padStart(8)} ms`);
  }
  for (const side of sides) side.device.close();
}
if (args.json) console.log(JSON.stringify({ rows }));
