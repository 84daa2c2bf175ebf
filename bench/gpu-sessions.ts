/**
 * npm run bench:gpu-sessions -- MODEL.gguf [--sessions 200] [--turns 5] [--room 50] [--tp N] [--json]: the server's case on a GPU. Many
 * conversations whose KV does not fit: computed again each turn, with KV for a part of them, and with host memory for the rest;
 * then how long a long conversation that was evicted waits for its next token, computed again or brought back from host memory.
 * `node bench/random-model.mjs FILE bf16 8b` writes a model of Llama-3-8B shapes.
 */
import './plain-errors.js';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { planLoad, proseTokens } from '../src/bench/sessions/load.js';
import { play, type SessionsResult } from '../src/bench/sessions/play.js';
import { type CreateOptions, createEngine, type Engine } from '../src/index.js';
import { judge } from './targets.js';

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    device: { type: 'string', default: 'cuda' },
    sessions: { type: 'string', default: '200' },
    turns: { type: 'string', default: '5' },
    said: { type: 'string', default: '900,1000' },
    answered: { type: 'string', default: '64' },
    arrivals: { type: 'string', default: 'zipf' },
    clients: { type: 'string', default: '64' },
    room: { type: 'string', default: '50' },
    'session-len': { type: 'string', default: '8192' },
    /** Tokens of the long conversation; 0: not measured. */
    resume: { type: 'string', default: '8000' },
    host: { type: 'string', default: '0' },
    tp: { type: 'string', default: '1' },
    /** Bits of the KV: 0 is 16. */
    'quant-policy': { type: 'string', default: '0' },
    arms: { type: 'string', default: 'again,kv,host' },
    json: { type: 'boolean', default: false },
    'no-fail': { type: 'boolean', default: false },
  },
});
const [model] = positionals;
if (!model) {
  console.error('usage: npm run bench:gpu-sessions -- MODEL.gguf [--sessions 200] [--turns 5] [--room 50] [--json]');
  process.exit(2);
}
const sessionLen = Number(args['session-len']);
const rows: Record<string, unknown>[] = [];
const note = (row: Record<string, unknown>): void => {
  rows.push(row);
  console.error(JSON.stringify(row));
};
const open = (options: CreateOptions): Promise<Engine> => {
  // a host has no room for evicted KV of its own device: its disk is out of this measurement
  const cacheHost = args.device === 'cpu' ? '0' : (options.cacheHost ?? '0');
  const [tp, quantPolicy] = [Number(args.tp), Number(args['quant-policy']) as 0];
  return createEngine({ model, device: args.device, tp, quantPolicy, sessionLen, ...options, cacheHost });
};

async function conversations(): Promise<void> {
  const sessions = Number(args.sessions);
  const [low, high] = args.said.split(',').map(Number) as [number, number];
  const options = {
    ...{
      sessions,
      turns: Number(args.turns),
      arrivals: args.arrivals as 'zipf',
      clients: Number(args.clients),
      rate: 0,
    },
    ...{ said: [low, high] as [number, number], answered: Number(args.answered), seed: 1 },
  };
  const longest = Number(args.turns) * (high + options.answered);
  const blocksOfOne = Math.ceil(Math.min(sessionLen, longest) / 64);
  const kv = Number(args.room) * blocksOfOne;
  const arms: Record<string, { name: string; mode: 'history' | 'session'; engine: CreateOptions }> = {
    again: { name: 'computed again each turn', mode: 'history', engine: { enablePrefixCaching: false } },
    kv: { name: `KV for ${args.room} of ${sessions}`, mode: 'session', engine: {} },
    host: { name: `KV for ${args.room}, host memory for the rest`, mode: 'session', engine: { cacheHost: args.host } },
  };
  let base: SessionsResult | null = null;
  for (const arm of args.arms.split(',').filter(Boolean)) {
    const { name, mode, engine: more } = arms[arm]!;
    const begun = performance.now();
    await using engine = await open({ cacheMaxEntryCount: kv, ...more });
    const loadSeconds = (performance.now() - begun) / 1e3;
    const load = planLoad(options, sessionLen, await proseTokens(engine));
    const { result } = await play(engine, load, { mode });
    base ??= result;
    const { cache } = await engine.stats();
    note({
      ...{
        name,
        arrivals: args.arrivals,
        seconds: result.seconds,
        speedup: base.seconds / result.seconds,
        loadSeconds,
      },
      ...{ sameAnswers: result.answersSha256 === base.answersSha256, turns: result.turns, steps: result.steps },
      ...{ hitRate: result.hitRate, restored: cache.tokensRestored, evicted: result.blocksEvicted },
      ...{ inputRate: result.inputRate, outputRate: result.outputRate, promptTokens: result.promptTokens },
      ...{ ttftHit: result.ttftHit, ttftMiss: result.ttftMiss, preemptions: result.preemptions },
    });
  }
}

/** Each of some conversations evicts the others; then each goes on. Milliseconds to the first token. */
async function resumed(tokens: number, cacheHost: string): Promise<{ ttft: number[]; ids: string; restored: number }> {
  const count = 3;
  await using engine = await open({
    cacheMaxEntryCount: Math.ceil((tokens + 256) / 64) + 2,
    cacheHost,
    maxBatchSize: 4,
  });
  const turn = (c: number, length: number, seed: number) => {
    const prompt = Array.from({ length }, (_, i) => (300 + i * 7919 + seed * 1543) % engine.info.dims.vocab);
    const more = { sessionAppend: true, maxTokens: 8, temperature: 0, ignoreEos: true };
    return engine.complete({ prompt, sessionId: `c${c}`, ...more }).result();
  };
  const settle = async (): Promise<void> => {
    for (;;) {
      const { tiers } = (await engine.stats()).cache;
      if (!tiers || tiers.waiting + tiers.outstanding === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  for (let c = 0; c < count; c++) {
    await turn(c, tokens, 10 * c);
    await settle();
  }
  const ttft: number[] = [];
  const ids: number[][] = [];
  for (let round = 0; round < 2; round++)
    for (let c = 0; c < count; c++) {
      const r = await turn(c, 32, 1000 + 10 * c + round);
      ttft.push(r.timings.ttft);
      ids.push(r.tokenIds);
      await settle();
    }
  return { ttft, ids: JSON.stringify(ids), restored: (await engine.stats()).cache.tokensRestored };
}

/** Times sooner that an evicted conversation goes on with host memory below. */
const RESUMED = 5;

await conversations();
const tokens = Number(args.resume);
if (tokens > 0) {
  const median = (a: number[]) => [...a].sort((x, y) => x - y)[a.length >> 1]!;
  const again = await resumed(tokens, '0');
  const back = await resumed(tokens, '8GiB');
  note({
    ...{ name: `first token of a conversation of ${tokens} tokens that was evicted`, unit: 'ms' },
    ...{
      computedAgain: median(again.ttft),
      fromHost: median(back.ttft),
      ratio: median(again.ttft) / median(back.ttft),
    },
    ...{
      target: RESUMED,
      aim: 9,
      sameAnswers: again.ids === back.ids,
      restored: back.restored,
      all: [again.ttft, back.ttft],
    },
  });
  const wrong = again.ids === back.ids ? null : 'another answer';
  const value = median(again.ttft) / median(back.ttft);
  judge(
    [{ name: 'first token, evicted: host memory', value, target: RESUMED, better: 'more', unit: '×', wrong }],
    args['no-fail'],
  );
}
if (args.json)
  console.log(JSON.stringify({ model: path.basename(model), command: process.argv.slice(2).join(' '), rows }));
