/** /v1/responses: answers that are kept, and gone on from by their ids. */
import { randomUUID } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { type ChatRequest, errors, LongmindError } from '../../index.js';
import { type ChatBody, decoder, prepareChat } from '../chat.js';
import type { ServerContext } from '../context.js';
import type { Conversation, Entry } from '../conversations/conversation.js';
import type { AddEntries } from '../conversations/conversations.js';
import { serverErrors } from '../errors.js';
import type { Finished } from '../format.js';
import { serveJob } from '../generate.js';
import { answers } from '../responses.js';
import { itemsQuery, responseParams, responsesBody, sharedFields } from '../responses-api/fields.js';
import { responseShell, responsesFormat, statusOf } from '../responses-api/format.js';
import { readInput } from '../responses-api/input.js';
import {
  checkInput,
  type InputItem,
  type Item,
  itemIds,
  itemMessages,
  outputJson,
  saidItems,
  withSystem,
} from '../responses-api/items.js';
import { KeptResponses } from '../responses-api/kept.js';
import { type Head, readHead, writeHead, writeNote } from '../responses-api/note.js';
import { type PageQuery, page } from '../responses-api/page.js';
import type { ApiTool } from '../tools.js';

/** As the schema lets it through. */
interface ResponsesBody {
  model?: string | null;
  input?: string | InputItem[] | null;
  instructions?: string | null;
  previous_response_id?: string | null;
  conversation?: string | { id: string } | null;
  store?: boolean | null;
  stream?: boolean | null;
  text?: { format?: { type: 'text' | 'json_object' | 'json_schema'; schema?: object } | null } | null;
  tools?: (ApiTool['function'] & { type: 'function' })[] | null;
  tool_choice?: 'none' | 'auto' | 'required' | { type: 'function'; name: string } | null;
  parallel_tool_calls?: boolean | null;
  max_output_tokens?: number | null;
  include?: string[] | null;
  reasoning?: { effort?: string | null } | null;
  top_logprobs?: number | null;
  [field: string]: unknown;
}

/** The names of its fields, for messages of errors. */
const FIELD_NAMES = {
  response_format: 'text.format',
  max_completion_tokens: 'max_output_tokens',
  reasoning_effort: 'reasoning.effort',
};

/** Shown again with the response. */
const SHOWN = [
  ...['max_output_tokens', 'max_tool_calls', 'parallel_tool_calls', 'prompt_cache_key', 'reasoning', 'text', 'user'],
  ...['safety_identifier', 'temperature', 'top_p', 'tool_choice', 'top_logprobs', 'metadata'],
];

