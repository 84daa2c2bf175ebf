// npm run bench:budget [-- --json --shape 1b --prompt 512 --rounds 5 --sizes 32,64,128,256,512 --models DIR --no-fail]: is the measured
// step budget as fast as the best fixed one? One engine for each size, all loaded, one prompt each in turn, so that whatever else the
// machine does hits all of them. A fixed size counts as the best only if its steps keep within 250 ms. Some minutes for the 1 B shape.
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
    shape: { type: 'string', default: '1b' },
    prompt: { type: 'string', default: '512' },
    rounds: { type: 'string', default: '5' },
    sizes: { type: 'string', default: '32,64,128,256,512' },
    threads: { type: 'string', default: '2' },
    models: { type: 'string', default: path.join(os.tmpdir(), 'longmind-bench-models') },
  },
});
const PROMPT = Number(args.prompt);
const ROUNDS = Number(args.rounds);
const STEP_MS = 250;
/** Of the best fixed size's speed. */
const TARGET = 0.97;
/** A prompt alone, and one that is answered: decode steps must not change what prefill steps are taken to cost. */
const ANSWERS = [1, 16];

const ids = (count, seed) => Array.from({ length: count }, (_, i) => 300 + ((i * 7919 + seed * 1543) % 40000));
const median = (a) => [...a].sort((x, y) => x - y)[a.length >> 1];

const model = path.join(args.models, `${args.shape}-q8_0.gguf`);
if (!fs.existsSync(model)) writeRandomModel(model, 'q8_0', args.shape);

async function open(size, answer) {
  const engine = await createEngine({
    model,
    threads: Number(args.threads),
    sessionLen: 2048,
    maxBatchSize: 8,
    maxPrefillTokenNum: size,
    cacheMaxEntryCount: 128,
    // every prompt is computed
    enablePrefixCaching: false,
  });
  return { size, answer, engine, tokensPerSecond: [], stepMs: [] };
}

let seed = 0;
/** One prompt: its speed until the first token, and what its steps took on average. */
async function once({ engine, answer, tokensPerSecond, stepMs }, counts) {
  const request = { prompt: ids(PROMPT, ++seed), maxTokens: answer, temperature: 0, ignoreEos: true };
  const before = (await engine.stats()).steps;
  const { timings } = await engine.complete(request).result();
  // the step of the last prompt tokens draws the first token
  const steps = (await engine.stats()).steps - before - (answer - 1);
  if (!counts) return;
  tokensPerSecond.push((1000 * PROMPT) / timings.ttft);
  stepMs.push(timings.ttft / steps);
}

async function compare(answer) {
  const sides = [];
  for (const size of [0, ...args.sizes.split(',').map(Number)]) sides.push(await open(size, answer));
  for (let round = -2; round < ROUNDS; round++) {
    // not always behind the same one
    const at = ((round + 2) * 2) % sides.length;
    for (const side of [...sides.slice(at), ...sides.slice(0, at)]) await once(side, round >= 0);
  }
  for (const { engine } of sides) await engine.close();
  return sides.map((s) => ({
    answer,
    size: s.size,
    tokensPerSecond: median(s.tokensPerSecond),
    spread: [Math.min(...s.tokensPerSecond), Math.max(...s.tokensPerSecond)],
    stepMs: median(s.stepMs),
  }));
}

const rows = [];
for (const answer of ANSWERS) {
  const all = await compare(answer);
  const within = all.filter((r) => r.size > 0 && r.stepMs <= STEP_MS);
  const best = Math.max(...within.map((r) => r.tokensPerSecond));
  rows.push(...all.map((r) => ({ ...r, ofBest: r.tokensPerSecond / best })));
}
if (args.json) console.log(JSON.stringify({ shape: args.shape, prompt: PROMPT, rounds: ROUNDS, rows }));
else {
  console.log(
    `${args.shape} Q8_0, prompts of ${PROMPT} tokens in turn, ${ROUNDS} each; best = the fastest fixed size with steps <= 250 ms`,
  );
  console.log('answer   tokens a step     tok/s   (spread)        step, ms   of the best');
  for (const r of rows) {
    const spread = `(${r.spread.map((v) => v.toFixed(0)).join('–')})`;
    console.log(
      `${String(r.answer).padStart(6)}   ${(r.size || 'measured').toString().padStart(13)} ${r.tokensPerSecond.toFixed(1).padStart(9)}   ${spread.padEnd(12)} ${r.stepMs.toFixed(0).padStart(9)} ${r.ofBest.toFixed(3).padStart(13)}`,
    );
  }
}
judge(
  rows
    .filter((r) => r.size === 0)
    .flatMap((r) => [
      { name: `measured, answers of ${r.answer}: of the best`, value: r.ofBest, target: TARGET, better: 'more' },
      {
        name: `measured, answers of ${r.answer}: a step`,
        value: r.stepMs,
        target: STEP_MS,
        better: 'less',
        unit: 'ms',
      },
    ]),
  args['no-fail'],
);
