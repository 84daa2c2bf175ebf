/** Plays a load on an engine, once: closed loop or Poisson arrivals, with sessions or with the whole history each time. */
import { createHash } from 'node:crypto';
import type { Engine, GenerationResult } from '../../types.js';
import { percentile, uniform } from '../random.js';
import { type Load, type LoadOptions, planLoad, proseTokens, type Turn, WARM_UP } from './load.js';

/** How the engine is asked: a session and the new turn; or the whole history each time. */
export type Mode = 'session' | 'history';

export interface SessionsOptions extends LoadOptions {
  mode: Mode;
  onProgress?: (done: number, total: number) => void;
}

/** Milliseconds. */
export interface Quantiles {
  count: number;
  p50: number;
  p95: number;
  p99: number;
}

export interface SessionsResult {
  seconds: number;
  /** Processor time of all threads. */
  cpuSeconds: number;
  turns: number;
  /** Tokens a second: new ones said, and answered. */
  inputRate: number;
  outputRate: number;
  /** Time to the first token from the second turn on. A hit found all history in the cache. */
  ttftHit: Quantiles;
  ttftMiss: Quantiles;
  /** Of the fifth and later turns, hit or miss. */
  ttftLate: Quantiles;
  /** Cached tokens over prompt tokens (history and what is said). */
  hitRate: number;
  promptTokens: number;
  /** Computed a second time because their KV was evicted; without a session that is not known, and 0. */
  recomputedTokens: number;
  /** Brought back from a place below the device. */
  restoredTokens: number;
  blocksEvicted: number;
  preemptions: number;
  steps: number;
  /** Equal digests mean exactly the same answers. */
  answersSha256: string;
}

/** (sessions, turns) token ids. */
export type Answers = number[][][];

export interface Played {
  result: SessionsResult;
  answers: Answers;
}

export interface PlayOptions {
  mode: Mode;
  onProgress?: (done: number, total: number) => void;
  /** Only the prompts are computed, as if these had been the answers: what the answers cost is left out. */
  prefillOnly?: Answers;
}

interface Sample {
  turn: Turn;
  result: GenerationResult;
}

export async function runSessions(engine: Engine, o: SessionsOptions): Promise<SessionsResult> {
  const load = planLoad(o, engine.info.sessionLen, await proseTokens(engine));
  return (await play(engine, load, o)).result;
}

export async function play(engine: Engine, load: Load, o: PlayOptions): Promise<Played> {
  const player = new Player(engine, load, o);
  await warmUp(engine);
  const result = await player.measure(load.turns);
  await player.forget();
  return { result, answers: player.answers };
}

/** Plays a load's turns on one engine, all at once or some at a time. */
export class Player {
  readonly answers: Answers;
  readonly #histories: number[][];
  #done = 0;

  constructor(
    private readonly engine: Engine,
    private readonly load: Load,
    private readonly o: PlayOptions,
  ) {
    this.answers = load.peaks.map(() => []);
    this.#histories = load.peaks.map(() => []);
  }