export function responsesRoutes(app: FastifyInstance, ctx: ServerContext): void {
  const kept = new KeptResponses(ctx);
  const tags = ['responses'];
  const create = {
    tags,
    summary: 'Answer, and keep the answer to go on from',
    body: responsesBody,
    response: answers('Response', { stream: true }),
  };
  app.post<{ Body: ResponsesBody }>('/v1/responses', { schema: create }, async (request, reply) => {
    const { body, owner } = request;
    const answer = async (circumstances: Circumstances, add?: AddEntries, lost?: AbortSignal) => {
      const { chat, tools, shell, entries } = await prepare(ctx, kept, body, owner, circumstances);
      const id = shell.id as string;
      const ids = itemIds(id);
      const format = responsesFormat(shell, ids, decoder(ctx));
      const job = {
        id,
        stream: body.stream === true,
        tools,
        model: shell.model as string,
        n: 1,
        starts: [() => ctx.engine.chat(chat)],
        format: () => format,
        keep: ([said]: Finished[]) => {
          lost?.throwIfAborted();
          // an answer that nobody waited for was not given
          if (said!.reason === 'abort') return;
          return add?.(entries(said!), shell.store && said!.kept !== false ? id : undefined);
        },
        signal: lost,
        callId: ids.callId,
      };
      return serveJob(ctx, job, request, reply);
    };
    const named = conversationOf(body);
    if (named === null) return answer({}).catch(forgotten(body.previous_response_id));
    return ctx.conversations.during(named, owner, (conversation, add, lost) =>
      answer({ conversation }, add, lost).catch((e) => {
        if (!isForgotten(e)) throw e;
        // its items are here
        return answer({ conversation, whole: true }, add, lost);
      }),
    );
  });

  const count = {
    tags,
    summary: 'Tokens that a request would have',
    body: responsesBody,
    response: answers('InputTokens'),
  };
  app.post<{ Body: ResponsesBody }>('/v1/responses/input_tokens', { schema: count }, async (request) => {
    const { body, owner } = request;
    const id = conversationOf(body);
    const conversation = id === null ? undefined : await ctx.conversations.get(id, owner, 'conversation');
    const unkept = { ...body, store: false };
    const { chat } = await prepare(ctx, kept, unkept, owner, { conversation, whole: true });
    const tokens = await ctx.engine.encodeChat(chat);
    return { object: 'response.input_tokens', input_tokens: tokens.length };
  });

  type ById = { Params: { id: string } };
  const schema = (summary: string, answer: string) => ({
    schema: { tags, summary, params: responseParams, response: answers(answer) },
  });
  app.get<ById>('/v1/responses/:id', schema('A response that is kept', 'Response'), async (request) =>
    kept.get(request.params.id, request.owner),
  );
  app.delete<ById>('/v1/responses/:id', schema('Forget a response', 'ResponseDeleted'), async (request) => {
    const { id } = request.params;
    await kept.delete(id, request.owner);
    return { id, object: 'response', deleted: true };
  });

  const list = { ...schema('What a response was made from', 'ItemList').schema, querystring: itemsQuery };
  app.get<ById & { Querystring: PageQuery }>(
    '/v1/responses/:id/input_items',
    { schema: list },
    async ({ params, owner, query }) => page(await kept.inputItems(params.id, owner), query),
  );
}

/** What is gone on from was forgotten after it was looked for. */
const isForgotten = (e: unknown): boolean => e instanceof LongmindError && e.code === 'checkpoint_not_found';

const forgotten = (previous: string | null | undefined) => (e: unknown) => {
  throw isForgotten(e) && previous ? serverErrors.responseUnknown(previous, 'previous_response_id') : e;
};

/** @throws LongmindError 400 if another past is named too */
function conversationOf({ conversation, previous_response_id: previous }: ResponsesBody): string | null {
  if (conversation === undefined || conversation === null) return null;
  if (previous !== undefined && previous !== null)
    throw errors.invalidRequest("'conversation' and 'previous_response_id' are two pasts: give one", 'conversation');
  return typeof conversation === 'string' ? conversation : conversation.id;
}

/** What was said before a request. */
interface Past {
  /** A kept response that ends with it, but for `pending`; null: there is none. */
  after: { id: string; head: string } | null;
  pending: Item[];
  all: () => Promise<Item[]>;
}

async function pastOf(
  kept: KeptResponses,
  previous: string | undefined,
  conversation: Readonly<Conversation> | undefined,
  owner: number,
): Promise<Past> {
  if (conversation) {
    const { entries, base, covered } = conversation;
    // a response may have been deleted, or forgotten: its items are here
    const head = base && (await kept.headOrNull(base, owner));
    const items = entries.map((e) => e.item);
    const after = base && head ? { id: base, head } : null;
    return { after, pending: items.slice(after ? covered : 0), all: async () => items };
  }
  if (previous === undefined) return { after: null, pending: [], all: async () => [] };
  const param = 'previous_response_id';
  const head = await kept.head(previous, owner, param);
  return { after: { id: previous, head }, pending: [], all: () => kept.history(previous, owner, param) };
}

interface Circumstances {
  conversation?: Readonly<Conversation>;
  /** With all that came before, even where the engine has it. */
  whole?: boolean;
}

