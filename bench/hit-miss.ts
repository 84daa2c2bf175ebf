/**
 * npm run bench:hit-miss -- MODEL.gguf [--sessions 32] [--turns 4] [--depth 1,2 | --device cuda[:N] [--tp N]] [--speculation auto,off]
 * [--disks 1,2,3] [--faults] [--only NAME] [--json]: the long form of test/promises/hit-miss.test.ts, with disks of more sizes (blocks); with --faults the one of
 * disk-faults.test.ts; with --tp N on so many GPUs, beside one. What the engine gives in step with the device, with room for all and without guesses, is the measure.
 */
import './plain-errors.js';
import { parseArgs } from 'node:util';
import {
  diskVariants,
  faultVariants,
  firstDifference,
  type HitMissRun,
  openDelayed,
  runTwice,
  runVariant,
  variants,
} from '../src/bench/hit-miss.js';
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
    speculation: { type: 'string', default: 'auto' },
    disks: { type: 'string', default: '' },
    faults: { type: 'boolean', default: false },
    device: { type: 'string', default: 'cpu' },
    tp: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    json: { type: 'boolean', default: false },
  },
});
const file = positionals[0];
if (!file) {
  console.error(
    'usage: npm run bench:hit-miss -- MODEL.gguf [--sessions 32] [--turns 4] [--depth 1,2 | --device cuda[:N] [--tp N]] [--speculation auto,off] [--disks 1,2,3] [--faults] [--only NAME] [--json]',
  );
  process.exit(2);
}
const { dims, rmsEps, rope, tiedOutput, flags, tensors } = readModelConfig(readGguf(file));
const model = { program: llama({ ...dims, rmsEps, rope, tiedOutput, flags }), weights: { path: file, tensors } };
const onProgress = (done: number, total: number) => {
  if (process.stderr.isTTY) process.stderr.write(`\r${done === total ? ' '.repeat(20) : `turn ${done} of ${total}`}\r`);
};
const load = {
  sessions: Number(args.sessions),
  turns: Number(args.turns),
  said: [30, 120] as [number, number],
  answered: 24,
  seed: 7,
  onProgress,
};

const row = ({ answers, problems, ...run }: HitMissRun, base: HitMissRun, depth: number, speculation: string) => ({
  ...{ depth, speculation, ...run },
  answers: answers.length,
  same: firstDifference(base, { ...run, answers, problems }) === -1,
});
type Row = ReturnType<typeof row>;

function print(r: Row): void {
  const n = (value: number, width: number) => String(value).padStart(width);
  const failed = r.tiers && args.faults ? `  failed ${n(r.tiers.saveFailures, 3)} + ${n(r.tiers.loadFailures, 3)}` : '';
  const say = args.json ? console.error : console.log;
  say(
    `${r.same ? 'same bits' : 'DIFFERENT'}  ${r.depth} ${r.speculation.padEnd(4)}  ${r.name.padEnd(44)} evicted ${n(r.blocksEvicted, 5)}  ` +
      `recomputed ${n(r.tokensRecomputed, 6)}  restored ${n(r.tokensRestored, 6)}${failed}  preempted ${n(r.preemptions, 3)}  ` +
      `guessed ${n(r.draftsAccepted, 4)}  ${r.seconds.toFixed(1)} s`,
  );
}

const disks = args.disks === '' ? [] : args.disks.split(',').map(Number);
const gpu = gpuOf(args.device);
const all = args.faults ? faultVariants(load) : [...variants(load, gpu !== null), ...diskVariants(load, disks)];
const played = all.filter((v) => v.name.includes(args.only));
if (gpu !== null && args.depth !== '1') {
  console.error('--depth delays the CPU; a GPU has a depth of its own');
  process.exit(2);
}
const openAt = (depth: number, tp = Number(args.tp)) =>
  gpu === null ? openDelayed(depth) : () => createCudaDevice({ gpu, tp });
const rows: Row[] = [];
// in step with the device, with room for all
const base = await runVariant(model, variants(load)[0]!, load, openAt(1, 1));
for (const depth of args.depth.split(',').map(Number))
  for (const speculation of args.speculation.split(','))
    for (const v of played) {
      // one variant says itself that nothing is guessed
      const variant = { ...v, config: { speculation, ...v.config } };
      const play = args.faults ? runTwice : async (...a: Parameters<typeof runVariant>) => [await runVariant(...a)];
      for (const [i, run] of (await play(model, variant, load, openAt(depth))).entries()) {
        const name = i === 0 ? run.name : `${run.name}, the next engine`;
        rows.push(row({ ...run, name }, base, depth, speculation));
        print(rows.at(-1)!);
      }
    }
const different = rows.filter((r) => !r.same);
if (args.json)
  console.log(
    JSON.stringify({
      model: file.replace(/^.*\//, ''),
      device: args.device,
      tp: Number(args.tp),
      sessions: load.sessions,
      turns: load.turns,
      rows,
    }),
  );
else console.log(`${rows.length - different.length} of ${rows.length} gave the same bits`);
process.exit(different.length === 0 ? 0 : 1);
