/** What a request was, as spans: itself, and for each choice its wait, its prefill and its decode. Pure. */
import type { RequestRecord } from '../request-log.js';

export interface Span {
  name: string;
  /** Answers somebody outside of this process. */
  server: boolean;
  /** Milliseconds since the epoch. */
  started: number;
  ended: number;
  /** GenAI semantic conventions of OpenTelemetry; what they have no name for is called `longmind.…`. */
  attributes: Record<string, string | number | boolean | string[]>;
  error: string | null;
  children: Span[];
}

type Choice = NonNullable<RequestRecord['choices'][number]>;

/** Fields of a body → attributes. */
const ASKED: Record<string, string> = {
  temperature: 'gen_ai.request.temperature',
  top_p: 'gen_ai.request.top_p',
  top_k: 'gen_ai.request.top_k',
  max_tokens: 'gen_ai.request.max_tokens',
  max_completion_tokens: 'gen_ai.request.max_tokens',
  seed: 'gen_ai.request.seed',
  n: 'gen_ai.request.choice.count',
};

/** `responseModel`: what answered, whatever it was called in the request. The record's request has ended. */
export function requestSpan(r: Readonly<RequestRecord>, responseModel: string): Span {
  const ended = r.ended ?? r.started;
  const done = r.choices.filter((c) => c !== null);
  const sum = (of: (c: Choice) => number): number => done.reduce((n, c) => n + of(c), 0);
  return {
    name: `${r.operation} ${r.model}`,
    server: true,
    started: r.started,
    ended,
    attributes: {
      'gen_ai.operation.name': r.operation,
      'gen_ai.provider.name': 'longmind',
      'gen_ai.request.model': r.model,
      'gen_ai.response.model': responseModel,
      'gen_ai.response.id': r.id,
      ...(r.sessionId === null ? {} : { 'gen_ai.conversation.id': r.sessionId }),
      ...Object.fromEntries(Object.entries(r.asked).map(([field, value]) => [ASKED[field]!, value])),
      ...(done.length > 0
        ? {
            'gen_ai.response.finish_reasons': done.map((c) => c.finishReason),
            'gen_ai.usage.input_tokens': sum((c) => c.usage.promptTokens),
            'gen_ai.usage.output_tokens': sum((c) => c.usage.completionTokens),
            'gen_ai.usage.cache_read.input_tokens': sum((c) => c.usage.cachedTokens),
          }
        : {}),
      'http.route': r.route,
      'longmind.stream': r.stream,
      ...(r.error === null ? {} : { 'error.type': r.error }),
    },
    error: r.error,
    children: r.choices.flatMap((c, index) => (c ? choiceSpans(c, index, r) : [])),
  };
}

function choiceSpans(c: Choice, index: number, { started, ended }: Readonly<RequestRecord>): Span[] {
  const { timings: t, usage: u, kv } = c;
  const last = Math.min(started + t.total, ended ?? Number.POSITIVE_INFINITY);
  const at = (ms: number): number => Math.min(started + ms, last);
  const span = (name: string, from: number, to: number, attributes: Span['attributes']): Span => ({
    name,
    server: false,
    started: from,
    ended: Math.max(from, to),
    attributes: { 'longmind.choice.index': index, ...attributes },
    error: null,
    children: [],
  });
  const queue = span('queue', started, at(t.queue), {});
  // it ended before it was let in
  if (u.promptTokens === 0) return [queue];
  const firstToken = u.completionTokens > 0 ? at(t.ttft) : last;
  const prefill = span('prefill', at(t.queue), firstToken, {
    'longmind.tokens.prompt': u.promptTokens,
    'longmind.tokens.cached': u.cachedTokens,
    'longmind.tokens.restored': kv.restoredTokens,
    'longmind.tokens.recomputed': kv.recomputedTokens,
    'longmind.tokens.computed': u.promptTokens - u.cachedTokens,
  });
  if (u.completionTokens === 0) return [queue, prefill];
  const decode = span('decode', firstToken, last, {
    'longmind.tokens.generated': u.completionTokens,
    'longmind.tokens.draft_accepted': u.acceptedDraftTokens,
  });
  return [queue, prefill, decode];
}
