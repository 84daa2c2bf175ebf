/**
 * Does a model remember? Held-out conversations are played through the engine, each as a session; a question's answer counts
 * if it contains the expected value as a whole word, whatever its case. Recall is reported by distance in tokens.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { errors } from '../errors.js';
import type { Engine } from '../types.js';

export interface RecallTurn {
  user: string;
  /** The value that the answer must contain. */
  expect?: string;
  /** Tokens between the mention and the question. */
  distance?: number;
}

export interface RecallOptions {
  /** JSON lines: {"id", "turns": [{"user", "expect"?, "distance"?}]}; '' = the held-out ones that come with memo. */
  file: string;
  /** Conversations played at the same time; they compete for the cache. */
  sessions: number;
  /** Conversations played in all; 0 = all of the file. */
  limit: number;
  /** Turns of each conversation, for shorter runs; 0 or absent = all. */
  turns?: number;
  /**
   * The conversations take strict turns, and after each round the whole KV cache is filled with other tokens: between its
   * turns every session loses everything.
   */
  evict: boolean;
  maxTokens: number;
  onProgress?: (done: number, total: number) => void;
}

export interface RecallResult {
  rows: { distance: number; recall: number; questions: number }[];
  questions: number;
  recall: number;
  /** Equal digests mean exactly the same answers. */
  answersSha256: string;
  /** Mean log-probability of the answers' tokens: equal to the last digit if a recomputed cache has the same bits. */
  meanLogprob: number;
  /** Tokens of all prompts, history included, and how many of them were still in the cache. */
  tokensPrompt: number;
  tokensCached: number;
  tokensRecomputed: number;
  preemptions: number;
  seconds: number;
}

/** A played conversation; sums over its turns. */
interface Played {
  answers: string[];
  logprobs: number[];
  tokensPrompt: number;
  tokensCached: number;
}

/** Held-out conversations of the bundled model. */
const HELD_OUT = fileURLToPath(new URL('../../../models/memo/conversations.jsonl', import.meta.url));

/** Upper bounds of the buckets; a row is named by its bound. */
const BUCKETS = [250, 500, 1000, 2000, 3000, 4000, 8000];

/** Tokens of one of the prompts that fill the cache: attention makes long ones dear. */
const FILLER_TOKENS = 256;

export async function runRecall(engine: Engine, o: RecallOptions): Promise<RecallResult> {
  const read = await readConversations(o.file || HELD_OUT, o.limit);
  const conversations = o.turns ? read.map((turns) => turns.slice(0, o.turns)) : read;
  const started = performance.now();
  const before = await engine.stats();
  const played = conversations.map((): Played => ({ answers: [], logprobs: [], tokensPrompt: 0, tokensCached: 0 }));
  await (o.evict ? playInRounds : playTogether)(engine, conversations, played, o);
  const after = await engine.stats();
  const sum = (of: (p: Played) => number) => played.reduce((total, p) => total + of(p), 0);
  const answers = played.map((p) => p.answers);
  const logprobs = played.flatMap((p) => p.logprobs);
  return {
    ...score(conversations, answers),
    answersSha256: createHash('sha256').update(JSON.stringify(answers)).digest('hex'),
    meanLogprob: logprobs.reduce((a, b) => a + b, 0) / logprobs.length,
    tokensPrompt: sum((p) => p.tokensPrompt),
    tokensCached: sum((p) => p.tokensCached),
    tokensRecomputed: after.tokens.recomputed - before.tokens.recomputed,
    preemptions: after.preemptions - before.preemptions,
    seconds: (performance.now() - started) / 1e3,
  };
}

const sessionOf = (conversation: number): string => `recall-${conversation}`;

async function playTogether(engine: Engine, conversations: RecallTurn[][], played: Played[], o: RecallOptions) {
  let next = 0;
  let done = 0;
  const player = async (): Promise<void> => {
    for (let c = next++; c < conversations.length; c = next++) {
      for (const turn of conversations[c]!) await playTurn(engine, sessionOf(c), turn, played[c]!, o.maxTokens);
      await engine.sessions.delete(sessionOf(c));
      o.onProgress?.(++done, conversations.length);
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, o.sessions) }, player));
}

