/** What the APIs have in common: from a body of /v1/chat/completions, or one translated into it, to a request of the engine. */
import { randomUUID } from 'node:crypto';
import {
  type ChatRequest,
  checkPriority,
  checkSessionId,
  errors,
  type Generation,
  LongmindError,
  type RequestOptions,
  type ToolSpec,
} from '../index.js';
import type { ServerContext } from './context.js';
import { optionFields, optionOf } from './fields.js';
import type { GrammarReasoning } from './grammar-source.js';
import { type ApiMessage, chatMessages } from './messages.js';
import { checkConstrained, formatSource, type ResponseFormat } from './structured.js';
import { grammarReasoning, type ThinkingFields, thinkingValues } from './thinking.js';
import { planTools, type ToolFields, type ToolPlan, withToolPrompt } from './tools.js';

/** Bodies as the schemas of fields.ts let them through. */
export interface CommonBody {
  model?: string | null;
  stream?: boolean | null;
  stream_options?: { include_usage?: boolean | null } | null;
  max_tokens?: number | null;
  session_id?: string | null;
  session_append?: boolean | null;
  session_length?: number | null;
  priority?: number | null;
  n?: number | null;
  response_format?: ResponseFormat | null;
  [field: string]: unknown;
}

export interface ChatBody extends CommonBody, ToolFields, ThinkingFields {
  messages: ApiMessage[];
  max_completion_tokens?: number | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
}

/** 'chatcmpl-' → 'chatcmpl-…'. */
export const newId = (prefix: string): string => `${prefix}${randomUUID()}`;

export const decoder =
  (ctx: ServerContext) =>
  (ids: ArrayLike<number>, options?: { special?: boolean }): string =>
    ctx.engine.decode(ids, options);

/** `n` generations for each prompt; a given seed gives each its own. All but the first are forks: a prompt is computed once. */
export function choices<O extends RequestOptions>(
  body: Pick<CommonBody, 'n' | 'session_id'>,
  options: O,
  prompts: ((o: O) => Generation)[],
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

/** The adapter that a model's name asks for. Where none is loaded there is nothing to say. */
export function adapterOption(
  { models }: ServerContext,
  model: string | null | undefined,
): { adapter?: string | null } {
  const adapter = models.adapters.length > 0 ? models.adapterOf(model) : undefined;
  return adapter === undefined ? {} : { adapter };
}

export function commonOptions(ctx: ServerContext, body: CommonBody, owner: number): RequestOptions {
  const options: Record<string, unknown> = { owner, ...adapterOption(ctx, body.model) };
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
  if (typeof body.session_length === 'number') options.sessionLength = body.session_length;
  if (typeof body.priority === 'number') options.priority = checkPriority(body.priority, ctx.maxPriority);
  return options;
}

export function chatLimits(body: Limits): RequestOptions {
  const { max_tokens: old, max_completion_tokens: given, logprobs, top_logprobs: top } = body;
  if (typeof old === 'number' && typeof given === 'number' && old !== given)
    throw errors.invalidRequest(
      `max_tokens (${old}) and max_completion_tokens (${given}) say different things: give one`,
      'max_completion_tokens',
    );
  return { maxTokens: given ?? old ?? null, logprobs: logprobs ? (top ?? 0) : null };
}

/** `reasoning`: of a chat, whose answer may be thought of first. */
export async function formatGrammar(
  ctx: ServerContext,
  body: CommonBody,
  reasoning: GrammarReasoning = null,
): Promise<object | null> {
  const source = formatSource(body.response_format, reasoning);
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

type Limits = Pick<ChatBody, 'max_tokens' | 'max_completion_tokens' | 'logprobs' | 'top_logprobs'>;

interface Translated {
  /** The messages follow what the engine has already, tools included. */
  goesOn?: boolean;
  /** Fields of this body → what the caller calls them, for messages of errors. */
  names?: Readonly<Record<string, string>>;
}

/** What is made of a body. `tools`: what the answer may call; null: nothing. */
interface Prepared {
  chat: ChatRequest;
  tools: readonly ToolSpec[] | null;
}

/**
 * A conversation as the engine takes it. Every API of chats is translated into this body.
 * @throws LongmindError 400 that names the field
 */
export async function prepareChat(
  ctx: ServerContext,
  body: ChatBody,
  owner: number,
  { goesOn = false, names = {} }: Translated = {},
): Promise<Prepared> {
  try {
    return await prepare(ctx, body, owner, goesOn);
  } catch (e) {
    throw e instanceof LongmindError ? renamed(e, names) : e;
  }
}

function renamed(
  { code, status, message, param, retryAfterMs }: LongmindError,
  names: Readonly<Record<string, string>>,
) {
  const name = (field: string) => names[field] ?? field;
  const said = message.replace(/'(\w+)'/g, (_, field: string) => `'${name(field)}'`);
  return new LongmindError(code, status, said, param && name(param), retryAfterMs);
}

async function prepare(ctx: ServerContext, body: ChatBody, owner: number, goesOn: boolean): Promise<Prepared> {
  const { toolStyle: style } = ctx;
  const template = ctx.engine.info.reasoning ?? null;
  const reasoning = grammarReasoning(template);
  const options = { ...commonOptions(ctx, body, owner), ...chatLimits(body) };
  const values = thinkingValues(body, template);
  const plan = planTools(body, style, reasoning);
  const grammar = plan ? await toolGrammar(ctx, body, plan) : await formatGrammar(ctx, body, reasoning);
  const messages = chatMessages(body.messages, style);
  const chat: ChatRequest = {
    ...{ messages, ...options },
    ...(values ? { chatTemplateKwargs: values } : {}),
    ...(grammar ? { grammar } : {}),
  };
  if (!plan) return { chat, tools: null };
  const { tools } = plan.source;
  if (style.describes ?? style.known) return { chat: { ...chat, tools: plan.described }, tools };
  const told = goesOn || (await continues(ctx, body, owner));
  return { chat: told ? chat : { ...chat, messages: withToolPrompt(messages, plan, style) }, tools };
}

/** What continues a conversation says nothing new of the tools. */
async function continues({ engine }: ServerContext, body: ChatBody, owner: number): Promise<boolean> {
  const { session_append: append, session_length: length, session_id: id } = body;
  return Boolean(append && length !== 0 && id && (await engine.sessions.get(id, owner).catch(() => null)));
}
