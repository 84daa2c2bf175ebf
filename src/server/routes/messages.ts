/** Anthropic's Messages API: /v1/messages, /v1/messages/count_tokens. */
import { randomBytes } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { countTokensBody, messagesBody } from '../anthropic/fields.js';
import { messagesFormat } from '../anthropic/format.js';
import { anthropicError, chatBodyOf, FIELD_NAMES, type MessagesBody } from '../anthropic/translate.js';
import { newId, prepareChat } from '../chat.js';
import type { ServerContext } from '../context.js';
import type { Answer } from '../format.js';
import { serveJob } from '../generate.js';
import { answers } from '../responses.js';

const callId = (): string => `toolu_${randomBytes(12).toString('hex')}`;

export function messagesRoutes(app: FastifyInstance, ctx: ServerContext): void {
  const tags = ['messages'];
  const config = { errorForm: anthropicError };
  const prepare = (body: MessagesBody, owner: number) =>
    prepareChat(ctx, chatBodyOf(body), owner, { names: FIELD_NAMES });

  const create = {
    tags,
    summary: "Answer a conversation (Anthropic's API)",
    body: messagesBody,
    response: answers('Message', { stream: true, error: 'AnthropicError' }),
  };
  app.post<{ Body: MessagesBody }>('/v1/messages', { config, schema: create }, async (request, reply) => {
    const { body, owner } = request;
    const model = ctx.models.resolve(body.model);
    const { chat, tools } = await prepare(body, owner);
    const job = {
      id: newId('msg_'),
      stream: body.stream === true,
      tools,
      model,
      n: 1,
      starts: [() => ctx.engine.chat(chat)],
      format: (answer: Answer) => messagesFormat(answer),
      callId,
    };
    return serveJob(ctx, job, request, reply);
  });

  const count = {
    tags,
    summary: 'Tokens that a conversation would have',
    body: countTokensBody,
    response: answers('MessageTokens', { error: 'AnthropicError' }),
  };
  app.post<{ Body: MessagesBody }>('/v1/messages/count_tokens', { config, schema: count }, async (request) => {
    ctx.models.resolve(request.body.model);
    const { chat } = await prepare(request.body, request.owner);
    return { input_tokens: (await ctx.engine.encodeChat(chat)).length };
  });
}
