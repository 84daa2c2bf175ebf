import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Chunk, errorOf, eventsOf, hello, rig } from '../support/http.js';

test('a chat completion has the shape that clients of the OpenAI API know', async (t) => {
  const { post } = await rig(t);
  const response = await post('/v1/chat/completions', { model: 'fake', messages: hello });
  assert.equal(response.status, 200);
  assert.match(response.headers.get('x-request-id') ?? '', /^req-/);
  const body = (await response.json()) as Record<string, unknown>;
  assert.match(body.id as string, /^chatcmpl-/);
  assert.ok(Math.abs((body.created as number) - Date.now() / 1000) < 60);
  assert.deepEqual(
    { ...body, id: 0, created: 0 },
    {
      id: 0,
      object: 'chat.completion',
      created: 0,
      model: 'fake',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'You said: user: hello', refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: {
        prompt_tokens: 12,
        completion_tokens: 21,
        total_tokens: 33,
        prompt_tokens_details: { cached_tokens: 0 },
        completion_tokens_details: { reasoning_tokens: 0, accepted_prediction_tokens: 0 },
      },
      system_fingerprint: 'longmind-Q8_0-fake',
    },
  );
});

test('every field reaches the engine under its own name', async (t) => {
  const { post, engine } = await rig(t);
  const response = await post('/v1/chat/completions', {
    messages: [
      { role: 'developer', content: 'be brief' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
        name: 'Ann',
      },
      { role: 'assistant', content: 'c', refusal: null, tool_calls: null },
    ],
    max_completion_tokens: 7,
    temperature: 0,
    top_p: 0.5,
    top_k: 3,
    min_p: 0.1,
    repetition_penalty: 1.1,
    presence_penalty: 0.2,
    frequency_penalty: -0.3,
    seed: 42,
    logit_bias: { 65: -100 },
    stop: 'END',
    stop_token_ids: [2],
    ignore_eos: true,
    min_tokens: 1,
    logprobs: true,
    top_logprobs: 2,
    session_id: 's',
    session_append: true,
    session_length: 7,
    priority: 2,
    user: 'ann',
    n: 1,
    tools: [],
    tool_choice: 'none',
    response_format: { type: 'text' },
    stream: null,
    service_tier: 'auto',
    store: false,
    metadata: {},
  });
  assert.equal(response.status, 200, await response.clone().text());
  assert.deepEqual(engine.calls[0]?.request, {
    messages: [
      { role: 'system', content: 'be brief' },
      { role: 'user', content: 'a\nb', name: 'Ann' },
      { role: 'assistant', content: 'c' },
    ],
    maxTokens: 7,
    temperature: 0,
    topP: 0.5,
    topK: 3,
    minP: 0.1,
    repetitionPenalty: 1.1,
    presencePenalty: 0.2,
    frequencyPenalty: -0.3,
    seed: 42,
    logitBias: { 65: -100 },
    stop: ['END'],
    stopTokens: [2],
    ignoreEos: true,
    minTokens: 1,
    logprobs: 2,
    sessionId: 's',
    sessionAppend: true,
    sessionLength: 7,
    priority: 2,
    owner: 0,
  });
});

const chat = (fields: Record<string, unknown>) => ({ messages: hello, ...fields });

