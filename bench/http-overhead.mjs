/**
 * npm run bench:http [-- --model FILE --json]: what HTTP costs. The same engine serves the same number of streams, once to
 * iterators in its own process (the library) and once over loopback, in turns, so that both see the same machine.
 *
 *   node bench/http-overhead.mjs [--model REF] [--streams 16] [--tokens 96] [--rounds 4] [--threads N] [--json]
 *
 * Prompts are new in every round and equally long in both, so that neither finds more in the cache.
 */
import '../dist/bench/plain-errors.js';
import os from 'node:os';
import { parseArgs } from 'node:util';
import { newConnections, startServer, stream } from './load-client.mjs';

const { values: args } = parseArgs({
  options: {
    model: { type: 'string', default: 'default' },
    streams: { type: 'string', default: '16' },
    tokens: { type: 'string', default: '96' },
    rounds: { type: 'string', default: '4' },
    threads: { type: 'string', default: '0' },
    json: { type: 'boolean', default: false },
  },
});
const streams = Number(args.streams);
const maxTokens = Number(args.tokens);
const rounds = Number(args.rounds);

const server = await startServer({
  model: args.model,
  sessionLen: 1024,
  cacheMaxEntryCount: streams * 16,
  threads: Number(args.threads),
});
// clients that need the engine's processors are no part of the server
os.setPriority(Math.min(19, os.getPriority() + 10));

let made = 0;
const requests = () =>
  Array.from({ length: streams }, () => [
    { role: 'user', content: `Story ${1000 + made++}: a river town of old stone houses, and what the boat brings.` },
  ]);

async function library() {
  return server.call('library', { streams, tokens: maxTokens, requests: requests() });
}

async function http() {
  newConnections();
  const started = performance.now();
  const results = await Promise.all(requests().map((messages) => stream(server.url, { messages, maxTokens })));
  const ms = performance.now() - started;
  for (const r of results) if (r.error) throw new Error(r.error);
  return { tokens: results.reduce((sum, r) => sum + r.tokens, 0), ms };
}

async function measured(run) {
  await server.call('startCpu');
  const { tokens, ms } = await run();
  const { mainCpuUsPerToken } = await server.call('stopCpu');
  return { rate: (1000 * tokens) / ms, mainCpuUsPerToken };
}

await library();
await http();
const pairs = [];
for (let i = 0; i < rounds; i++) {
  // whoever goes first changes, so that a machine that grows slower favours neither
  const order = i % 2 === 0 ? ['library', 'http'] : ['http', 'library'];
  const pair = {};
  for (const name of order) pair[name] = await measured(name === 'http' ? http : library);
  pairs.push(pair);
}
await server.call('check');
await server.call('close');

const median = (list) => {
  const sorted = [...list].sort((a, b) => a - b);
  const mid = sorted.length >> 1;
  return sorted.length % 2 ? sorted[mid] : (sorted[mid - 1] + sorted[mid]) / 2;
};
const of = (name, field) => median(pairs.map((p) => p[name][field]));
const ratios = pairs.map((p) => p.http.rate / p.library.rate);
const result = {
  model: server.info.modelName,
  quantisation: server.info.quantisation,
  parameters: server.info.parameters,
  threads: server.info.device.threads,
  streams,
  tokens: maxTokens,
  rounds,
  tokensPerSecond: { library: of('library', 'rate'), http: of('http', 'rate') },
  ratio: median(ratios),
  ratios,
  mainCpuUsPerToken: { library: of('library', 'mainCpuUsPerToken'), http: of('http', 'mainCpuUsPerToken') },
};
if (args.json) console.log(JSON.stringify(result));
else {
  const { tokensPerSecond: t, mainCpuUsPerToken: c } = result;
  console.log(`${result.model} (${result.quantisation}), ${streams} streams of ${maxTokens} tokens, ${rounds} rounds`);
  console.log(`tokens/s: library ${t.library.toFixed(1)}, HTTP ${t.http.toFixed(1)}`);
  console.log(
    `HTTP / library: ${(100 * result.ratio).toFixed(1)}% (rounds: ${ratios.map((r) => (100 * r).toFixed(1)).join(' ')})`,
  );
  console.log(`main thread, us of CPU a token: library ${c.library.toFixed(1)}, HTTP ${c.http.toFixed(1)}`);
}
