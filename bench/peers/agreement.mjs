// npm run bench:agreement -- [--model REF] [--positions N] [--json]; --slow: the peer in batches of 1
// too (many minutes); --fixture FILE only writes the peer's answers (for CI)
// Our logits against llama.cpp's on one GGUF, teacher-forced over mixed English, code and Chinese text. The yardstick is how
// far llama.cpp agrees with itself (flash attention on and off, batches of 1 and of 512).
import '../../dist/bench/plain-errors.js';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createEngine, resolveModel } from '../../dist/src/index.js';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: 'default' },
    json: { type: 'boolean', default: false },
    fixture: { type: 'string', default: '' },
    positions: { type: 'string', default: '2048' },
    slow: { type: 'boolean', default: false },
  },
});
const here = path.dirname(new URL(import.meta.url).pathname);
const CHUNK = 512;
const model = (await resolveModel(args.model, {})).path;
const engine = await createEngine({ model, sessionLen: 2 * CHUNK, cacheMaxEntryCount: 64 });

const text = fs.readFileSync(path.join(here, '../../test/fixtures/agreement/text.md'), 'utf8');
const ids = [...(await engine.encode(text))].slice(0, Number(args.positions));
const chunks = [];
for (let at = 0; at < ids.length; at += CHUNK) chunks.push(ids.slice(at, at + CHUNK));

function peer(flash, batch) {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-ids-')), 'ids.json');
  fs.writeFileSync(file, JSON.stringify(chunks));
  const command = [path.join(here, 'peer-logits.mjs'), model, file, flash, String(batch)];
  const r = spawnSync(process.execPath, command, { encoding: 'utf8', maxBuffer: 2 ** 28 });
  fs.rmSync(path.dirname(file), { recursive: true });
  const line = r.stdout.split('\n').findLast((l) => l.startsWith('{'));
  if (!line) throw new Error(`the peer failed: ${r.stderr}`);
  return JSON.parse(line);
}

/** One token at a time, each position's distribution from the session so far: the decode path. */
async function ours(wanted) {
  const top = [];
  const logprobs = [];
  for (const [c, chunk] of chunks.entries()) {
    for (let i = 0; i < chunk.length; i++) {
      const prompt = chunk.slice(0, i + 1);
      const request = { prompt, sessionId: `c${c}`, maxTokens: 1, temperature: 0, logprobs: 20, ignoreEos: true };
      const { logprobs: all } = await engine.complete(request).result();
      top.push(all[0].tokenId);
      logprobs.push(all[0].top.find((t) => t.tokenId === wanted[top.length - 1])?.logprob ?? null);
    }
  }
  return { top, logprobs };
}

const base = peer('on', 512);
if (args.fixture) {
  const round = (x) => Math.round(x * 1e4) / 1e4;
  const fixture = { model: path.basename(model), chunks, top: base.top, logprobs: base.logprobs.map(round) };
  fs.writeFileSync(args.fixture, `${JSON.stringify(fixture)}\n`);
  await engine.close();
  process.exit(0);
}
const selves = { 'flash off, batch 512': peer('off', 512) };
if (args.slow) {
  selves['flash on, batch 1'] = peer('on', 1);
  selves['flash off, batch 1'] = peer('off', 1);
}
const mine = await ours(base.top);
await engine.close();

const agree = (a, b) => a.filter((t, i) => t === b[i]).length / a.length;
const missing = mine.logprobs.filter((x) => x === null).length;
const deltas = mine.logprobs.map((x, i) => (x === null ? 5 : Math.abs(x - base.logprobs[i])));
const result = {
  model: path.basename(model),
  positions: ids.length,
  argmaxAgreement: agree(mine.top, base.top),
  peerWithItself: Object.fromEntries(Object.entries(selves).map(([k, v]) => [k, agree(v.top, base.top)])),
  meanAbsDeltaLogprob: deltas.reduce((a, b) => a + b, 0) / deltas.length,
  maxAbsDeltaLogprob: Math.max(...deltas),
  notInOurTop20: missing,
};
if (args.json) console.log(JSON.stringify(result));
else {
  console.log(`${result.model}, ${result.positions} positions`);
  console.log(`  likeliest token agrees with llama.cpp     ${(100 * result.argmaxAgreement).toFixed(2)}%`);
  for (const [k, v] of Object.entries(result.peerWithItself)) {
    console.log(`  llama.cpp with itself, ${k.padEnd(20)} ${(100 * v).toFixed(2)}%`);
  }
  console.log(`  mean |delta log-probability| of its top   ${result.meanAbsDeltaLogprob.toFixed(4)}`);
  console.log(`  largest                                   ${result.maxAbsDeltaLogprob.toFixed(3)}`);
  if (missing) console.log(`  its top was not among our 20 likeliest     ${missing} times`);
}
