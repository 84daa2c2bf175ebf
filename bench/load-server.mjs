/**
 * The server of the load measurements, in a process of its own: only what it does counts as its load. Forked by load.mjs
 * and http-overhead.mjs; takes commands over IPC and answers each with one message.
 */
import '../dist/bench/plain-errors.js';
import { readFileSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createEngine } from '../dist/src/index.js';
import { createServer } from '../dist/src/server/index.js';

/** Milliseconds between two looks of the delay histogram; they are taken off what it says. */
const RESOLUTION_MS = 1;
const RSS_MS = 10_000;

const { engineOptions, profile } = JSON.parse(process.argv[2]);
const aborts = { steps: [], ms: [], open: 0 };
const engine = await createEngine(engineOptions);
const server = await createServer(watchAborts(engine), {
  serverPort: 0,
  logLevel: 'error',
  maxConnections: 10_000,
});
const profiler = new Session();
/** While the clients arrive, all at once. */
const burst = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
let meter = null;
let from = null;

/**
 * The same engine, with aborts of the HTTP side followed until their blocks are free: in the first step after the abort,
 * the second, and so on. The engine is looked at again and again, and hears of the abort before the first look.
 */
function watchAborts(inner) {
  const watch = (generation) => {
    const abort = generation.abort.bind(generation);
    let ended = false;
    const end = () => {
      ended = true;
    };
    generation.result().then(end, end);
    generation.abort = () => {
      abort();
      if (!ended) void follow(Number(generation.id.replace(/\D/g, '')));
      ended = true;
    };
    return generation;
  };
  const watched = { complete: (r) => watch(inner.complete(r)), chat: (r) => watch(inner.chat(r)) };
  return new Proxy(inner, { get: (target, name) => watched[name] ?? target[name] });
}

async function follow(request) {
  // looking is work too: one at a time
  if (aborts.open > 0) return;
  aborts.open++;
  const started = performance.now();
  const first = await engine.snapshot();
  const holds = (snapshot) => snapshot.batch.some((row) => row.request === request);
  let lastSeen = null;
  for (let now = first; holds(now); now = await engine.snapshot()) lastSeen = now;
  aborts.open--;
  if (!lastSeen) return;
  aborts.steps.push(lastSeen.step - first.step + 1);
  aborts.ms.push(performance.now() - started);
}

/** Nanoseconds of the main thread: on a processor, and runnable but waiting for one. */
function mainThread() {
  const [onCpu, waiting] = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ').map(Number);
  return { onCpu, waiting };
}

/** Looking at the event loop every millisecond costs about as much as a stream: delays come first, then the CPU of a token. */
async function startDelays() {
  burst.disable();
  const { tokens, steps } = await engine.stats();
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  meter = { tokens: tokens.generated, steps, at: performance.now(), delays, rss: [] };
  meter.look = () => meter.rss.push(Math.round(process.memoryUsage.rss() / 2 ** 20));
  meter.look();
  meter.timer = setInterval(meter.look, RSS_MS);
  delays.enable();
}

async function startCpu() {
  meter?.delays?.disable();
  if (profile) {
    profiler.connect();
    await profiler.post('Profiler.enable');
    await profiler.post('Profiler.setSamplingInterval', { interval: 200 });
    await profiler.post('Profiler.start');
  }
  const { tokens } = await engine.stats();
  from = { tokens: tokens.generated, at: performance.now(), ...mainThread() };
}

async function stopCpu() {
  const to = mainThread();
  const ms = performance.now() - from.at;
  const { tokens } = await engine.stats();
  if (profile) writeFileSync(profile, JSON.stringify((await profiler.post('Profiler.stop')).profile));
  return {
    mainCpuUsPerToken: (to.onCpu - from.onCpu) / 1e3 / (tokens.generated - from.tokens),
    mainBusy: (to.onCpu - from.onCpu) / 1e6 / ms,
    mainWaiting: (to.waiting - from.waiting) / 1e6 / ms,
  };
}

function delaysOf(histogram) {
  const less = (ns) => Math.max(0, ns / 1e6 - RESOLUTION_MS);
  return { p50: less(histogram.percentile(50)), p99: less(histogram.percentile(99)), max: less(histogram.max) };
}

async function stop() {
  const { delays, rss, look, timer, at } = meter;
  const cpu = await stopCpu();
  const { tokens, steps } = await engine.stats();
  clearInterval(timer);
  look();
  return {
    seconds: (performance.now() - at) / 1e3,
    delayMs: delaysOf(delays),
    arrivalDelayMs: delaysOf(burst),
    ...cpu,
    rssMiB: rss,
    tokens: tokens.generated - meter.tokens,
    steps: steps - meter.steps,
  };
}

/** The same work without HTTP: every token is taken from its iterator, as an application would. */
async function library({ streams, tokens, requests }) {
  const started = performance.now();
  const counts = await Promise.all(
    Array.from({ length: streams }, async (_, i) => {
      let n = 0;
      for await (const _token of engine.chat({ messages: requests[i], maxTokens: tokens, ignoreEos: true })) n++;
      return n;
    }),
  );
  return { tokens: counts.reduce((a, b) => a + b, 0), ms: performance.now() - started };
}

const commands = {
  startArrival: () => void burst.enable(),
  startDelays,
  startCpu,
  stopCpu,
  stop,
  library,
  /** Everything has ended: is anything left over? */
  async check() {
    const until = performance.now() + 5_000;
    let stats = await engine.stats();
    while (stats.requests.running + stats.requests.waiting > 0 && performance.now() < until)
      stats = await engine.stats();
    await engine.check();
    const { blocks } = stats.cache;
    return { running: stats.requests.running, waiting: stats.requests.waiting, activeBlocks: blocks.active, aborts };
  },
  async close() {
    await server.close({ drainMs: 0 });
    await engine.close();
  },
};

// whoever started it is gone
process.on('disconnect', () => process.exit());
process.on('message', async ({ id, command, args }) => {
  try {
    process.send({ id, value: (await commands[command](args)) ?? null });
    if (command === 'close') process.exit();
  } catch (error) {
    process.send({ id, error: String(error.stack ?? error) });
  }
});
process.send({ ready: { url: server.url, model: server.modelName, info: engine.info } });
