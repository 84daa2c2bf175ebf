// longmind in a process of its own: node ours.mjs MODEL WORK THREADS [engine options as JSON] → one JSON line.
import { createEngine } from '../../dist/src/index.js';
import { promptIds, works } from './works.mjs';

const [, , model, workName, threads, extra = '{}'] = process.argv;
const work = works[workName];
const started = performance.now();
const engine = await createEngine({
  model,
  threads: Number(threads),
  sessionLen: Math.min(work.context, 8192 + 64),
  maxBatchSize: work.sequences,
  maxPrefillTokenNum: 512,
  cacheMaxEntryCount: Math.ceil((work.sequences * work.context) / 64) + 1,
  ...JSON.parse(extra),
});

const run = (prompt, maxTokens, sessionId, sessionAppend) =>
  engine.complete({ prompt, maxTokens, temperature: 0, ignoreEos: true, sessionId, sessionAppend }).result();

async function measure(rep) {
  if (work.kind === 'load') {
    await run(promptIds(work.prompt, 0, 0), 1);
    return performance.now() - started;
  }
  if (work.kind === 'prefill') {
    const sessionId = `s${rep}`;
    if (work.before) await run(promptIds(work.before - 1, rep, 0), 1, sessionId);
    const r = await run(promptIds(work.prompt, rep, 77), 1, sessionId, work.before > 0);
    return (work.prompt / r.timings.ttft) * 1e3;
  }
  // the prompts first, then all decode together, each from its session; the decode part alone is timed
  const ids = Array.from({ length: work.sequences }, (_, i) => promptIds(work.prompt, rep, i));
  for (let i = 0; i < ids.length; i++) await run(ids[i], 1, `s${rep}-${i}`);
  const t = performance.now();
  const all = await Promise.all(ids.map((_, i) => run([500], work.tokens, `s${rep}-${i}`, true)));
  return (all.reduce((n, r) => n + r.usage.completionTokens, 0) / (performance.now() - t)) * 1e3;
}

const values = [];
for (let rep = 0; rep < work.reps; rep++) values.push(await measure(rep));
await engine.check();
const memory = process.memoryUsage.rss();
console.log(JSON.stringify({ values, rss: memory, info: engine.info }));
await engine.close();
