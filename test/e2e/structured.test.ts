/** Structured output and tools with a real model, by the official clients. Skipped, loudly, when no model is at hand. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, jsonSchema, Output, stepCountIs, streamText, tool } from 'ai';
import { Ajv2020 } from 'ajv/dist/2020.js';
import OpenAI from 'openai';
import { createEngine, type Engine } from '../../src/index.js';
import { createServer, type LongmindServer } from '../../src/server/index.js';
import { testDevices } from '../support/devices.js';
import { smollmPath, withoutSmollm } from '../support/model.js';

const path = await smollmPath();
const skip = withoutSmollm(path);

const city = {
  type: 'object',
  properties: {
    name: { type: 'string', minLength: 1, maxLength: 30 },
    country: { enum: ['France', 'Italy', 'Japan'] },
    people: { type: 'integer', minimum: 1, maximum: 40_000_000 },
    sights: { type: 'array', items: { type: 'string', maxLength: 20 }, minItems: 1, maxItems: 3 },
    founded: { type: 'string', pattern: '^\\d{4}$' },
  },
  required: ['name', 'country', 'people', 'sights', 'founded'],
  additionalProperties: false,
} as const;
const weatherOf = {
  type: 'object',
  properties: { city: { type: 'string', maxLength: 30 }, unit: { enum: ['celsius', 'fahrenheit'] } },
  required: ['city', 'unit'],
  additionalProperties: false,
} as const;
const tools: OpenAI.ChatCompletionTool[] = [
  { type: 'function', function: { name: 'get_weather', description: 'The weather of a city', parameters: weatherOf } },
  { type: 'function', function: { name: 'get_time', description: 'The time of day' } },
];
const ajv = new Ajv2020();
const validCity = ajv.compile(city);
const validWeather = ajv.compile(weatherOf);
const user = (content: string) => [{ role: 'user' as const, content }];

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

  const base = { model: 'smollm2', max_completion_tokens: 300 };
  const cityFormat = {
    type: 'json_schema' as const,
    json_schema: { name: 'city', schema: city as Record<string, unknown>, strict: true },
  };

  test('at any temperature, every answer that ends by itself satisfies the schema', async () => {
    const answer = await openai.chat.completions.create({
      ...base,
      messages: user('Describe Paris.'),
      n: 8,
      temperature: 1.5,
      seed: 7,
      response_format: cityFormat,
    });
    let ended = 0;
    for (const { message, finish_reason: reason } of answer.choices) {
      if (reason !== 'stop') continue;
      ended++;
      assert.ok(validCity(JSON.parse(message.content!)), `${message.content}: ${ajv.errorsText(validCity.errors)}`);
    }
    assert.ok(ended >= 6, `${ended} of 8 ended`);
  });

  test('streamed, it is the same document; json_object is an object; completions too', async () => {
    const request = { ...base, temperature: 0, messages: user('Describe Rome.'), response_format: cityFormat };
    const whole = await openai.chat.completions.create(request);
    const streamed = await openai.chat.completions.stream(request).finalContent();
    assert.equal(streamed, whole.choices[0]!.message.content);
    assert.ok(validCity(JSON.parse(streamed!)));
    const object = await openai.chat.completions.create({ ...request, response_format: { type: 'json_object' } });
    if (object.choices[0]!.finish_reason === 'stop')
      assert.equal(typeof JSON.parse(object.choices[0]!.message.content!), 'object');
    const body = { model: 'smollm2', prompt: 'Tokyo as JSON:', max_tokens: 300, response_format: cityFormat };
    const text = await openai.completions.create(body as OpenAI.CompletionCreateParamsNonStreaming);
    assert.ok(validCity(JSON.parse(text.choices[0]!.text)), text.choices[0]!.text);
  });

  const checkCall = (call: OpenAI.ChatCompletionMessageToolCall): void => {
    assert.ok(call.type === 'function');
    const args: unknown = JSON.parse(call.function.arguments);
    if (call.function.name === 'get_weather') assert.ok(validWeather(args), call.function.arguments);
    else assert.deepEqual([call.function.name, args], ['get_time', {}]);
  };

  test("tool_choice 'required' and a name give valid calls, whole and streamed", async () => {
    const messages = user('What is the weather in Rome, in celsius?');
    for (const tool_choice of ['required', { type: 'function', function: { name: 'get_time' } }] as const) {
      const request = { ...base, temperature: 0, messages, tools, tool_choice };
      const whole = (await openai.chat.completions.create(request)).choices[0]!;
      const streamed = (await openai.chat.completions.stream(request).finalChatCompletion()).choices[0]!;
      for (const { message, finish_reason: reason } of [whole, streamed]) {
        assert.equal(reason, 'tool_calls');
        assert.equal(message.content, null);
        assert.ok(message.tool_calls!.length >= 1);
        for (const call of message.tool_calls!) checkCall(call);
      }
      const argumentsOf = (m: OpenAI.ChatCompletionMessage) =>
        m.tool_calls!.map((c) => (c.type === 'function' ? c.function : null));
      assert.deepEqual(argumentsOf(streamed.message), argumentsOf(whole.message));
    }
  });

  test('a whole round with a tool: call, result, answer; a session finds its beginning in the cache', async () => {
    const messages: OpenAI.ChatCompletionMessageParam[] = user('What is the weather in Rome?');
    const request = { ...base, temperature: 0, tools, max_completion_tokens: 60, session_id: 'tools' };
    const first = await openai.chat.completions.create({ ...request, messages, tool_choice: 'required' });
    const { message } = first.choices[0]!;
    messages.push(message);
    for (const call of message.tool_calls!)
      messages.push({ role: 'tool', tool_call_id: call.id, content: 'sunny, 21 degrees' });
    const second = await openai.chat.completions.create({ ...request, messages });
    const { content, tool_calls: again } = second.choices[0]!.message;
    assert.ok(content || again?.length);
    const cached = second.usage!.prompt_tokens_details!.cached_tokens!;
    assert.ok(cached > first.usage!.prompt_tokens / 2, `${cached} of ${first.usage!.prompt_tokens} were cached`);
    await engine.check();
  });

  test('the AI SDK: an object, a stream, a tool that is called and answered', async () => {
    const provider = createOpenAICompatible({
      name: 'longmind',
      baseURL: `${server.url}/v1`,
      supportsStructuredOutputs: true,
      includeUsage: true,
    });
    const model = provider.chatModel('smollm2');
    const common = { model, maxOutputTokens: 300, temperature: 0, maxRetries: 0 };
    const { output } = await generateText({
      ...common,
      prompt: 'Describe Kyoto.',
      output: Output.object({ schema: jsonSchema<Record<string, unknown>>(city as object) }),
    });
    assert.ok(validCity(output), JSON.stringify(output));
    const stream = streamText({ ...common, prompt: 'Tell me the capital of France.' });
    let text = '';
    for await (const part of stream.textStream) text += part;
    assert.match(text, /Paris/);
    assert.ok((await stream.totalUsage).outputTokens! > 0);
    const asked: unknown[] = [];
    const weather = tool({
      description: 'The weather of a city',
      inputSchema: jsonSchema<{ city: string }>(weatherOf as object),
      execute: async (input) => {
        asked.push(input);
        return { weather: 'sunny' };
      },
    });
    const called = await generateText({
      ...common,
      prompt: 'What is the weather in Rome?',
      tools: { weather },
      toolChoice: 'required',
      stopWhen: stepCountIs(1),
    });
    assert.ok(called.toolResults.length >= 1);
    for (const input of asked) assert.ok(validWeather(input), JSON.stringify(input));
    const streamed = streamText({
      ...common,
      prompt: 'What is the weather in Rome?',
      tools: { weather },
      toolChoice: 'required',
    });
    assert.ok((await streamed.toolCalls).length >= 1);
    assert.equal(await streamed.finishReason, 'tool-calls');
  });
}

for (const { device, absent } of testDevices)
  describe(`a real model under a grammar, ${device}`, { skip: skip || absent }, () => suite(device));
