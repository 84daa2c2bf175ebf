import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  compileJsonSchema,
  compileToolCalls,
  type Grammar,
  GrammarError,
  type GrammarStart,
  TOOL_FORMATS,
  type ToolFormat,
  type ToolOptions,
} from '../src/index.js';
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

test('a thinking before the document is free, and its end is where the masks begin', () => {
  const reasoning = { open: '<think>', close: '</think>' };
  const required = compileToolCalls(tools, { choice: 'required', format: 'hermes', reasoning });
  const schema = compileJsonSchema({ type: 'integer' }, { reasoning });
  const follows = (g: Grammar, start: GrammarStart, text: string): boolean => {
    const m = matcherOf(g, start);
    return [...Buffer.from(text)].every((b) => m.accept(b)) && m.isComplete();
  };
  const call = tagged(now);
  const thinking = 'Hm < </thin <tool_call>{"a": </tool_call> é🏙\n';
  for (const [g, document] of [
    [required, call],
    [schema, '12'],
  ] as const) {
    assert.ok(follows(g, 'document', document));
    assert.ok(!follows(g, 'document', `<think>x</think>${document}`));
    for (const text of [document, `<think>${thinking}</think>\n\n${document}`, `\n<think></think>${document}`])
      assert.ok(follows(g, 'before', text), text);
    assert.ok(follows(g, 'inside', `${thinking}</think>\n\n${document}`));
    // it must end, and be followed by the document
    for (const text of [thinking, `${thinking}</think>`, document, `${thinking}</think>words`])
      assert.ok(!follows(g, 'inside', text), text);
    assert.ok(!follows(compileJsonSchema({ type: 'integer' }), 'inside', `x</think>${document}`));
  }
  const auto = compileToolCalls(tools, { choice: 'auto', format: 'hermes', reasoning });
  assert.ok(follows(auto, 'inside', `${thinking}</think>\n\nWords. ${call}`));
  assert.ok(!follows(auto, 'inside', `${thinking}</think>\n\n<tool_call>x`));
});

