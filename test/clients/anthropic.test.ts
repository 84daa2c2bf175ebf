/** /v1/messages by Anthropic's client, with the bundled model. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import { memoServer } from '../support/memo-server.js';
import { withoutModel } from '../support/server-process.js';

type Params = Anthropic.MessageCreateParamsNonStreaming;

const FACTS = 'My name is Anna and I live in Vilnius.';
const weather: Anthropic.Tool = {
  name: 'get_weather',
  description: 'The weather of a city',
  input_schema: {
    type: 'object',
    properties: { city: { type: 'string', enum: ['Rome', 'Oslo'] } },
    required: ['city'],
    additionalProperties: false,
  },
};

describe("/v1/messages with Anthropic's client", { skip: withoutModel }, () => {
  let rig: Awaited<ReturnType<typeof memoServer>>;
  let anthropic: Anthropic;
  before(async () => {
    rig = await memoServer({}, { apiKeys: ['alpha'], maxPriority: 1 });
    anthropic = new Anthropic({ baseURL: rig.url, apiKey: 'alpha', maxRetries: 0 });
  });
  after(() => rig?.[Symbol.asyncDispose]());

  /** The client's types know temperatures no longer; its older versions send them. */
  const params = (content: string | Anthropic.MessageParam[], more: Partial<Params> = {}): Params => {
    const messages = typeof content === 'string' ? [{ role: 'user' as const, content }] : content;
    return { model: 'memo', max_tokens: 200, messages, ...{ temperature: 0 }, ...more };
  };
  const ask = (content: string | Anthropic.MessageParam[], more: Partial<Params> = {}) =>
    anthropic.messages.create(params(content, more));
  const textOf = ({ content }: Anthropic.Message) => content.map((b) => (b.type === 'text' ? b.text : '')).join('');

  test('a conversation with a system message; usage tells what was found in the cache', async () => {
    const system = [{ type: 'text' as const, text: 'You help.', cache_control: { type: 'ephemeral' as const } }];
    const one = await ask(FACTS, { system });
    assert.equal(one.stop_reason, 'end_turn');
    const two = await ask(
      [
        { role: 'user', content: FACTS },
        { role: 'assistant', content: one.content },
        { role: 'user', content: [{ type: 'text', text: 'Where do I live?', cache_control: { type: 'ephemeral' } }] },
      ],
      { system },
    );
    assert.match(textOf(two), /Vilnius/);
    const before = one.usage.input_tokens + one.usage.cache_read_input_tokens!;
    assert.ok(two.usage.cache_read_input_tokens! >= before, JSON.stringify(two.usage));
    const again = await ask(FACTS, { system });
    assert.equal(again.usage.cache_read_input_tokens, before - 1);
    assert.equal(again.usage.input_tokens, 1);
  });

  test('a stream gives the same message, and its beginning tells the usage of the prompt', async () => {
    const plain = await ask(FACTS);
    const stream = anthropic.messages.stream(params(FACTS));
    const types: string[] = [];
    let usage: Anthropic.Usage | null = null;
    stream.on('streamEvent', (e) => {
      if (types.at(-1) !== e.type) types.push(e.type);
      if (e.type === 'message_start') usage = e.message.usage;
    });
    const message = await stream.finalMessage();
    assert.equal(textOf(message), textOf(plain));
    assert.deepEqual(types, [
      'message_start',
      'content_block_start',
      'content_block_delta',
      'content_block_stop',
      'message_delta',
      'message_stop',
    ]);
    const { input_tokens: input, cache_read_input_tokens: read } = usage!;
    assert.equal(input + read!, plain.usage.input_tokens + plain.usage.cache_read_input_tokens!);
    assert.equal(message.usage.output_tokens, plain.usage.output_tokens);
  });

  test('tools: a call, whole and streamed, its result, and what does not ask for one', async () => {
    const tools = {
      tools: [weather],
      tool_choice: { type: 'tool' as const, name: 'get_weather', disable_parallel_tool_use: true },
    };
    const called = await ask('What is the weather in Rome?', tools);
    assert.equal(called.stop_reason, 'tool_use');
    const [call] = called.content;
    assert.ok(call?.type === 'tool_use' && call.name === 'get_weather');
    assert.match((call.input as { city: string }).city, /^(Rome|Oslo)$/);
    const streamed = await anthropic.messages.stream(params('What is the weather in Rome?', tools)).finalMessage();
    assert.deepEqual(
      streamed.content.map((b) => (b.type === 'tool_use' ? [b.name, b.input] : b.type)),
      [[call.name, call.input]],
    );
    const told = await ask(
      [
        { role: 'user', content: 'What is the weather in Rome?' },
        { role: 'assistant', content: called.content },
        {
          role: 'user',
          content: [{ type: 'tool_result', tool_use_id: call.id, content: [{ type: 'text', text: 'sunny' }] }],
        },
      ],
      { tools: [weather], tool_choice: { type: 'none' } },
    );
    assert.equal(told.role, 'assistant');
  });

  test('stop sequences, limits, structured output', async () => {
    const stopped = await ask(FACTS, { stop_sequences: ['meet'] });
    assert.deepEqual([stopped.stop_reason, stopped.stop_sequence], ['stop_sequence', 'meet']);
    assert.doesNotMatch(textOf(stopped), /meet/);
    assert.equal((await ask(FACTS, { max_tokens: 2 })).stop_reason, 'max_tokens');
    const schema = {
      type: 'object',
      properties: { ok: { type: 'boolean' } },
      required: ['ok'],
      additionalProperties: false,
    };
    const json = await ask('Is it so?', { output_config: { format: { type: 'json_schema', schema } } });
    assert.equal(typeof JSON.parse(textOf(json)).ok, 'boolean');
  });

  test('tokens are counted as they will be', async () => {
    const { input_tokens: counted } = await anthropic.messages.countTokens({
      model: 'memo',
      system: 'You help.',
      tools: [weather],
      messages: [{ role: 'user', content: FACTS }],
    });
    const { usage } = await ask(FACTS, { system: 'You help.', tools: [weather] });
    assert.equal(counted, usage.input_tokens + usage.cache_read_input_tokens!);
  });

  test('errors have the form that the client knows', async () => {
    const image = { type: 'image' as const, source: { type: 'url' as const, url: 'https://example.com/a.png' } };
    const bad: [Partial<Params> & { priority?: number }, number, RegExp][] = [
      [{ model: 'claude' }, 404, /'claude' is not served here/],
      [{ messages: [{ role: 'user', content: [image] }] }, 400, /images are not supported/],
      [{ max_tokens: 4000, thinking: { type: 'enabled', budget_tokens: 2000 } }, 400, /'thinking' asks for thinking/],
      [{ tools: [weather], stop_sequences: ['x'] }, 400, /'stop_sequences' cannot be used/],
      [{ priority: 2 }, 400, /priority/],
      [{ messages: [{ role: 'user', content: 'a b '.repeat(9000) }] }, 400, /tokens/],
    ];
    for (const [fields, status, message] of bad)
      await assert.rejects(ask('Hello', fields as Partial<Params>), (e) => {
        assert.ok(e instanceof Anthropic.APIError, String(e));
        assert.equal(e.status, status);
        assert.match(e.message, message);
        assert.equal((e.error as { type: string }).type, 'error');
        assert.match(e.requestID ?? '', /^req-/);
        return true;
      });
    const stranger = new Anthropic({ baseURL: rig.url, apiKey: 'wrong', maxRetries: 0 });
    await assert.rejects(stranger.messages.create(params('Hello')), Anthropic.AuthenticationError);
    const bearer = new Anthropic({ baseURL: rig.url, apiKey: null, authToken: 'alpha', maxRetries: 0 });
    assert.equal((await bearer.messages.create(params(FACTS))).stop_reason, 'end_turn');
  });
});
