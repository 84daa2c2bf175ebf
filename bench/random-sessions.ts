/**
 * npm run bench:random-sessions -- MODEL.gguf [--device null] [--seconds 1200] [--sessions 200] [--clients 24] [--blocks 400] [--host 800]
 * [--disk 1600] [--tp N] [--seed 1] [--json]: clients who do anything with their conversations for a while, over KV that fits
 * only a part of them, with host memory and a disk below: turns, turns cut off, forks, truncations, deletions, prompts that begin as
 * somebody's conversation, unwelcome requests. One in eight answers is asked for again from an engine that keeps nothing: it must give
 * the same tokens. Invariants are checked all the while; in the end nothing may be left: no request, no block in use, no transfer, no
 * session, no token.
 */
import './plain-errors.js';
import { fork as start } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { uniform } from '../src/bench/random.js';
import { createEngine, type Engine, LongmindError } from '../src/index.js';
import type { PlainAnswer, PlainQuestion } from './plain-engine.js';

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    device: { type: 'string', default: 'null' },
    tp: { type: 'string', default: '1' },
    seconds: { type: 'string', default: '1200' },
    sessions: { type: 'string', default: '200' },
    clients: { type: 'string', default: '24' },
    /** KV blocks of the device, in host memory, on disk. */
    blocks: { type: 'string', default: '400' },
    host: { type: 'string', default: '800' },
    disk: { type: 'string', default: '1600' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
});
const [model] = positionals;
if (!model) {
  console.error('usage: npm run bench:random-sessions -- MODEL.gguf [--device null] [--seconds 1200] [--json]');
  process.exit(2);
}
const SESSION_LEN = 1024;
const BLOCK_LEN = 32;
const CHECK_MS = 2000;
const SETTLE_MS = 20_000;
/** What of the answers is asked for again. */
const VERIFIED = 1 / 8;

const seconds = Number(args.seconds);
const random = uniform(Number(args.seed));
const below = (n: number): number => Math.floor(random() * n);
const count: Record<string, number> = {};
const counted = (what: string): void => {
  count[what] = (count[what] ?? 0) + 1;
};
const problems: string[] = [];
const problem = (text: string): void => {
  problems.push(text);
  console.error(text);
};

const folder = mkdtempSync(path.join(os.tmpdir(), 'longmind-random-'));
const common = {
  model,
  device: args.device,
  tp: Number(args.tp),
  sessionLen: SESSION_LEN,
  cacheBlockSeqLen: BLOCK_LEN,
};
/** The null device stores a hash a token. */
const sizes = await createEngine({ ...common, cacheMaxEntryCount: 2 });
const blockBytes = args.device === 'null' ? 4 * BLOCK_LEN : sizes.info.memory.blockBytes;
await sizes.close();
/** On disk a block takes whole pages, and a record beside it. */
const diskBytes = Number(args.disk) * (4096 * Math.ceil(blockBytes / 4096) + 256) + 2 ** 14;
const engine = await createEngine({
  ...common,
  ...{ cacheMaxEntryCount: Number(args.blocks), maxBatchSize: 32, cacheDisk: { dir: folder, bytes: diskBytes } },
  cacheHost: args.device === 'cpu' ? 0 : Number(args.host) * blockBytes,
});
engine.onProblem((text) => problem(`the engine says: ${text}`));
/** The same model where nothing is kept, on one GPU: the same bits. */
const plain = start(fileURLToPath(new URL('./plain-engine.js', import.meta.url)), [
  ...[model, args.device, `${SESSION_LEN}`, `${BLOCK_LEN}`],
]);
await once(plain, 'message');
const asked = new Map<number, (answer: PlainAnswer) => void>();
plain.on('message', (answer: PlainAnswer) => {
  asked.get(answer.id)?.(answer);
  asked.delete(answer.id);
});
plain.once('exit', (code) => {
  for (const [id, end] of asked) end({ id, error: `the process ended with ${code}` });
});
let questions = 0;
const askPlain = (prompt: number[], maxTokens: number): Promise<PlainAnswer> =>
  new Promise((resolve) => {
    const id = questions++;
    asked.set(id, resolve);
    plain.send({ id, prompt, maxTokens } satisfies PlainQuestion);
  });
