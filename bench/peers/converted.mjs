// Tiny models of transformers (test/fixtures/models) as `convert` writes them, computed by llama.cpp: the likeliest token of every
// position, and its log-probability, beside transformers'.
//   npm run build && npm --prefix bench/peers ci && node bench/peers/converted.mjs [NAME …]
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { convert } from '../../dist/src/index.js';
import { hasGguf } from '../../dist/test/models/gguf.js';
import { fixtureNames, readFixture, writeFolder } from '../../dist/test/models/tiny.js';

const peer = path.join(import.meta.dirname, 'peer-logits.mjs');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-converted-'));
/** Positions where the two likeliest tokens are nearer than this share of the spread of the logits are not counted. */
const TIE = 0.05;
/** What is not converted; and what llama.cpp wants of other shapes: as many values as heads × their dimensions, as many KV heads as heads. */
const LEFT_OUT = ['mistral', 'llama-yarn', 'internlm2', 'olmoe'];
/** llama.cpp has no windows for them (it leaves Phi-3's out): up to there, they make no difference. */
const WINDOW = { mixtral: 40, phi3: 40 };

const logProbabilityOfBest = (logits) => {
  const best = Math.max(...logits);
  return -Math.log(logits.reduce((sum, v) => sum + Math.exp(v - best), 0));
};

async function compare(name) {
  const f = readFixture(name);
  const until = WINDOW[name] ?? f.gap.length;
  if (name === 'mixtral') f.config.sliding_window = null;
  const model = path.join(folder, `${name}.gguf`);
  await convert(writeFolder(f), model, { threads: 1 });
  const ids = path.join(folder, 'ids.json');
  fs.writeFileSync(ids, JSON.stringify([f.ids.slice(0, -1)]));
  const run = spawnSync(process.execPath, [peer, model, ids, 'off', '128'], { encoding: 'utf8' });
  if (run.status !== 0) return `llama.cpp: ${(run.stderr ?? '').trim().slice(0, 600)}`;
  const { top, logprobs } = JSON.parse(run.stdout.trim().split('\n').at(-1));
  const spread = Math.sqrt(f.logits[0].reduce((sum, v) => sum + v * v, 0) / f.logits[0].length);
  const counted = f.gap.flatMap((gap, p) => (gap < TIE * spread || p >= until ? [] : [p]));
  const same = counted.filter((p) => top[p] === f.argmax[p]).length;
  const off = f.watched.map((p, i) => (p < until ? Math.abs(logProbabilityOfBest([...f.logits[i]]) - logprobs[p]) : 0));
  return `${same} of ${counted.length} tokens the same, log-probability off by ${Math.max(...off).toFixed(4)} at most`;
}

const wanted = process.argv.slice(2);
const all = fixtureNames().filter((name) => hasGguf(readFixture(name)) && !LEFT_OUT.includes(name));
try {
  for (const name of wanted.length > 0 ? wanted : all) console.log(`${name}: ${await compare(name)}`);
} finally {
  fs.rmSync(folder, { recursive: true });
}