/** [what, body, status, code, param] */
const refused: [string, unknown, number, string, string | null][] = [
  ['an unknown model', chat({ model: 'gpt-4' }), 404, 'model_not_found', 'model'],
  ['a forced tool without tools', chat({ tool_choice: 'required' }), 400, 'invalid_request', 'tool_choice'],
  ['functions', chat({ functions: [{ name: 'f' }] }), 400, 'unsupported_field', 'functions'],
  ['too many choices', chat({ n: 17 }), 400, 'invalid_request', 'n'],
  ['several choices of a session', chat({ n: 2, session_id: 's' }), 400, 'invalid_request', 'session_id'],
  ['audio', chat({ audio: { voice: 'x' }, modalities: ['text', 'audio'] }), 400, 'unsupported_field', 'audio'],
  ['a prediction', chat({ prediction: { type: 'content', content: 'x' } }), 400, 'unsupported_field', 'prediction'],
  ['a misspelt field', chat({ temprature: 1 }), 400, 'unknown_field', 'temprature'],
  ['__proto__', '{"messages":[{"role":"user","content":"x"}],"__proto__":{"a":1}}', 400, 'unknown_field', '__proto__'],
  ['a temperature that is text', chat({ temperature: '0' }), 400, 'invalid_request', 'temperature'],
  ['a negative temperature', chat({ temperature: -1 }), 400, 'invalid_request', 'temperature'],
  ['top_p above 1', chat({ top_p: 1.5 }), 400, 'invalid_request', 'top_p'],
  ['max_tokens 0', chat({ max_tokens: 0 }), 400, 'invalid_request', 'max_tokens'],
  [
    'contradictory limits',
    chat({ max_tokens: 1, max_completion_tokens: 2 }),
    400,
    'invalid_request',
    'max_completion_tokens',
  ],
  ['top_logprobs alone', chat({ top_logprobs: 2 }), 400, 'invalid_request', 'top_logprobs'],
  ['too many top_logprobs', chat({ logprobs: true, top_logprobs: 21 }), 400, 'invalid_request', 'top_logprobs'],
  [
    'stream_options without stream',
    chat({ stream_options: { include_usage: true } }),
    400,
    'invalid_request',
    'stream_options',
  ],
  ['session_append alone', chat({ session_append: true }), 400, 'invalid_request', 'session_append'],
  ['session_length alone', chat({ session_length: 1, session_id: 's' }), 400, 'invalid_request', 'session_length'],
  ['a bias that is no number', chat({ logit_bias: { 1: 'x' } }), 400, 'invalid_request', 'logit_bias'],
  ['a bias for no token', chat({ logit_bias: { x: 1 } }), 400, 'invalid_request', 'logit_bias'],
  ['an empty stop string', chat({ stop: [''] }), 400, 'invalid_request', 'stop'],
  ['no messages', {}, 400, 'invalid_request', 'messages'],
  ['empty messages', { messages: [] }, 400, 'invalid_request', 'messages'],
  ['a role that is none', { messages: [{ role: 'wizard', content: 'x' }] }, 400, 'invalid_request', 'messages[0].role'],
  ['no content', { messages: [{ role: 'user' }] }, 400, 'invalid_request', 'messages[0].content'],
  [
    'content that is null',
    { messages: [{ role: 'user', content: null }] },
    400,
    'invalid_request',
    'messages[0].content',
  ],
  ['a body that is no object', [1], 400, 'invalid_request', null],
  ['an empty body', '', 400, 'invalid_request', null],
  ['invalid JSON', '{"messages": [}', 400, 'invalid_json', null],
  ['deeply nested JSON', '['.repeat(100_000), 400, 'invalid_json', null],
];

for (const [what, body, status, code, param] of refused) {
  test(`refused with its name: ${what}`, async (t) => {
    const { post, engine } = await rig(t);
    const response = await post('/v1/chat/completions', body);
    const error = await errorOf(response);
    assert.deepEqual([response.status, error.code, error.param], [status, code, param], error.message);
    assert.equal(error.type, status === 404 ? 'not_found_error' : 'invalid_request_error');
    assert.equal(engine.calls.length, 0);
  });
}

for (const [what, part, message] of [
  ['an image', { type: 'image_url', image_url: { url: 'data:' } }, 'images are not supported by this model'],
  ['an image of another dialect', { type: 'input_image', image_url: 'x' }, 'images are not supported by this model'],
  [
    'a sound',
    { type: 'input_audio', input_audio: { data: '', format: 'wav' } },
    'sounds are not supported by this model',
  ],
  ['a file', { type: 'file', file: { file_id: 'x' } }, 'files are not supported by this model'],
  ['what nobody knows', { type: 'smell' }, "content parts of the type 'smell' are not supported by this model"],
] as const) {
  test(`a content part that no model here reads is refused by what it is: ${what}`, async (t) => {
    const { post, engine } = await rig(t);
    const content = [{ type: 'text', text: 'What is this?' }, part];
    const response = await post('/v1/chat/completions', { messages: [{ role: 'user', content }] });
    const error = await errorOf(response);
    assert.deepEqual(
      [response.status, error.code, error.param, error.message],
      [400, 'unsupported_content', 'messages[0].content[1]', message],
    );
    assert.equal(engine.calls.length, 0);
  });
}

test('hints that change nothing are taken, and reach the engine as if they were not there', async (t) => {
  const { post, engine } = await rig(t);
  const hints = [
    { metadata: { user: 'a', trace: 'b' } },
    { store: false },
    ...['none', 'minimal', 'low', 'medium', 'high'].map((reasoning_effort) => ({ reasoning_effort })),
    ...['auto', 'default', 'flex'].map((service_tier) => ({ service_tier })),
    { cache_prompt: true },
    { cache_prompt: false },
    { prompt_cache_retention: '24h' },
  ];
  const plain = { messages: hello };
  await post('/v1/chat/completions', plain);
  for (const hint of [...hints, { parallel_tool_calls: true }, { parallel_tool_calls: false }]) {
    const response = await post('/v1/chat/completions', { ...plain, ...hint });
    assert.equal(response.status, 200, `${JSON.stringify(hint)}: ${await response.text()}`);
    assert.deepEqual(engine.calls.at(-1)!.request, engine.calls[0]!.request);
  }
  for (const hint of hints)
    assert.equal((await post('/v1/completions', { prompt: 'x', ...hint })).status, 200, JSON.stringify(hint));
  for (const asked of [{ store: true }, { service_tier: 'priority' }])
    assert.equal((await errorOf(await post('/v1/chat/completions', { ...plain, ...asked }))).code, 'unsupported_field');
});

