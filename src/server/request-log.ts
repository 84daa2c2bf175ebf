/**
 * What was asked for and how it went, for whoever wants to look at it afterwards: GET /v1/requests, traces. Numbers and
 * names only; nothing of a prompt or an answer is kept.
 */
import type { FastifyRequest } from 'fastify';
import type { Generation, GenerationResult } from '../index.js';
import { toLongmindError } from './errors.js';

/** Ended requests that are kept for each API key. */
const KEPT = 200;

export interface RequestRecord {
  /** As in the answer. */
  id: string;
  owner: number;
  operation: 'chat' | 'text_completion';
  /** As its route is written: '/v1/chat/completions'. */
  route: string;
  model: string;
  sessionId: string | null;
  stream: boolean;
  /** Milliseconds since the epoch, with fractions; `ended` is null while it runs. */
  started: number;
  ended: number | null;
  /** One for each choice, in their order; null: not ended, or failed. */
  choices: (Omit<GenerationResult, 'text' | 'tokenIds' | 'logprobs'> | null)[];
  /** Code of the error that the first choice to fail failed with. */
  error: string | null;
  /** Numbers of the request's body that say how to sample. */
  asked: Readonly<Record<string, number>>;
  /** W3C trace context of the caller, as it came. */
  context: Readonly<Record<string, string>>;
}

export type AskedRequest = Pick<RequestRecord, 'id' | 'model' | 'stream' | 'operation'>;

/** Told of each request when it has ended. */
type Listener = (record: Readonly<RequestRecord>) => void;

const ASKED = ['temperature', 'top_p', 'top_k', 'max_tokens', 'max_completion_tokens', 'seed', 'n'];
const CONTEXT = ['traceparent', 'tracestate'];

const now = (): number => performance.timeOrigin + performance.now();

export class RequestLog {
  readonly #running = new Map<number, Set<RequestRecord>>();
  /** Oldest first. */
  readonly #ended = new Map<number, RequestRecord[]>();
  readonly #listeners: Listener[] = [];

  onEnd(listener: Listener): void {
    this.#listeners.push(listener);
  }

  /** Notes a request whose generations have begun, and looks on until they have ended. */
  follow(asked: AskedRequest, request: FastifyRequest, generations: readonly Generation[]): void {
    const body = (request.body ?? {}) as Record<string, unknown>;
    const record: RequestRecord = {
      ...asked,
      owner: request.owner,
      route: request.routeOptions.url ?? '',
      sessionId: typeof body.session_id === 'string' ? body.session_id : null,
      started: now(),
      ended: null,
      choices: generations.map(() => null),
      error: null,
      asked: pick(body, ASKED, 'number') as Record<string, number>,
      context: pick(request.headers, CONTEXT, 'string') as Record<string, string>,
    };
    setOf(this.#running, record.owner).add(record);
    const each = generations.map((g, i) =>
      g.result().then(
        ({ text: _, tokenIds: __, logprobs: ___, ...rest }) => {
          record.choices[i] = rest;
        },
        (error) => {
          record.error ??= toLongmindError(error, 0).code;
        },
      ),
    );
    void Promise.all(each).then(() => this.#end(record));
  }

  /** The owner's, newest first; those that run come first. */
  list(owner: number): Readonly<RequestRecord>[] {
    const running = [...(this.#running.get(owner) ?? [])].reverse();
    return [...running, ...(this.#ended.get(owner) ?? []).slice().reverse()];
  }

  #end(record: RequestRecord): void {
    record.ended = now();
    this.#running.get(record.owner)?.delete(record);
    const ended = this.#ended.get(record.owner) ?? [];
    this.#ended.set(record.owner, ended);
    ended.push(record);
    if (ended.length > KEPT) ended.shift();
    for (const tell of this.#listeners) tell(record);
  }
}

function setOf(map: Map<number, Set<RequestRecord>>, owner: number): Set<RequestRecord> {
  const set = map.get(owner) ?? new Set();
  map.set(owner, set);
  return set;
}

const pick = (from: Record<string, unknown>, names: string[], type: string): Record<string, unknown> =>
  Object.fromEntries(names.filter((name) => typeof from[name] === type).map((name) => [name, from[name]]));
