/** POST /v1/chat/completions, POST /v1/completions, POST /abort_request. */
import type { FastifyInstance } from 'fastify';
import type { ChatRequest, RequestOptions } from '../../index.js';
import {
  type ChatBody,
  type CommonBody,
  choices,
  commonOptions,
  decoder,
  formatGrammar,
  newId,
  prepareChat,
} from '../chat.js';
import type { ServerContext } from '../context.js';
import { serverErrors } from '../errors.js';
import { chatBody, completionBody } from '../fields.js';
import { type Answer, chatFormat, completionFormat } from '../format.js';
import { serveJob } from '../generate.js';
import { answers } from '../responses.js';

interface CompletionBody extends CommonBody {
  prompt: string | number[] | string[] | number[][];
  logprobs?: number | null;
}

export function generationRoutes(app: FastifyInstance, ctx: ServerContext): void {
  const chat = {
    tags: ['generation'],
    summary: 'Answer a conversation',
    body: chatBody,
    response: answers('ChatCompletion', { stream: true }),
  };
  app.post<{ Body: ChatBody }>('/v1/chat/completions', { schema: chat }, async (request, reply) => {
    const { body, owner } = request;
    const model = ctx.models.resolve(body.model);
    const { chat, tools } = await prepareChat(ctx, body, owner);
    const { stream, includeUsage } = streaming(body);
    const job = {
      id: newId('chatcmpl-'),
      model,
      stream,
      tools,
      ...choices(body, chat, [(o: ChatRequest) => ctx.engine.chat(o)]),
      format: (answer: Answer) => chatFormat(answer, decoder(ctx), includeUsage, tools !== null),
    };
    return serveJob(ctx, job, request, reply);
  });

  const completion = {
    tags: ['generation'],
    summary: 'Continue a text',
    body: completionBody(ctx.engine.info.dims.vocab),
    response: answers('Completion', { stream: true }),
  };
  app.post<{ Body: CompletionBody }>('/v1/completions', { schema: completion }, async (request, reply) => {
    const { body } = request;
    const model = ctx.models.resolve(body.model);
    // OpenAI's default for this endpoint, which its clients count on
    const maxTokens = body.max_tokens ?? 16;
    const options: RequestOptions = {
      ...commonOptions(ctx, body, request.owner),
      maxTokens,
      logprobs: body.logprobs ?? null,
    };
    const prompts = promptsOf(body);
    const grammar = await formatGrammar(ctx, body);
    if (grammar) options.grammar = grammar;
    const { stream, includeUsage } = streaming(body);
    const job = {
      id: newId('cmpl-'),
      model,
      stream,
      tools: null,
      ...choices(
        body,
        options,
        prompts.map((prompt) => (o: RequestOptions) => ctx.engine.complete({ prompt, ...o })),
      ),
      format: (answer: Answer) => completionFormat(answer, decoder(ctx), includeUsage),
    };
    return serveJob(ctx, job, request, reply);
  });

  const abort = {
    tags: ['generation'],
    summary: 'End a running request; what it has so far is its answer, with finish_reason "abort"',
    body: {
      type: 'object',
      required: ['id'],
      properties: { id: { type: 'string', minLength: 1, maxLength: 256, description: 'the id of its chunks' } },
      additionalProperties: false,
    },
    response: answers('Aborted'),
  };
  app.post<{ Body: { id: string } }>('/abort_request', { schema: abort }, async (request) => {
    const { id } = request.body;
    if (!ctx.inFlight.abort(id, request.owner)) throw serverErrors.requestUnknown(id);
    return { id, aborted: true };
  });
}

function streaming(body: CommonBody): { stream: boolean; includeUsage: boolean } {
  const stream = body.stream === true;
  return { stream, includeUsage: body.stream_options?.include_usage === true };
}

function promptsOf({ prompt }: CompletionBody): (string | number[])[] {
  const one = typeof prompt === 'string' || typeof prompt[0] === 'number';
  return (one ? [prompt] : prompt) as (string | number[])[];
}
