/** /v1/conversations: items under a name, which responses are made from and added to. */
import type { FastifyInstance } from 'fastify';
import { errors } from '../../index.js';
import type { ServerContext } from '../context.js';
import { conversationJson, type Entry, entryJson } from '../conversations/conversation.js';
import { serverErrors } from '../errors.js';
import type { Schema } from '../fields.js';
import { answers } from '../responses.js';
import {
  conversationBody,
  conversationChange,
  conversationItemParams,
  conversationItems,
  itemsQuery,
  responseParams,
} from '../responses-api/fields.js';
import { readInput } from '../responses-api/input.js';
import { type InputItem, newItemId } from '../responses-api/items.js';
import { KeptResponses } from '../responses-api/kept.js';
import { listOf, type PageQuery, page } from '../responses-api/page.js';

type ById = { Params: { id: string } };
type ItemById = { Params: { id: string; item: string } };
type Metadata = Record<string, string> | null;

export function conversationRoutes(app: FastifyInstance, ctx: ServerContext): void {
  const kept = new KeptResponses(ctx);
  app.post<{ Body: { items?: InputItem[] | null; metadata?: Metadata } | null }>(
    '/v1/conversations',
    schema('Begin a conversation', 'Conversation', { body: conversationBody }),
    async ({ body, owner }) => {
      const entries = await newEntries(kept, body?.items ?? [], owner);
      return conversationJson(await ctx.conversations.create(owner, body?.metadata ?? {}, entries));
    },
  );
  app.get<ById>(
    '/v1/conversations/:id',
    schema('One conversation', 'Conversation', { params: responseParams }),
    async ({ params, owner }) => conversationJson(await ctx.conversations.get(params.id, owner)),
  );
  app.post<ById & { Body: { metadata: Metadata } }>(
    '/v1/conversations/:id',
    schema('Give it other metadata', 'Conversation', { params: responseParams, body: conversationChange }),
    async ({ params, owner, body: { metadata } }) =>
      conversationJson(await ctx.conversations.change(params.id, owner, { op: 'metadata', metadata: metadata ?? {} })),
  );
  app.delete<ById>(
    '/v1/conversations/:id',
    schema('Forget a conversation; responses that were made in it stay', 'ConversationDeleted', {
      params: responseParams,
    }),
    async ({ params: { id }, owner }) => {
      await ctx.conversations.delete(id, owner);
      return { id, object: 'conversation.deleted', deleted: true };
    },
  );
  itemRoutes(app, ctx, kept);
}

function itemRoutes(app: FastifyInstance, ctx: ServerContext, kept: KeptResponses): void {
  app.get<ById & { Querystring: PageQuery }>(
    '/v1/conversations/:id/items',
    schema('Its items', 'ItemList', { params: responseParams, querystring: itemsQuery }),
    async ({ params, owner, query }) =>
      page((await ctx.conversations.get(params.id, owner)).entries.map(entryJson), query),
  );
  app.post<ById & { Body: { items: InputItem[] } }>(
    '/v1/conversations/:id/items',
    schema('Add items', 'ItemList', { params: responseParams, body: conversationItems }),
    async ({ params: { id }, owner, body }) => {
      const { entries: named } = await ctx.conversations.get(id, owner);
      const entries = await newEntries(kept, body.items, owner, named);
      if (entries.length === 0) throw errors.invalidRequest("'items' say nothing", 'items');
      await ctx.conversations.change(id, owner, { op: 'add', entries });
      return listOf(entries.map(entryJson));
    },
  );
  const one = async ({ id, item }: ItemById['Params'], owner: number): Promise<Entry> => {
    const { entries } = await ctx.conversations.get(id, owner);
    const found = entries.find((e) => e.id === item);
    if (!found) throw serverErrors.itemUnknown(item, 'item');
    return found;
  };
  app.get<ItemById>(
    '/v1/conversations/:id/items/:item',
    schema('One item', 'Item', { params: conversationItemParams }),
    async ({ params, owner }) => entryJson(await one(params, owner)),
  );
  app.delete<ItemById>(
    '/v1/conversations/:id/items/:item',
    schema('Take an item out', 'Conversation', { params: conversationItemParams }),
    async ({ params, owner }) => {
      const { id } = await one(params, owner);
      return conversationJson(await ctx.conversations.change(params.id, owner, { op: 'delete', id }));
    },
  );
}

async function newEntries(
  kept: KeptResponses,
  items: readonly InputItem[],
  owner: number,
  named: readonly Entry[] = [],
): Promise<Entry[]> {
  const read = await readInput(kept, items, owner, { named, param: 'items' });
  return read.map((item) => ({ id: newItemId(item.kind), item }));
}

const schema = (summary: string, answer: string, more: Record<string, Schema> = {}) => ({
  schema: { tags: ['conversations'], summary, ...more, response: answers(answer) },
});
