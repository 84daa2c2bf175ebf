// npm run bench:stall [-- --json --only TEXT --prompts N --models DIR --no-fail]: does a long prompt stall those who are being answered?
// Four sequences generate; a prompt of 4,096 tokens arrives. Times between two tokens of the four, until its first token.
// About 40 s for the 1 B shape (and as long again the first time, for writing the model), 10 s for the 135 M shape.
import '../dist/bench/plain-errors.js';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { judge } from '../dist/bench/targets.js';
import { createEngine } from '../dist/src/index.js';
import { writeRandomModel } from './random-model.mjs';

const { values: args } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    'no-fail': { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    threads: { type: 'string', default: '2' },
    prompts: { type: 'string', default: '2' },
    models: { type: 'string', default: path.join(os.tmpdir(), 'longmind-bench-models') },
  },
});
const RUNNING = 4;
const PROMPT = 4096;
/** Twice the step that the batch is budgeted for (250 ms). */
const TARGET_MS = 500;

const ids = (count, seed) => Array.from({ length: count }, (_, i) => 300 + ((i * 7919 + seed * 1543) % 40000));
const quantile = (a, q) => [...a].sort((x, y) => x - y)[Math.min(a.length - 1, Math.floor(q * a.length))];

/** Notes when each token of a generation arrives, until it is told to end. */
async function follow(generation, times) {
  for await (const _ of generation) times.push(performance.now());
}

async function measure(shape) {
  const model = path.join(args.models, `${shape}-q8_0.gguf`);
  if (!fs.existsSync(model)) writeRandomModel(model, 'q8_0', shape);
  const engine = await createEngine({
    model,
    threads: Number(args.threads),
    sessionLen: 8192,
    maxBatchSize: RUNNING + 1,
    cacheMaxEntryCount: (RUNNING + 2) * 128,
  });
  const common = { temperature: 0, ignoreEos: true };
  // the budget learns what a token costs; a first prompt alone is where it learns
  await engine.complete({ prompt: ids(1024, 99), maxTokens: 8, ...common }).result();
  const times = Array.from({ length: RUNNING }, () => []);
  const running = times.map((_, i) => engine.complete({ prompt: ids(64, i), maxTokens: 8000, ...common }));
  const followed = running.map((g, i) => follow(g, times[i]));
  const settle = () => new Promise((resolve) => setTimeout(resolve, 1500));
  await settle();
  const quiet = times.flatMap((t) => gaps(t, t[0], performance.now()));
  const during = [];
  const ttft = [];
  for (let p = 0; p < Number(args.prompts); p++) {
    const from = performance.now();
    await engine.complete({ prompt: ids(PROMPT, 1000 + p), maxTokens: 1, ...common }).result();
    const to = performance.now();
    ttft.push(to - from);
    during.push(...times.flatMap((t) => gaps(t, from, to)));
    await settle();
  }
  for (const g of running) g.abort();
  await Promise.all(followed);
  const { stepBudget } = engine.info;
  await engine.close();
  return {
    model: `${shape} Q8_0`,
    gaps: during.length,
    quietMedianMs: quantile(quiet, 0.5),
    medianMs: quantile(during, 0.5),
    p99Ms: quantile(during, 0.99),
    maxMs: Math.max(...during),
    promptMs: quantile(ttft, 0.5),
    firstBudget: stepBudget,
    targetMs: TARGET_MS,
  };
}

/** Times between tokens that arrived in (from, to]. */
function gaps(times, from, to) {
  const out = [];
  for (let i = 1; i < times.length; i++) if (times[i] > from && times[i] <= to) out.push(times[i] - times[i - 1]);
  return out;
}

const rows = [];
for (const shape of ['135m', '1b'].filter((s) => s.includes(args.only))) rows.push(await measure(shape));
if (args.json) console.log(JSON.stringify({ running: RUNNING, prompt: PROMPT, rows }));
else {
  console.log(`time between tokens of ${RUNNING} sequences, ms; a prompt of ${PROMPT} tokens arrives`);
  console.log('model        alone, median   with it: median    P99    max   target   prompt took');
  for (const r of rows) {
    const cells = [
      r.quietMedianMs.toFixed(1).padStart(13),
      r.medianMs.toFixed(0).padStart(17),
      r.p99Ms.toFixed(0).padStart(6),
    ];
    const verdict = r.p99Ms <= r.targetMs ? 'ok' : '!!';
    console.log(
      `${r.model.padEnd(12)} ${cells.join(' ')} ${r.maxMs.toFixed(0).padStart(6)} ${String(r.targetMs).padStart(5)} ${verdict} ${(r.promptMs / 1e3).toFixed(1).padStart(11)} s`,
    );
  }
}
judge(
  rows.map((r) => ({
    name: `${r.model}: between two tokens, P99`,
    value: r.p99Ms,
    target: r.targetMs,
    better: 'less',
    unit: 'ms',
  })),
  args['no-fail'],
);