const vocab = engine.info.dims.vocab;
const tokens = (n: number): number[] => Array.from({ length: n }, () => 300 + below(vocab - 300));

/** Sessions that nobody works on now: two turns of one at a time are refused, which is asked for now and then, too. */
const idle = Array.from({ length: Number(args.sessions) }, (_, i) => `s${i}`);
const known = new Set<string>();
const greedy = { temperature: 0, ignoreEos: true };

/** Refusals that a caller may meet here; anything else is a problem. */
const EXPECTED = new Set([
  'session_not_found',
  'session_busy',
  'prompt_too_long',
  'invalid_request',
  'request_aborted',
]);
async function expecting<T>(what: string, work: Promise<T>): Promise<T | null> {
  try {
    const result = await work;
    counted(what);
    return result;
  } catch (e) {
    if (!(e instanceof LongmindError) || !EXPECTED.has(e.code)) problem(`${what}: ${e instanceof Error ? e.stack : e}`);
    else counted(`${what}: ${e.code}`);
    return null;
  }
}

async function turn(id: string): Promise<void> {
  const kept = known.has(id) ? await expecting('read', engine.sessions.tokens(id)) : new Int32Array();
  if (!kept) return;
  const maxTokens = 1 + below(32);
  const said = tokens(1 + below(200));
  if (kept.length + said.length + maxTokens > SESSION_LEN) {
    await truncate(id, kept.length);
    return;
  }
  const result = await expecting(
    'turn',
    engine
      .complete({ prompt: said, sessionId: id, sessionAppend: true, maxTokens, priority: below(2), ...greedy })
      .result(),
  );
  if (!result) return;
  known.add(id);
  if (random() < VERIFIED) await verify([...kept, ...said], result.tokenIds);
}

/** The same prompt where nothing is kept: hit and miss are the same tokens. */
async function verify(prompt: number[], answer: readonly number[]): Promise<void> {
  const again = await askPlain(prompt, answer.length);
  counted('verified');
  if (JSON.stringify(again.tokenIds) !== JSON.stringify([...answer]))
    problem(
      `a prompt of ${prompt.length} tokens: ${answer.slice(0, 8)}… with what was kept, ${again.error ?? again.tokenIds!.slice(0, 8)}… without`,
    );
}

/** A turn whose client goes away; its session may or may not be there afterwards. */
async function cutOff(id: string): Promise<void> {
  const generation = engine.complete({
    prompt: tokens(1 + below(300)),
    sessionId: id,
    sessionAppend: true,
    maxTokens: 64,
    ...greedy,
  });
  const at = below(20);
  let seen = 0;
  const read = async (): Promise<void> => {
    if (at === 0) generation.abort();
    for await (const _ of generation) if (++seen >= at) generation.abort();
  };
  await expecting('cut off', read());
  await asItIs(id);
}

/** Whether the session is there: who was cut off cannot know. */
async function asItIs(id: string): Promise<void> {
  const { length } = (await engine.sessions.list()).filter((s) => s.id === id);
  if (length > 0) known.add(id);
  else known.delete(id);
}

async function truncate(id: string, length: number): Promise<void> {
  await expecting('truncate', engine.sessions.truncate(id, below(length + 1)));
}

async function remove(id: string): Promise<void> {
  await expecting('delete', engine.sessions.delete(id));
  known.delete(id);
}

/** A copy takes the place of another session. */
async function fork(id: string, other: string): Promise<void> {
  if (known.has(other)) await remove(other);
  if (await expecting('fork', engine.sessions.fork(id, other))) known.add(other);
}

