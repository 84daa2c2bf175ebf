import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import type { ChatRequest, ToolFormat } from '../../src/types.js';
import { errorOf, hello, type Rig, rig } from '../support/http.js';

const weather = {
  type: 'function' as const,
  function: {
    name: 'weather',
    description: 'of a city',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
};
const now = { type: 'function' as const, function: { name: 'now' } };
const tools = [weather, now];
const messages = [{ role: 'user' as const, content: 'hello' }];

const hermes = (name: string, args: string) => `<tool_call>\n{"name": "${name}", "arguments": ${args}}\n</tool_call>`;
const twoCalls = `Let me see.\n${hermes('weather', '{"city": "Bonn {\\"1\\"}"}')}\n${hermes('now', '{}')}`;
const client = (url: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'key', maxRetries: 0 });

const styles: [string, { format: ToolFormat; known: boolean }, string, boolean][] = [
  ['hermes', { format: 'hermes', known: true }, hermes('weather', '{"city": "Bonn"}'), false],
  [
    'hermes, tags are tokens',
    { format: 'hermes', known: true },
    '\ue000\n{"name": "weather", "arguments": {"city": "Bonn"}}\n\ue001',
    true,
  ],
  [
    'smollm2',
    { format: 'smollm2', known: false },
    '<tool_call>[{"name": "weather", "arguments": {"city": "Bonn"}}]</tool_call>',
    false,
  ],
  ['llama3', { format: 'llama3', known: true }, '{"name": "weather", "parameters": {"city": "Bonn"}}', false],
  [
    'qwen3-coder',
    { format: 'qwen3-coder', known: true },
    '\ue000\n<function=weather>\n<parameter=city>\nBonn\n</parameter>\n</function>\n\ue001',
    true,
  ],
];

async function rigFor(
  t: Parameters<typeof rig>[0],
  style: (typeof styles)[number][1],
  answer: string,
  tags = false,
): Promise<Rig> {
  return rig(t, { answer: () => answer, tags, info: { toolCalls: style } });
}

for (const [what, style, answer, tags] of styles) {
  test(`a call reaches the official client, whole and streamed: ${what}`, async (t) => {
    const { url } = await rigFor(t, style, answer, tags);
    const openai = client(url);
    const whole = await openai.chat.completions.create({ model: 'fake', messages, tools });
    const stream = openai.chat.completions.stream({
      model: 'fake',
      messages,
      tools,
      stream_options: { include_usage: true },
    });
    for (const choice of [whole.choices[0]!, (await stream.finalChatCompletion()).choices[0]!]) {
      assert.equal(choice.finish_reason, 'tool_calls');
      assert.equal(choice.message.content, null);
      const [call, ...others] = choice.message.tool_calls!;
      assert.equal(others.length, 0);
      assert.ok(call!.type === 'function');
      assert.match(call!.id, /^call_[0-9a-f]{24}$/);
      assert.equal(call!.function.name, 'weather');
      assert.deepEqual(JSON.parse(call!.function.arguments), { city: 'Bonn' });
    }
  });
}

test('text and parallel calls: the deltas come in the order that clients expect', async (t) => {
  const { url } = await rigFor(t, { format: 'hermes', known: true }, twoCalls);
  const stream = await client(url).chat.completions.create({ model: 'fake', messages, tools, stream: true });
  const seen: string[] = [];
  const args: string[] = ['', ''];
  const ids = new Set<string>();
  for await (const { choices } of stream) {
    const { delta, finish_reason: reason } = choices[0]!;
    if (delta.role) seen.push('role');
    else if (delta.content) seen.push('text');
    else if (delta.tool_calls) {
      const [call] = delta.tool_calls;
      seen.push(call!.id ? `call ${call!.index} ${call!.type} ${call!.function!.name}` : `arguments ${call!.index}`);
      if (call!.id) ids.add(call!.id);
      args[call!.index] += call!.function!.arguments;
    } else if (reason) seen.push(reason);
  }
  assert.deepEqual(
    seen.filter((s, i) => s !== seen[i - 1]),
    ['role', 'text', 'call 0 function weather', 'arguments 0', 'call 1 function now', 'arguments 1', 'tool_calls'],
  );
  assert.equal(ids.size, 2);
  assert.deepEqual(
    args.map((a) => JSON.parse(a)),
    [{ city: 'Bonn {"1"}' }, {}],
  );
});

