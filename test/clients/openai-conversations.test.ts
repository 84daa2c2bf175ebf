/** /v1/conversations by the official client, with the bundled model. */
import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { createServer } from '../../src/server/index.js';
import { memoServer } from '../support/memo-server.js';
import { withoutModel } from '../support/server-process.js';

type Params = OpenAI.Responses.ResponseCreateParamsNonStreaming;
type Item = OpenAI.Conversations.ConversationItem;

const FACTS = 'My name is Anna and I live in Vilnius.';
const user = (content: string) => ({ type: 'message' as const, role: 'user' as const, content });
const textOf = (item: Item | undefined): string => {
  assert.ok(item?.type === 'message', JSON.stringify(item));
  return item.content.map((p) => ('text' in p ? p.text : '')).join('');
};

const refused = (status: number, code: string, param?: string) => (e: unknown) => {
  assert.ok(e instanceof OpenAI.APIError, String(e));
  assert.deepEqual([e.status, e.code], [status, code], e.message);
  if (param !== undefined) assert.equal(e.param, param);
  return true;
};

describe('/v1/conversations with the official client', { skip: withoutModel }, () => {
  let rig: Awaited<ReturnType<typeof memoServer>>;
  let openai: OpenAI;
  before(async () => {
    rig = await memoServer({}, { apiKeys: ['alpha', 'beta'] });
    openai = client('alpha');
  });
  after(() => rig?.[Symbol.asyncDispose]());

  const client = (apiKey: string) => new OpenAI({ baseURL: `${rig.url}/v1`, apiKey, maxRetries: 0 });
  const ask = (conversation: string, input: Params['input'], more: Partial<Params> = {}) =>
    openai.responses.create({ model: 'memo', input, temperature: 0, conversation, ...more });
  const itemsOf = async (id: string): Promise<Item[]> => {
    const all: Item[] = [];
    for await (const item of openai.conversations.items.list(id, { order: 'asc' })) all.push(item);
    return all;
  };

  test('responses are made from its items and added to them; only what is new is computed', async () => {
    const { id } = await openai.conversations.create();
    const one = await ask(id, FACTS);
    assert.deepEqual(one.conversation, { id });
    const two = await ask(id, 'Where do I live?');
    assert.match(two.output_text, /Vilnius/);
    assert.equal(two.previous_response_id, null);
    assert.ok(two.usage!.input_tokens_details.cached_tokens >= one.usage!.total_tokens - 1, JSON.stringify(two.usage));
    const items = await itemsOf(id);
    assert.deepEqual(items.map(textOf), [FACTS, one.output_text, 'Where do I live?', two.output_text]);
    assert.deepEqual(
      items.map((i) => (i as { role: string }).role),
      ['user', 'assistant', 'user', 'assistant'],
    );
    // under the ids that the answers had
    assert.deepEqual([items[1]!.id, items[3]!.id], [one.output[0]!.id, two.output[0]!.id]);
    assert.equal(new Set(items.map((i) => i.id)).size, 4);
    const kept = await openai.responses.retrieve(two.id);
    assert.deepEqual(kept.conversation, { id });
    // the same bits as when all is said anew
    const whole = await openai.responses.create({
      model: 'memo',
      temperature: 0,
      input: [
        { role: 'user', content: FACTS },
        { role: 'assistant', content: one.output_text },
        { role: 'user', content: 'Where do I live?' },
      ],
    });
    assert.equal(whole.output_text, two.output_text);
  });

  test('it begins with items and metadata, which are listed in pages, fetched, and changed', async () => {
    const given = Array.from({ length: 5 }, (_, i) => user(`Fact ${i}.`));
    const made = await openai.conversations.create({ items: given, metadata: { topic: 'facts' } });
    assert.match(made.id, /^conv_[0-9a-f]{32}$/);
    assert.deepEqual([made.object, made.metadata], ['conversation', { topic: 'facts' }]);
    assert.deepEqual(await openai.conversations.retrieve(made.id), made);
    const changed = await openai.conversations.update(made.id, { metadata: { topic: 'other', by: 'me' } });
    assert.deepEqual(changed, { ...made, metadata: { topic: 'other', by: 'me' } });
    assert.deepEqual(await openai.conversations.retrieve(made.id), changed);
    const list = await openai.conversations.items.list(made.id, { limit: 2 });
    assert.deepEqual(list.data.map(textOf), ['Fact 4.', 'Fact 3.']);
    assert.deepEqual([list.has_more, list.last_id], [true, list.data[1]!.id]);
    const pages: string[] = [];
    for await (const item of openai.conversations.items.list(made.id, { limit: 2 })) pages.push(textOf(item));
    assert.deepEqual(pages, ['Fact 4.', 'Fact 3.', 'Fact 2.', 'Fact 1.', 'Fact 0.']);
    const more = await openai.conversations.items.create(made.id, { items: [user('Fact 5.'), user('Fact 6.')] });
    assert.deepEqual(more.data.map(textOf), ['Fact 5.', 'Fact 6.']);
    assert.deepEqual([more.first_id, more.last_id, more.has_more], [more.data[0]!.id, more.data[1]!.id, false]);
    const one = await openai.conversations.items.retrieve(more.first_id, { conversation_id: made.id });
    assert.deepEqual(one, more.data[0]);
    assert.deepEqual(await openai.conversations.delete(made.id), {
      id: made.id,
      object: 'conversation.deleted',
      deleted: true,
    });
    await assert.rejects(openai.conversations.retrieve(made.id), refused(404, 'conversation_not_found', 'id'));
  });

  test('items that were added are answered with the next response, also without other input', async () => {
    const { id } = await openai.conversations.create({ items: [user(FACTS)] });
    const one = await openai.responses.create({ model: 'memo', temperature: 0, conversation: { id } });
    await openai.conversations.items.create(id, { items: [user('Where do I live?')] });
    const two = await openai.responses.create({ model: 'memo', temperature: 0, conversation: id });
    assert.match(two.output_text, /Vilnius/);
    assert.ok(two.usage!.input_tokens_details.cached_tokens >= one.usage!.total_tokens - 1, JSON.stringify(two.usage));
    assert.equal((await itemsOf(id)).length, 4);
    await assert.rejects(
      openai.responses.create({ model: 'memo', conversation: id }),
      refused(400, 'invalid_request', 'input'),
    );
    await assert.rejects(openai.responses.create({ model: 'memo' }), refused(400, 'invalid_request', 'input'));
  });

  test('an item taken out of the middle was never said; what stands before it is not computed again', async () => {
    const { id } = await openai.conversations.create({
      items: [
        user('My locker code is 48213.'),
        { type: 'message', role: 'assistant', content: 'Noted.' },
        user('My name is Anna.'),
        { type: 'message', role: 'assistant', content: 'Nice to meet you, Anna.' },
      ],
    });
    await ask(id, 'What is my locker code?');
    const [, , name, nice] = await itemsOf(id);
    await openai.conversations.items.delete(name!.id!, { conversation_id: id });
    const left = await openai.conversations.items.delete(nice!.id!, { conversation_id: id });
    assert.equal(left.object, 'conversation');
    await assert.rejects(
      openai.conversations.items.retrieve(name!.id!, { conversation_id: id }),
      refused(404, 'item_not_found', 'item'),
    );
    const after = await ask(id, 'And what is my name?');
    const items = (await itemsOf(id)).slice(0, -1) as { role: 'user' | 'assistant'; content: { text: string }[] }[];
    assert.equal(items.length, 5);
    const whole = await openai.responses.create({
      model: 'memo',
      temperature: 0,
      input: items.map(({ role, content }) => ({ role, content: content[0]!.text })),
    });
    assert.equal(after.output_text, whole.output_text);
    assert.equal(after.usage!.input_tokens, whole.usage!.input_tokens);
    const cached = after.usage!.input_tokens_details.cached_tokens;
    assert.ok(cached >= 16, `${cached} of what stands before it`);
    // and the next one goes on from it
    const next = await ask(id, 'Thanks.');
    assert.ok(next.usage!.input_tokens_details.cached_tokens >= after.usage!.total_tokens - 1);
  });

  test('its items stay when a response is deleted, and a response that is not to be kept adds to it too', async () => {
    const { id } = await openai.conversations.create();
    const one = await ask(id, FACTS);
    await openai.responses.delete(one.id);
    const two = await ask(id, 'Where do I live?', { store: false });
    assert.match(two.output_text, /Vilnius/);
    await assert.rejects(openai.responses.retrieve(two.id), refused(404, 'response_not_found'));
    const three = await ask(id, 'What is my name?');
    assert.match(three.output_text, /Anna/);
    assert.equal((await itemsOf(id)).length, 6);
    await rig.engine.check();
  });

  test('calls and their results are items; an answer that is cut off says so', async () => {
    const weather: OpenAI.Responses.Tool = {
      type: 'function',
      name: 'get_weather',
      strict: true,
      parameters: { type: 'object', properties: { city: { type: 'string', enum: ['Rome', 'Oslo'] } } },
    };
    const { id } = await openai.conversations.create();
    const given: Partial<Params> = { tools: [weather] };
    const one = await ask(id, 'What is the weather in Rome?', { ...given, tool_choice: 'required' });
    const [call] = one.output;
    assert.ok(call?.type === 'function_call');
    const result = { type: 'function_call_output' as const, call_id: call.call_id, output: 'sunny' };
    const two = await ask(id, [result], { ...given, max_output_tokens: 2 });
    assert.ok(two.usage!.input_tokens_details.cached_tokens >= one.usage!.total_tokens - 1);
    const items = await itemsOf(id);
    assert.deepEqual(
      items.map((i) => i.type),
      ['message', 'function_call', 'function_call_output', 'message'],
    );
    assert.equal((items[1] as { call_id: string }).call_id, call.call_id);
    assert.equal((items[3] as { status: string }).status, 'incomplete');
  });

  test('a stream adds what it said; one that was left adds nothing', async () => {
    const { id } = await openai.conversations.create();
    const stream = await openai.responses.create({ model: 'memo', input: FACTS, conversation: id, stream: true });
    let said = '';
    for await (const e of stream) if (e.type === 'response.output_text.delta') said += e.delta;
    assert.deepEqual((await itemsOf(id)).map(textOf), [FACTS, said]);
    const schema = { type: 'object', properties: { a: { type: 'string', minLength: 3000 } }, required: ['a'] };
    const left = await openai.responses.create({
      ...{ model: 'memo', input: 'Say much.', conversation: id, stream: true },
      text: { format: { type: 'json_schema', name: 'much', schema } },
    });
    // only one at a time
    await assert.rejects(ask(id, 'And?'), refused(409, 'conversation_locked', 'conversation'));
    await assert.rejects(
      openai.conversations.items.create(id, { items: [user('And?')] }),
      refused(409, 'conversation_locked', 'id'),
    );
    await assert.rejects(openai.conversations.delete(id), refused(409, 'conversation_locked', 'id'));
    left.controller.abort();
    const patient = new OpenAI({ baseURL: `${rig.url}/v1`, apiKey: 'alpha', maxRetries: 5 });
    const next = await patient.responses.create({
      model: 'memo',
      input: 'Where do I live?',
      conversation: id,
      temperature: 0,
    });
    assert.match(next.output_text, /Vilnius/);
    assert.deepEqual((await itemsOf(id)).map(textOf).slice(2), ['Where do I live?', next.output_text]);
  });

  test('items are counted and named with it; what is wrong is refused by name', async () => {
    const { id } = await openai.conversations.create({ items: [user(FACTS)] });
    const [fact] = await itemsOf(id);
    const count = (input: string) => openai.responses.inputTokens.count({ model: 'memo', input, conversation: id });
    const { input_tokens } = await count('Where do I live?');
    const named = await ask(id, [{ type: 'item_reference', id: fact!.id! }, user('Where do I live?')]);
    assert.ok(named.usage!.input_tokens > input_tokens);
    const never = `conv_${'0'.repeat(32)}`;
    const beta = client('beta');
    await assert.rejects(ask(never, 'Hello'), refused(404, 'conversation_not_found', 'conversation'));
    for (const [who, name] of [
      [openai, never],
      [beta, id],
      [openai, 'thing'],
    ] as const) {
      await assert.rejects(who.conversations.retrieve(name), refused(404, 'conversation_not_found'));
      await assert.rejects(who.conversations.update(name, { metadata: {} }), refused(404, 'conversation_not_found'));
      await assert.rejects(who.conversations.items.list(name), refused(404, 'conversation_not_found'));
      await assert.rejects(who.conversations.delete(name), refused(404, 'conversation_not_found'));
    }
    await assert.rejects(
      ask(id, 'Hello', { previous_response_id: named.id }),
      refused(400, 'invalid_request', 'conversation'),
    );
    await assert.rejects(openai.conversations.items.create(id, { items: [] }), refused(400, 'invalid_request'));
    const wrong: [OpenAI.Conversations.ConversationCreateParams, string, RegExp][] = [
      [{ metadata: { ['k'.repeat(65)]: 'v' } }, 'metadata', /64 characters/],
      [{ metadata: 5 as never }, 'metadata', /must be of type object/],
      [{ metadata: { a: 5 as never } }, 'metadata.a', /must be of type string/],
      [{ items: [{ type: 'message', role: 'user' } as never] }, 'items[0].content', /missing/],
      [
        { items: [{ role: 'user', content: [{ type: 'input_image', detail: 'auto', image_url: 'x' }] }] },
        'items[0].content[0]',
        /images/,
      ],
      [{ items: [{ type: 'item_reference', id: 'msg_x' }] }, 'items[0].id', /no item/],
      [{ topic: 'x' } as object, 'topic', /not known/],
    ];
    for (const [body, param, message] of wrong)
      await assert.rejects(openai.conversations.create(body), (e) => {
        assert.ok(e instanceof OpenAI.APIError && (e.status === 400 || e.status === 404), String(e));
        assert.equal(e.param, param, e.message);
        assert.match(e.message, message);
        return true;
      });
    await assert.rejects(openai.conversations.items.list(id, { after: 'msg_none' }), refused(400, 'invalid_request'));
  });
});

