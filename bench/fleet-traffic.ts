/**
 * Conversations of many clients, as careful applications have them: what was not acknowledged is said again until it is. Half
 * are sessions that are appended to, half are responses that each go on from the one before.
 */
import { setTimeout as sleep } from 'node:timers/promises';

export interface Traffic {
  sessions: number;
  turns: number;
  clients: number;
}

export interface TurnRecord {
  text: string;
  /** Milliseconds from the first time it was asked until it was acknowledged. */
  ms: number;
  promptTokens: number;
  cachedTokens: number;
  /** Of the conversation, before this turn and after it. */
  before: number;
  after: number;
  /** The response's id, if it is one. */
  id: string | null;
}

export interface TrafficResult {
  /** By session and turn. */
  answers: TurnRecord[][];
  seconds: number;
  /** Why it was asked again, and how often. */
  retries: Record<string, number>;
  /** Turns that were acknowledged, and that the fleet did not know of when it was asked later. */
  lost: string[];
}

/** A turn that is not answered within this has failed. */
const TURN_MS = 300_000;
const ANSWER_MS = 30_000;
const NAMES = ['Anna', 'Ben', 'Clara', 'David', 'Emma', 'Felix', 'Greta', 'Hugo', 'Ida', 'Jonas'];
const CITIES = ['Vilnius', 'Lisbon', 'Oslo', 'Prague', 'Rome', 'Vienna', 'Dublin'];

const script = (session: number): string[] => [
  `My name is ${NAMES[session % NAMES.length]} and I live in ${CITIES[session % CITIES.length]}.`,
  `My locker code is ${10_000 + ((session * 7919) % 90_000)}.`,
  'Where do I live?',
  'What is my locker code?',
  'What is my name?',
];

// biome-ignore lint/suspicious/noExplicitAny: what the API says
type Json = any;

class Client {
  readonly retries: Record<string, number> = {};
  readonly lost: string[] = [];

  constructor(private readonly url: () => string) {}

  /** Asks until it is acknowledged. */
  async turn(session: string, path: string, body: object): Promise<Json> {
    const start = performance.now();
    for (let wait = 50; ; wait = Math.min(1_000, 2 * wait)) {
      try {
        return await this.#once(session, 'POST', path, body);
      } catch (e) {
        const failure = e as Failure;
        this.retries[failure.why] = (this.retries[failure.why] ?? 0) + 1;
        if (failure.final || performance.now() - start > TURN_MS) throw e;
        await sleep(failure.retryAfterMs ?? wait);
      }
    }
  }

  /** Asks until there is an answer; null: what it asks for is not there. */
  async ask(session: string, method: string, path: string, body?: object): Promise<Json | null> {
    const start = performance.now();
    for (;;) {
      try {
        return await this.#once(session, method, path, body);
      } catch (e) {
        const failure = e as Failure;
        if (failure.status === 404) return null;
        if (failure.final || performance.now() - start > TURN_MS) throw e;
        await sleep(failure.retryAfterMs ?? 100);
      }
    }
  }

  async #once(session: string, method: string, path: string, body?: object): Promise<Json> {
    let response: Response;
    let text: string;
    try {
      response = await fetch(this.url() + path, {
        method,
        headers: { 'x-session-id': session, ...(body ? { 'content-type': 'application/json' } : {}) },
        body: body && JSON.stringify(body),
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      text = await response.text();
    } catch (e) {
      throw new Failure((e as { name?: string }).name === 'TimeoutError' ? 'no answer' : 'connection lost');
    }
    // what the store has not got is no turn
    const kept = response.headers.get('x-session-kept') !== 'false';
    if (response.ok && kept) return JSON.parse(text);
    if (response.ok) throw new Failure('not kept');
    const retryAfter = response.headers.get('retry-after-ms');
    throw new Failure(
      codeOf(text) ?? `HTTP ${response.status}`,
      response.status,
      retryAfter === null ? null : Number(retryAfter),
      text,
    );
  }
}

function codeOf(text: string): string | null {
  try {
    return JSON.parse(text).error.code;
  } catch {
    return null;
  }
}

class Failure extends Error {
  constructor(
    readonly why: string,
    readonly status = 0,
    readonly retryAfterMs: number | null = null,
    text = '',
  ) {
    super(`${why} ${text}`);
  }

