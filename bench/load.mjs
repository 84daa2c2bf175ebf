/**
 * npm run bench:load [-- --json]: many streams at once over loopback, a part of them cut off by their clients, a part
 * read slowly. The server has a process of its own; the clients are this process, at a lower priority, so that on a
 * machine with few cores it is the server that is measured.
 *
 *   node bench/load.mjs [--model REF] [--device cpu] [--streams 200] [--seconds 60] [--aborts 0.3] [--abort-within MS] [--slow 0.15] [--batch 256]
 *                       [--tokens 40,160] [--threads N] [--nice N] [--seed 1] [--cpu-prof FILE] [--json]
 *
 * Exit status 1: a stream was malformed, something was left over, or an abort took more than a step.
 */
import '../dist/bench/plain-errors.js';
import os from 'node:os';
import { parseArgs } from 'node:util';
import { uniform } from '../dist/src/bench/random.js';
import { startServer, stream } from './load-client.mjs';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: 'default' },
    device: { type: 'string', default: 'cpu' },
    streams: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '60' },
    aborts: { type: 'string', default: '0.3' },
    'abort-within': { type: 'string', default: '4000' },
    slow: { type: 'string', default: '0.15' },
    batch: { type: 'string', default: '256' },
    tokens: { type: 'string', default: '40,160' },
    threads: { type: 'string', default: '0' },
    nice: { type: 'string' },
    seed: { type: 'string', default: '1' },
    'cpu-prof': { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const streams = Number(args.streams);
const seconds = Number(args.seconds);
const [leastTokens, mostTokens] = args.tokens.split(',').map(Number);
const next = uniform(Number(args.seed));
const words =
  'the river town of old stone houses where every winter morning a boat would carry letters and bread'.split(' ');

function job() {
  const n = 5 + Math.floor(next() * 60);
  const said = Array.from({ length: n }, () => words[Math.floor(next() * words.length)]).join(' ');
  return {
    messages: [{ role: 'user', content: `Go on: ${said}` }],
    maxTokens: Math.floor(leastTokens + next() * (mostTokens - leastTokens)),
    abortAfterMs: next() < Number(args.aborts) ? next() * Number(args['abort-within']) : null,
    slow: next() < Number(args.slow) ? () => 50 + Math.random() * 400 : null,
  };
}

const server = await startServer(
  {
    model: args.model,
    device: args.device,
    maxBatchSize: Number(args.batch),
    sessionLen: 1024,
    cacheMaxEntryCount: '1GiB',
    threads: Number(args.threads),
    ...(args.nice === undefined ? {} : { engineNice: Number(args.nice) }),
  },
  args['cpu-prof'],
);
os.setPriority(Math.min(19, os.getPriority() + 10));

const counts = { finished: 0, aborted: 0, malformed: 0, tokens: 0 };
const problems = [];
const first = [];
let over = false;
async function client() {
  while (!over) {
    const r = await stream(server.url, job());
    counts[r.outcome]++;
    counts.tokens += r.tokens;
    if (r.firstMs !== null) first.push(r.firstMs);
    if (r.error) problems.push(r.error);
  }
}
await server.call('startArrival');
const clients = Array.from({ length: streams }, client);
// the first prompts come all at once; what is measured is the going on
await new Promise((resolve) => setTimeout(resolve, Math.min(5_000, seconds * 200)));
await server.call('startDelays');
await new Promise((resolve) => setTimeout(resolve, seconds * 500));
await server.call('startCpu');
await new Promise((resolve) => setTimeout(resolve, seconds * 500));
const measured = await server.call('stop');
over = true;
await Promise.all(clients);
const left = await server.call('check');
await server.call('close');

const at = (list, q) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(list.length * q))] ?? null;
const result = {
  model: server.info.modelName,
  quantisation: server.info.quantisation,
  device: server.info.device.name,
  threads: server.info.device.threads,
  streams,
  ...measured,
  tokensPerSecond: measured.tokens / measured.seconds,
  tokensPerStep: measured.tokens / measured.steps,
  outcomes: counts,
  ttftMs: { p50: at(first, 0.5), p99: at(first, 0.99) },
  abort: {
    watched: left.aborts.steps.length,
    maxSteps: at(left.aborts.steps, 1),
    p50Ms: at(left.aborts.ms, 0.5),
    maxMs: at(left.aborts.ms, 1),
  },
  leftOver: { running: left.running, waiting: left.waiting, activeBlocks: left.activeBlocks },
  problems: problems.slice(0, 5),
};
const clean = left.running + left.waiting + left.activeBlocks === 0;
const ok = counts.malformed === 0 && clean && (result.abort.maxSteps ?? 0) <= 1;
if (args.json) console.log(JSON.stringify({ ...result, ok }));
else report();
process.exitCode = ok ? 0 : 1;

function report() {
  const f = (x, digits = 1) => (x === null ? '-' : x.toFixed(digits));
  const { delayMs: d, abort: a, outcomes: o } = result;
  console.log(`${result.model} (${result.quantisation}), ${streams} streams, ${f(measured.seconds, 0)} s`);
  console.log(`${f(result.tokensPerSecond, 0)} tokens/s, ${f(result.tokensPerStep)} a step`);
  console.log(`event loop delay, ms: P50 ${f(d.p50)}  P99 ${f(d.p99)}  max ${f(d.max)}`);
  const { p99, max } = result.arrivalDelayMs;
  console.log(`before, while all clients arrived at once: P99 ${f(p99)}  max ${f(max)}`);
  console.log(
    `main thread: ${f(measured.mainCpuUsPerToken)} us of CPU a token; ` +
      `${f(100 * measured.mainBusy)}% busy, ${f(100 * measured.mainWaiting)}% waiting for a processor`,
  );
  console.log(`resident set, MiB, every 10 s: ${measured.rssMiB.join(' ')}`);
  console.log(`streams: ${o.finished} finished, ${o.aborted} aborted, ${o.malformed} malformed`);
  console.log(`time to first token, ms: P50 ${f(result.ttftMs.p50, 0)}  P99 ${f(result.ttftMs.p99, 0)}`);
  console.log(
    `from abort to free blocks, of ${a.watched} watched: at most ${a.maxSteps} step(s); ms: P50 ${f(a.p50Ms)} max ${f(a.maxMs)}`,
  );
  console.log(`at the end: ${JSON.stringify(result.leftOver)}, every invariant holds`);
  for (const p of problems.slice(0, 5)) console.log(`PROBLEM: ${p}`);
}
