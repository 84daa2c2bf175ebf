/**
 * npm run bench:gpu-host -- MODEL.gguf [--sequences 1,64,256] [--context 1024] [--steps 300] [--json]: what the host does in a decode step on a
 * GPU, as the engine's thread sees it: the engine's scheduler, cache and batch over the CUDA device, greedy, two steps in flight.
 * Host time is the whole step without the time it waits for the GPU; `submit` is the device's part of it, of which the calls of
 * the driver are given one by one. `node bench/random-model.mjs FILE bf16 8b` writes a model of Llama-3-8B shapes.
 */
import './plain-errors.js';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createCacheManager } from '../src/cache/index.js';
import { greedySampling } from '../src/config.js';
import { createCudaDevice, type Driver, openDriver } from '../src/device/cuda/index.js';
import type { Device } from '../src/device/device.js';
import { PersistentBatch } from '../src/engine/batch.js';
import { llama } from '../src/model/llama.js';
import { readGguf, readModelConfig } from '../src/weights/index.js';

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sequences: { type: 'string', default: '1,64,256' },
    context: { type: 'string', default: '1024' },
    steps: { type: 'string', default: '300' },
    json: { type: 'boolean', default: false },
  },
});
const [file] = positionals;
if (!file) {
  console.error(
    'usage: npm run bench:gpu-host -- MODEL.gguf [--sequences 1,64,256] [--context 1024] [--steps 300] [--json]',
  );
  process.exit(2);
}
const BLOCK = 64;
const SESSION = 8192;
const CALLS = ['upload', 'launchGraph', 'download', 'record'] as const;
type Part = (typeof CALLS)[number] | 'submit' | 'wait';
/** Milliseconds of the step that runs. */
const spent: Record<Part, number> = { upload: 0, launchGraph: 0, download: 0, record: 0, submit: 0, wait: 0 };

/** The same object, the time of these methods added up. */
function timed<T extends object>(inner: T, names: readonly (Part & keyof T)[]): T {
  const own = Object.fromEntries(
    names.map((name) => {
      const call = (inner[name] as (...a: unknown[]) => unknown).bind(inner);
      const meter = (...a: unknown[]) => {
        const begun = performance.now();
        try {
          return call(...a);
        } finally {
          spent[name] += performance.now() - begun;
        }
      };
      return [name, meter];
    }),
  );
  return new Proxy(inner, {
    get: (target, name) => {
      if (name in own) return own[name as string];
      const value = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

function open(sequences: number, blocks: number): { device: Device; batch: PersistentBatch } {
  const gguf = readGguf(file!);
  const { dims, rmsEps, rope, tiedOutput, flags, tensors } = readModelConfig(gguf);
  const { layers, kvHeads, headDim, vocab } = dims;
  const inner = createCudaDevice({ driver: timed<Driver>(openDriver(), CALLS) });
  const limits = {
    ...{ maxTokens: 8192, maxRows: sequences, maxBlocksPerRow: SESSION / BLOCK, maxLogits: sequences, vocab },
  };
  const kv = { layers, kvHeads, headDim, blockLen: BLOCK, bits: 16 as const };
  const weights = { path: file!, tensors };
  inner.load(llama({ ...dims, rmsEps, rope, tiedOutput, flags }), weights, { limits, kv, maxBlocks: blocks });
  const device = timed<Device>(inner, ['submit', 'wait']);
  const cache = createCacheManager({
    ...{ blocks, blockLen: BLOCK, sessionLen: SESSION, chunkSize: -1, policy: 'lru', prefixCaching: true },
    ...{ maxSequences: 1e5, maxTokens: 1e8, grow: (total) => device.growKv(total) },
  });
  const budget = {
    tokens: () => limits.maxTokens,
    observe: () => {},
    prefillMs: () => 0,
    rowMs: () => 0.1,
    fixedMs: () => 10,
    drawMs: (rows: number) => 10 + 0.1 * rows,
  };
  const table = { bytes: new Uint8Array(0), offsets: new Int32Array(vocab + 1), special: new Uint8Array(vocab) };
  const options = {
    ...{ limits, maxQueue: 1000, sessions: { max: 1000, shareAcrossOwners: true }, budget },
    admission: { vocab, tokenBytes: table, endOfTurn: new Set<number>() },
  };
  const failed = (_: unknown, e: Error) => {
    throw e;
  };
  return {
    device,
    batch: new PersistentBatch(device, cache, options, { token: () => {}, finished: () => {}, failed }),
  };
}

const median = (x: number[]): number => x.sort((a, b) => a - b)[x.length >> 1]!;

function measure(sequences: number, context: number, steps: number) {
  const blocks = sequences * (Math.ceil((context + steps + 64) / BLOCK) + 1);
  const { device, batch } = open(sequences, blocks);
  const { vocab } = readModelConfig(readGguf(file!)).dims;
  for (let id = 1; id <= sequences; id++)
    batch.submit({
      ...{ id, tokens: Int32Array.from({ length: context }, (_, i) => (i * 7919 + id * 131) % vocab) },
      ...{ sampling: greedySampling, continuation: null, grammar: null, forkOf: null, priority: 0, owner: 0 },
      limits: { maxTokens: steps + 60, minTokens: 0, stop: [], stopTokens: [], ignoreEos: true },
      ...{ stopTokens: [2], sessionId: `s${id}` },
    });
  while (batch.waiting > 0) batch.step();
  for (let i = 0; i < 40; i++) batch.step();
  const seen: Record<Part | 'step' | 'host' | 'engine', number>[] = [];
  for (let i = 0; i < steps; i++) {
    for (const name of Object.keys(spent) as Part[]) spent[name] = 0;
    const begun = performance.now();
    batch.step();
    const step = performance.now() - begun;
    const { submit, wait } = spent;
    seen.push({ ...spent, step, host: step - wait, engine: step - wait - submit });
  }
  batch.drain();
  device.close();
  const names = Object.keys(seen[0]!) as (keyof (typeof seen)[0])[];
  return {
    sequences,
    context,
    ...Object.fromEntries(names.map((name) => [name, 1e3 * median(seen.map((s) => s[name]))])),
  };
}

const context = Number(args.context);
const rows = args.sequences.split(',').map((n) => measure(Number(n), context, Number(args.steps)));
if (args.json) console.log(JSON.stringify({ model: path.basename(file), unit: 'microseconds, medians', rows }));
else for (const row of rows) console.log(JSON.stringify(row));
