/** `model: "base:name"` in every API reaches the engine as an adapter; what is not there is a 404 in each API's words. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import OpenAI from 'openai';
import { createEngine } from '../../src/index.js';
import { createServer } from '../../src/server/index.js';
import { readAdapterFixture, writePeft } from '../models/adapters.js';
import { readFixture, writeFolder } from '../models/tiny.js';
import { rig } from '../support/http.js';

const adapters = ['poet', 'clerk'].map((name) => ({ name, path: `/${name}`, rank: 8, bytes: 1 }));
const fake = { info: { adapters, embeddings: true } };
const messages = [{ role: 'user', content: 'hello' }];
const APIS: [path: string, body: Record<string, unknown>][] = [
  ['/v1/chat/completions', { messages }],
  ['/v1/completions', { prompt: 'hello' }],
  ['/v1/responses', { input: 'hello' }],
  ['/v1/messages', { max_tokens: 100, messages }],
  ['/api/chat', { messages, stream: false }],
  ['/api/generate', { prompt: 'hello', stream: false }],
  ['/api/generate', { prompt: 'hello', stream: false, raw: true }],
];

for (const [path, body] of APIS) {
  test(`${path}${body.raw ? ', raw' : ''}`, async (t) => {
    const { post, engine } = await rig(t, fake);
    const asked = async (model: string | undefined) => {
      const response = await post(path, { ...body, ...(model && { model }) });
      const { model: said } = (await response.json()) as { model?: string };
      return { status: response.status, said, adapter: engine.calls.at(-1)?.request.adapter };
    };
    assert.deepEqual(await asked('fake:poet'), { status: 200, said: 'fake:poet', adapter: 'poet' });
    assert.deepEqual(await asked('fake:clerk'), { status: 200, said: 'fake:clerk', adapter: 'clerk' });
    assert.deepEqual(await asked('fake'), { status: 200, said: 'fake', adapter: null });
    if (path.startsWith('/v1/')) assert.equal((await asked(undefined)).adapter, undefined);
    const calls = engine.calls.length;
    for (const model of ['fake:painter', 'other:poet', 'poet', ':poet'])
      assert.equal((await asked(model)).status, 404, model);
    assert.equal(engine.calls.length, calls);
  });
}

test('embeddings', async (t) => {
  const { post, engine } = await rig(t, fake);
  const seen: unknown[] = [];
  const { embed } = engine;
  engine.embed = (request) => {
    seen.push(request.adapter);
    return embed.call(engine, request);
  };
  for (const path of ['/v1/embeddings', '/api/embed'])
    for (const [model, status] of [
      ['fake:poet', 200],
      ['fake', 200],
      ['fake:painter', 404],
    ] as const)
      assert.equal((await post(path, { model, input: 'hello' })).status, status, `${path} ${model}`);
  assert.deepEqual(seen, ['poet', null, 'poet', null]);
});

test('lists of models', async (t) => {
  const { get, post } = await rig(t, fake, { servedModelName: ['one', 'hf:org/two'] });
  const { data } = (await (await get('/v1/models')).json()) as { data: { id: string; parent?: string }[] };
  assert.deepEqual(
    data.map(({ id, parent }) => [id, parent]),
    [
      ['one', undefined],
      ['hf:org/two', undefined],
      ['one:poet', 'one'],
      ['one:clerk', 'one'],
      ['hf:org/two:poet', 'hf:org/two'],
      ['hf:org/two:clerk', 'hf:org/two'],
    ],
  );
  const one = (await (await get('/v1/models/hf:org/two:clerk')).json()) as { id: string; parent: string };
  assert.deepEqual([one.id, one.parent], ['hf:org/two:clerk', 'hf:org/two']);
  assert.equal((await get('/v1/models/one:painter')).status, 404);
  const tags = (await (await get('/api/tags')).json()) as { models: { name: string }[] };
  assert.ok(tags.models.some((m) => m.name === 'one:poet') && tags.models.some((m) => m.name === 'one:latest'));
  assert.equal((await post('/api/show', { model: 'one:poet' })).status, 200);
});

test('where any name is taken, one that ends with an adapter has it', async (t) => {
  const { post, engine } = await rig(t, fake, { servedModelName: ['*'] });
  for (const [model, adapter] of [
    ['gpt:poet', 'poet'],
    ['llama3:8b', null],
  ] as const) {
    assert.equal((await post('/v1/chat/completions', { model, messages })).status, 200);
    assert.equal(engine.calls.at(-1)!.request.adapter, adapter);
  }
});

test('a response is gone on from with its adapter, and said anew to another', async (t) => {
  const { post, engine } = await rig(t, fake);
  const respond = async (body: object) => {
    const response = await post('/v1/responses', { input: 'and?', ...body });
    assert.equal(response.status, 200);
    const { adapter, after } = engine.calls.at(-1)!.request;
    return { id: ((await response.json()) as { id: string }).id, adapter, after };
  };
  const first = await respond({ model: 'fake:poet' });
  const same = await respond({ model: 'fake:poet', previous_response_id: first.id });
  assert.deepEqual([same.adapter, same.after], ['poet', first.id]);
  const silent = await respond({ previous_response_id: same.id });
  assert.deepEqual([silent.adapter, silent.after], ['poet', same.id]);
  const other = await respond({ model: 'fake:clerk', previous_response_id: first.id });
  assert.deepEqual([other.adapter, other.after], ['clerk', undefined]);
  const none = await respond({ model: 'fake', previous_response_id: first.id });
  assert.deepEqual([none.adapter, none.after], [null, undefined]);
});

describe('the official client and a real engine', () => {
  test('chooses adapters by the name of the model', async (t) => {
    const lora = { all: writePeft(readAdapterFixture('all')), rs: writePeft(readAdapterFixture('rslora')) };
    const model = writeFolder(readFixture('llama'));
    const engine = await createEngine({ model, lora, cacheBlockSeqLen: 16, cacheMaxEntryCount: 60, threads: 1 });
    const server = await createServer(engine, { serverPort: 0, logLevel: 'silent', servedModelName: ['tiny'] });
    t.after(async () => {
      await server.close({ drainMs: 0 });
      await engine.close();
    });
    const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'key', maxRetries: 0 });
    const ids = (await openai.models.list()).data.map((m) => m.id);
    assert.deepEqual(ids, ['tiny', 'tiny:all', 'tiny:rs']);
    const prompt = readAdapterFixture('all').ids.slice(0, 70);
    const say = async (name: string) => {
      const more = { ignore_eos: true, top_k: 0, repetition_penalty: 1 };
      const body = { model: name, prompt, max_tokens: 12, temperature: 0, top_p: 1, logprobs: 0, ...more };
      const answer = await openai.completions.create(body);
      assert.equal(answer.model, name);
      return answer.choices[0]!.logprobs!.token_logprobs;
    };
    const alone = [];
    for (const id of ids) alone.push(await say(id));
    assert.equal(new Set(alone.map(String)).size, 3);
    assert.deepEqual(await Promise.all([...ids, ...ids].map(say)), [...alone, ...alone]);
    await assert.rejects(say('tiny:none'), (e) => {
      assert.ok(e instanceof OpenAI.NotFoundError);
      assert.equal(e.code, 'model_not_found');
      assert.match(e.message, /'tiny:none'.*'tiny:all', 'tiny:rs'/);
      return true;
    });
    const session = { session_id: 's', ignore_eos: true } as object;
    await openai.completions.create({ model: 'tiny:all', prompt, max_tokens: 2, ...session });
    await assert.rejects(openai.completions.create({ model: 'tiny:rs', prompt, max_tokens: 2, ...session }), {
      status: 409,
      code: 'session_adapter',
    });
    await engine.check();
  });
});