  /** The next turns; each session's in order. */
  async measure(turns: readonly Turn[]): Promise<SessionsResult> {
    const samples: Sample[] = [];
    const before = await this.engine.stats();
    const cpu = process.cpuUsage();
    const started = performance.now();
    const speak = async (turn: Turn): Promise<void> => {
      const result = await oneTurn(this.engine, turn, this.#histories, this.o);
      this.answers[turn.session]!.push(result.tokenIds);
      samples.push({ turn, result });
      this.o.onProgress?.(++this.#done, this.load.turns.length);
    };
    const { rate, clients, seed } = this.load.options;
    await (rate > 0 ? openLoop(turns, rate, seed, speak) : closedLoop(turns, clients, speak));
    const seconds = (performance.now() - started) / 1e3;
    const { user, system } = process.cpuUsage(cpu);
    const after = await this.engine.stats();
    const sum = (f: (x: Sample) => number) => samples.reduce((a, x) => a + f(x), 0);
    const promptTokens = sum((x) => x.result.usage.promptTokens);
    return {
      seconds,
      cpuSeconds: (user + system) / 1e6,
      turns: samples.length,
      inputRate: sum((x) => x.turn.said.length) / seconds,
      outputRate: sum((x) => x.result.usage.completionTokens) / seconds,
      ...ttftOf(samples),
      hitRate: promptTokens > 0 ? sum((x) => x.result.usage.cachedTokens) / promptTokens : 0,
      promptTokens,
      recomputedTokens: after.tokens.recomputed - before.tokens.recomputed,
      restoredTokens: after.cache.tokensRestored - before.cache.tokensRestored,
      blocksEvicted: after.cache.blocksEvicted - before.cache.blocksEvicted,
      preemptions: after.preemptions - before.preemptions,
      steps: after.steps - before.steps,
      answersSha256: digestOf(this.answers),
    };
  }

  /** The engine forgets the sessions. */
  async forget(): Promise<void> {
    if (this.o.mode !== 'session') return;
    for (const s of this.load.peaks.keys()) await this.engine.sessions.delete(`bench-${s}`).catch(() => {});
  }
}

function digestOf(answers: Answers): string {
  return createHash('sha256').update(JSON.stringify(answers)).digest('hex');
}

/** The first steps teach the engine how many tokens a step may hold; they are not part of the measurement. */
export async function warmUp(engine: Engine): Promise<void> {
  const { sessionLen, memory, dims } = engine.info;
  const room = Math.min(sessionLen, memory.kvBlocks * memory.blockLen) - 8;
  const prompt = Array.from({ length: Math.max(1, Math.min(WARM_UP - 8, room)) }, (_, i) => (7 * i + 11) % dims.vocab);
  await engine.complete({ prompt, maxTokens: 4, temperature: 0, ignoreEos: true }).result();
}

async function oneTurn(engine: Engine, turn: Turn, histories: number[][], o: PlayOptions): Promise<GenerationResult> {
  const { session, index, number, said } = turn;
  const sessionId = `bench-${session}`;
  if (number === 1) {
    histories[session] = [];
    if (o.mode === 'session' && index > 0) await engine.sessions.delete(sessionId);
  }
  const history = histories[session]!;
  history.push(...said);
  const answered = o.prefillOnly ? 1 : turn.answered;
  const request = { maxTokens: answered, temperature: 0, ignoreEos: true };
  const result = await (o.mode === 'session'
    ? engine.complete({ ...request, prompt: said, sessionId, sessionAppend: true })
    : engine.complete({ ...request, prompt: history })
  ).result();
  history.push(...(o.prefillOnly?.[session]?.[index] ?? result.tokenIds));
  return result;
}

/** Each client takes the next turn whose conversation is free, in order. */
async function closedLoop(
  turns: readonly Turn[],
  clients: number,
  speak: (turn: Turn) => Promise<void>,
): Promise<void> {
  const left = [...turns];
  const busy = new Set<number>();
  let wake: (() => void)[] = [];
  const take = async (at: number): Promise<void> => {
    const [turn] = left.splice(at, 1) as [Turn];
    busy.add(turn.session);
    try {
      await speak(turn);
    } catch (e) {
      left.length = 0; // the others end after their turn
      throw e;
    } finally {
      busy.delete(turn.session);
      for (const w of wake) w();
      wake = [];
    }
  };
  const client = async (): Promise<void> => {
    while (left.length > 0) {
      const at = left.findIndex((t) => !busy.has(t.session));
      if (at >= 0) await take(at);
      else await new Promise<void>((w) => wake.push(w));
    }
  };
  await allOf(Array.from({ length: clients }, client));
}

/** Waits for all, also if one fails; then throws the first failure. */
async function allOf(work: Promise<void>[]): Promise<void> {
  for (const r of await Promise.allSettled(work)) if (r.status === 'rejected') throw r.reason;
}

/** Turns arrive at exponential distances; one whose conversation still waits for its answer follows it. */
async function openLoop(
  turns: readonly Turn[],
  rate: number,
  seed: number,
  speak: (turn: Turn) => Promise<void>,
): Promise<void> {
  const random = uniform(seed + 1);
  const last = new Map<number, Promise<void>>();
  let at = performance.now();
  for (const turn of turns) {
    at += (-Math.log(1 - random()) / rate) * 1e3;
    const wait = at - performance.now();
    if (wait > 0) await new Promise((r) => setTimeout(r, wait));
    const spoken = (last.get(turn.session) ?? Promise.resolve()).then(() => speak(turn));
    spoken.catch(() => {}); // told at the end
    last.set(turn.session, spoken);
  }
  await allOf([...last.values()]);
}

/** All of a session's history but the last token drawn, whose KV nobody has computed, was in the cache. */
function isHit({ turn, result }: Sample): boolean {
  return result.usage.cachedTokens + 1 >= turn.history;
}

function ttftOf(samples: Sample[]): Pick<SessionsResult, 'ttftHit' | 'ttftMiss' | 'ttftLate'> {
  const of = (pick: (x: Sample) => boolean): Quantiles => {
    const ms = samples.filter(pick).map((x) => x.result.timings.ttft);
    return { count: ms.length, p50: percentile(ms, 0.5), p95: percentile(ms, 0.95), p99: percentile(ms, 0.99) };
  };
  return {
    ttftHit: of((x) => x.turn.number > 1 && isHit(x)),
    ttftMiss: of((x) => x.turn.number > 1 && !isHit(x)),
    ttftLate: of((x) => x.turn.number >= 5),
  };
}
