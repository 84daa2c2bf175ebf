/** What applications are built with: LangChain's agent, the AI SDK over the Responses and the Messages API. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { HumanMessage } from '@langchain/core/messages';
import { tool as langchainTool } from '@langchain/core/tools';
import { createReactAgent } from '@langchain/langgraph/prebuilt';
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai';
import { embed, generateObject, generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';
import { memoServer } from '../support/memo-server.js';
import { withoutModel } from '../support/server-process.js';

const FACTS = 'My name is Anna and I live in Vilnius.';
const city = z.object({ city: z.enum(['Rome', 'Oslo']) });

describe('frameworks', { skip: withoutModel }, () => {
  let rig: Awaited<ReturnType<typeof memoServer>>;
  before(async () => {
    rig = await memoServer();
  });
  after(() => rig?.[Symbol.asyncDispose]());

  const langchain = (more: object = {}) =>
    new ChatOpenAI({
      model: 'memo',
      apiKey: 'none',
      temperature: 0,
      maxTokens: 200,
      maxRetries: 0,
      configuration: { baseURL: `${rig.url}/v1` },
      ...more,
    });

  for (const useResponsesApi of [false, true]) {
    const api = useResponsesApi ? 'Responses' : 'chat';
    test(`LangChain over the ${api} API: an answer, a stream, an agent with a tool`, async () => {
      const model = langchain({ useResponsesApi });
      const answer = await model.invoke(FACTS);
      let streamed = '';
      for await (const chunk of await model.stream(FACTS)) streamed += chunk.text;
      assert.equal(streamed, answer.text);
      const asked: string[] = [];
      const weather = langchainTool(
        ({ city }) => {
          asked.push(city);
          return `It is sunny in ${city}.`;
        },
        { name: 'get_weather', description: 'The weather of a city', schema: city },
      );
      // the model is small: it is made to call once, and told of the result
      let calls = 0;
      const forced = (choice: string) =>
        model.bindTools([weather], { tool_choice: choice, parallel_tool_calls: false });
      const agent = createReactAgent({
        llm: () => forced(calls++ === 0 ? 'get_weather' : 'none') as never,
        tools: [weather],
      });
      const { messages } = await agent.invoke({ messages: [new HumanMessage('What is the weather in Rome?')] });
      assert.deepEqual(
        messages.map((m) => m.getType()),
        ['human', 'ai', 'tool', 'ai'],
      );
      assert.equal(asked.length, 1);
      assert.equal(messages[2]!.text, `It is sunny in ${asked[0]}.`);
    });
  }

  test('LangChain: embeddings', async () => {
    const vectors = new OpenAIEmbeddings({
      model: 'memo',
      apiKey: 'none',
      maxRetries: 0,
      configuration: { baseURL: `${rig.url}/v1` },
    });
    const [one, two] = await vectors.embedDocuments([FACTS, FACTS]);
    assert.deepEqual(one, two);
    assert.equal(one!.length, rig.engine.info.dims.dim);
  });

  const providers = {
    'the Responses API': () => createOpenAI({ baseURL: `${rig.url}/v1`, apiKey: 'none' })('memo'),
    'the Messages API': () => createAnthropic({ baseURL: `${rig.url}/v1`, apiKey: 'none' })('memo'),
  };
  for (const [api, model] of Object.entries(providers)) {
    const settings = () => ({ model: model(), maxRetries: 0, temperature: 0, maxOutputTokens: 200 });

    test(`the AI SDK over ${api}: an answer and a stream`, async () => {
      const plain = await generateText({ ...settings(), prompt: FACTS });
      assert.match(plain.text, /remember/);
      const stream = streamText({ ...settings(), prompt: FACTS });
      let text = '';
      for await (const piece of stream.textStream) text += piece;
      assert.equal(text, plain.text);
      assert.equal(await stream.finishReason, 'stop');
      const { inputTokens, cachedInputTokens } = await stream.usage;
      assert.equal(inputTokens, plain.usage.inputTokens);
      assert.equal(cachedInputTokens, inputTokens! - 1);
    });

    test(`the AI SDK over ${api}: steps with a tool`, async () => {
      const asked: string[] = [];
      const weather = tool({
        description: 'The weather of a city',
        inputSchema: city,
        execute: async ({ city }) => {
          asked.push(city);
          return { sky: 'sunny' };
        },
      });
      const { steps } = await generateText({
        ...settings(),
        prompt: 'What is the weather in Rome?',
        tools: { weather },
        toolChoice: 'required',
        prepareStep: ({ stepNumber }) => (stepNumber > 0 ? { toolChoice: 'none' } : {}),
        stopWhen: stepCountIs(2),
        providerOptions: {
          openai: { parallelToolCalls: false },
          anthropic: { disableParallelToolUse: true },
        },
      });
      assert.deepEqual([steps.length, steps[0]!.finishReason], [2, 'tool-calls']);
      assert.equal(asked.length, 1);
      assert.deepEqual(steps[0]!.toolResults[0]!.output, { sky: 'sunny' });
    });

    test(`the AI SDK over ${api}: an object of a schema`, async () => {
      const { object } = await generateObject({ ...settings(), schema: city, prompt: 'Which city?' });
      assert.ok(['Rome', 'Oslo'].includes(object.city));
    });
  }

  test('the AI SDK: embeddings', async () => {
    const openai = createOpenAI({ baseURL: `${rig.url}/v1`, apiKey: 'none' });
    const { embedding } = await embed({ model: openai.embedding('memo'), value: FACTS, maxRetries: 0 });
    assert.equal(embedding.length, rig.engine.info.dims.dim);
  });
});