/** `sessions` conversations after another, a turn each a round; a round ends with a cache full of other tokens. */
async function playInRounds(engine: Engine, conversations: RecallTurn[][], played: Played[], o: RecallOptions) {
  const size = Math.max(1, o.sessions);
  for (let first = 0; first < conversations.length; first += size) {
    const group = conversations.slice(first, first + size);
    const rounds = Math.max(...group.map((turns) => turns.length));
    for (let round = 0; round < rounds; round++) {
      for (const [i, turns] of group.entries()) {
        const c = first + i;
        if (turns[round]) await playTurn(engine, sessionOf(c), turns[round], played[c]!, o.maxTokens);
      }
      await fillCache(engine, `${first}/${round}`);
    }
    for (const i of group.keys()) await engine.sessions.delete(sessionOf(first + i));
    o.onProgress?.(first + group.length, conversations.length);
  }
}

async function playTurn(engine: Engine, sessionId: string, turn: RecallTurn, played: Played, maxTokens: number) {
  const request = { sessionId, sessionAppend: true, temperature: 0, maxTokens, logprobs: 0 };
  const result = await engine.chat({ ...request, messages: [{ role: 'user', content: turn.user }] }).result();
  played.answers.push(result.text);
  for (const { logprob } of result.logprobs ?? []) played.logprobs.push(logprob);
  played.tokensPrompt += result.usage.promptTokens;
  played.tokensCached += result.usage.cachedTokens;
}

/** Other tokens, as many as the whole KV cache holds, no two fillers alike. */
async function fillCache(engine: Engine, salt: string): Promise<void> {
  const { memory, sessionLen, dims } = engine.info;
  let left = memory.kvBlocks * memory.blockLen;
  for (let part = 0; left > 1; part++) {
    const n = Math.min(left, sessionLen - 1, FILLER_TOKENS);
    const seed = [...`${salt}/${part}`].reduce((h, ch) => (Math.imul(h, 31) + ch.charCodeAt(0)) | 0, 7);
    const prompt = Int32Array.from({ length: n }, (_, i) => Math.abs(Math.imul(i + 1, 2654435761) ^ seed) % dims.vocab);
    await engine.complete({ prompt, maxTokens: 1, temperature: 0, ignoreEos: true }).result();
    left -= n;
  }
}

function score(conversations: RecallTurn[][], answers: string[][]) {
  const rows = BUCKETS.map((distance) => ({ distance, recall: 0, questions: 0 }));
  let right = 0;
  let questions = 0;
  conversations.forEach((turns, c) => {
    turns.forEach((turn, t) => {
      if (turn.expect === undefined) return;
      const row = rows.find((r) => (turn.distance ?? 0) <= r.distance) ?? rows[rows.length - 1]!;
      const good = containsWord(answers[c]![t] ?? '', turn.expect) ? 1 : 0;
      row.questions++;
      row.recall += good;
      questions++;
      right += good;
    });
  });
  for (const r of rows) r.recall = r.questions > 0 ? r.recall / r.questions : 0;
  return { rows: rows.filter((r) => r.questions > 0), questions, recall: questions > 0 ? right / questions : 0 };
}

function containsWord(text: string, word: string): boolean {
  const escaped = word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`(?<![\\p{L}\\p{N}])${escaped}(?![\\p{L}\\p{N}])`, 'iu').test(text);
}

async function readConversations(file: string, limit: number): Promise<RecallTurn[][]> {
  const out: RecallTurn[][] = [];
  try {
    for await (const line of createInterface({ input: createReadStream(file) })) {
      if (line.trim() === '') continue;
      out.push((JSON.parse(line) as { turns: RecallTurn[] }).turns);
      if (limit > 0 && out.length >= limit) break;
    }
  } catch (e) {
    throw errors.io(`could not read conversations from '${file}'`, e instanceof Error ? e.message : String(e));
  }
  if (out.length === 0) throw errors.io(`'${file}'`, 'holds no conversations');
  return out;
}
