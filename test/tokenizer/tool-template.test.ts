import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toolTemplateOf } from '../../src/tokenizer/index.js';

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
