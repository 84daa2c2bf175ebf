/** A model whose template has it think, through the real engine: masks after the thinking, the same bits with and without a cache. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { type ChatMessage, compileJsonSchema, compileToolCalls, createEngine, type Engine } from '../../src/index.js';
import { writeSmallLlama } from '../support/small-llama.js';

const folder = mkdtempSync(path.join(tmpdir(), 'longmind-thinks-'));
after(() => rmSync(folder, { recursive: true }));

const OPEN = '<think>';
const CLOSE = '</think>';
const texts = ['<|im_start|>', '<|im_end|>', OPEN, CLOSE, '<tool_call>', '</tool_call>'];
const id = (text: string) => 320 - texts.length + texts.indexOf(text);

const template = readFileSync('test/fixtures/templates/qwen3.jinja', 'utf8');
const modelOf = (name: string, chatTemplate: string) =>
  writeSmallLlama(path.join(folder, `${name}.gguf`), { headDim: 16, context: 4096, texts, chatTemplate });
const model = modelOf('thinks', template);
const open = (options: object = {}) =>
  createEngine({ model, cacheBlockSeqLen: 16, cacheMaxEntryCount: 512, ...options });
/** As Qwen3-Thinking's: the prompt opens the thinking. */
const opening = template.replace("'<|im_start|>assistant\\n' }}", "'<|im_start|>assistant\\n<think>\\n' }}");
const alwaysThinks = modelOf('always', opening);

const reasoning = { open: OPEN, close: CLOSE };
const schema = compileJsonSchema({ type: 'integer', minimum: 10, maximum: 99 }, { reasoning });
const user: ChatMessage = { role: 'user', content: 'x' };
/** Random weights say anything: of these tokens any is as likely as another where it may come. */
const likely = { [id(OPEN)]: 100, [id(CLOSE)]: 100, 300: 100, 301: 100, 302: 100 };
const thinks = { logitBias: likely, seed: 7, temperature: 5, maxTokens: 400 };

test('a schema holds for the answer, and the thinking before it is free', async () => {
  await using engine = await open();
  assert.deepEqual(engine.info.reasoning, { ...reasoning, switch: 'enable_thinking', effort: false });
  const result = await engine.chat({ messages: [user], grammar: schema, ...thinks }).result();
  assert.equal(result.finishReason, 'stop');
  assert.match(result.text, /^[1-9]\d$/);
  assert.ok(result.reasoning !== null && !result.text.includes(CLOSE), JSON.stringify(result));
  assert.ok(result.usage.reasoningTokens > 1 && result.usage.reasoningTokens < result.usage.completionTokens);
  // without thinking, the answer begins at once
  const chatTemplateKwargs = { enable_thinking: false };
  const plain = await engine.chat({ messages: [user], grammar: schema, chatTemplateKwargs, ...thinks }).result();
  assert.match(plain.text, /^[1-9]\d$/);
  assert.deepEqual([plain.reasoning, plain.usage.reasoningTokens], [null, 0]);
  // a grammar that knows of no thinking is the whole answer's
  const whole = compileJsonSchema({ type: 'integer', minimum: 10, maximum: 99 });
  const strict = await engine.chat({ messages: [user], grammar: whole, ...thinks }).result();
  assert.deepEqual([strict.reasoning, /^[1-9]\d$/.test(strict.text)], [null, true]);
  await assert.rejects(engine.chat({ messages: [user], chatTemplateKwargs: { messages: [] } }).result(), {
    ...{ code: 'invalid_request', status: 400, param: 'chat_template_kwargs' },
  });
});

test('required calls come after the thinking', async () => {
  await using engine = await open();
  const tools = [{ name: 'now' }];
  const grammar = compileToolCalls(tools, { choice: 'required', format: 'hermes', parallel: false, reasoning });
  const { text, reasoning: thought } = await engine.chat({ messages: [user], grammar, ...thinks }).result();
  assert.ok(thought !== null);
  assert.match(text, /^<tool_call>\s?\{\s*"name": ?"now",\s*"arguments": ?\{\s*\}\s*\}\s?<\/tool_call>$/);
});

test('reasoningFormat none: all of it is the answer', async () => {
  await using engine = await open({ reasoningFormat: 'none' });
  assert.equal(engine.info.reasoning, null);
  const { text, reasoning: thought } = await engine.chat({ messages: [user], ...thinks, maxTokens: 8 }).result();
  assert.equal(thought, null);
  assert.ok(text.startsWith(OPEN), text);
});

/** Five turns as a client plays them: it sends back what it was told. */
async function play(engine: Engine, session: boolean, append: boolean) {
  const history: ChatMessage[] = [];
  let thought = false;
  const turns: { ids: number[]; prompt: number; cached: number; missing: number }[] = [];
  for (let i = 0; i < 5; i++) {
    const asked: ChatMessage = { role: 'user', content: `question number ${i}, ${'and so on '.repeat(6)}` };
    history.push(asked);
    const logitBias = { 300: 100, 301: 100, 302: 100, [id(CLOSE)]: 96, [id('<|im_end|>')]: 94 };
    const options = { ...thinks, logitBias, seed: 7 + i, maxTokens: 120 };
    const result = await engine
      .chat({
        messages: append ? [asked] : history,
        ...options,
        ...(session ? { sessionId: 's', sessionAppend: append } : {}),
      })
      .result();
    history.push({ role: 'assistant', content: result.text, reasoning_content: result.reasoning ?? '' });
    thought ||= result.text !== '' && result.reasoning !== null;
    const { promptTokens: prompt, cachedTokens: cached } = result.usage;
    turns.push({ ids: result.tokenIds, prompt, cached, missing: prompt - cached });
  }
  assert.ok(thought, JSON.stringify(history));
  return turns;
}

test('a conversation with thinking: the same bits with and without what is cached, and nothing computed twice but what the template leaves out', async () => {
  assert.notEqual(opening, template);
  await using cached = await open({ model: alwaysThinks });
  await using bare = await open({ model: alwaysThinks, enablePrefixCaching: false });
  await using appending = await open({ model: alwaysThinks });
  const full = await play(cached, true, false);
  const fresh = await play(bare, false, false);
  assert.deepEqual(
    full.map((t) => t.ids),
    fresh.map((t) => t.ids),
  );
  assert.ok(fresh.every((t) => t.cached === 0));
  // all up to the last answer is found; that answer stands there without its thinking, so it is computed anew
  full.slice(1).forEach((t, i) => {
    const before = full[i]!.prompt;
    assert.ok(t.cached >= before - 16, `${t.cached} of ${before}`);
  });
  const appended = await play(appending, true, true);
  // ids that are gone on from are all found
  assert.ok(appended.slice(1).every((t, i) => t.cached >= appended[i]!.prompt + appended[i]!.ids.length - 16));
});