test('an answer in words stays one', async (t) => {
  const { url } = await rigFor(t, { format: 'hermes', known: true }, 'No <tool_ is needed.');
  const openai = client(url);
  const whole = await openai.chat.completions.create({ model: 'fake', messages, tools });
  assert.deepEqual(
    [whole.choices[0]!.message.content, whole.choices[0]!.finish_reason],
    ['No <tool_ is needed.', 'stop'],
  );
  assert.equal(whole.choices[0]!.message.tool_calls, undefined);
  const stream = openai.chat.completions.stream({ model: 'fake', messages, tools });
  assert.equal(await stream.finalContent(), 'No <tool_ is needed.');
});

test('a call that was cut off is not handed out as one', async (t) => {
  const { post } = await rigFor(t, { format: 'hermes', known: true }, twoCalls);
  const response = await post('/v1/chat/completions', { messages, tools, max_tokens: twoCalls.length - 20 });
  const { choices } = (await response.json()) as OpenAI.ChatCompletion;
  assert.equal(choices[0]!.finish_reason, 'length');
  assert.deepEqual(
    choices[0]!.message.tool_calls!.map((c) => c.type === 'function' && c.function.name),
    ['weather'],
  );
});

test('the engine gets a grammar for each choice, and tools only where the template knows them', async (t) => {
  const { post, engine } = await rig(t, { info: { toolCalls: { format: 'hermes', known: true } } });
  const ask = async (fields: object): Promise<ChatRequest> => {
    const response = await post('/v1/chat/completions', { messages, ...fields });
    assert.equal(response.status, 200, await response.text());
    return engine.calls.at(-1)!.request as ChatRequest;
  };
  const auto = await ask({ tools });
  assert.equal((await ask({ tools, tool_choice: 'auto' })).grammar, auto.grammar);
  const required = await ask({ tools, tool_choice: 'required' });
  const named = await ask({ tools, tool_choice: { type: 'function', function: { name: 'now' } } });
  const single = await ask({ tools, parallel_tool_calls: false });
  assert.equal(new Set([auto, required, named, single].map((r) => r.grammar)).size, 4);
  assert.deepEqual((auto.tools![0] as typeof weather).function, weather.function);
  assert.deepEqual(auto.messages, messages);
  const none = await ask({ tools, tool_choice: 'none' });
  assert.deepEqual([none.grammar, none.tools], [undefined, undefined]);
});

test('a model whose template knows no tools hears of them in the system message', async (t) => {
  const { post, engine } = await rig(t, { info: { toolCalls: { format: 'smollm2', known: false } } });
  const ask = async (given: object[], fields: object = {}) => {
    await (await post('/v1/chat/completions', { messages: given, tools, ...fields })).text();
    return (engine.calls.at(-1)!.request as ChatRequest).messages;
  };
  const [system, ...rest] = await ask(messages);
  assert.equal(system!.role, 'system');
  assert.ok(system!.content.includes(JSON.stringify(weather.function.parameters)));
  assert.deepEqual(rest, messages);
  const [own] = await ask([{ role: 'system', content: 'Be brief.' }, ...messages]);
  assert.ok(own!.content.startsWith('Be brief.\n\n') && own!.content.includes('"weather"'));
  // a session that goes on has heard of them
  const session = { session_id: 's', session_append: true };
  assert.equal((await ask(messages, session)).length, 2);
  assert.equal((await ask(messages, session)).length, 1);
});

const called = [
  ...messages,
  {
    role: 'assistant',
    content: null,
    tool_calls: [
      { id: 'a', type: 'function', function: { name: 'weather', arguments: '{"city":"Bonn"}' } },
      { id: 'b', type: 'function', function: { name: 'now', arguments: '' } },
    ],
  },
  { role: 'tool', tool_call_id: 'a', content: 'sunny' },
  { role: 'tool', tool_call_id: 'b', content: [{ type: 'text', text: '12:00' }] },
];

