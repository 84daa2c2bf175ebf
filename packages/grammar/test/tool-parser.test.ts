import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  compileToolCalls,
  TOOL_FORMATS,
  ToolCallParser,
  type ToolFormat,
  type ToolSpec,
  writeToolCalls,
} from '../src/index.js';
import { sample } from './random-schema.js';
import { accepts, judge, randomDocument, randomStream } from './support.js';

interface Parsed {
  text: string;
  calls: { name: string; arguments: string; ended: boolean }[];
}

function parse(format: ToolFormat, pieces: readonly string[], tools: readonly ToolSpec[]): Parsed {
  const parser = new ToolCallParser(format, tools);
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
function parseAllWays(format: ToolFormat, message: string, tools: readonly ToolSpec[] = []): Parsed {
  const whole = parse(format, [message], tools);
  assert.deepEqual(parse(format, [...message], tools), whole);
  for (let n = 2; n < 9; n++) {
    const pieces = message.match(new RegExp(`[\\s\\S]{1,${n}}`, 'g')) ?? [];
    assert.deepEqual(parse(format, pieces, tools), whole);
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

const formats = Object.keys(TOOL_FORMATS) as ToolFormat[];

for (const format of formats) {
  test(`${format}: whatever the grammar lets through, the parser takes apart into the same calls`, () => {
    const properties = { s: { type: 'string' }, n: { type: 'array', items: {} }, b: { type: ['boolean', 'null'] } };
    const tools = [
      { name: 'one', parameters: { type: 'object', properties } },
      { name: 'two.2', parameters: {} },
    ];
    for (const choice of ['auto', 'required'] as const) {
      const grammar = compileToolCalls(tools, { choice, format });
      for (let seed = 1; seed <= 12; seed++) {
        const message = randomDocument(grammar, randomStream(seed), 60);
        const { calls, text } = parseAllWays(format, message, tools);
        if (choice === 'required') assert.ok(calls.length > 0 && text === '', message);
        const read = calls.map((c) => {
          assert.ok(c.ended && ['one', 'two.2'].includes(c.name), message);
          // JSON knows no -0 when it is written
          const given = JSON.parse(JSON.stringify(JSON.parse(c.arguments))) as Record<string, unknown>;
          return { name: c.name, arguments: given };
        });
        for (const c of read)
          assert.ok(
            Object.keys(c.arguments).every((key) => key in properties),
            message,
          );
        if (read.length === 0 || (format === 'llama3' && read.length > 1)) continue;
        // what is written of them for a later turn is read as the same
        const again = writeToolCalls(read, format);
        const { calls: back } = parseAllWays(format, again, tools);
        assert.deepEqual(
          back.map((c) => ({ name: c.name, arguments: JSON.parse(c.arguments) })),
          read,
          again,
        );
      }
    }
  });

  test(`${format}: awkward arguments that are written are let through and read as the same`, () => {
    const awkward = [
      ...[
        '',
        '"',
        '\\',
        '</tool_call>',
        '<tool_call>',
        '[TOOL_CALLS]',
        '[ARGS]',
        ')',
        ']',
        '}',
        "'",
        'True',
        '\n```',
        '<｜tool▁call▁end｜>',
      ],
      ...['é🏙', '\u0000\u001f', '{"name": "x", "arguments": {', 'f(a=1)', '<think>', '\ufffd\u2028'],
    ];
    const parameters = { type: 'object', properties: { s: { type: 'string' }, n: { type: 'array', items: {} } } };
    const tools = [{ name: 'f', parameters }];
    const grammar = compileToolCalls(tools, { choice: 'required', format });
    for (const s of awkward) {
      const call = { name: 'f', arguments: { s, n: [s, { [s]: [true, null, -1.5, false] }] } };
      const message = writeToolCalls([call], format);
      assert.ok(accepts(grammar, message), message);
      const [read] = parseAllWays(format, message, tools).calls;
      assert.deepEqual([read.name, JSON.parse(read.arguments), read.ended], ['f', call.arguments, true], message);
    }
  });
}

test('qwen3-coder: whatever the schemas of arguments are, what is let through satisfies them, and what satisfies them is read as it was', () => {
  const ajv = judge();
  let [walks, given, same] = [0, 0, 0];
  for (let seed = 1; seed <= 60; seed++) {
    const random = randomStream(seed * 31);
    const samples = [sample(random, 2), sample(random, 2), sample(random, 1)];
    const [a, b, c] = samples.map((s) => s.schema);
    // strings beside other values, too
    const properties = { a, b: { anyOf: [b, { type: 'string' }] }, c: { anyOf: [c, { type: ['null', 'boolean'] }] } };
    const parameters = { type: 'object', properties, required: ['a'], additionalProperties: false };
    const tools = [{ name: 'f', parameters }];
    const grammar = compileToolCalls(tools, { choice: 'required', format: 'qwen3-coder', parallel: false });
    const valid = ajv.compile(parameters);
    for (let i = 0; i < 4; i++) {
      const message = randomDocument(grammar, random, 40);
      const [call] = parseAllWays('qwen3-coder', message, tools).calls;
      assert.ok(valid(JSON.parse(call.arguments)), `seed ${seed}: ${message} ${call.arguments}`);
      walks++;
      const args = { a: samples[0].document(random), b: samples[1].document(random), c: samples[2].document(random) };
      const written = writeToolCalls([{ name: 'f', arguments: args }], 'qwen3-coder');
      given++;
      if (!accepts(grammar, written)) continue;
      same++;
      const [read] = parseAllWays('qwen3-coder', written, tools).calls;
      assert.deepEqual(JSON.parse(read.arguments), args, written);
    }
  }
  assert.ok(same > 0.8 * given, `${same} of ${given} written calls, ${walks} walks`);
});
