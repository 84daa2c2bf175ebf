/** What holds for every API: keys, bounds, priorities, failures in its own words, metrics. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { errors } from '../../src/errors.js';
import { rig, until } from '../support/http.js';

const messages = [{ role: 'user', content: 'hello' }];

interface Api {
  path: string;
  body: Record<string, unknown>;
  /** What an error looks like; its message. */
  message(error: unknown): string;
  /** The last event of a stream that failed. */
  failed: RegExp;
}

const openAi = (e: unknown) => (e as { error: { message: string; type: string } }).error.message;
const line = (e: unknown) => (e as { error: string }).error;
const apis: Api[] = [
  {
    path: '/v1/responses',
    body: { input: 'hello' },
    message: openAi,
    failed: /event: error\ndata: \{"type":"error","sequence_number":\d+,"code":"nan_logits".*\}\n\n$/,
  },
  {
    path: '/v1/messages',
    body: { max_tokens: 100, messages },
    message: (e) => {
      assert.equal((e as { type: string }).type, 'error');
      return openAi(e);
    },
    failed: /event: error\ndata: \{"type":"error","error":\{"type":"api_error","message":".*"\}\}\n\n$/,
  },
  {
    path: '/api/chat',
    body: { model: 'fake', messages },
    message: line,
    failed: /\n\{"error":"the model produced no finite logits.*"\}\n$/,
  },
  {
    path: '/api/generate',
    body: { model: 'fake', prompt: 'hello' },
    message: line,
    failed: /\n\{"error":"the model produced no finite logits.*"\}\n$/,
  },
];

const embedders: Api[] = [
  { path: '/v1/embeddings', body: { input: 'hello' }, message: openAi, failed: /./ },
  {
    path: '/api/embed',
    body: { model: 'fake', input: 'hello' },
    message: line,
    failed: /./,
  },
];

for (const { path, body, message, failed } of [...apis, ...embedders])
  describe(path, () => {
    test('a key is asked for, in either header', async (t) => {
      const { post } = await rig(t, {}, { apiKeys: ['alpha', 'beta'] });
      const refused = await post(path, body);
      assert.equal(refused.status, 401);
      assert.match(message(await refused.json()), /API key/);
      assert.equal((await post(path, body, { 'x-api-key': 'gamma' })).status, 401);
      assert.equal((await post(path, { ...body, stream: undefined }, { 'x-api-key': 'beta' })).status, 200);
      assert.equal((await post(path, body, { authorization: 'Bearer alpha' })).status, 200);
    });

    test('bounds hold: body, priority, model, unknown fields, content type', async (t) => {
      const { post, url } = await rig(t, {}, { maxPriority: 1, maxBodyBytes: 2048, servedModelName: 'fake' });
      const bad: [Record<string, unknown>, number, RegExp][] = [
        [{ ...body, priority: 2 }, 400, /priority/],
        [{ ...body, user_input: 'x'.repeat(4096) }, 413, /2048 bytes/],
        [{ ...body, model: 'other' }, 404, /'other' is not served/],
        [{ ...body, nonsense: 1 }, 400, /'nonsense' is not known/],
      ];
      for (const [fields, status, expected] of bad) {
        const response = await post(path, fields);
        assert.equal(response.status, status, String(expected));
        assert.match(message(await response.json()), expected);
        assert.match(response.headers.get('x-request-id') ?? '', /^req-/);
      }
      const plain = await fetch(url + path, { method: 'POST', body: JSON.stringify(body) });
      assert.equal(plain.status, 415);
      assert.match(message(await plain.json()), /application\/json/);
    });

    if (embedders.some((e) => e.path === path)) return;

    test('the owner and the priority reach the engine', async (t) => {
      const { post, engine } = await rig(t, {}, { apiKeys: ['alpha', 'beta'] });
      await (await post(path, { ...body, priority: 1 }, { 'x-api-key': 'alpha' })).text();
      await (await post(path, body, { 'x-api-key': 'beta' })).text();
      const [one, two] = engine.calls.map((c) => c.request);
      assert.deepEqual([one!.priority, two!.priority ?? 0], [1, 0]);
      assert.ok(one!.owner! > 0 && two!.owner! > 0 && one!.owner !== two!.owner);
    });

    test('a stream that fails after its beginning ends with an error in the form of its API', async (t) => {
      const { post } = await rig(t, { failAt: 3, failWith: errors.nanLogits(3) });
      const response = await post(path, { ...body, stream: true });
      assert.equal(response.status, 200);
      assert.match(await response.text(), failed);
    });

    test('what fails before the first token has its own status, and 429 says when to come back', async (t) => {
      const { post, engine } = await rig(t, { maxRunning: 0 });
      const full = await post(path, { ...body, stream: true });
      assert.deepEqual([full.status, full.headers.get('retry-after')], [429, '1']);
      assert.match(message(await full.json()), /waiting already/);
      assert.equal(engine.calls.length, 0);
    });

    test('a client that goes away ends the generation, and nothing is kept', async (t) => {
      const { post, engine } = await rig(t, { answer: () => 'x'.repeat(2000), delayMs: 5 });
      const gone = new AbortController();
      const response = await post(path, { ...body, stream: true }, {}, gone.signal);
      await response.body!.getReader().read();
      gone.abort();
      await until('the generation is aborted', () => engine.calls[0]!.generation.aborted);
      assert.equal(engine.points.size, 0);
    });

    test('metrics name the endpoint', async (t) => {
      const { post, get } = await rig(t);
      await (await post(path, body)).text();
      const text = await (await get('/metrics')).text();
      assert.ok(text.includes(`longmind_generations_total{endpoint="${path}",outcome="stop"} 1\n`), text);
      assert.match(text, new RegExp(`^longmind_http_tokens_total\\{endpoint="${path}",kind="prompt"\\} \\d+$`, 'm'));
    });

    test('while the server drains it is told so', async (t) => {
      const { post, server } = await rig(t);
      const closing = server.close({ drainMs: 0 });
      const response = await post(path, body).catch(() => null);
      if (response) assert.equal(response.status, 503);
      await closing;
    });
  });

