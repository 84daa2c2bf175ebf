/** GET /v1/requests: what the caller asked for of late, with times and where KV came from. */
import type { FastifyInstance } from 'fastify';
import type { ServerContext } from '../context.js';
import type { RequestRecord } from '../request-log.js';
import { answers } from '../responses.js';

export function requestRoutes(app: FastifyInstance, ctx: ServerContext): void {
  app.get(
    '/v1/requests',
    {
      schema: {
        tags: ['operations'],
        summary: "The caller's last requests: times, and where the KV of their prompts came from",
        response: answers('RequestList'),
      },
    },
    async (request) => ({ object: 'list', data: ctx.requests.list(request.owner).map(requestJson) }),
  );
}

const rounded = (n: number): number => Math.round(n * 1000) / 1000;

function requestJson(r: Readonly<RequestRecord>) {
  return {
    id: r.id,
    object: 'request',
    route: r.route,
    model: r.model,
    session_id: r.sessionId,
    stream: r.stream,
    state: r.ended === null ? 'running' : r.error === null ? 'finished' : 'failed',
    created: Math.floor(r.started / 1000),
    duration_ms: rounded((r.ended ?? performance.timeOrigin + performance.now()) - r.started),
    error: r.error,
    choices: r.choices.flatMap((c, index) => (c ? [{ index, ...choiceJson(c) }] : [])),
  };
}

function choiceJson({ finishReason, usage, kv, timings }: NonNullable<RequestRecord['choices'][number]>) {
  return {
    finish_reason: finishReason,
    queue_ms: rounded(timings.queue),
    first_token_ms: rounded(timings.ttft),
    total_ms: rounded(timings.total),
    prompt_tokens: usage.promptTokens,
    cached_tokens: usage.cachedTokens,
    restored_tokens: kv.restoredTokens,
    recomputed_tokens: kv.recomputedTokens,
    completion_tokens: usage.completionTokens,
    accepted_prediction_tokens: usage.acceptedDraftTokens,
  };
}
