/** /v1/responses: answers that are kept, and gone on from by their ids. */
import { randomUUID } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { type ChatRequest, errors } from '../../index.js';
import { type ChatBody, decoder, prepareChat } from '../chat.js';
import type { ServerContext } from '../context.js';
import { serveJob } from '../generate.js';
import { answers } from '../responses.js';
import { itemsQuery, responseParams, responsesBody, sharedFields } from '../responses-api/fields.js';
import { responseShell, responsesFormat } from '../responses-api/format.js';
import {
  checkInput,
  type InputItem,
  type Item,
  itemIds,
  itemMessages,
  readItem,
  withSystem,
} from '../responses-api/items.js';
import { KeptResponses } from '../responses-api/kept.js';
import { type Head, writeHead, writeNote } from '../responses-api/note.js';
import type { ApiTool } from '../tools.js';

/** As the schema lets it through. */
interface ResponsesBody {
  model?: string | null;
  input: string | InputItem[];
  instructions?: string | null;
  previous_response_id?: string | null;
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
    const { chat, tools, shell } = await prepare(ctx, kept, body, owner);
    const ids = itemIds(shell.id as string);
    const job = {
      id: shell.id as string,
      stream: body.stream === true,
      tools,
      model: shell.model as string,
      n: 1,
      starts: [() => ctx.engine.chat(chat)],
      format: () => responsesFormat(shell, ids, decoder(ctx)),
      callId: ids.callId,
    };
    return serveJob(ctx, job, request, reply);
  });

  const count = {
    tags,
    summary: 'Tokens that a request would have',
    body: responsesBody,
    response: answers('InputTokens'),
  };
  app.post<{ Body: ResponsesBody }>('/v1/responses/input_tokens', { schema: count }, async (request) => {
    const { body, owner } = request;
    const { chat } = await prepare(ctx, kept, { ...body, store: false }, owner, true);
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
  app.get<ById & { Querystring: { limit?: string; order?: string; after?: string } }>(
    '/v1/responses/:id/input_items',
    { schema: list },
    async (request) => {
      const { limit = '20', order = 'desc', after } = request.query;
      const items = await kept.inputItems(request.params.id, request.owner);
      return page(order === 'desc' ? items.reverse() : items, Number(limit), after);
    },
  );
}

function page<T extends { id: string }>(items: T[], limit: number, after: string | undefined) {
  const from = after === undefined ? 0 : items.findIndex((i) => i.id === after) + 1;
  if (after !== undefined && from === 0)
    throw errors.invalidRequest(`there is no item '${after}' in this list`, 'after');
  const data = items.slice(from, from + limit);
  return {
    object: 'list',
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: from + limit < items.length,
  };
}

/** From a body to a request of the engine. `whole`: with all that came before, even where the engine has it. */
async function prepare(ctx: ServerContext, kept: KeptResponses, body: ResponsesBody, owner: number, whole = false) {
  const { previous_response_id: given, instructions = null, store } = body;
  const model = ctx.models.resolve(body.model);
  const previous = given ?? undefined;
  const news = await readInput(kept, body.input, owner);
  const tools = body.tools ?? [];
  const head: Head = {
    instructions,
    tools: tools.map(toolJson),
    told: tools.length > 0 && body.tool_choice !== 'none',
  };
  const before = previous === undefined ? null : await kept.head(previous, owner, 'previous_response_id');
  // what stands at the beginning is another: all is said anew
  const goesOn = before === writeHead(head) && !whole;
  const history = previous !== undefined && !goesOn ? await kept.history(previous, owner, 'previous_response_id') : [];
  const items = [...history, ...news];
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
    given: Object.fromEntries(shown.map((f) => [f, body[f]])),
  };
  const shell = responseShell(note, head, store !== false);
  const more: Partial<ChatRequest> = goesOn ? { after: previous } : {};
  if (store !== false) {
    const text = (tokens: Int32Array) => writeNote({ ...note, items }, ctx.engine.decode(tokens, { special: true }));
    more.keepAs = { name: id, note: text, head: writeHead(head) };
  }
  return { chat: { ...chat, ...more }, tools: told, shell };
}

async function readInput(kept: KeptResponses, input: ResponsesBody['input'], owner: number): Promise<Item[]> {
  const given: InputItem[] = typeof input === 'string' ? [{ role: 'user', content: input }] : input;
  const items: Item[] = [];
  for (const [i, item] of given.entries()) {
    const reference = item.type === 'item_reference';
    const read = reference ? await kept.item(item.id!, owner, `input[${i}].id`) : readItem(item);
    if (read) items.push(read);
  }
  checkInput(items);
  return items;
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