  /** It would be the same again. */
  get final(): boolean {
    return this.status >= 400 && this.status < 500 && this.status !== 409 && this.status !== 429;
  }
}

const common = { temperature: 0 };
const MAX_TOKENS = 24;

/** One session: each turn says how long the session is before it, so that it can be said again. */
async function appended(client: Client, session: number, turns: string[]): Promise<TurnRecord[]> {
  const id = `bench-${session}`;
  const records: TurnRecord[] = [];
  let known = 0;
  for (const content of turns) {
    const start = performance.now();
    const body = {
      ...{ ...common, max_tokens: MAX_TOKENS, session_id: id, session_append: true, session_length: known },
      messages: [{ role: 'user', content }],
    };
    const { choices, usage } = await client.turn(id, '/v1/chat/completions', body);
    const after = usage.total_tokens;
    records.push({
      ...{ text: choices[0].message.content, ms: performance.now() - start, id: null },
      ...{ promptTokens: usage.prompt_tokens, cachedTokens: usage.prompt_tokens_details.cached_tokens },
      ...{ before: known, after },
    });
    known = after;
  }
  return records;
}

/** Responses: an old id can be gone on from as often as one likes. */
async function continued(client: Client, session: number, turns: string[]): Promise<TurnRecord[]> {
  const records: TurnRecord[] = [];
  for (const input of turns) {
    const start = performance.now();
    const last = records.at(-1);
    const body = { ...common, max_output_tokens: MAX_TOKENS, input, ...(last && { previous_response_id: last.id }) };
    const answer = await client.turn(`bench-${session}`, '/v1/responses', body);
    const { usage } = answer;
    records.push({
      ...{ text: answer.output[0].content[0].text, ms: performance.now() - start, id: answer.id },
      ...{ promptTokens: usage.input_tokens, cachedTokens: usage.input_tokens_details.cached_tokens },
      ...{ before: last?.after ?? 0, after: usage.total_tokens },
    });
  }
  return records;
}

/** All of it, by so many clients, each with one conversation at a time. */
export async function drive(url: () => string, traffic: Traffic, progress: (done: number) => void) {
  const client = new Client(url);
  const answers: TurnRecord[][] = [];
  const start = performance.now();
  let next = 0;
  const work = async () => {
    while (next < traffic.sessions) {
      const session = next++;
      const turns = script(session).slice(0, traffic.turns);
      answers[session] = await (session % 2 === 0 ? appended : continued)(client, session, turns);
      progress(next);
    }
  };
  await Promise.all(Array.from({ length: traffic.clients }, work));
  const seconds = (performance.now() - start) / 1000;
  await findLost(client, answers, traffic.clients);
  return { answers, seconds, retries: client.retries, lost: client.lost } satisfies TrafficResult;
}

/** What was acknowledged last of each conversation is asked for once more. */
async function findLost(client: Client, answers: TurnRecord[][], clients: number): Promise<void> {
  let next = 0;
  const work = async () => {
    while (next < answers.length) {
      const session = next++;
      const name = `bench-${session}`;
      const { id, after } = answers[session]!.at(-1)!;
      if (id === null) {
        const kept = await client.ask(name, 'GET', `/v1/sessions/${name}`);
        if (kept?.tokens !== after) client.lost.push(`${name}: ${kept?.tokens} tokens, not ${after}`);
      } else if ((await client.ask(name, 'GET', `/v1/responses/${id}`)) === null) client.lost.push(`${name}: ${id}`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(20, clients) }, work));
}
