/** /v1/models, /tokenize, /detokenize, /health, /ready, /metrics, /v1/snapshot, /openapi.json. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { type EngineStats, errors } from '../../index.js';
import type { ServerContext } from '../context.js';
import { type Schema, tokenId } from '../fields.js';
import { answers } from '../responses.js';

/** An engine that does not answer within this is not ready. A step takes at most about 250 ms. */
const ENGINE_ANSWER_MS = 5_000;
const HEALTH_ANSWER_MS = 250;
const STORE_FAILED =
  'the session store cannot be written at the moment: until it can, new turns of sessions do not outlive this process';

export function infoRoutes(app: FastifyInstance, ctx: ServerContext, openApi: () => Record<string, unknown>): void {
  modelRoutes(app, ctx);
  tokenRoutes(app, ctx);
  const tags = ['operations'];
  let storeFailed = false;

  app.get(
    '/health',
    { config: { open: true }, schema: { tags, summary: 'The process lives', response: answers('Health') } },
    async () => {
      // an engine that does not answer is for /ready to tell; what went wrong in detail is for the log
      const stats = await engineStats(ctx, HEALTH_ANSWER_MS);
      if (stats) storeFailed = stats.sessionStoreFailure !== null;
      return storeFailed ? { status: 'degraded', problems: [STORE_FAILED] } : { status: 'ok' };
    },
  );

  app.get(
    '/ready',
    { config: { open: true }, schema: { tags, summary: 'The engine takes requests', response: answers('Health') } },
    async () => {
      if (ctx.draining) throw errors.engineClosed();
      if (!(await engineStats(ctx))) throw errors.engineFailed('it does not answer');
      return { status: 'ready' };
    },
  );

  const text = { description: 'Prometheus text', content: { 'text/plain': { schema: { type: 'string' } } } };
  app.get(
    '/metrics',
    { schema: { tags, summary: 'Metrics for Prometheus', response: { ...answers('Error'), 200: text } } },
    async (_request, reply) => {
      const stats = await engineStats(ctx);
      reply.type('text/plain; version=0.0.4; charset=utf-8');
      return ctx.metrics.render(ctx.engine.info, stats, ctx.inFlight.generations, ctx.tracing?.counts ?? null);
    },
  );

  app.get(
    '/v1/snapshot',
    { schema: { tags, summary: 'One moment of batch and KV cache, block by block', response: answers('Snapshot') } },
    async (request) => {
      const s = await ctx.engine.snapshot();
      return {
        ...s,
        state: [...s.state],
        sequence: [...s.sequence],
        fill: [...s.fill],
        evictionOrder: [...s.evictionOrder],
        // names belong to their owner; that something is there does not
        sequences: s.sequences.map(({ owner, sessionId, ...rest }) => ({
          ...rest,
          sessionId: owner === request.owner ? sessionId : null,
        })),
      };
    },
  );

  app.get('/openapi.json', { config: { open: true }, schema: { hide: true } }, async () => openApi());
}

async function engineStats(ctx: ServerContext, ms = ENGINE_ANSWER_MS): Promise<EngineStats | null> {
  const enough = new AbortController();
  try {
    return await Promise.race([ctx.engine.stats(), sleep(ms, null, { signal: enough.signal }).catch(() => null)]);
  } catch {
    return null;
  } finally {
    enough.abort();
  }
}

function modelRoutes(app: FastifyInstance, ctx: ServerContext): void {
  const tags = ['models'];
  const { models } = ctx;
  const model = (id: string, parent?: string) => ({
    id,
    object: 'model',
    created: ctx.created,
    owned_by: 'longmind',
    context_length: ctx.engine.info.sessionLen,
    ...(parent !== undefined && { parent }),
  });

  app.get(
    '/v1/models',
    {
      schema: {
        tags,
        summary: 'The served model, by each of its names, alone and with each LoRA adapter',
        response: answers('ModelList'),
      },
    },
    async () => ({
      object: 'list',
      data: [
        ...models.names.map((id) => model(id)),
        ...models.withAdapters().map(({ id, parent }) => model(id, parent)),
      ],
    }),
  );

  // names may hold slashes (hf:org/repo), encoded or not
  const params: Schema = { type: 'object', required: ['*'], properties: { '*': { type: 'string' } } };
  app.get<{ Params: { '*': string } }>(
    '/v1/models/*',
    { schema: { tags, summary: 'One model', params, response: answers('Model') } },
    async (request) => {
      const id = models.resolve(request.params['*']);
      return model(id, models.withAdapters().find((m) => m.id === id)?.parent);
    },
  );
}

function tokenRoutes(app: FastifyInstance, ctx: ServerContext): void {
  const tags = ['tokens'];
  const tokenize = {
    type: 'object',
    required: ['text'],
    properties: {
      text: { type: 'string' },
      special: { type: 'boolean', description: 'spellings of special tokens become those tokens' },
    },
    additionalProperties: false,
  };
  app.post<{ Body: { text: string; special?: boolean } }>(
    '/tokenize',
    { schema: { tags, summary: 'Text to token ids', body: tokenize, response: answers('Tokens') } },
    async (request) => {
      const { text, special = false } = request.body;
      const tokens = await ctx.engine.encode(text, { special });
      return { tokens: [...tokens], count: tokens.length };
    },
  );

  const detokenize = {
    type: 'object',
    required: ['tokens'],
    properties: {
      tokens: { type: 'array', items: tokenId(ctx.engine.info.dims.vocab) },
      special: { type: 'boolean', description: 'spell special tokens out instead of leaving them out' },
    },
    additionalProperties: false,
  };
  app.post<{ Body: { tokens: number[]; special?: boolean } }>(
    '/detokenize',
    { schema: { tags, summary: 'Token ids to text', body: detokenize, response: answers('Text') } },
    async (request) => {
      const { tokens, special = false } = request.body;
      return { text: ctx.engine.decode(tokens, { special }) };
    },
  );
}
