// longmind in a process of its own: node ours.mjs MODEL WORK THREADS [engine options as JSON]. See works.mjs. Everything is as
// by default but what gives the work its room: session length, batch size, blocks.
import { createEngine } from '../../dist/src/index.js';
import { promptIds, serve, works } from './works.mjs';

const [, , model, workName, threads, extra = '{}'] = process.argv;
const work = works[workName];
const started = performance.now();
const engine = await createEngine({
  model,
  threads: Number(threads),
  sessionLen: work.context,
  maxBatchSize: work.sequences,
  cacheMaxEntryCount: Math.ceil((work.sequences * work.context) / 64) + 1,
  ...JSON.parse(extra),
});

const run = (prompt, maxTokens, sessionId, sessionAppend) =>
  engine.complete({ prompt, maxTokens, temperature: 0, ignoreEos: true, sessionId, sessionAppend }).result();
const names = Array.from({ length: work.sequences }, (_, i) => `s${i}`);

async function prefill(rep) {
  if (work.before) {
    await engine.sessions.truncate('s0', work.before);
    const r = await run(promptIds(work.prompt, rep, 77), 1, 's0', true);
    return (work.prompt / r.timings.ttft) * 1e3;
  }
  const r = await run(promptIds(work.prompt, rep, 77), 1);
  return (work.prompt / r.timings.ttft) * 1e3;
}

/** All sequences go on from their prompts, each with one token that is given and `tokens` that are drawn. */
async function decode() {
  for (const name of names) await engine.sessions.truncate(name, work.prompt);
  const t = performance.now();
  const all = await Promise.all(names.map((name) => run([500], work.tokens, name, true)));
  return (all.reduce((n, r) => n + r.usage.completionTokens, 0) / (performance.now() - t)) * 1e3;
}

if (work.kind === 'load') {
  await run(promptIds(work.prompt, 0, 0), 1);
  const value = performance.now() - started;
  await serve(async () => value, { info: engine.info });
} else {
  const prepared = work.kind === 'prefill' ? work.before : work.prompt;
  for (const [i, name] of names.entries()) if (prepared) await run(promptIds(prepared, 0, i), 1, name);
  const measure = work.kind === 'prefill' ? prefill : decode;
  if (!work.before) await measure(0);
  await serve(measure, { info: engine.info });
}
await engine.check();
console.log(JSON.stringify({ rss: process.memoryUsage.rss() }));
await engine.close();