test('a response that is forgotten in the moment it is gone on from: the conversation goes on from its items', {
  skip: withoutModel,
}, async () => {
  await using rig = await memoServer();
  const openai = new OpenAI({ baseURL: `${rig.url}/v1`, apiKey: 'none', maxRetries: 0 });
  const { checkpoints } = rig.engine;
  const { get } = checkpoints;
  const ask = (more: Partial<Params>) =>
    openai.responses.create({ model: 'memo', input: 'Where do I live?', temperature: 0, ...more });
  const { id: conversation } = await openai.conversations.create();
  await ask({ conversation, input: FACTS });
  const previous = await ask({ input: FACTS });
  checkpoints.get = async (name, owner) => {
    const found = await get(name, owner);
    await checkpoints.delete(name, owner);
    return found;
  };
  assert.match((await ask({ conversation })).output_text, /Vilnius/);
  const stream = await openai.responses.create({
    ...{ model: 'memo', input: 'Where do I live?', temperature: 0, conversation, stream: true },
  });
  let said = '';
  for await (const e of stream) if (e.type === 'response.output_text.delta') said += e.delta;
  assert.match(said, /Vilnius/);
  await assert.rejects(
    ask({ previous_response_id: previous.id }),
    refused(404, 'response_not_found', 'previous_response_id'),
  );
});

