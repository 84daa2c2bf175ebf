/** What a model thinks, in each API: apart from the answer, whole and streamed, kept, and turned on and off. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import type { ChatRequest } from '../../src/types.js';
import { type ApiError, hello as messages, rig } from '../support/http.js';

const reasoning = { open: '<think>', close: '</think>', switch: 'enable_thinking', effort: false };
const answer = '<think>\nHm, é.\n</think>\n\nYes.';
const thinks = { info: { reasoning }, answer: () => answer };
const openai = (url: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'x', maxRetries: 0 });
const lastChat = (engine: { calls: { request: object }[] }) => engine.calls.at(-1)!.request as ChatRequest;

test('chat: reasoning_content beside content, whole and streamed, and its tokens counted', async (t) => {
  const { post } = await rig(t, thinks);
  const { choices, usage } = (await (await post('/v1/chat/completions', { messages })).json()) as OpenAI.ChatCompletion;
  const message = choices[0]!.message as OpenAI.ChatCompletionMessage & { reasoning_content?: string };
  assert.deepEqual([message.content, message.reasoning_content], ['Yes.', 'Hm, é.']);
  assert.equal(usage!.completion_tokens_details!.reasoning_tokens, answer.length - 'Yes.'.length);
  const stream = await (await post('/v1/chat/completions', { messages, stream: true, logprobs: true })).text();
  const deltas = [...stream.matchAll(/^data: (\{.*)$/gm)].flatMap(([, d]) => JSON.parse(d!).choices);
  const joined = (field: string) => deltas.map((c) => c.delta[field] ?? '').join('');
  assert.deepEqual([joined('content'), joined('reasoning_content')], ['Yes.', 'Hm, é.']);
  assert.equal(deltas.flatMap((c) => c.logprobs?.content ?? []).length, answer.length);
  // one chunk is thinking or answer, and thinking comes first
  assert.ok(deltas.every((c) => !(c.delta.content && c.delta.reasoning_content)));
});

test('thinking that never closes is no answer; an answer without thinking has none', async (t) => {
  const { post } = await rig(t, { ...thinks, thinking: 'inside', answer: () => 'Hm, hm' });
  const ask = async () =>
    ((await (await post('/v1/chat/completions', { messages })).json()) as OpenAI.ChatCompletion).choices[0]!;
  const cut = await ask();
  assert.deepEqual(
    [cut.message.content, (cut.message as { reasoning_content?: string }).reasoning_content],
    ['', 'Hm, hm'],
  );
  const plain = await rig(t, { ...thinks, answer: () => 'No.' });
  const { choices } = (await (await plain.post('/v1/chat/completions', { messages })).json()) as OpenAI.ChatCompletion;
  assert.deepEqual([choices[0]!.message.content, 'reasoning_content' in choices[0]!.message], ['No.', false]);
});

const tools = [
  { type: 'function', function: { name: 'now', parameters: { type: 'object', properties: {} } } },
] as const;

for (const tags of [false, true])
  test(`thinking, then words, then calls${tags ? ', with tags that are special tokens' : ''}`, async (t) => {
    const [open, close] = tags ? ['\ue000', '\ue001'] : ['<tool_call>', '</tool_call>'];
    const thought = `I could ${open} but`;
    const said = `<think>${thought}</think>\nLook.\n${open}\n{"name": "now", "arguments": {}}\n${close}`;
    const { url, engine } = await rig(t, { ...thinks, tags, answer: () => said });
    const client = openai(url);
    const whole = await client.chat.completions.create({
      model: 'fake',
      messages: messages as never,
      tools: [...tools],
    });
    const { message, finish_reason } = whole.choices[0]!;
    assert.equal(finish_reason, 'tool_calls');
    assert.equal(message.content!.trim(), 'Look.');
    assert.equal(message.tool_calls!.length, 1);
    const stream = client.chat.completions.stream({ model: 'fake', messages: messages as never, tools: [...tools] });
    let streamed = '';
    for await (const chunk of stream)
      streamed += (chunk.choices[0]?.delta as { reasoning_content?: string })?.reasoning_content ?? '';
    assert.equal(streamed, (message as { reasoning_content?: string }).reasoning_content);
    assert.equal(streamed.includes('I could'), true);
    const final = (await stream.finalChatCompletion()).choices[0]!;
    assert.deepEqual(
      final.message.tool_calls!.map((c) => c.type === 'function' && c.function.name),
      ['now'],
    );
    // masks begin after the thinking
    assert.notEqual((lastChat(engine).grammar as { thinking: object | null }).thinking, null);
  });

test('thinking is turned on and off, or refused where it cannot be', async (t) => {
  const { post, engine } = await rig(t, thinks);
  const ask = async (path: string, body: object) => {
    const response = await post(path, body);
    assert.equal(response.status, 200, await response.text());
    return lastChat(engine).chatTemplateKwargs;
  };
  const chat = '/v1/chat/completions';
  assert.equal(await ask(chat, { messages }), undefined);
  assert.deepEqual(await ask(chat, { messages, reasoning_effort: 'none' }), { enable_thinking: false });
  assert.deepEqual(await ask(chat, { messages, reasoning_effort: 'high' }), { enable_thinking: true });
  const chat_template_kwargs = { enable_thinking: false, documents: [] };
  assert.deepEqual(await ask(chat, { messages, reasoning_effort: 'high', chat_template_kwargs }), chat_template_kwargs);
  assert.deepEqual(await ask('/v1/responses', { input: 'x', reasoning: { effort: 'none' } }), {
    enable_thinking: false,
  });
  const anthropic = { messages, max_tokens: 2000 };
  const enabled = { type: 'enabled', budget_tokens: 1024 };
  assert.deepEqual(await ask('/v1/messages', { ...anthropic, thinking: enabled }), { enable_thinking: true });
  assert.deepEqual(await ask('/v1/messages', { ...anthropic, thinking: { type: 'disabled' } }), {
    enable_thinking: false,
  });
  assert.deepEqual(await ask('/api/chat', { model: 'fake', messages, think: false }), { enable_thinking: false });
  assert.deepEqual(await ask('/api/generate', { model: 'fake', prompt: 'x', think: true }), { enable_thinking: true });

  const always = await rig(t, { ...thinks, info: { reasoning: { ...reasoning, switch: null } } });
  const refused = async (r: typeof always, path: string, body: object, pattern: RegExp) => {
    const response = await r.post(path, body);
    const text = await response.text();
    assert.equal(response.status, 400, text);
    assert.match(text, pattern);
  };
  await refused(always, chat, { messages, reasoning_effort: 'none' }, /'reasoning_effort' .*always thinks/);
  await refused(
    always,
    '/v1/responses',
    { input: 'x', reasoning: { effort: 'none' } },
    /'reasoning.effort' .*always thinks/,
  );
  await refused(always, '/api/chat', { model: 'fake', messages, think: false }, /'think' .*always thinks/);
  await refused(
    always,
    '/v1/messages',
    { ...anthropic, thinking: { ...enabled, budget_tokens: 2000 } },
    /budget_tokens/,
  );
  const never = await rig(t);
  await refused(never, '/v1/messages', { ...anthropic, thinking: enabled }, /'thinking' .*does not think/);
  await refused(never, '/api/chat', { model: 'fake', messages, think: true }, /'think' .*does not think/);
  for (const effort of ['none', 'high'])
    assert.equal((await never.post(chat, { messages, reasoning_effort: effort })).status, 200);
});

test('what was thought goes back to the template, from every API', async (t) => {
  const { post, engine } = await rig(t, thinks);
  const said = async (path: string, body: object) => {
    const response = await post(path, body);
    assert.equal(response.status, 200, await response.text());
    return lastChat(engine).messages.map((m) => [m.role, m.reasoning_content ?? null]);
  };
  const expected = [
    ['user', null],
    ['assistant', 'Hm.'],
    ['user', null],
  ];
  const user = { role: 'user', content: 'x' };
  const turn = { role: 'assistant', content: 'Yes.' };
  const history = [user, { ...turn, reasoning_content: 'Hm.' }, user];
  assert.deepEqual(await said('/v1/chat/completions', { messages: history }), expected);
  const items = [
    user,
    { type: 'reasoning', id: 'rs_1', summary: [], content: [{ type: 'reasoning_text', text: 'Hm.' }] },
    turn,
    user,
  ];
  assert.deepEqual(await said('/v1/responses', { input: items }), expected);
  const blocks = [
    { type: 'thinking', thinking: 'Hm.', signature: 's' },
    { type: 'text', text: 'Yes.' },
  ];
  assert.deepEqual(
    await said('/v1/messages', { messages: [user, { role: 'assistant', content: blocks }, user], max_tokens: 9 }),
    expected,
  );
  assert.deepEqual(
    await said('/api/chat', { model: 'fake', messages: [user, { ...turn, thinking: 'Hm.' }, user] }),
    expected,
  );
  const wrong = await post('/v1/chat/completions', { messages: [{ ...user, reasoning_content: 'x' }] });
  assert.equal(((await wrong.json()) as ApiError).error.param, 'messages[0].reasoning_content');
});

test('responses: a reasoning item before the message, streamed, kept and read again', async (t) => {
  const { url, post, get } = await rig(t, thinks);
  const client = openai(url);
  const whole = await client.responses.create({ model: 'fake', input: 'x' });
  assert.deepEqual(
    whole.output.map((i) => i.type),
    ['reasoning', 'message'],
  );
  assert.equal(whole.output_text, 'Yes.');
  assert.deepEqual((whole.output[0] as OpenAI.Responses.ResponseReasoningItem).content, [
    { type: 'reasoning_text', text: 'Hm, é.' },
  ]);
  assert.equal(whole.usage!.output_tokens_details.reasoning_tokens, answer.length - 4);
  const kept = await (await get(`/v1/responses/${whole.id}`)).json();
  assert.deepEqual(kept, JSON.parse(JSON.stringify({ ...whole, output_text: undefined, _request_id: undefined })));
  let thought = '';
  let text = '';
  const kinds: string[] = [];
  for await (const e of await client.responses.create({ model: 'fake', input: 'x', stream: true })) {
    if (e.type === 'response.reasoning_text.delta') thought += e.delta;
    if (e.type === 'response.output_text.delta') {
      text += e.delta;
      assert.equal(e.output_index, 1);
    }
    if (e.type === 'response.output_item.done') kinds.push(`${e.output_index} ${e.item.type} ${e.item.id}`);
    if (e.type === 'response.completed') {
      const ids = e.response.output.map((i, n) => `${n} ${i.type} ${i.id}`);
      assert.deepEqual(kinds, ids);
    }
  }
  assert.deepEqual([thought, text], ['Hm, é.', 'Yes.']);
  const next = await post('/v1/responses', { input: 'y', previous_response_id: whole.id });
  const list = await client.responses.inputItems.list(((await next.json()) as { id: string }).id, { order: 'asc' });
  assert.deepEqual(
    list.data.map((i) => i.type),
    ['message', 'reasoning', 'message', 'message'],
  );
  const reference = [
    { type: 'item_reference', id: whole.output[0]!.id! },
    { role: 'user', content: 'z' },
  ];
  assert.equal((await post('/v1/responses', { input: reference })).status, 200);
});

test('messages: a thinking block with a signature before the text, streamed by the official client', async (t) => {
  const { url } = await rig(t, thinks);
  const client = new Anthropic({ baseURL: url, apiKey: 'x', maxRetries: 0 });
  const body = {
    ...{ model: 'fake', max_tokens: 2000, messages: messages as Anthropic.MessageParam[] },
    thinking: { type: 'enabled' as const, budget_tokens: 1024 },
  };
  const whole = await client.messages.create(body);
  assert.deepEqual(
    whole.content.map((b) => b.type),
    ['thinking', 'text'],
  );
  const stream = client.messages.stream(body);
  let thought = '';
  stream.on('thinking', (delta) => {
    thought += delta;
  });
  const final = await stream.finalMessage();
  assert.equal(thought, 'Hm, é.');
  assert.deepEqual(final.content, whole.content);
});

test('ollama: message.thinking, whole and in lines', async (t) => {
  const { post } = await rig(t, thinks);
  const whole = (await (await post('/api/chat', { model: 'fake', messages, stream: false })).json()) as {
    message: { content: string; thinking: string };
  };
  assert.deepEqual([whole.message.content, whole.message.thinking], ['Yes.', 'Hm, é.']);
  const lines = (await (await post('/api/generate', { model: 'fake', prompt: 'x' })).text()).trim().split('\n');
  const parts = lines.map((l) => JSON.parse(l) as { response: string; thinking?: string });
  assert.equal(parts.map((p) => p.thinking ?? '').join(''), 'Hm, é.');
  assert.equal(parts.map((p) => p.response).join(''), 'Yes.');
  const { capabilities } = (await (await post('/api/show', { model: 'fake' })).json()) as { capabilities: string[] };
  assert.ok(capabilities.includes('thinking'));
});
