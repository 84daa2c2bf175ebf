/** Scripted conversations that fill the cache, so that eviction and recompute can be seen. Bounded in number and time. */
import { ask, type Outcome } from '../chat/completion.js';
import type { Message } from '../chat/model.js';
import { call, forgetSessions } from '../ui/api.js';
import { Store } from '../ui/store.js';
import { ANSWER_TOKENS, type Plan, story } from './plan.js';

const LIMIT_MS = 150_000;
/** The filling ends by then, so that there is time to go back. */
const FILL_MS = 90_000;
const AT_A_TIME = 3;
const PREFIX = 'pressure-';
/** Conversations that are gone back to at the end. */
const RETURNS = 3;

export interface Witness {
  prompt: number;
  cachedBefore: number;
  cachedAfter: number;
  ttftBefore: number;
  ttftAfter: number;
  /** The same words both times. */
  same: boolean;
}

export interface Pressure {
  phase: 'idle' | 'first' | 'filling' | 'return' | 'done' | 'stopped' | 'failed';
  plan: Plan | null;
  asked: number;
  /** Of them, answered. */
  answered: number;
  witness: Witness | null;
  problem: string | null;
}

const IDLE: Pressure = { phase: 'idle', plan: null, asked: 0, answered: 0, witness: null, problem: null };
export const pressure = new Store<Pressure>(IDLE);

let running: AbortController | null = null;
let sessions: string[] = [];

export const isRunning = (p: Pressure): boolean => ['first', 'filling', 'return'].includes(p.phase);

export function stopPressure(): void {
  running?.abort();
}

/** Deletes the scripted sessions. */
export async function clearPressure(): Promise<void> {
  const old = sessions;
  sessions = [];
  pressure.set(IDLE);
  await forgetSessions(old);
}

export async function startPressure(plan: Plan): Promise<void> {
  if (isRunning(pressure.value)) return;
  const stop = new AbortController();
  running = stop;
  const timer = setTimeout(() => stop.abort(), LIMIT_MS);
  const cleared = clearPressure();
  pressure.set({ ...IDLE, phase: 'first', plan });
  try {
    await cleared;
    await script(plan, stop.signal);
    pressure.patch({ phase: stop.signal.aborted ? 'stopped' : 'done' });
  } catch (error) {
    stop.abort();
    pressure.patch({ phase: 'failed', problem: error instanceof Error ? error.message : String(error) });
  } finally {
    clearTimeout(timer);
    running = null;
  }
}

async function script(plan: Plan, stop: AbortSignal): Promise<void> {
  const words = await wordsFor(plan.tokens);
  const seed = Date.now() % 1_000_000;
  const questions = Array.from({ length: plan.sessions }, (_, i): Message[] => [
    { role: 'user', content: `${story(seed + i, words)} Who was near the harbour?` },
  ]);
  const first = await say(0, questions[0] as Message[], stop);
  if (stop.aborted) return;
  pressure.patch({ phase: 'filling' });
  const answers = await fill(questions, stop);
  if (stop.aborted) return;
  pressure.patch({ phase: 'return' });
  const again = await say(0, questions[0] as Message[], stop);
  if (stop.aborted) return;
  pressure.patch({ witness: compare(first, again) });
  for (let i = 1; i <= RETURNS && answers[i] && !stop.aborted; i++) {
    const said: Message[] = [
      ...(questions[i] as Message[]),
      { role: 'assistant', content: answers[i]?.text ?? '' },
      { role: 'user', content: 'And then?' },
    ];
    await say(i, said, stop);
  }
}

async function fill(questions: Message[][], stop: AbortSignal): Promise<(Outcome | undefined)[]> {
  const answers: (Outcome | undefined)[] = [];
  let next = 1;
  const late = performance.now() + FILL_MS;
  const worker = async () => {
    while (next < questions.length && !stop.aborted && performance.now() < late) {
      const i = next++;
      answers[i] = await say(i, questions[i] as Message[], stop);
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));
  return answers;
}

/** Greedy, so that what comes out depends on what is remembered alone. */
async function say(index: number, messages: Message[], stop: AbortSignal): Promise<Outcome> {
  const session = `${PREFIX}${index + 1}`;
  if (!sessions.includes(session)) sessions.push(session);
  pressure.patch({ asked: pressure.value.asked + 1 });
  const got = await ask({ messages, session, temperature: 0, maxTokens: ANSWER_TOKENS }, stop, () => {});
  pressure.patch({ answered: pressure.value.answered + 1 });
  return got;
}

const compare = (first: Outcome, again: Outcome): Witness => ({
  prompt: again.usage?.prompt ?? 0,
  cachedBefore: first.usage?.cached ?? 0,
  cachedAfter: again.usage?.cached ?? 0,
  ttftBefore: first.ttftMs ?? 0,
  ttftAfter: again.ttftMs ?? 0,
  same: first.text === again.text,
});

/** How many words of a story make so many tokens with this model's vocabulary. */
async function wordsFor(tokens: number): Promise<number> {
  const sample = story(1, 200);
  const response = await call('/tokenize', { body: { text: sample } });
  const { count } = (await response.json()) as { count: number };
  return Math.max(8, Math.floor((tokens * sample.split(' ').length) / Math.max(1, count)));
}
