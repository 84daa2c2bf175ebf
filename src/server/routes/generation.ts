/** POST /v1/chat/completions, POST /v1/completions, POST /abort_request. */
import type { FastifyInstance } from 'fastify';
import {
  type ChatMessage,
  type ChatRequest,
  checkPriority,
  checkSessionId,
  errors,
  type Generation,
  type RequestOptions,
} from '../../index.js';
import type { ServerContext } from '../context.js';
import { serverErrors } from '../errors.js';
import { chatBody, completionBody, optionFields, optionOf } from '../fields.js';
import { chatFormat, completionFormat } from '../format.js';
import { serveJob } from '../generate.js';
import { type ApiMessage, chatMessages } from '../messages.js';
import { answers } from '../responses.js';
import { checkConstrained, formatSource, type ResponseFormat } from '../structured.js';
import { planTools, type ToolFields, type ToolPlan, withToolPrompt } from '../tools.js';

/** Bodies as the schemas of fields.ts let them through. */
interface CommonBody {
  model?: string | null;
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean | null } | null;
  max_tokens?: number | null;
  session_id?: string | null;
  session_append?: boolean | null;
  priority?: number | null;
  n?: number | null;
  response_format?: ResponseFormat | null;
  [field: string]: unknown;
}

interface ChatBody extends CommonBody, ToolFields {
  messages: ApiMessage[];
  max_completion_tokens?: number | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
}

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
    const options = { ...commonOptions(ctx, body, owner), ...chatLimits(body) };
    const plan = planTools(body, ctx.toolStyle);
    const grammar = plan ? await toolGrammar(ctx, body, plan) : await formatGrammar(ctx, body);
    const { messages, tools } = await conversation(ctx, body, plan, owner);
    const more = { messages, ...(tools ? { tools } : {}), ...(grammar ? { grammar } : {}) };
    const job = {
      prefix: 'chatcmpl',
      model,
      ...streaming(body),
      tools: plan !== null,
      ...choices(body, options, [(o: RequestOptions) => ctx.engine.chat({ ...more, ...o })]),
      format: (answer: Parameters<typeof chatFormat>[0]) =>
        chatFormat(answer, decoder(ctx), streaming(body).includeUsage, plan !== null),
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
    const job = {
      prefix: 'cmpl',
      model,
      ...streaming(body),
      tools: false,
      ...choices(
        body,
        options,
        prompts.map((prompt) => (o: RequestOptions) => ctx.engine.complete({ prompt, ...o })),
      ),
      format: (answer: Parameters<typeof completionFormat>[0]) =>
        completionFormat(answer, decoder(ctx), streaming(body).includeUsage),
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

const decoder =
  (ctx: ServerContext) =>
  (ids: ArrayLike<number>, options?: { special?: boolean }): string =>
    ctx.engine.decode(ids, options);

function streaming(body: CommonBody): { stream: boolean; includeUsage: boolean } {
  const stream = body.stream === true;
  return { stream, includeUsage: body.stream_options?.include_usage === true };
}

/** `n` generations for each prompt; a given seed gives each its own. All but the first are forks: a prompt is computed once. */
function choices(
  body: CommonBody,
  options: RequestOptions,
  prompts: ((o: RequestOptions) => Generation)[],
): { n: number; starts: (() => Generation)[] } {
  const n = body.n ?? 1;
  if (n * prompts.length > 1 && body.session_id)
    throw errors.invalidRequest('several choices cannot be one session', 'session_id');
  const { seed } = options;
  const own = (i: number) => (typeof seed === 'number' ? { seed: (seed + i) % Number.MAX_SAFE_INTEGER } : {});
  const starts = prompts.flatMap((start) => {
    let first: Generation;
    const begin = () => {
      first = start(options);
      return first;
    };
    return [begin, ...Array.from({ length: n - 1 }, (_, i) => () => first.fork(own(i + 1)))];
  });
  return { n, starts };
}

function commonOptions(ctx: ServerContext, body: CommonBody, owner: number): RequestOptions {
  const options: Record<string, unknown> = { owner };
  for (const [field, option] of Object.entries(optionFields)) {
    const raw = body[field];
    if (raw === undefined || raw === null) continue;
    const spec = optionOf(option);
    const value = spec.parse(raw);
    if (value === undefined) throw errors.invalidOption(field, raw, spec.expected);
    options[option] = value;
  }
  if (body.session_id) options.sessionId = checkSessionId(body.session_id);
  if (body.session_append) options.sessionAppend = true;
  if (typeof body.priority === 'number') options.priority = checkPriority(body.priority, ctx.maxPriority);
  return options;
}

function chatLimits(body: ChatBody): RequestOptions {
  const { max_tokens: old, max_completion_tokens: given, logprobs, top_logprobs: top } = body;
  if (typeof old === 'number' && typeof given === 'number' && old !== given)
    throw errors.invalidRequest(
      `max_tokens (${old}) and max_completion_tokens (${given}) say different things: give one`,
      'max_completion_tokens',
    );
  return { maxTokens: given ?? old ?? null, logprobs: logprobs ? (top ?? 0) : null };
}

async function formatGrammar(ctx: ServerContext, body: CommonBody): Promise<object | null> {
  const source = formatSource(body.response_format);
  if (!source) return null;
  checkConstrained(body, 'response_format');
  return ctx.grammars.get(source);
}

async function toolGrammar(ctx: ServerContext, body: ChatBody, plan: ToolPlan): Promise<object> {
  checkConstrained(body, 'tools');
  // of a message that is calls only, the response format says nothing
  if (plan.source.choice === 'auto' && formatSource(body.response_format))
    throw errors.invalidRequest(
      "'response_format' cannot be used together with tools unless tool_choice is 'none', 'required' or a function",
      'response_format',
    );
  return ctx.grammars.get(plan.source);
}

/** The messages as the chat template takes them, and the tools if it knows what to do with them. */
async function conversation(
  ctx: ServerContext,
  body: ChatBody,
  plan: ToolPlan | null,
  owner: number,
): Promise<Pick<ChatRequest, 'messages' | 'tools'>> {
  const { engine, toolStyle } = ctx;
  const messages: ChatMessage[] = chatMessages(body.messages, toolStyle);
  if (!plan) return { messages };
  if (toolStyle.known) return { messages, tools: plan.described };
  // what continues a conversation says nothing new of the tools
  const { session_append: append, session_id: id } = body;
  const goesOn = append && id && (await engine.sessions.get(id, owner).catch(() => null));
  return { messages: goesOn ? messages : withToolPrompt(messages, plan, toolStyle) };
}

function promptsOf({ prompt }: CompletionBody): (string | number[])[] {
  const one = typeof prompt === 'string' || typeof prompt[0] === 'number';
  return (one ? [prompt] : prompt) as (string | number[])[];
}