/** Somebody without a session, whose prompt begins as a conversation does. */
async function stranger(id: string): Promise<void> {
  const kept = known.has(id) ? await expecting('read', engine.sessions.tokens(id)) : null;
  const prompt = [...(kept ?? []).slice(0, below(SESSION_LEN - 200)), ...tokens(1 + below(100))];
  const result = await expecting('stranger', engine.complete({ prompt, maxTokens: 1 + below(24), ...greedy }).result());
  if (result && random() < VERIFIED) await verify(prompt, result.tokenIds);
}

/** Longer than any session may be; and a second turn of a session while the first runs. */
async function unwelcome(id: string): Promise<void> {
  await expecting('too long', engine.complete({ prompt: tokens(SESSION_LEN + 1), maxTokens: 4 }).result());
  const ask = () =>
    engine.complete({ prompt: tokens(20), sessionId: id, sessionAppend: true, maxTokens: 4, ...greedy }).result();
  await Promise.all([expecting('twice', ask()), expecting('twice', ask())]);
  await asItIs(id);
}

async function act(id: string): Promise<void> {
  const x = random();
  if (x < 0.6) return turn(id);
  if (x < 0.72) return cutOff(id);
  if (x < 0.8) return stranger(id);
  if (x < 0.82) return unwelcome(id);
  if (!known.has(id)) return turn(id);
  if (x < 0.88) {
    const other = take();
    if (other) await fork(id, other).finally(() => idle.push(other));
    return;
  }
  if (x < 0.94) return truncate(id, SESSION_LEN >> 1);
  return remove(id);
}

function take(): string | undefined {
  const [id] = idle.splice(below(idle.length), 1);
  return id;
}

const end = performance.now() + 1e3 * seconds;
async function client(): Promise<void> {
  while (performance.now() < end && problems.length < 10) {
    const id = take();
    if (!id) return;
    await act(id)
      .catch((e: Error) => problem(e.stack ?? e.message))
      .finally(() => idle.push(id));
  }
}

const memory: number[] = [];
async function watch(): Promise<void> {
  while (performance.now() < end && problems.length < 10) {
    await engine.check().catch((e: Error) => problem(`check: ${e.message}`));
    memory.push(process.memoryUsage().rss);
    await new Promise((resolve) => setTimeout(resolve, CHECK_MS));
  }
}

/** What is still there after everybody went and every session was deleted. */
async function leftOver(engine: Engine): Promise<Record<string, number>> {
  for (const { id } of await engine.sessions.list()) await engine.sessions.delete(id);
  const until = performance.now() + SETTLE_MS;
  for (;;) {
    const { requests, sessions, cache } = await engine.stats();
    const { blocks, sequences, tiers } = cache;
    const left = {
      ...{ requests: requests.running + requests.waiting, sessions, sequences: sequences.total, blocks: blocks.active },
      ...{ transfers: tiers ? tiers.waiting + tiers.outstanding : 0, lost: blocks.total - blocks.free - blocks.cached },
    };
    if (Object.values(left).every((n) => n === 0) || performance.now() > until) return left;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

try {
  await Promise.all([watch(), ...Array.from({ length: Number(args.clients) }, client)]);
  const { cache, steps, preemptions, tokens: all } = await engine.stats();
  const left = await leftOver(engine);
  await engine.check();
  for (const [what, n] of Object.entries(left)) if (n !== 0) problem(`${n} ${what} are left over`);
  const MiB = (bytes: number): number => Math.round(bytes / 2 ** 20);
  const row = {
    ...{ device: args.device, tp: Number(args.tp), seconds, seed: Number(args.seed), requests: count, problems, left },
    ...{ steps, preemptions, tokens: all, restored: cache.tokensRestored, recomputed: cache.tokensRecomputed },
    ...{ evicted: cache.blocksEvicted, tiers: cache.tiers },
    /** Of the process, after a fifth of the time and in the end. */
    memoryMiB: [MiB(memory[Math.floor(memory.length / 5)] ?? 0), MiB(memory.at(-1) ?? 0)],
  };
  console.log(args.json ? JSON.stringify(row) : row);
} finally {
  plain.disconnect();
  await engine.close();
  rmSync(folder, { recursive: true });
}
process.exit(problems.length === 0 ? 0 : 1);