test('a call that streams is one item, and ids of what is kept follow from the response', async (t) => {
  const call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>';
  const { post, get } = await rig(t, { answer: () => `I look.\n${call}` });
  const tools = [{ type: 'function', name: 'get_weather', parameters: { type: 'object' } }];
  const body = { input: 'What is the weather in Rome?', tools };
  const stream = await (await post('/v1/responses', { ...body, stream: true })).text();
  const events = [...stream.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data!));
  const added = events.filter((e) => e.type === 'response.output_item.added').map((e) => e.item);
  assert.deepEqual(
    added.map((i) => i.type),
    ['message', 'function_call'],
  );
  const { response } = events.at(-1);
  assert.deepEqual(
    response.output.map((i: { id: string }) => i.id),
    added.map((i) => i.id),
  );
  assert.equal(response.output[1].call_id, added[1].call_id);
  assert.deepEqual(JSON.parse(response.output[1].arguments), { city: 'Rome' });
  const kept = await (await get(`/v1/responses/${response.id}`)).json();
  assert.deepEqual(kept, response);
});

test('a call that was cut off is not part of the answer, in any API', async (t) => {
  const { post } = await rig(t, { answer: () => '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Ro' });
  const parameters = { type: 'object' };
  const responses = await post('/v1/responses', {
    input: 'x',
    tools: [{ type: 'function', name: 'get_weather', parameters }],
    max_output_tokens: 50,
  });
  const { output, status } = (await responses.json()) as { output: { type: string }[]; status: string };
  assert.deepEqual([output.filter((i) => i.type === 'function_call'), status], [[], 'incomplete']);
  const tools = [{ name: 'get_weather', input_schema: parameters }];
  const answer = await post('/v1/messages', { messages, tools, max_tokens: 50 });
  const { content, stop_reason } = (await answer.json()) as { content: unknown[]; stop_reason: string };
  assert.deepEqual([content, stop_reason], [[], 'max_tokens']);
  const lines = await post('/api/chat', {
    model: 'fake',
    messages,
    tools: [{ function: { name: 'get_weather', parameters } }],
    options: { num_predict: 50 },
  });
  assert.doesNotMatch(await lines.text(), /tool_calls/);
});
