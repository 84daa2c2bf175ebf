import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileToolCalls, GrammarError, type ToolOptions } from '../src/index.js';
import { accepts, allowed, matcherOf, randomDocument, randomStream, vocabulary } from './support.js';

const tools = [
  {
    name: 'get_weather',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' }, unit: { enum: ['C', 'F'] } },
      required: ['city'],
    },
  },
  { name: 'now' },
];
const weather = '{"name": "get_weather", "arguments": {"city": "Łódź"}}';
const now = '{"name": "now", "arguments": {}}';
const tagged = (...calls: string[]) => calls.map((c) => `<tool_call>\n${c}\n</tool_call>`).join('\n');

function accepted(options: ToolOptions, texts: readonly string[]): string[] {
  const g = compileToolCalls(tools, options);
  return texts.filter((t) => accepts(g, t));
}

test('hermes, required: one or more calls and nothing else', () => {
  const good = [tagged(weather), tagged(now), tagged(weather, now), `<tool_call>${now}</tool_call>`];
  const bad = [
    '',
    'text',
    `text ${tagged(now)}`,
    `${tagged(now)} text`,
    tagged(now.replace('now', 'then')),
    tagged('{"name": "now"}'),
  ];
  assert.deepEqual(accepted({ choice: 'required', format: 'hermes' }, [...good, ...bad]), good);
  const single = good.filter((t) => t !== good[2]);
  assert.deepEqual(accepted({ choice: 'required', format: 'hermes', parallel: false }, good), single);
});

test('arguments satisfy the schema of the function that is called', () => {
  const calls = ['{"city": "x", "unit": "C"}', '{"city": "x", "unit": "K"}', '{}', '{"city": 1}', '[]'].map((a) =>
    tagged(`{"name": "get_weather", "arguments": ${a}}`),
  );
  assert.deepEqual(accepted({ choice: 'required', format: 'hermes' }, calls), [calls[0]]);
  assert.deepEqual(
    accepted({ choice: 'required', format: 'hermes' }, [tagged('{"name": "now", "arguments": {"city": "x"}}')]),
    [],
  );
});

test('a named choice admits that function only', () => {
  const options: ToolOptions = { choice: { name: 'now' }, format: 'hermes' };
  assert.deepEqual(accepted(options, [tagged(now), tagged(weather), tagged(now, now)]), [
    tagged(now),
    tagged(now, now),
  ]);
});

test('auto: any text, and calls that are constrained from their tag on', () => {
  const good = [
    '',
    'plain text',
    'a < b <tool <tool_cal',
    '<<tool_call>x'.slice(0, 11),
    `Let me look.\n\n${tagged(weather, now)}`,
    'é🏙',
  ];
  const bad = ['<tool_call>', '<<tool_call>x', `x<tool_call>{"name": "then"`, `${tagged(now)}\nmore`];
  assert.deepEqual(accepted({ choice: 'auto', format: 'hermes' }, [...good, ...bad]), good);
});

test('the tags may be special tokens of their own, other special tokens never come', () => {
  const { idOf, end, table } = vocabulary;
  const m = matcherOf(compileToolCalls(tools, { choice: 'auto', format: 'hermes' }));
  for (const b of Buffer.from('hm ')) assert.ok(m.accept(b));
  const special = allowed(m).filter((t) => table.special[t]);
  assert.deepEqual(special, [end, idOf('<tool_call>')]);
  assert.ok(m.accept(idOf('<tool_call>')));
  assert.ok(!allowed(m).includes(end));
  for (const b of Buffer.from(now)) {
    assert.ok(m.accept(b));
    // not inside of a string, although its spelling would be text there
    if (b === 0x22) assert.ok(!allowed(m).some((t) => table.special[t]));
  }
  assert.ok(allowed(m).includes(idOf('</tool_call>')));
  assert.ok(m.accept(idOf('</tool_call>')));
  assert.ok(m.isComplete());
});

test('smollm2: a list of calls', () => {
  const good = [`<tool_call>[${now}]</tool_call>`, `<tool_call>\n[${weather}, ${now}]\n</tool_call>`];
  const bad = ['<tool_call>[]</tool_call>', `<tool_call>${now}</tool_call>`, `<tool_call>[${now},]</tool_call>`];
  assert.deepEqual(accepted({ choice: 'required', format: 'smollm2' }, [...good, ...bad]), good);
  assert.deepEqual(accepted({ choice: 'required', format: 'smollm2', parallel: false }, good), [good[0]]);
  assert.deepEqual(accepted({ choice: 'auto', format: 'smollm2' }, [`Yes. ${good[0]}`, 'no']), [
    `Yes. ${good[0]}`,
    'no',
  ]);
});

test('llama3: the message is a call, or text that does not look like one', () => {
  const call = weather.replace('arguments', 'parameters');
  const texts = [call, weather, 'text with {"braces"}', `${call} `, ' {"a":1}', '{"a":1}', '', '\n\n'];
  assert.deepEqual(accepted({ choice: 'required', format: 'llama3' }, texts), [call]);
  assert.deepEqual(accepted({ choice: 'auto', format: 'llama3' }, texts), [call, texts[2], '', '\n\n']);
});

test('references in parameters start at the parameters', () => {
  const parameters = {
    type: 'object',
    properties: { p: { $ref: '#/$defs/point' } },
    required: ['p'],
    $defs: { point: { type: 'array', items: { type: 'number' }, minItems: 2, maxItems: 2 } },
  };
  const g = compileToolCalls([{ name: 'go', parameters }, { name: 'now' }], { choice: 'required', format: 'hermes' });
  assert.ok(accepts(g, tagged('{"name": "go", "arguments": {"p": [1, 2.5]}}')));
  assert.ok(!accepts(g, tagged('{"name": "go", "arguments": {"p": [1]}}')));
});

test('bad tools are refused by name', () => {
  const options: ToolOptions = { choice: 'auto', format: 'hermes' };
  const refused = (list: Parameters<typeof compileToolCalls>[0], o: ToolOptions, pattern: RegExp) =>
    assert.throws(
      () => compileToolCalls(list, o),
      (e) => e instanceof GrammarError && e.param === 'tools' && pattern.test(e.message),
    );
  refused([], options, /no tools/);
  refused([{ name: 'a b' }], options, /'a b'/);
  refused([{ name: 'a' }, { name: 'a' }], options, /two tools 'a'/);
  refused(tools, { choice: { name: 'b' }, format: 'hermes' }, /'b'/);
  refused([{ name: 'a', parameters: { contains: {} } }], options, /'contains'.*'a#'/);
  refused([{ name: 'a', parameters: { type: 'string' } }], options, /no document/);
});

test('random walks through required calls always end in calls', () => {
  for (const format of ['hermes', 'smollm2', 'llama3'] as const) {
    const g = compileToolCalls(tools, { choice: 'required', format });
    for (let seed = 1; seed <= 15; seed++) {
      const text = randomDocument(g, randomStream(seed), 80);
      const body =
        format === 'llama3'
          ? [text]
          : [...text.matchAll(/<tool_call>([\s\S]*?)<\/tool_call>(?=\s?(?:<tool_call>|$))/g)].map((x) => x[1]);
      assert.ok(body.length > 0, text);
      for (const b of body)
        for (const call of [JSON.parse(b)].flat()) assert.ok(tools.some((t) => t.name === call.name));
    }
  }
});
