/** /v1/responses by the official client, with the bundled model: kept, gone on from, branched, deleted, streamed. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { memoServer } from '../support/memo-server.js';
import { withoutModel } from '../support/server-process.js';

type Params = OpenAI.Responses.ResponseCreateParamsNonStreaming;

const FACTS = 'My name is Anna and I live in Vilnius.';
const weather: OpenAI.Responses.Tool = {
  type: 'function',
  name: 'get_weather',
  description: 'The weather of a city',
  strict: true,
  parameters: {
    type: 'object',
    properties: { city: { type: 'string', enum: ['Rome', 'Oslo'] } },
    required: ['city'],
    additionalProperties: false,
  },
};

describe('/v1/responses with the official client', { skip: withoutModel }, () => {
  let rig: Awaited<ReturnType<typeof memoServer>>;
  let openai: OpenAI;
  before(async () => {
    rig = await memoServer({}, { apiKeys: ['alpha', 'beta'] });
    openai = client('alpha');
  });
  after(() => rig?.[Symbol.asyncDispose]());

  const client = (apiKey: string) => new OpenAI({ baseURL: `${rig.url}/v1`, apiKey, maxRetries: 0 });
  const ask = (input: Params['input'], more: Partial<Params> = {}) =>
    openai.responses.create({ model: 'memo', input, temperature: 0, ...more });

  const notFound = (param: string) => (e: unknown) => {
    assert.ok(e instanceof OpenAI.NotFoundError, String(e));
    assert.deepEqual([e.code, e.param, e.type], ['response_not_found', param, 'not_found_error']);
    return true;
  };

  test('a response goes on from another, with only what is new sent and only that computed', async () => {
    const one = await ask(FACTS);
    const two = await ask('Where do I live?', { previous_response_id: one.id });
    assert.match(two.output_text, /Vilnius/);
    assert.equal(two.previous_response_id, one.id);
    const { usage } = two;
    assert.ok(usage!.input_tokens_details.cached_tokens >= one.usage!.total_tokens - 1, JSON.stringify(usage));
    assert.equal(usage!.total_tokens, usage!.input_tokens + usage!.output_tokens);
    // the same bits as when all is said anew
    const whole = await ask([
      { role: 'user', content: FACTS },
      { role: 'assistant', content: one.output_text },
      { role: 'user', content: 'Where do I live?' },
    ]);
    assert.equal(whole.output_text, two.output_text);
  });

  test('an old response branches, and the other branch stays', async () => {
    const one = await ask('My locker code is 48213.');
    const old = await ask('Actually, my locker code is 99001.', { previous_response_id: one.id });
    const other = await ask('What is my locker code?', { previous_response_id: one.id });
    const changed = await ask('What is my locker code?', { previous_response_id: old.id });
    assert.match(other.output_text, /48213/);
    assert.match(changed.output_text, /99001/);
  });

  test('what is kept is what was answered, also for tools; its input items are all that was said', async () => {
    const given: Partial<Params> = { tools: [weather], metadata: { app: 'test' }, max_output_tokens: 60 };
    const one = await ask('What is the weather in Rome?', { ...given, tool_choice: 'required' });
    const [call] = one.output;
    assert.ok(call?.type === 'function_call', JSON.stringify(one.output));
    assert.match(JSON.parse(call.arguments).city, /^(Rome|Oslo)$/);
    const { output_text: _, ...plain } = one;
    assert.deepEqual(withoutText(await openai.responses.retrieve(one.id)), plain);
    const result = { type: 'function_call_output' as const, call_id: call.call_id, output: 'sunny, 21 degrees' };
    const two = await ask([result], { ...given, previous_response_id: one.id });
    assert.deepEqual(withoutText(await openai.responses.retrieve(two.id)), withoutText(two));
    const { data } = await openai.responses.inputItems.list(two.id, { order: 'asc' });
    assert.deepEqual(
      data.map((i) => i.type),
      ['message', 'function_call', 'function_call_output'],
    );
    assert.deepEqual((data[0] as { content: unknown }).content, [
      { type: 'input_text', text: 'What is the weather in Rome?' },
    ]);
    assert.equal((data[2] as { output: string }).output, 'sunny, 21 degrees');
    const ids: (string | undefined)[] = [];
    for await (const item of openai.responses.inputItems.list(two.id, { limit: 1 })) ids.push(item.id);
    assert.deepEqual(ids, data.map((i) => i.id).reverse());
    assert.ok(two.usage!.input_tokens_details.cached_tokens >= one.usage!.total_tokens - 1);
  });

  test('instructions are not carried over: others, or none, begin the conversation anew with all that was said', async () => {
    const one = await ask(FACTS, { instructions: 'You are a helpful assistant.' });
    const same = await ask('What is my name?', {
      instructions: 'You are a helpful assistant.',
      previous_response_id: one.id,
    });
    assert.ok(same.usage!.input_tokens_details.cached_tokens >= one.usage!.total_tokens - 1);
    const none = await ask('What is my name?', { previous_response_id: one.id });
    assert.match(none.output_text, /Anna/);
    assert.ok(none.usage!.input_tokens < same.usage!.input_tokens);
    const whole = await ask([
      { role: 'user', content: FACTS },
      { role: 'assistant', content: one.output_text },
      { role: 'user', content: 'What is my name?' },
    ]);
    assert.equal(none.usage!.input_tokens, whole.usage!.input_tokens);
    assert.equal((await openai.responses.inputItems.list(none.id)).data.length, 3);
  });

  test('every event of a stream, numbered, and the same answer as without', async () => {
    const plain = await ask(FACTS);
    const stream = await openai.responses.create({ model: 'memo', input: FACTS, temperature: 0, stream: true });
    const events: OpenAI.Responses.ResponseStreamEvent[] = [];
    for await (const e of stream) events.push(e);
    assert.deepEqual(
      events.map((e) => e.sequence_number),
      events.map((_, i) => i),
    );
    const types = events.map((e) => e.type).filter((t, i, all) => t !== all[i - 1]);
    assert.deepEqual(types, [
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.completed',
    ]);
    const last = events.at(-1) as OpenAI.Responses.ResponseCompletedEvent;
    const text = events.map((e) => (e.type === 'response.output_text.delta' ? e.delta : '')).join('');
    assert.equal(text, plain.output_text);
    const told = await openai.responses.retrieve(last.response.id);
    assert.deepEqual(last.response, withoutText(told));
  });

  test('a call streams in pieces that make the whole one', async () => {
    const stream = openai.responses.stream({
      model: 'memo',
      input: 'What is the weather in Rome?',
      tools: [weather],
      tool_choice: { type: 'function', name: 'get_weather' },
      parallel_tool_calls: false,
      temperature: 0,
    });
    let pieces = '';
    const types = new Set<string>();
    for await (const e of stream) {
      types.add(e.type);
      if (e.type === 'response.function_call_arguments.delta') pieces += e.delta;
    }
    const response = await stream.finalResponse();
    const [call] = response.output;
    assert.ok(call?.type === 'function_call');
    assert.equal(call.arguments, pieces);
    assert.ok(types.has('response.function_call_arguments.done') && types.has('response.output_item.done'));
  });

  test('structured output, an answer that is cut off, and log-probabilities', async () => {
    const schema = {
      type: 'object',
      properties: { ok: { type: 'boolean' } },
      required: ['ok'],
      additionalProperties: false,
    };
    const json = await ask('Is it so?', { text: { format: { type: 'json_schema', name: 'answer', schema } } });
    assert.equal(typeof JSON.parse(json.output_text).ok, 'boolean');
    const cut = await ask(FACTS, { max_output_tokens: 2 });
    assert.deepEqual([cut.status, cut.incomplete_details], ['incomplete', { reason: 'max_output_tokens' }]);
    const two = await ask('And?', { previous_response_id: cut.id, max_output_tokens: 2 });
    assert.equal(two.usage!.output_tokens, 2);
    const scored = await ask(FACTS, {
      include: ['message.output_text.logprobs'],
      top_logprobs: 2,
      max_output_tokens: 3,
    });
    const [message] = scored.output;
    assert.ok(message?.type === 'message' && message.content[0]?.type === 'output_text');
    assert.deepEqual(
      message.content[0].logprobs?.map((t) => t.top_logprobs.length),
      [2, 2, 2],
    );
  });

  test('unknown, deleted and foreign responses are not there; what is not to be kept is not', async () => {
    const one = await ask(FACTS);
    const gone = await ask('Where do I live?', { previous_response_id: one.id });
    await openai.responses.delete(gone.id);
    const unkept = await ask(FACTS, { store: false, previous_response_id: one.id });
    assert.equal((unkept as { store?: boolean }).store, false);
    const beta = client('beta');
    const never = `resp_${'0'.repeat(32)}`;
    for (const [who, id] of [
      [openai, gone.id],
      [openai, unkept.id],
      [openai, never],
      [openai, 'thing'],
      [beta, one.id],
    ] as const) {
      await assert.rejects(who.responses.retrieve(id), notFound('id'));
      await assert.rejects(who.responses.delete(id), notFound('id'));
      await assert.rejects(
        who.responses.create({ model: 'memo', input: 'And?', previous_response_id: id }),
        notFound('previous_response_id'),
      );
    }
    assert.match((await ask('Where do I live?', { previous_response_id: one.id })).output_text, /Vilnius/);
    await rig.engine.check();
  });

  test('what is not supported is refused by name', async () => {
    const refused: [Partial<Params>, string][] = [
      [{ background: true }, 'background'],
      [{ truncation: 'auto' }, 'truncation'],
      [{ tools: [{ type: 'web_search' }] }, 'tools[0].type'],
      [
        { input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'x', detail: 'auto' }] }] },
        'input[0].content[0]',
      ],
      [{ input: [{ type: 'item_reference', id: 'msg_x' }] }, 'input[0].id'],
      [{ input: [{ type: 'reasoning', id: 'rs_1', summary: [] }] }, 'input'],
    ];
    for (const [fields, param] of refused)
      await assert.rejects(ask('Hello', fields), (e) => {
        assert.ok(e instanceof OpenAI.APIError && (e.status === 400 || e.status === 404), String(e));
        assert.ok(e.param?.startsWith(param.split('[')[0]!), `${e.param} for ${param}: ${e.message}`);
        return true;
      });
  });

  test('an item may be named instead of sent again', async () => {
    const one = await ask(FACTS);
    const [said] = one.output;
    const [asked] = (await openai.responses.inputItems.list(one.id)).data;
    const named = await ask([
      { type: 'item_reference', id: asked!.id! },
      { type: 'item_reference', id: said!.id! },
      { role: 'user', content: 'Where do I live?' },
    ]);
    assert.match(named.output_text, /Vilnius/);
  });

  test('tokens are counted without an answer', async () => {
    const { input_tokens } = await openai.responses.inputTokens.count({ model: 'memo', input: FACTS });
    assert.equal(input_tokens, (await ask(FACTS)).usage!.input_tokens);
  });
});

const withoutText = ({ output_text: _, ...rest }: OpenAI.Responses.Response) => rest;

test('kept responses outlive the process', { skip: withoutModel }, async () => {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'longmind-responses-'));
  try {
    const open = async () => {
      const rig = await memoServer({ sessionStore: dir });
      return { rig, openai: new OpenAI({ baseURL: `${rig.url}/v1`, apiKey: 'none', maxRetries: 0 }) };
    };
    const first = await open();
    const one = await first.openai.responses.create({ model: 'memo', input: FACTS, temperature: 0 });
    await first.rig[Symbol.asyncDispose]();
    const second = await open();
    assert.deepEqual(withoutText(await second.openai.responses.retrieve(one.id)), withoutText(one));
    const { data } = await second.openai.responses.inputItems.list(one.id);
    assert.deepEqual((data[0] as { content: unknown }).content, [{ type: 'input_text', text: FACTS }]);
    const two = await second.openai.responses.create({
      model: 'memo',
      input: 'Where do I live?',
      previous_response_id: one.id,
      temperature: 0,
    });
    assert.match(two.output_text, /Vilnius/);
    assert.equal(two.usage!.input_tokens_details.cached_tokens, 0);
    await second.rig[Symbol.asyncDispose]();
  } finally {
    rmSync(dir, { recursive: true });
  }
});