/** From a body to a request of the engine. `entries`: what a conversation has more when it is answered. */
async function prepare(
  ctx: ServerContext,
  kept: KeptResponses,
  body: ResponsesBody,
  owner: number,
  { conversation, whole = false }: Circumstances,
) {
  const { previous_response_id: given, instructions = null, store } = body;
  const model = ctx.models.resolve(body.model);
  const previous = given ?? undefined;
  if (!conversation && (body.input ?? null) === null) throw errors.invalidRequest("field 'input' is missing", 'input');
  const news = await readInput(kept, body.input ?? [], owner, { named: conversation?.entries });
  const tools = body.tools ?? [];
  const head: Head = {
    instructions,
    tools: tools.map(toolJson),
    told: tools.length > 0 && body.tool_choice !== 'none',
    adapter: null,
  };
  const past = await pastOf(kept, previous, conversation, owner);
  checkInput([...past.pending, ...news]);
  const asked = ctx.models.adapterOf(body.model);
  head.adapter = asked === undefined && past.after ? readHead(past.after.head).adapter : (asked ?? null);
  // what stands at the beginning is another: all is said anew
  const goesOn = !whole && past.after?.head === writeHead(head);
  const items = [...(goesOn ? past.pending : await past.all()), ...news];
  const messages = goesOn ? itemMessages(items) : withSystem(instructions, itemMessages(items));
  const { chat, tools: told } = await prepareChat(ctx, { ...chatFields(body), messages }, owner, {
    goesOn,
    names: FIELD_NAMES,
  });
  const id = `resp_${randomUUID().replaceAll('-', '')}`;
  const shown = SHOWN.filter((f) => body[f] !== undefined && body[f] !== null);
  const note = {
    id,
    created: Math.floor(Date.now() / 1000),
    model,
    ...(previous === undefined ? {} : { previous }),
    ...(conversation ? { conversation: conversation.id } : {}),
    given: Object.fromEntries(shown.map((f) => [f, body[f]])),
  };
  const shell = responseShell(note, head, store !== false);
  const more: Partial<ChatRequest> = goesOn ? { after: past.after!.id } : {};
  if (head.adapter !== null) more.adapter = head.adapter;
  if (store !== false) {
    const text = (tokens: Int32Array) => writeNote({ ...note, items }, ctx.engine.decode(tokens, { special: true }));
    more.keepAs = { name: id, note: text, head: writeHead(head) };
  }
  const entries = (said: Finished) => [...newEntries(news, id, items.length - news.length), ...saidEntries(said, id)];
  return { chat: { ...chat, ...more }, tools: told, shell, entries };
}

/** Under the ids that they have among the response's input items, where the first is the one at `from`. */
function newEntries(news: readonly Item[], id: string, from: number): Entry[] {
  const ids = itemIds(id);
  return news.map((item, i) => ({ id: ids.input(item.kind, from + i), item }));
}

function saidEntries({ text, reasoning, calls, reason }: Finished, id: string): Entry[] {
  const said = { text, reasoning, calls: calls ?? [] };
  const json = outputJson(said, itemIds(id), statusOf(reason));
  return saidItems(said).map((item, i) => ({
    ...{ id: json[i]!.id, item },
    ...(json[i]!.status === 'incomplete' ? { incomplete: true as const } : {}),
  }));
}

const toolJson = ({ name, description, parameters, strict }: NonNullable<ResponsesBody['tools']>[number]) => ({
  type: 'function',
  name,
  description: description ?? null,
  parameters: parameters ?? null,
  strict: strict ?? false,
});

/** The same in the fields of /v1/chat/completions. */
function chatFields(body: ResponsesBody): Omit<ChatBody, 'messages'> {
  const { text, tools, tool_choice: choice, parallel_tool_calls, max_output_tokens, include, top_logprobs } = body;
  const shared = Object.fromEntries(sharedFields.filter((f) => f in body).map((f) => [f, body[f]]));
  const format = text?.format;
  const logprobs = include?.includes('message.output_text.logprobs') ?? false;
  return {
    ...shared,
    max_completion_tokens: max_output_tokens,
    tools: tools?.map(({ type, ...f }) => ({ type, function: f })),
    tool_choice: typeof choice === 'object' && choice ? { type: 'function', function: { name: choice.name } } : choice,
    parallel_tool_calls,
    reasoning_effort: body.reasoning?.effort,
    response_format: format && { type: format.type, json_schema: { schema: format.schema } },
    logprobs,
    top_logprobs: logprobs ? top_logprobs : null,
  };
}