test('several served names: each is listed, taken and answered with; others are not', async (t) => {
  const { get, post, server } = await rig(t, {}, { servedModelName: 'gpt-4o,small' });
  assert.equal(server.modelName, 'gpt-4o');
  const list = (await (await get('/v1/models')).json()) as { data: { id: string }[] };
  assert.deepEqual(
    list.data.map((m) => m.id),
    ['gpt-4o', 'small'],
  );
  for (const model of ['gpt-4o', 'small']) {
    assert.equal((await get(`/v1/models/${model}`)).status, 200);
    const body = (await (await post('/v1/chat/completions', { model, messages: hello })).json()) as { model: string };
    assert.equal(body.model, model);
  }
  const unnamed = (await (await post('/v1/completions', { prompt: 'x' })).json()) as { model: string };
  assert.equal(unnamed.model, 'gpt-4o');
  const other = await errorOf(await post('/v1/chat/completions', { model: 'other', messages: hello }));
  assert.deepEqual([other.code, other.message.includes("'gpt-4o', 'small'")], ['model_not_found', true]);
});

test("the name '*' takes any, and lists the model by its own", async (t) => {
  const { get, post, server } = await rig(t, {}, { servedModelName: '*' });
  assert.equal(server.modelName, 'fake');
  const body = (await (await post('/v1/chat/completions', { model: 'gpt-5', messages: hello })).json()) as {
    model: string;
  };
  assert.equal(body.model, 'gpt-5');
  const list = (await (await get('/v1/models')).json()) as { data: { id: string }[] };
  assert.deepEqual(
    list.data.map((m) => m.id),
    ['fake'],
  );
});

test('the text of a body that is not JSON does not come back in the message', async (t) => {
  const { post } = await rig(t);
  const error = await errorOf(await post('/v1/chat/completions', '{"prompt": my-secret}'));
  assert.equal(error.code, 'invalid_json');
  assert.ok(!error.message.includes('secret'), error.message);
});

test('chat logprobs: chosen tokens with their alternatives, and null when nobody asked', async (t) => {
  const { post } = await rig(t, { answer: () => 'Hé' });
  const response = await post('/v1/chat/completions', chat({ logprobs: true, top_logprobs: 1 }));
  const body = (await response.json()) as { choices: { logprobs: unknown }[] };
  const token = (text: string, bytes: number[]) => ({
    token: text,
    logprob: -0.25,
    bytes,
    top_logprobs: [{ token: text, logprob: -0.25, bytes }],
  });
  assert.deepEqual(body.choices[0]!.logprobs, {
    content: [token('H', [72]), token('é', [0xc3, 0xa9])],
    refusal: null,
  });
});

test('completions: text, token ids and several prompts; 16 tokens unless told otherwise', async (t) => {
  const { post } = await rig(t, { answer: (prompt) => prompt.repeat(20) });
  type Body = { choices: { index: number; text: string; finish_reason: string }[]; usage: { prompt_tokens: number } };
  const ask = async (fields: Record<string, unknown>) => (await (await post('/v1/completions', fields)).json()) as Body;
  assert.deepEqual((await ask({ prompt: 'ab' })).choices[0], {
    index: 0,
    text: 'abababababababab',
    logprobs: null,
    finish_reason: 'length',
  });
  assert.equal((await ask({ prompt: [104, 105], max_tokens: 4 })).choices[0]!.text, 'hihi');
  const several = await ask({ prompt: ['x', 'y'], max_tokens: 2 });
  assert.deepEqual(
    several.choices.map((c) => [c.index, c.text]),
    [
      [0, 'xx'],
      [1, 'yy'],
    ],
  );
  assert.equal(several.usage.prompt_tokens, 2);
});

