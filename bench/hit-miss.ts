/** npm run bench:hit-miss -- MODEL.gguf [--sessions 32] [--depth 2] [--device cuda] [--json]: the long form of test/promises/hit-miss.test.ts. */
import './plain-errors.js';
import { parseArgs } from 'node:util';
import { firstDifference, type HitMissRun, openDelayed, runVariant, variants } from '../src/bench/hit-miss.js';
import { gpuOf } from '../src/config.js';
import { createCudaDevice } from '../src/device/cuda/index.js';
import { llama } from '../src/model/llama.js';
import { readGguf, readModelConfig } from '../src/weights/index.js';

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sessions: { type: 'string', default: '32' },
    turns: { type: 'string', default: '4' },
    depth: { type: 'string', default: '1' },
    device: { type: 'string', default: 'cpu' },
    only: { type: 'string', default: '' },
    json: { type: 'boolean', default: false },
  },
});
const file = positionals[0];
if (!file) {
  console.error(
    'usage: npm run bench:hit-miss -- MODEL.gguf [--sessions 32] [--turns 4] [--depth 1|2 | --device cuda[:N]] [--only NAME] [--json]',
  );
  process.exit(2);
}
const gguf = readGguf(file);
const { dims, rmsEps, rope, tiedOutput } = readModelConfig(gguf);
const model = { program: llama({ ...dims, rmsEps, rope, tiedOutput }), weights: { path: file, tensors: gguf.tensors } };
const load = {
  sessions: Number(args.sessions),
  turns: Number(args.turns),
  said: [30, 120] as [number, number],
  answered: 24,
  seed: 7,
};
const rows = [];
// what the engine gives in step with the device, with room for all, is the measure
const depth = Number(args.depth);
let base: HitMissRun | null = null;
const gpu = gpuOf(args.device);
const open = gpu === null ? openDelayed(depth) : () => createCudaDevice({ gpu });
const all = variants(load, gpu !== null);
if (depth > 1) base = await runVariant(model, variants(load)[0]!, load);
// the first is what the others are compared with
for (const variant of all.filter((v, i) => i === 0 || v.name.includes(args.only))) {
  const run = await runVariant(model, variant, load, open);
  base ??= run;
  const { answers, ...row } = run;
  rows.push({ ...row, answers: answers.length, same: firstDifference(base, run) === -1 });
  const r = rows.at(-1)!;
  if (!args.json) {
    console.log(
      `${r.same ? 'same bits' : 'DIFFERENT'}  ${r.name.padEnd(36)} evicted ${String(r.blocksEvicted).padStart(5)}  ` +
        `recomputed ${String(r.tokensRecomputed).padStart(6)}  restored ${String(r.tokensRestored).padStart(6)}  preempted ${String(r.preemptions).padStart(3)}  guessed ${String(r.draftsAccepted).padStart(4)}  ${r.seconds.toFixed(1)} s`,
    );
  }
}
if (args.json) console.log(JSON.stringify({ model: file.replace(/^.*\//, ''), device: args.device, depth, rows }));
process.exit(rows.every((r) => r.same) ? 0 : 1);
