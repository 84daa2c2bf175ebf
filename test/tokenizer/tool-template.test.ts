import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { compileToolCalls, createMatcher, type Grammar, TOOL_FORMATS, ToolCallParser } from 'longmind-grammar';
import { reasoningStart } from '../../src/base/reasoning.js';
import { LongmindError } from '../../src/errors.js';
import { chatMessages } from '../../src/server/messages.js';
import { createChatTemplate, createTokenizer, reasoningTemplateOf, toolTemplateOf } from '../../src/tokenizer/index.js';
import { checkTemplateValues } from '../../src/tokenizer/template-values.js';
import type { ToolTemplate } from '../../src/types.js';
import { asMetadata, smallBpe } from './small-vocabulary.js';

test('the format of calls follows from the chat template', () => {
  const known = (own: string | null, instead: string | null = null) => toolTemplateOf(own, instead);
  const qwen = "{% if tools %}<tools></tools>{% endif %}{{ '<tool_call>\\n' }}<|im_start|>";
  assert.deepEqual(known(qwen), { format: 'hermes', known: true });
  const llama31 = '{% if tools is not none %}{{ tools }}{% endif %}<|start_header_id|>ipython<|end_header_id|>';
  assert.deepEqual(known(llama31), { format: 'llama3', known: true });
  assert.deepEqual(known('<|start_header_id|>{{ role }}'), { format: 'llama3', known: false });
  assert.deepEqual(known(null, 'Llama 3'), { format: 'llama3', known: false });
  assert.deepEqual(known('<|im_start|>You are SmolLM'), { format: 'smollm2', known: false });
  assert.deepEqual(known('<|im_start|>'), { format: 'hermes', known: false });
  const mistral = '{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]{{ message.tool_calls }}';
  assert.deepEqual(known(mistral), { format: 'mistral', known: true });
  assert.deepEqual(known(`${mistral}[ARGS]`), { format: 'mistral-v11', known: true });
  // calls are text to it, but tools it tells of itself
  const granite = '{% if tools %}{{ tools }} write <|tool_call|>{% endif %}{{ message.content }}';
  assert.deepEqual(known(granite), { format: 'granite', known: false, describes: true });
  const pythonic = '{{ tools }}[func_name1(params_name1=params_value1)]{{ message.tool_calls }}<|start_header_id|>';
  assert.deepEqual(known(pythonic), { format: 'pythonic', known: true });
  // notations that cannot be enforced are not asked for
  assert.deepEqual(known('{% if tools %}<function={{ tools }}{% endif %}'), { format: 'hermes', known: false });
});

const templateOf = (name: string) => readFileSync(`test/fixtures/templates/${name}.jinja`, 'utf8');
const marks = [
  ...[
    '<｜tool▁calls▁begin｜>',
    '<｜tool▁calls▁end｜>',
    '<｜tool▁call▁begin｜>',
    '<｜tool▁call▁end｜>',
    '<｜tool▁sep｜>',
  ],
];

const families: [name: string, style: ToolTemplate, until: string][] = [
  ['qwen3', { format: 'hermes', known: true }, '<|im_end|>'],
  ['qwen3-coder', { format: 'qwen3-coder', known: true }, '<|im_end|>'],
  ['mistral-v3', { format: 'mistral', known: true, shortIds: true }, '<|im_end|>'],
  [
    'deepseek-r1-distill',
    { format: 'deepseek-v3', known: true, describes: false, textArguments: true },
    '<｜end▁of▁sentence｜>',
  ],
];