test('calls and results of a history reach a template that knows them as it wants them', async (t) => {
  const { post, engine } = await rig(t, { info: { toolCalls: { format: 'hermes', known: true } } });
  assert.equal((await post('/v1/chat/completions', { messages: called, tools })).status, 200);
  const [, assistant, one, two] = (engine.calls[0]!.request as ChatRequest).messages;
  assert.deepEqual(assistant!.tool_calls, [
    { id: 'a', type: 'function', function: { name: 'weather', arguments: { city: 'Bonn' } } },
    { id: 'b', type: 'function', function: { name: 'now', arguments: {} } },
  ]);
  assert.deepEqual(one, { role: 'tool', content: 'sunny', tool_call_id: 'a' });
  assert.equal(two!.content, '12:00');
});

const written: ['hermes' | 'smollm2' | 'llama3', string, string, string][] = [
  [
    'hermes',
    '<tool_call>\n{"name":"weather","arguments":{"city":"Bonn"}}\n</tool_call>\n<tool_call>\n{"name":"now","arguments":{}}\n</tool_call>',
    'user',
    '<tool_response>\nsunny\n</tool_response>\n<tool_response>\n12:00\n</tool_response>',
  ],
  [
    'smollm2',
    '<tool_call>[{"name":"weather","arguments":{"city":"Bonn"}},{"name":"now","arguments":{}}]</tool_call>',
    'user',
    '<tool_response>\nsunny\n</tool_response>\n<tool_response>\n12:00\n</tool_response>',
  ],
  [
    'llama3',
    '{"name":"weather","parameters":{"city":"Bonn"}}\n{"name":"now","parameters":{}}',
    'ipython',
    'sunny\n12:00',
  ],
];

for (const [format, calls, role, results] of written) {
  test(`calls and results of a history are written out for a template that knows none: ${format}`, async (t) => {
    const { post, engine } = await rig(t, { info: { toolCalls: { format, known: false } } });
    assert.equal((await post('/v1/chat/completions', { messages: called })).status, 200);
    assert.deepEqual((engine.calls[0]!.request as ChatRequest).messages.slice(1), [
      { role: 'assistant', content: calls },
      { role, content: results },
    ]);
  });
}

const assistant = (args: string) => ({
  role: 'assistant',
  tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: args } }],
});
const bad: [string, object, string, string][] = [
  [
    'a tool message without its call',
    { messages: [{ role: 'tool', content: 'x' }] },
    'invalid_request',
    'messages[0].tool_call_id',
  ],
  [
    'arguments that are no JSON',
    { messages: [assistant('{')] },
    'invalid_request',
    'messages[0].tool_calls[0].function.arguments',
  ],
  [
    'arguments that are no object',
    { messages: [assistant('[1]')] },
    'invalid_request',
    'messages[0].tool_calls[0].function.arguments',
  ],
  [
    'calls of a user',
    { messages: [{ ...assistant('{}'), role: 'user', content: 'x' }] },
    'invalid_request',
    'messages[0].tool_calls',
  ],
  ['a user without content', { messages: [{ role: 'user' }] }, 'invalid_request', 'messages[0].content'],
  [
    'a function that is not there',
    { tools, tool_choice: { type: 'function', function: { name: 'g' } } },
    'invalid_request',
    'tool_choice',
  ],
  ['two functions of one name', { tools: [now, now] }, 'invalid_schema', 'tools'],
  [
    'a name with a space',
    { tools: [{ type: 'function', function: { name: 'a b' } }] },
    'invalid_request',
    'tools[0].function.name',
  ],
  [
    'another kind of tool',
    { tools: [{ type: 'custom', custom: { name: 'x' } }] },
    'invalid_request',
    'tools[0].function',
  ],
  [
    'parameters that cannot be enforced',
    { tools: [{ type: 'function', function: { name: 'f', parameters: { not: {} } } }] },
    'invalid_schema',
    'tools',
  ],
  ['a stop string', { tools, stop: 'x' }, 'invalid_request', 'stop'],
  ['a response format too', { tools, response_format: { type: 'json_object' } }, 'invalid_request', 'response_format'],
];

for (const [what, fields, code, param] of bad) {
  test(`refused with its name: ${what}`, async (t) => {
    const { post, engine } = await rig(t);
    const response = await post('/v1/chat/completions', { messages: hello, ...fields });
    assert.equal(response.status, 400);
    const error = await errorOf(response);
    assert.deepEqual([error.code, error.param], [code, param], error.message);
    assert.equal(engine.calls.length, 0);
  });
}