test('conversations outlive the process, and one whose file was torn keeps what stands before', {
  skip: withoutModel,
}, async () => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'longmind-conversations-'));
  const conversationStore = path.join(dir, 'conversations');
  const open = async () => {
    const rig = await memoServer({ sessionStore: dir }, { conversationStore });
    return { rig, openai: new OpenAI({ baseURL: `${rig.url}/v1`, apiKey: 'none', maxRetries: 0 }) };
  };
  try {
    const first = await open();
    const { id } = await first.openai.conversations.create({ metadata: { a: 'b' } });
    const one = await first.openai.responses.create({ model: 'memo', input: FACTS, temperature: 0, conversation: id });
    const items = await first.openai.conversations.items.list(id);
    const another = createServer(first.rig.engine, { serverPort: 0, conversationStore });
    await assert.rejects(another, { code: 'conversation_store_in_use' });
    await first.rig[Symbol.asyncDispose]();
    const [file] = readdirSync(conversationStore).filter((name) => name.endsWith('.jsonl'));
    appendFileSync(path.join(conversationStore, file!), '00000000 {"op":"add","entr');
    const second = await open();
    assert.deepEqual((await second.openai.conversations.retrieve(id)).metadata, { a: 'b' });
    assert.deepEqual((await second.openai.conversations.items.list(id)).data, items.data);
    const two = await second.openai.responses.create({
      model: 'memo',
      input: 'Where do I live?',
      temperature: 0,
      conversation: id,
    });
    assert.match(two.output_text, /Vilnius/);
    // it went on from the response that was kept
    assert.ok(two.usage!.input_tokens > one.usage!.total_tokens);
    await second.rig[Symbol.asyncDispose]();
    const third = await open();
    assert.equal((await third.openai.conversations.items.list(id)).data.length, 4);
    await third.openai.conversations.delete(id);
    assert.deepEqual(readdirSync(conversationStore), ['conversations.lock']);
    await third.rig[Symbol.asyncDispose]();
  } finally {
    rmSync(dir, { recursive: true });
  }
});
