/**
 * The whole architecture with a real model: HTTP → engine → KV cache → CPU. Skipped, loudly, when no model is at hand.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { createEngine, type Engine } from '../../src/index.js';
import { createServer, type LongmindServer } from '../../src/server/index.js';
import { testDevices } from '../support/devices.js';
import { smollmPath, withoutSmollm } from '../support/model.js';

const path = await smollmPath();
const skip = withoutSmollm(path);

type Message = OpenAI.ChatCompletionMessageParam;

interface Answer {
  text: string;
  cached: number;
  prompt: number;
}

function suite(device: string): void {
  let engine: Engine;
  let server: LongmindServer;
  let openai: OpenAI;

  before(async () => {
    engine = await createEngine({ model: path!, cacheMaxEntryCount: 64, device });
    server = await createServer(engine, { serverPort: 0, servedModelName: 'smollm2', logLevel: 'silent' });
    openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 });
  });

  after(async () => {
    await server?.close({ drainMs: 0 });
    await engine?.close();
  });

  const ask = async (messages: Message[], more: Record<string, unknown> = {}): Promise<Answer> => {
    const answer = await openai.chat.completions.create({
      model: 'smollm2',
      messages,
      temperature: 0,
      max_completion_tokens: 40,
      ...more,
    } as OpenAI.ChatCompletionCreateParamsNonStreaming);
    const { usage } = answer;
    return {
      text: answer.choices[0]!.message.content!,
      cached: usage!.prompt_tokens_details!.cached_tokens!,
      prompt: usage!.prompt_tokens,
    };
  };

  const user = (content: string): Message => ({ role: 'user', content });
  const assistant = (content: string): Message => ({ role: 'assistant', content });
  const first = user('Tell me the capital of France.');

  test('answers sensibly, and streaming gives the same text', async () => {
    const plain = await ask([first]);
    assert.match(plain.text, /Paris/);
    const stream = openai.chat.completions.stream({
      model: 'smollm2',
      messages: [first],
      temperature: 0,
      max_completion_tokens: 40,
    });
    let chunks = 0;
    for await (const _ of stream) chunks++;
    assert.equal(await stream.finalContent(), plain.text);
    // on a busy machine tokens come together; role, end and at least two pieces of text come apart
    assert.ok(chunks > 3, `${chunks} chunks`);
  });

  test('remembers over several turns with the history sent each time, and finds it in the cache', async () => {
    const turns: Message[] = [user('The secret word is pineapple. Repeat the secret word.')];
    const told = await ask(turns, { session_id: 'history' });
    turns.push(assistant(told.text), user('What is the secret word?'));
    const word = await ask(turns, { session_id: 'history' });
    assert.match(word.text, /pineapple/);
    assert.ok(word.cached >= told.prompt, `${word.cached} of ${word.prompt} tokens were cached`);
  });

  test('session_append sends only the new turn, and gives what the whole history gives', async () => {
    const one = await ask([first], { session_id: 'append' });
    const follow = user('Please repeat your answer.');
    const two = await ask([follow], { session_id: 'append', session_append: true });
    assert.ok(two.cached >= one.prompt, `${two.cached} cached tokens`);
    const whole = await ask([first, assistant(one.text), follow]);
    assert.equal(two.text, whole.text);
    assert.match(two.text, /Paris/);
  });

  test('an edited turn cuts the session back to what is common', async () => {
    const id = { session_id: 'edited' };
    const one = await ask([first], id);
    await ask([first, assistant(one.text), user('Tell me more.')], id);
    const edited = await ask([first, assistant(one.text), user('Is it a large city?')], id);
    const fresh = await ask([first, assistant(one.text), user('Is it a large city?')]);
    assert.equal(edited.text, fresh.text);
    assert.ok(edited.cached > 0);
    const info = (await (await fetch(`${server.url}/v1/sessions/edited`)).json()) as { tokens: number };
    assert.ok(info.tokens >= edited.prompt && info.tokens <= edited.prompt + 41, `${info.tokens} tokens`);
  });

  test('a session that was cut back to nothing is empty, and goes on', async () => {
    const headers = { 'content-type': 'application/json' };
    const post = (at: string, body: unknown) =>
      fetch(server.url + at, { method: 'POST', headers, body: JSON.stringify(body) });
    await ask([first], { session_id: 'emptied', max_completion_tokens: 2 });
    assert.equal((await post('/v1/sessions/emptied/truncate', { length: 0 })).status, 200);
    const tokens = await fetch(`${server.url}/v1/sessions/emptied/tokens`);
    assert.deepEqual(await tokens.json(), { tokens: [], count: 0 });
    await ask([first], { session_id: 'emptied', max_completion_tokens: 2 });
  });

  test('text that spells a special token is plain text', async () => {
    const tokens = async (special: boolean) => {
      const body = JSON.stringify({ text: '<|im_end|>', special });
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(`${server.url}/tokenize`, { method: 'POST', headers, body });
      return (await response.json()) as { count: number };
    };
    assert.equal((await tokens(true)).count, 1);
    assert.ok((await tokens(false)).count > 1);
  });

  test('logprobs are those of a distribution, and the greedy token is its likeliest', async () => {
    const answer = await openai.chat.completions.create({
      model: 'smollm2',
      messages: [first],
      temperature: 0,
      max_completion_tokens: 3,
      logprobs: true,
      top_logprobs: 5,
    });
    const { content } = answer.choices[0]!.logprobs!;
    assert.equal(content!.length, 3);
    for (const t of content!) {
      assert.equal(t.top_logprobs[0]!.token, t.token);
      const sum = t.top_logprobs.reduce((s, o) => s + Math.exp(o.logprob), 0);
      assert.ok(sum > 0.1 && sum <= 1.0001, String(sum));
    }
  });

  test('a client that goes away frees its blocks, and nothing leaks', async () => {
    const gone = new AbortController();
    const stream = await openai.chat.completions.create(
      { model: 'smollm2', messages: [user('Write a very long story.')], stream: true, max_completion_tokens: 2000 },
      { signal: gone.signal },
    );
    for await (const _ of stream) break;
    gone.abort();
    const end = Date.now() + 5000;
    while ((await engine.stats()).cache.blocks.active > 0) {
      assert.ok(Date.now() < end, 'blocks are still active 5 s after the client left');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await engine.check();
  });

  test('n choices with one seed each are what single requests with those seeds give', async () => {
    const more = { temperature: 1, max_completion_tokens: 8 };
    const answer = await openai.chat.completions.create({
      model: 'smollm2',
      messages: [first],
      n: 2,
      seed: 5,
      ...more,
    });
    for (const [i, choice] of answer.choices.entries())
      assert.equal(choice.message.content, (await ask([first], { seed: 5 + i, ...more })).text);
  });

  test('a prompt longer than the session is refused with the numbers', async () => {
    const prompt = 'word '.repeat(engine.info.sessionLen + 10);
    await assert.rejects(openai.completions.create({ model: 'smollm2', prompt, max_tokens: 1 }), (e) => {
      assert.ok(e instanceof OpenAI.BadRequestError);
      assert.match(e.code ?? '', /prompt_too_long|never_fits/);
      assert.match(e.message, /\d{4,} tokens/);
      return true;
    });
  });
}

for (const { device, absent } of testDevices)
  describe(`a real model behind the server, ${device}`, { skip: skip || absent }, () => suite(device));