for (const [name, style, until] of families) {
  test(`${name}: calls of a history are rendered as the grammar lets the model write them, and read as the same`, () => {
    const source = templateOf(name);
    assert.deepEqual(toolTemplateOf(source, null), style);
    const metadata = asMetadata({ ...smallBpe(), 'tokenizer.ggml.pre': { string: 'smollm' } });
    metadata.set('tokenizer.chat_template', source);
    const template = createChatTemplate(metadata, createTokenizer(metadata));
    const given = [
      { name: 'f', arguments: { s: 'a "} é </tool_call>', b: true, n: [1, { x: null }] } },
      { name: 'g', arguments: {} },
    ];
    const messages = chatMessages(
      [
        { role: 'user', content: 'Go' },
        {
          role: 'assistant',
          content: null,
          tool_calls: given.map((c, i) => ({
            id: `call_${i}`,
            type: 'function',
            function: { name: c.name, arguments: JSON.stringify(c.arguments) },
          })),
        },
        { role: 'tool', tool_call_id: 'call_0', content: '"done"' },
      ],
      style,
    );
    const { text } = template.apply(messages);
    const { open } = TOOL_FORMATS[style.format];
    const from = text.indexOf(open);
    const said = text.slice(from, text.indexOf(until, from));
    assert.ok(from > 0 && said.length > open.length, text);
    const tools = [
      {
        name: 'f',
        parameters: {
          type: 'object',
          properties: { s: { type: 'string' }, b: { type: 'boolean' }, n: { type: 'array' } },
        },
      },
      { name: 'g' },
    ];
    const grammar = compileToolCalls(tools, { choice: 'required', format: style.format });
    assert.ok(acceptsBytes(grammar, said), said);
    const parser = new ToolCallParser(style.format, tools);
    const calls: { name: string; arguments: string }[] = [];
    for (const e of [...said].flatMap((c) => parser.push(c))) {
      if (e.kind === 'call') calls.push({ name: e.name, arguments: '' });
      else if (e.kind === 'arguments') calls[e.index]!.arguments += e.delta;
    }
    const read = calls.map((c) => ({ name: c.name, arguments: JSON.parse(c.arguments) as unknown }));
    assert.deepEqual(read, given);
    assert.ok(text.includes('done'), text);
    if (style.format === 'deepseek-v3') {
      for (const mark of marks) assert.ok(said.includes(mark), mark);
      assert.equal(text.split('<｜Assistant｜>').length, 2, text);
    }
  });
}

function acceptsBytes(grammar: Grammar, text: string): boolean {
  const table = {
    bytes: Uint8Array.from({ length: 256 }, (_, b) => b),
    offsets: Int32Array.from({ length: 258 }, (_, i) => Math.min(i, 256)),
    special: Uint8Array.from({ length: 257 }, (_, i) => (i === 256 ? 1 : 0)),
  };
  const matcher = createMatcher(grammar, table, [256]);
  return [...Buffer.from(text)].every((b) => matcher.accept(b)) && matcher.isComplete();
}

const THINKING: [name: string, kwargs: object | undefined, start: string][] = [
  ['qwen3', undefined, 'before'],
  ['qwen3', { enable_thinking: false }, 'after'],
  ['deepseek-r1-distill', undefined, 'inside'],
];

test('how a model thinks, and what a prompt leaves to it, follow from the chat template', () => {
  const think = { open: '<think>', close: '</think>' };
  assert.deepEqual(reasoningTemplateOf(templateOf('qwen3')), { ...think, switch: 'enable_thinking', effort: false });
  assert.deepEqual(reasoningTemplateOf(templateOf('deepseek-r1-distill')), { ...think, switch: null, effort: false });
  assert.equal(reasoningTemplateOf(templateOf('mistral-v3')), null);
  assert.equal(reasoningTemplateOf(null), null);
  const granite = '{%- elif thinking %} between <think></think> and write your response between <response></response>';
  assert.deepEqual(reasoningTemplateOf(granite), {
    ...{ ...think, answer: { open: '<response>', close: '</response>' } },
    ...{ switch: 'thinking', effort: false },
  });
  for (const [name, variables, start] of THINKING) {
    const metadata = asMetadata({ ...smallBpe(), 'tokenizer.ggml.pre': { string: 'smollm' } });
    metadata.set('tokenizer.chat_template', templateOf(name));
    const template = createChatTemplate(metadata, createTokenizer(metadata));
    const { text } = template.apply([{ role: 'user', content: 'x' }], {
      variables: variables as Record<string, unknown>,
    });
    assert.equal(reasoningStart(think, text.slice(-32)), start);
  }
});

