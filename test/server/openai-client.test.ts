import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { errors } from '../../src/errors.js';
import { rig, until } from '../support/http.js';

const messages = [{ role: 'user' as const, content: 'hello' }];

const client = (url: string, options: Partial<ConstructorParameters<typeof OpenAI>[0]> = {}) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: 'key', maxRetries: 0, ...options });

test('the official client: chat, models, completions', async (t) => {
  const { url } = await rig(t, {}, { apiKeys: ['key'] });
  const openai = client(url);
  const answer = await openai.chat.completions.create({ model: 'fake', messages, logprobs: true, top_logprobs: 1 });
  assert.equal(answer.choices[0]!.message.content, 'You said: user: hello');
  assert.equal(answer.choices[0]!.logprobs!.content!.length, answer.usage!.completion_tokens);
  assert.deepEqual(
    (await openai.models.list()).data.map((m) => m.id),
    ['fake'],
  );
  assert.equal((await openai.models.retrieve('fake')).id, 'fake');
  const text = await openai.completions.create({ model: 'fake', prompt: 'hi', max_tokens: 3 });
  assert.equal(text.choices[0]!.text, 'You');
});

test('the official client: both streaming styles', async (t) => {
  const { url } = await rig(t);
  const openai = client(url);
  let text = '';
  let usage = 0;
  const stream = await openai.chat.completions.create({
    model: 'fake',
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? '';
    usage = chunk.usage?.completion_tokens ?? usage;
  }
  assert.equal(text, 'You said: user: hello');
  assert.equal(usage, text.length);
  // raises when a finish_reason is missing
  const helper = openai.chat.completions.stream({ model: 'fake', messages });
  assert.equal(await helper.finalContent(), text);
});

test('the official client: an abort reaches the engine', async (t) => {
  const { url, engine } = await rig(t, { answer: () => 'x'.repeat(2000), delayMs: 5 });
  const stream = await client(url).chat.completions.create({ model: 'fake', messages, stream: true });
  for await (const _ of stream) break;
  await until('the generation is aborted', () => engine.calls[0]!.generation.aborted);
});

test('the official client: error classes, code, param and request id', async (t) => {
  const { url } = await rig(t, {}, { apiKeys: ['key'] });
  const openai = client(url);
  await assert.rejects(openai.chat.completions.create({ model: 'gpt', messages }), (e) => {
    assert.ok(e instanceof OpenAI.NotFoundError);
    assert.deepEqual([e.code, e.param, e.type], ['model_not_found', 'model', 'not_found_error']);
    assert.match(e.requestID ?? '', /^req-/);
    return true;
  });
  const prediction = { type: 'content' as const, content: 'x' };
  await assert.rejects(openai.chat.completions.create({ model: 'fake', messages, prediction }), (e) => {
    assert.ok(e instanceof OpenAI.BadRequestError);
    assert.deepEqual([e.code, e.param], ['unsupported_field', 'prediction']);
    return true;
  });
  await assert.rejects(client(url, { apiKey: 'wrong' }).models.list(), OpenAI.AuthenticationError);
});

test('the official client: an error in the middle of a stream raises', async (t) => {
  const { url } = await rig(t, { failAt: 3, failWith: errors.nanLogits(3) });
  const stream = await client(url).chat.completions.create({ model: 'fake', messages, stream: true });
  let text = '';
  await assert.rejects(async () => {
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
  }, OpenAI.APIError);
  assert.equal(text, 'You');
});

test('the official client retries a 429 and succeeds', async (t) => {
  const { url, engine } = await rig(t, { maxRunning: 1, delayMs: 15 });
  const openai = client(url, { maxRetries: 3 });
  const both = await Promise.all([
    openai.chat.completions.create({ model: 'fake', messages }),
    openai.chat.completions.create({ model: 'fake', messages }),
  ]);
  for (const answer of both) assert.equal(answer.choices[0]!.finish_reason, 'stop');
  assert.equal(engine.calls.length, 2);
});
