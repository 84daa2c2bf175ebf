/** Ollama's API by its own client, and embeddings by OpenAI's, with the bundled model. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { memoServer } from '../support/memo-server.js';
import { withoutModel } from '../support/server-process.js';

const FACTS = 'My name is Anna and I live in Vilnius.';
const messages = [{ role: 'user', content: FACTS }];
const options = { temperature: 0 };

describe("Ollama's API with its client", { skip: withoutModel }, () => {
  let rig: Awaited<ReturnType<typeof memoServer>>;
  let ollama: Ollama;
  before(async () => {
    rig = await memoServer({}, { version: '0.1.0', apiKeys: ['alpha'] });
    ollama = new Ollama({ host: rig.url, headers: { authorization: 'Bearer alpha' } });
  });
  after(() => rig?.[Symbol.asyncDispose]());

  test('a chat, whole and streamed, remembers', async () => {
    const one = await ollama.chat({ model: 'memo:latest', messages, options });
    assert.deepEqual([one.done, one.done_reason, one.model], [true, 'stop', 'memo:latest']);
    let text = '';
    let counted = 0;
    for await (const part of await ollama.chat({ model: 'memo', messages, options, stream: true })) {
      text += part.message.content;
      if (part.done) counted = part.eval_count;
    }
    assert.equal(text, one.message.content);
    assert.equal(counted, one.eval_count);
    const turn = [...messages, one.message, { role: 'user', content: 'Where do I live?' }];
    assert.match((await ollama.chat({ model: 'memo', messages: turn, options })).message.content, /Vilnius/);
  });

  test('generate: through the template, raw, streamed, and nothing to say', async () => {
    const chat = await ollama.chat({ model: 'memo', messages, options });
    const plain = await ollama.generate({ model: 'memo', prompt: FACTS, options });
    assert.equal(plain.response, chat.message.content);
    const short = await ollama.generate({ model: 'memo', prompt: FACTS, options: { ...options, num_predict: 2 } });
    assert.deepEqual([short.done_reason, short.eval_count], ['length', 2]);
    let text = '';
    for await (const part of await ollama.generate({
      model: 'memo',
      prompt: 'My',
      raw: true,
      stream: true,
      options: { num_predict: 3 },
    }))
      text += part.response;
    assert.notEqual(text, '');
    assert.equal((await ollama.generate({ model: 'memo', prompt: '' })).done_reason, 'load');
  });

  test('tools and formats are enforced', async () => {
    const parameters = { type: 'object', properties: { city: { type: 'string', enum: ['Rome'] } }, required: ['city'] };
    const tools = [{ type: 'function', function: { name: 'get_weather', description: 'The weather', parameters } }];
    const told = [
      { role: 'user', content: 'What is the weather in Rome?' },
      {
        role: 'assistant',
        content: '',
        tool_calls: [{ function: { name: 'get_weather', arguments: { city: 'Rome' } } }],
      },
      { role: 'tool', content: 'sunny', tool_name: 'get_weather' },
    ];
    assert.equal((await ollama.chat({ model: 'memo', messages: told, tools, options })).done, true);
    const format = {
      type: 'object',
      properties: { ok: { type: 'boolean' } },
      required: ['ok'],
      additionalProperties: false,
    };
    const json = await ollama.chat({ model: 'memo', messages, format, options });
    assert.equal(typeof JSON.parse(json.message.content).ok, 'boolean');
  });

  test('the model, its card, the version, its vectors', async () => {
    const { models } = await ollama.list();
    assert.deepEqual(
      models.map((m) => m.name),
      ['memo:latest'],
    );
    assert.equal((await ollama.ps()).models.length, 1);
    const card = await ollama.show({ model: 'memo' });
    assert.deepEqual(card.capabilities, ['completion', 'tools', 'embedding']);
    assert.equal((await ollama.version()).version, '0.1.0');
    const { embeddings } = await ollama.embed({ model: 'memo', input: ['My name is Anna.', FACTS], dimensions: 8 });
    assert.deepEqual(
      embeddings.map((v) => v.length),
      [8, 8],
    );
  });

  test('errors are one line that the client shows', async () => {
    await assert.rejects(ollama.chat({ model: 'llama9', messages }), /'llama9' is not served here/);
    await assert.rejects(ollama.chat({ model: 'memo', messages, think: true }), /'think'/);
    await assert.rejects(
      ollama.chat({ model: 'memo', messages: [{ role: 'user', content: 'a', images: ['eA=='] }] }),
      /images/,
    );
    await assert.rejects(new Ollama({ host: rig.url }).list(), /API key/);
  });
});

describe('/v1/embeddings with OpenAI’s client', { skip: withoutModel }, () => {
  let rig: Awaited<ReturnType<typeof memoServer>>;
  let openai: OpenAI;
  before(async () => {
    rig = await memoServer();
    openai = new OpenAI({ baseURL: `${rig.url}/v1`, apiKey: 'none', maxRetries: 0 });
  });
  after(() => rig?.[Symbol.asyncDispose]());

  const length = (v: number[]) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
  const same = (a: number[], b: number[]) => assert.deepEqual(Float32Array.from(a), Float32Array.from(b));

  test('vectors of length 1, in order; base64 and floats are the same bits', async () => {
    const input = ['My name is Anna.', 'My locker code is 48213.', 'My name is Anna.'];
    // the client asks for base64 unless told otherwise
    const { data, usage } = await openai.embeddings.create({ model: 'memo', input });
    const floats = await openai.embeddings.create({ model: 'memo', input, encoding_format: 'float' });
    assert.deepEqual(
      data.map((d) => d.index),
      [0, 1, 2],
    );
    data.forEach((d, i) => {
      same(d.embedding, floats.data[i]!.embedding);
    });
    assert.deepEqual(data[0]!.embedding, data[2]!.embedding);
    assert.notDeepEqual(data[0]!.embedding, data[1]!.embedding);
    for (const d of data) assert.ok(Math.abs(length(d.embedding) - 1) < 1e-5);
    assert.equal(usage.prompt_tokens, usage.total_tokens);
    const [tokens] = [[...(await rig.engine.encode(input[0]!))]];
    same((await openai.embeddings.create({ model: 'memo', input: tokens })).data[0]!.embedding, data[0]!.embedding);
  });

  test('fewer dimensions are the first ones, scaled; pooling is a choice', async () => {
    const embed = async (more: object) => {
      const body = { model: 'memo', input: FACTS, encoding_format: 'float' as const, ...more };
      return (await openai.embeddings.create(body)).data[0]!.embedding;
    };
    const whole = await embed({});
    const cut = await embed({ dimensions: 16 });
    assert.equal(cut.length, 16);
    assert.ok(Math.abs(length(cut) - 1) < 1e-5);
    assert.ok(Math.abs(cut[3]! / cut[2]! - whole[3]! / whole[2]!) < 1e-3);
    same(await embed({ pooling: 'last' }), whole);
    assert.notDeepEqual(await embed({ pooling: 'mean' }), whole);
  });

  test('what cannot be is refused by name', async () => {
    for (const [fields, param] of [
      [{ dimensions: 10_000 }, 'dimensions'],
      [{ input: '' }, 'input'],
      [{ input: [] }, 'input'],
      [{ input: 'a b '.repeat(9000) }, null],
    ] as const)
      await assert.rejects(openai.embeddings.create({ model: 'memo', input: 'a', ...fields } as never), (e) => {
        assert.ok(e instanceof OpenAI.BadRequestError, String(e));
        assert.equal(e.param, param);
        return true;
      });
    await assert.rejects(openai.post('/rerank', { body: { query: 'a', documents: ['b'] } }), /no reranker/);
  });
});