test('n choices: each with its own seed, the prompt counted once, streamed or not', async (t) => {
  const { post, engine } = await rig(t, { answer: (_, request) => `seed ${request.seed}` });
  const body = (await (await post('/v1/chat/completions', chat({ n: 3, seed: 7 }))).json()) as {
    choices: { index: number; message: { content: string } }[];
    usage: { prompt_tokens: number; completion_tokens: number };
  };
  assert.deepEqual(
    body.choices.map((c) => [c.index, c.message.content]),
    [
      [0, 'seed 7'],
      [1, 'seed 8'],
      [2, 'seed 9'],
    ],
  );
  assert.deepEqual([body.usage.prompt_tokens, body.usage.completion_tokens], [12, 18]);
  const two = { prompt: ['a', 'bb'], n: 2, stream: true, stream_options: { include_usage: true } };
  const chunks = eventsOf(await (await post('/v1/completions', two)).text()).filter((e) => e !== '[DONE]') as Chunk[];
  assert.deepEqual([...new Set(chunks.flatMap((c) => c.choices.map((x) => x.index)))].sort(), [0, 1, 2, 3]);
  assert.equal(chunks.at(-1)!.usage!.prompt_tokens, 3);
  assert.deepEqual([engine.calls.length, engine.forks], [7, 4]);
});

test('completions logprobs carry tokens, values and offsets', async (t) => {
  const { post } = await rig(t, { answer: () => 'ab' });
  const body = (await (await post('/v1/completions', { prompt: 'x', logprobs: 1 })).json()) as {
    choices: { logprobs: unknown }[];
  };
  assert.deepEqual(body.choices[0]!.logprobs, {
    tokens: ['a', 'b'],
    token_logprobs: [-0.25, -0.25],
    top_logprobs: [{ a: -0.25 }, { b: -0.25 }],
    text_offset: [0, 1],
  });
});

test('completions refuse what they cannot do, by name', async (t) => {
  const { post } = await rig(t);
  for (const [field, value] of [
    ['suffix', 'x'],
    ['echo', true],
    ['best_of', 2],
  ] as const) {
    const error = await errorOf(await post('/v1/completions', { prompt: 'x', [field]: value }));
    assert.deepEqual([error.code, error.param], ['unsupported_field', field]);
  }
  const error = await errorOf(await post('/v1/completions', { prompt: [70_000] }));
  assert.deepEqual([error.code, error.param], ['invalid_request', 'prompt[0]']);
  assert.match(error.message, /must be <= 65535/);
});

test('errors of the engine keep their code and status', async (t) => {
  const { post } = await rig(t, { sessionLen: 10 });
  const response = await post('/v1/chat/completions', chat({}));
  const error = await errorOf(response);
  assert.deepEqual([response.status, error.code], [400, 'prompt_too_long']);
});

test('an unexpected error is a 500 that tells nothing of its text', async (t) => {
  const { post } = await rig(t, { failAt: 0, failWith: new Error('the prompt was: secret') });
  const response = await post('/v1/chat/completions', chat({}));
  const error = await errorOf(response);
  assert.deepEqual([response.status, error.code, error.type], [500, 'internal_error', 'server_error']);
  assert.ok(!error.message.includes('secret'));
});

test('a full queue is 429 with both retry headers', async (t) => {
  const { post } = await rig(t, { maxRunning: 0 });
  const response = await post('/v1/chat/completions', chat({}));
  assert.equal(response.status, 429);
  assert.equal(response.headers.get('retry-after'), '1');
  assert.equal(response.headers.get('retry-after-ms'), '1000');
  assert.equal((await errorOf(response)).type, 'rate_limit_error');
});

test('models are listed and looked up; names may hold slashes', async (t) => {
  const { get } = await rig(t, {}, { servedModelName: 'hf:org/repo' });
  const list = (await (await get('/v1/models')).json()) as { data: { id: string }[] };
  assert.deepEqual(
    list.data.map((m) => m.id),
    ['hf:org/repo'],
  );
  assert.equal((await get('/v1/models/hf:org/repo')).status, 200);
  assert.equal((await get('/v1/models/hf%3Aorg%2Frepo')).status, 200);
  const missing = await get('/v1/models/other');
  assert.equal(missing.status, 404);
  assert.equal((await errorOf(missing)).code, 'model_not_found');
});

test('tokenize and detokenize are each other’s inverse', async (t) => {
  const { post } = await rig(t);
  const tokens = (await (await post('/tokenize', { text: 'héllo' })).json()) as { tokens: number[]; count: number };
  assert.deepEqual([tokens.count, tokens.tokens[1]], [5, 0xe9]);
  const text = (await (await post('/detokenize', { tokens: tokens.tokens })).json()) as { text: string };
  assert.equal(text.text, 'héllo');
  assert.equal((await post('/detokenize', { tokens: [99_999_999] })).status, 400);
});

test('unknown paths are 404 and wrong methods 405, in the same error shape', async (t) => {
  const { get, post } = await rig(t);
  const missing = await post('/v1/audio/speech', {});
  assert.deepEqual([missing.status, (await errorOf(missing)).code], [404, 'not_found']);
  const wrong = await get('/v1/chat/completions');
  assert.equal(wrong.status, 405);
  assert.equal(wrong.headers.get('allow'), 'POST');
});