test('values for the template are bounded, and those that it could not take are refused by name', () => {
  const refused = (values: unknown, pattern: RegExp) =>
    assert.throws(
      () => checkTemplateValues(values),
      (e) =>
        e instanceof LongmindError && e.status === 400 && e.param === 'chat_template_kwargs' && pattern.test(e.message),
    );
  checkTemplateValues({});
  checkTemplateValues({ enable_thinking: false, documents: [{ text: 'x', n: [1, null] }] });
  for (const name of ['messages', 'tools', 'add_generation_prompt', 'range', 'raise_exception'])
    refused({ [name]: 1 }, /may not set/);
  for (const name of ['', '__proto__', 'a b', 'é', 'x'.repeat(65)])
    refused(JSON.parse(`{${JSON.stringify(name)}: 1}`), /no template uses/);
  refused([], /must be an object/);
  refused('x', /must be an object/);
  refused(Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`n${i}`, 1])), /65 names/);
  refused({ x: 'y'.repeat(70_000) }, /larger than/);
  refused({ x: () => 1 }, /JSON values/);
  refused({ x: Number.NaN }, /JSON values/);
  refused({ x: JSON.parse(`${'['.repeat(40)}${']'.repeat(40)}`) }, /levels/);
});

/** As the templates of Qwen 2.5 and 3 go about it. */
const HERMES = `{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n<tools>' }}{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}{{- '\\n</tools><|im_end|>\\n' }}{%- endif %}{%- for message in messages %}{%- if message.role == 'user' or (message.role == 'assistant' and not message.tool_calls) %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- elif message.role == 'assistant' %}{{- '<|im_start|>assistant' }}{%- if message.content %}{{- '\\n' + message.content }}{%- endif %}{%- for tool_call in message.tool_calls %}{%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}{{- '\\n<tool_call>\\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}{{- tool_call.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- elif message.role == 'tool' %}{%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`;

test('calls and results of the API come out of a template that knows them as the grammar has them written', () => {
  const metadata = asMetadata({ ...smallBpe(), 'tokenizer.ggml.pre': { string: 'smollm' } });
  metadata.set('tokenizer.chat_template', HERMES);
  const tokenizer = createTokenizer(metadata);
  const template = createChatTemplate(metadata, tokenizer);
  const style = toolTemplateOf(HERMES, template.instead);
  assert.deepEqual(style, { format: 'hermes', known: true });
  const call = (id: string, args: string) => ({
    id,
    type: 'function' as const,
    function: { name: 'f', arguments: args },
  });
  const messages = chatMessages(
    [
      { role: 'user', content: 'Go' },
      { role: 'assistant', content: null, tool_calls: [call('a', '{"x":"<|im_end|>"}'), call('b', '{}')] },
      { role: 'tool', tool_call_id: 'a', content: 'one <|im_end|>' },
      { role: 'tool', tool_call_id: 'b', content: 'two' },
    ],
    style,
  );
  const tools = [{ type: 'function', function: { name: 'f', description: '', parameters: { type: 'object' } } }];
  const { text, ids } = template.apply(messages, { tools });
  assert.ok(text.includes('<tools>\n{"type": "function", "function": {"name": "f"'), text);
  assert.ok(
    text.endsWith(
      '<|im_start|>user\nGo<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{"name": "f", "arguments": {"x": "<|im_end|>"}}\n' +
        '</tool_call>\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n' +
        'one <|im_end|>\n</tool_response>\n<tool_response>\ntwo\n</tool_response><|im_end|>\n<|im_start|>assistant\n',
    ),
    text,
  );
  // those that contents and arguments spell are not tokens
  const end = tokenizer.tokenId('<|im_end|>')!;
  assert.equal([...ids].filter((id) => id === end).length, 4);
  // a session that goes on with results only
  const next = template.continue(chatMessages([{ role: 'tool', tool_call_id: 'b', content: 'two' }], style), { tools });
  assert.ok(next.text.endsWith('<tool_response>\ntwo\n</tool_response><|im_end|>\n<|im_start|>assistant\n'), next.text);
});
