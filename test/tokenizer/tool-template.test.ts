import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chatMessages } from '../../src/server/messages.js';
import { createChatTemplate, createTokenizer, toolTemplateOf } from '../../src/tokenizer/index.js';
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
  // notations that cannot be enforced are not asked for
  assert.deepEqual(known('{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]'), { format: 'hermes', known: false });
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
