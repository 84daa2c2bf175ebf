/**
 * Many conversations of many turns on one engine: what sessions give over sending the history again and again, and what a
 * smaller KV cache costs. The same conversations, greedy, in every mode: equal digests mean equal answers.
 */
import { createHash } from 'node:crypto';
import type { Engine, GenerationResult } from '../types.js';
import { percentile, uniform, zipf } from './random.js';

export interface SessionsOptions {
  sessions: number;
  /** Turns in all = sessions × turns, dealt out by `draw`. */
  turns: number;
  /** Who speaks next. */
  draw: 'zipf' | 'uniform' | 'round-robin';
  /** Clients that each wait for their answer (closed loop); ignored with `rate`. */
  clients: number;
  /** Poisson arrivals, turns per second; 0 = closed loop. */
  rate: number;
  /** Tokens a user says each turn, drawn from [min, max]; tokens answered. */
  said: [number, number];
  answered: number;
  /** How the engine is asked: a session and the new turn; or the whole history each time. */
  mode: 'session' | 'history';
  seed: number;
  onProgress?: (done: number, total: number) => void;
}

interface Quantiles {
  count: number;
  p50: number;
  p95: number;
  p99: number;
}

export interface SessionsResult {
  seconds: number;
  turns: number;
  /** Tokens a second: new ones said, and answered. */
  inputRate: number;
  outputRate: number;
  /** Milliseconds. A hit found all history in the cache. */
  ttftHit: Quantiles;
  ttftMiss: Quantiles;
  ttftLate: Quantiles;
  /** Cached tokens over prompt tokens. */
  hitRate: number;
  promptTokens: number;
  recomputedTokens: number;
  blocksEvicted: number;
  preemptions: number;
  answersSha256: string;
}

interface Conversation {
  history: number[];
  turn: number;
  busy: boolean;
  answers: number[][];
  random: () => number;
}

export async function runSessions(engine: Engine, o: SessionsOptions): Promise<SessionsResult> {
  const random = uniform(o.seed);
  const conversations: Conversation[] = Array.from({ length: o.sessions }, (_, s) => ({
    history: [],
    turn: 0,
    busy: false,
    answers: [],
    random: uniform(o.seed * 7919 + s + 1),
  }));
  const order = turnOrder(o, random);
  const before = await engine.stats();
  const samples: { result: GenerationResult; turn: number; fresh: number }[] = [];
  const started = performance.now();

  const speak = async (s: number): Promise<void> => {
    const c = conversations[s]!;
    const sample = await oneTurn(engine, s, c, o);
    samples.push(sample);
    o.onProgress?.(samples.length, order.length);
  };
  if (o.rate > 0) await openLoop(order, conversations, o.rate, random, speak);
  else await closedLoop(order, conversations, o.clients, speak);

  const seconds = (performance.now() - started) / 1e3;
  const after = await engine.stats();
  for (const s of conversations.keys())
    if (o.mode === 'session') await engine.sessions.delete(`bench-${s}`).catch(() => {});
  const sum = (f: (x: (typeof samples)[number]) => number) => samples.reduce((a, x) => a + f(x), 0);
  const prompt = sum((x) => x.result.usage.promptTokens);
  const cached = sum((x) => x.result.usage.cachedTokens);
  const isHit = (x: (typeof samples)[number]) =>
    x.result.usage.cachedTokens + x.fresh + 1 >= x.result.usage.promptTokens;
  const ttft = (pick: (x: (typeof samples)[number]) => boolean) =>
    quantiles(samples.filter(pick).map((x) => x.result.timings.ttft));
  return {
    seconds,
    turns: samples.length,
    inputRate: sum((x) => x.fresh) / seconds,
    outputRate: sum((x) => x.result.usage.completionTokens) / seconds,
    ttftHit: ttft((x) => x.turn > 1 && isHit(x)),
    ttftMiss: ttft((x) => x.turn > 1 && !isHit(x)),
    ttftLate: ttft((x) => x.turn >= 5),
    hitRate: prompt > 0 ? cached / prompt : 0,
    promptTokens: prompt,
    recomputedTokens: after.tokens.recomputed - before.tokens.recomputed,
    blocksEvicted: after.cache.blocksEvicted - before.cache.blocksEvicted,
    preemptions: after.preemptions - before.preemptions,
    answersSha256: createHash('sha256')
      .update(JSON.stringify(conversations.map((c) => c.answers)))
      .digest('hex'),
  };
}

/** Who speaks when, decided beforehand so that every mode and capacity sees the same load. */
function turnOrder(o: SessionsOptions, random: () => number): number[] {
  const total = o.sessions * o.turns;
  const draw = zipf(o.sessions, o.draw === 'zipf' ? 1 : 0, random);
  return Array.from({ length: total }, (_, i) => (o.draw === 'round-robin' ? i % o.sessions : draw()));
}

async function oneTurn(engine: Engine, s: number, c: Conversation, o: SessionsOptions) {
  const fresh = o.said[0] + Math.floor(c.random() * (o.said[1] - o.said[0] + 1));
  const { sessionLen, dims } = engine.info;
  const sessionId = `bench-${s}`;
  if (c.history.length + fresh + o.answered + 1 > sessionLen) {
    c.history = [];
    c.turn = 0;
    if (o.mode === 'session') await engine.sessions.delete(sessionId);
  }
  const said = Array.from({ length: fresh }, () => 3 + Math.floor(c.random() * (dims.vocab - 3)));
  c.history.push(...said);
  c.turn++;
  const request = { maxTokens: o.answered, temperature: 0, ignoreEos: true };
  const result = await (o.mode === 'session'
    ? engine.complete({ ...request, prompt: said, sessionId, sessionAppend: true })
    : engine.complete({ ...request, prompt: c.history })
  ).result();
  c.history.push(...result.tokenIds);
  c.answers.push(result.tokenIds);
  return { result, turn: c.turn, fresh };
}

/** Each client takes the next turn whose conversation is free, in order. */
async function closedLoop(order: number[], all: Conversation[], clients: number, speak: (s: number) => Promise<void>) {
  const left = [...order];
  let wake: (() => void)[] = [];
  const client = async (): Promise<void> => {
    while (left.length > 0) {
      const at = left.findIndex((s) => !all[s]!.busy);
      if (at < 0) {
        await new Promise<void>((w) => wake.push(w));
        continue;
      }
      const [s] = left.splice(at, 1) as [number];
      all[s]!.busy = true;
      await speak(s);
      all[s]!.busy = false;
      for (const w of wake) w();
      wake = [];
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
}

/** Turns arrive at exponential distances; one whose conversation still waits for its answer follows it. */
async function openLoop(
  order: number[],
  all: Conversation[],
  rate: number,
  random: () => number,
  speak: (s: number) => Promise<void>,
) {
  const last: Promise<void>[] = all.map(() => Promise.resolve());
  let at = performance.now();
  for (const s of order) {
    at += (-Math.log(1 - random()) / rate) * 1e3;
    const wait = at - performance.now();
    if (wait > 0) await new Promise((r) => setTimeout(r, wait));
    last[s] = last[s]!.then(() => speak(s));
  }
  await Promise.all(last);
}

function quantiles(ms: number[]): Quantiles {
  return { count: ms.length, p50: percentile(ms, 0.5), p95: percentile(ms, 0.95), p99: percentile(ms, 0.99) };
}
