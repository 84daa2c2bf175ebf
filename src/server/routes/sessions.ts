/** /v1/sessions: conversations that are kept, each visible to the key that made it alone. */
import { randomUUID } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { checkSessionId } from '../../index.js';
import type { ServerContext } from '../context.js';
import type { Schema } from '../fields.js';
import { answers } from '../responses.js';
import { SessionNames } from '../session-names.js';

const id: Schema = { type: 'string', minLength: 1, maxLength: 256 };
const params: Schema = { type: 'object', required: ['id'], properties: { id } };
const length: Schema = { type: 'integer', minimum: 0, maximum: 2 ** 31 - 1, description: 'tokens to keep' };

export function sessionRoutes(app: FastifyInstance, ctx: ServerContext): void {
  const sessions = new SessionNames(ctx);
  const schema = (summary: string, answer: string, more: Record<string, Schema> = {}) => ({
    schema: { tags: ['sessions'], summary, ...more, response: answers(answer) },
  });
  type ById = { Params: { id: string } };

  app.get('/v1/sessions', schema('The sessions of the caller', 'SessionList'), async (request) => {
    return { object: 'list', data: await sessions.list(request.owner) };
  });

  const createBody: Schema = {
    type: 'object',
    properties: { id: { anyOf: [{ ...id, description: 'its name; made up if none is given' }, { type: 'null' }] } },
    additionalProperties: false,
  };
  app.post<{ Body: { id?: string | null } }>(
    '/v1/sessions',
    schema('Name a session, to be filled by requests; one that is there already stays as it is', 'Session', {
      body: createBody,
    }),
    async (request) => sessions.create(request.body.id ?? `sess-${randomUUID()}`, request.owner),
  );

  app.get<ById>('/v1/sessions/:id', schema('One session', 'Session', { params }), async (request) =>
    sessions.get(request.params.id, request.owner),
  );

  app.get<ById>('/v1/sessions/:id/tokens', schema('Its token ids', 'Tokens', { params }), async (request) => {
    const tokens = await sessions.tokens(request.params.id, request.owner);
    return { tokens: [...tokens], count: tokens.length };
  });

  app.delete<ById>('/v1/sessions/:id', schema('Forget a session', 'Deleted', { params }), async (request) => {
    await sessions.delete(request.params.id, request.owner);
    return { id: request.params.id, object: 'session', deleted: true };
  });

  const forkBody: Schema = {
    type: 'object',
    required: ['id'],
    properties: { id: { ...id, description: 'name of the copy' }, length },
    additionalProperties: false,
  };
  app.post<ById & { Body: { id: string; length?: number } }>(
    '/v1/sessions/:id/fork',
    schema('A second session with the same beginning; their KV is shared', 'Session', { params, body: forkBody }),
    async (request) => {
      const { id: newId, length } = request.body;
      return sessions.fork(request.params.id, checkSessionId(newId, 'id'), length, request.owner);
    },
  );

  const truncateBody: Schema = {
    type: 'object',
    required: ['length'],
    properties: { length },
    additionalProperties: false,
  };
  app.post<ById & { Body: { length: number } }>(
    '/v1/sessions/:id/truncate',
    schema('Rewind a session', 'Session', { params, body: truncateBody }),
    async (request) => sessions.truncate(request.params.id, request.body.length, request.owner),
  );
}
