/**
 * How long loading a model takes beside reading its files: `node bench/load-folder.mjs MODEL [--rounds 3] [--threads N]`.
 * Both run on warm pages, in turn; the reading is one thread's, into a buffer of 4 MiB. Medians.
 */
import fs from 'node:fs';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { createCpuDevice } from '../dist/src/device/cpu/index.js';
import { llama } from '../dist/src/model/llama.js';
import { openModel } from '../dist/src/weights/index.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '3' }, threads: { type: 'string' } },
});
const model = positionals[0];
if (!model) throw new Error('which model? node bench/load-folder.mjs MODEL');

function read(files) {
  const buffer = Buffer.alloc(4 * 2 ** 20);
  const start = performance.now();
  for (const file of files) {
    const fd = fs.openSync(file, 'r');
    while (fs.readSync(fd, buffer) > 0);
    fs.closeSync(fd);
  }
  return performance.now() - start;
}

function load() {
  const start = performance.now();
  const { config, source } = openModel(model, { sessionLen: 512, weights: 'file' });
  const { dims, rmsEps, rope, tiedOutput, flags } = config;
  const device = createCpuDevice(values.threads ? { threads: Number(values.threads) } : {});
  const limits = { maxTokens: 16, maxRows: 1, maxBlocksPerRow: 8, maxLogits: 1, vocab: dims.vocab };
  const kv = { layers: dims.layers, kvHeads: dims.kvHeads, headDim: dims.headDim, blockLen: 64, bits: 16 };
  device.load(llama({ ...dims, rmsEps, rope, tiedOutput, flags }), source, { limits, kv, maxBlocks: 8 });
  const time = performance.now() - start;
  device.close();
  const files = new Set([...source.tensors.values()].map((t) => t.file ?? source.path));
  return { time, files: [...files] };
}

const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];
const { files } = load();
const times = { read: [], load: [] };
for (let i = 0; i < Number(values.rounds); i++) {
  times.read.push(read(files));
  times.load.push(load().time);
}
const megabytes = files.reduce((sum, f) => sum + fs.statSync(f).size, 0) / 1e6;
const [r, l] = [median(times.read), median(times.load)];
console.log(
  `${megabytes.toFixed(0)} MB: read ${r.toFixed(0)} ms, load ${l.toFixed(0)} ms (${((1000 * megabytes) / l).toFixed(0)} MB/s), ratio ${(l / r).toFixed(2)}`,
);
