import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileToolCalls, ToolCallParser, type ToolFormat } from '../src/index.js';
import { randomDocument, randomStream } from './support.js';

interface Parsed {
  text: string;
  calls: { name: string; arguments: string; ended: boolean }[];
}

function parse(format: ToolFormat, pieces: readonly string[]): Parsed {
  const parser = new ToolCallParser(format);
  const out: Parsed = { text: '', calls: [] };
  for (const e of [...pieces.flatMap((p) => parser.push(p)), ...parser.end()]) {
    if (e.kind === 'text') out.text += e.text;
    else if (e.kind === 'call') {
      assert.equal(e.index, out.calls.length);
      out.calls.push({ name: e.name, arguments: '', ended: false });
    } else if (e.kind === 'arguments') out.calls[e.index].arguments += e.delta;
    else out.calls[e.index].ended = true;
  }
  assert.equal(parser.calls, out.calls.length);
  return out;
}

/** However a message is cut into pieces, the parts are the same. */
function parseAllWays(format: ToolFormat, message: string): Parsed {
  const whole = parse(format, [message]);
  assert.deepEqual(parse(format, [...message]), whole);
  for (let n = 2; n < 9; n++) {
    const pieces = message.match(new RegExp(`[\\s\\S]{1,${n}}`, 'g')) ?? [];
    assert.deepEqual(parse(format, pieces), whole);
  }
  return whole;
}

const args = '{"city": "a \\"}</tool_call>{ \\\\", "n": [1, {"x": {}}]}';

test('text and calls come apart, however the message is cut', () => {
  const hermes = `I < you <tool_ca.\n<tool_call>\n{"name": "f", "arguments": ${args}}\n</tool_call>\n<tool_call>{"name": "g", "arguments": {}}</tool_call>`;
  assert.deepEqual(parseAllWays('hermes', hermes), {
    text: 'I < you <tool_ca.\n',
    calls: [
      { name: 'f', arguments: args, ended: true },
      { name: 'g', arguments: '{}', ended: true },
    ],
  });
  const smollm2 = `<tool_call>[{"name": "f", "arguments": ${args}}, {"name":"g","arguments":{}}]</tool_call>`;
  assert.deepEqual(parseAllWays('smollm2', smollm2).calls, parseAllWays('hermes', hermes).calls);
  const llama3 = `{"name": "f", "parameters": ${args}}`;
  assert.deepEqual(parseAllWays('llama3', llama3), { text: '', calls: [{ name: 'f', arguments: args, ended: true }] });
  assert.deepEqual(parseAllWays('llama3', 'no {"name"} <tool_call>'), { text: 'no {"name"} <tool_call>', calls: [] });
});

test('a message that is cut off keeps what there was', () => {
  assert.deepEqual(parseAllWays('hermes', 'x <tool_'), { text: 'x <tool_', calls: [] });
  assert.deepEqual(parseAllWays('hermes', '<tool_call>{"name": "f", "arguments": {"a": [1'), {
    text: '',
    calls: [{ name: 'f', arguments: '{"a": [1', ended: false }],
  });
});

test('whatever the grammar lets through, the parser takes apart into valid arguments', () => {
  const parameters = { type: 'object', properties: { s: { type: 'string' }, n: { type: 'array', items: {} } } };
  const tools = [
    { name: 'one', parameters },
    { name: 'two', parameters: {} },
  ];
  for (const format of ['hermes', 'smollm2', 'llama3'] as const) {
    for (const choice of ['auto', 'required'] as const) {
      const grammar = compileToolCalls(tools, { choice, format });
      for (let seed = 1; seed <= 12; seed++) {
        const message = randomDocument(grammar, randomStream(seed), 60);
        const { calls } = parse(format, [...message]);
        if (choice === 'required') assert.ok(calls.length > 0, message);
        for (const c of calls) {
          assert.ok(c.ended && ['one', 'two'].includes(c.name), message);
          assert.equal(typeof JSON.parse(c.arguments), 'object');
        }
      }
    }
  }
});