/** One message of two calls for each format, as the families' chat templates show them. */
const spelled: [ToolFormat, string][] = [
  ['llama3', '{"name": "now", "parameters": {}}'],
  ['pythonic', '[get_weather(city="Łódź", unit="C"), now()]'],
  [
    'mistral',
    '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "x"}, "id": "aB3aB3aB3"}, {"name": "now", "arguments": {}}]',
  ],
  ['mistral-v11', '[TOOL_CALLS]get_weather[ARGS]{"city": "x"}[TOOL_CALLS]now[ARGS]{}'],
  [
    'deepseek-v3',
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{"city": "x"}\n```<｜tool▁call▁end｜>\n' +
      '<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
  ],
  [
    'deepseek-v3.1',
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "x"}<｜tool▁call▁end｜>' +
      '<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
  ],
  [
    'qwen3-coder',
    '<tool_call>\n<function=get_weather>\n<parameter=city>\nŁódź\n</parameter>\n</function>\n</tool_call>\n' +
      '<tool_call>\n<function=now>\n</function>\n</tool_call>',
  ],
  ['granite', '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "x"}}, {"name": "now", "arguments": {}}]'],
  [
    'phi4',
    '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "x"}}, {"name": "now", "arguments": {}}]<|/tool_call|>',
  ],
];

for (const [format, message] of spelled) {
  test(`${format}: calls as its templates write them, and nothing else`, () => {
    const bad = [
      message.slice(0, -1),
      `${message}!`,
      message.replace('now', 'then'),
      message.replace(/city[=":\s]*"[^"]*"|city>\n[^\n]*/, 'city'),
    ].filter((m) => m !== message);
    const texts = ['words', 'a < b, [1] and {2} <｜x <| — …', ''];
    const many = format !== 'llama3';
    assert.deepEqual(accepted({ choice: 'required', format }, [message, ...bad, ...texts]), [message]);
    assert.deepEqual(accepted({ choice: 'required', format, parallel: false }, [message]), many ? [] : [message]);
    assert.deepEqual(accepted({ choice: { name: 'get_weather' }, format }, [message]), []);
    const auto = accepted({ choice: 'auto', format }, [message, ...texts, ...bad]);
    assert.deepEqual(auto.slice(0, 4), [message, ...texts]);
    const { open } = TOOL_FORMATS[format];
    if (open !== '') {
      assert.deepEqual(auto.length, 4);
      assert.deepEqual(accepted({ choice: 'auto', format }, [`Well. ${message}`, `Well. ${open}x`]), [
        `Well. ${message}`,
      ]);
    }
  });
}

test('pythonic: values are spelled as Python does, and names must be names there', () => {
  const parameters = {
    type: 'object',
    properties: { a: { type: ['boolean', 'null'] }, b: { type: 'array', items: {} }, 'c-d': { type: 'string' } },
  };
  const options: ToolOptions = { choice: 'required', format: 'pythonic' };
  assert.throws(() => compileToolCalls([{ name: 'f', parameters }], options), /'c-d' names no argument/);
  const { 'c-d': _, ...properties } = parameters.properties;
  const g = compileToolCalls([{ name: 'f', parameters: { ...parameters, properties } }], options);
  for (const good of [
    '[f()]',
    '[f(a=True)]',
    '[f(a=None, b=[False, {"x": None}, 1.5, "True"])]',
    '[f(b=[]), f(a=False)]',
  ])
    assert.ok(accepts(g, good), good);
  for (const bad of ['[f(a=true)]', '[f(b=[null])]', '[f(a=True,)]', '[f(b="x")]', 'f()', '[f(c=1)]'])
    assert.ok(!accepts(g, bad), bad);
});

const qwen = (...args: [string, string][]) =>
  `<tool_call>\n<function=f>\n${args.map(([k, v]) => `<parameter=${k}>\n${v}\n</parameter>\n`).join('')}</function>\n</tool_call>`;

test('qwen3-coder: strings stand bare, all else as JSON, and each satisfies its schema', () => {
  const values: [schema: object, good: string[], bad: string[]][] = [
    [
      { type: 'string' },
      ['', 'a\nb', '"', '{', '5', 'null', ' </parameter>', '\n', '\n</paramete>', '\n\n'],
      ['a\n</parameter>b', '</parameter>'],
    ],
    [{ type: 'string', minLength: 1, maxLength: 5000 }, ['a', '\n', '</', '🏙'.repeat(5000)], ['', 'x'.repeat(5001)]],
    [{ type: 'string', pattern: '^a+\\n?$' }, ['a', 'aa\n'], ['', 'b', 'a\n\n']],
    [{ enum: ['C', 'C\n</', 'F'] }, ['C', 'F', 'C\n</'], ['', 'K', '"C"', 'C\n']],
    [{ type: 'integer', minimum: 3 }, ['3', '12'], ['2', '"3"', '', '3.5', ' 3']],
    [{ type: 'boolean' }, ['true', 'False'], ['null', 'x', '']],
    [{ type: ['string', 'null'] }, ['x', 'None', 'null', 'nul', '{}', '7', ''], []],
    [{ anyOf: [{ type: 'string', maxLength: 3 }, { type: 'integer' }] }, ['12345', 'abc', '1.5'], ['abcd', '12345.5']],
    [{ type: ['string', 'null'], maxLength: 4 }, ['nul', 'nulx', 'null', ''], ['xxxxx']],
    [{ type: ['string', 'null'], maxLength: 5000 }, ['null', 'x'.repeat(5000)], ['x'.repeat(5001)]],
    [
      { enum: Array.from({ length: 900 }, (_, i) => `value ${i} of many`) },
      ['value 899 of many'],
      ['value 900 of many'],
    ],
    [{ type: 'array', items: { type: 'integer' } }, ['[1, 2]', '[]'], ['1', '[1', '["1"]']],
    [{}, ['x', '{"a": [1]}', '[1]', '1.5', 'true', '1.5.2'], ['{x', '[1, ']],
  ];
  for (const [schema, good, bad] of values) {
    const parameters = { type: 'object', properties: { a: schema }, required: ['a'] };
    const g = compileToolCalls([{ name: 'f', parameters }], { choice: 'required', format: 'qwen3-coder' });
    for (const v of good) assert.ok(accepts(g, qwen(['a', v])), `${JSON.stringify(schema)} ${v.slice(0, 20)}`);
    for (const v of bad) assert.ok(!accepts(g, qwen(['a', v])), `${JSON.stringify(schema)} ${v.slice(0, 20)}`);
  }
});

test('qwen3-coder: the tags of a call may be special tokens, and come in no argument', () => {
  const { idOf, table } = vocabulary;
  const m = matcherOf(compileToolCalls(tools, { choice: 'auto', format: 'qwen3-coder' }));
  const special = () => allowed(m).filter((t) => table.special[t]);
  const say = (text: string) => [...Buffer.from(text)].every((b) => m.accept(b));
  assert.ok(say('Hm.\n') && m.accept(idOf('<tool_call>')));
  assert.ok(say('\n<function=get_weather>\n<parameter=city>\nRome <tool_call>\n'));
  assert.deepEqual(special(), []);
  assert.ok(say('</parameter>\n</function>\n'));
  assert.deepEqual(special(), [idOf('</tool_call>')]);
  assert.ok(m.accept(idOf('</tool_call>')) && m.isComplete());
  assert.ok(say('\n') && m.accept(idOf('<tool_call>')) && say('\n<function=now>\n</function>\n</tool_call>'));
  assert.ok(m.isComplete());
});

test('qwen3-coder: arguments come in order, the required ones always', () => {
  const properties = { a: { type: 'string' }, b: { type: 'integer' }, 'c d': {} };
  const parameters = { type: 'object', properties, required: ['b'] };
  const options: ToolOptions = { choice: 'required', format: 'qwen3-coder' };
  const g = compileToolCalls([{ name: 'f', parameters }], options);
  const a: [string, string] = ['a', 'x'];
  const b: [string, string] = ['b', '1'];
  for (const good of [qwen(b), qwen(a, b), qwen(a, b, ['c d', 'y'])]) assert.ok(accepts(g, good), good);
  for (const bad of [qwen(), qwen(a), qwen(b, a), qwen(b, b), qwen(b, ['e', 'x'])]) assert.ok(!accepts(g, bad), bad);
  // nothing between the tags is the empty string too
  assert.ok(accepts(g, qwen(a, b).replace('\nx\n', '\n')));
  const odd = { type: 'object', properties: { 'x>': {} } };
  assert.throws(() => compileToolCalls([{ name: 'f', parameters: odd }], options), /'x>' names no argument/);
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
