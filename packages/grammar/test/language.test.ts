import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CompileOptions, compileJsonObject, compileJsonSchema, GrammarError } from '../src/index.js';
import { accepts, judge, randomDocument, randomStream } from './support.js';

/** Which of these texts the schema's grammar accepts. */
function accepted(schema: unknown, texts: readonly (string | Uint8Array)[], options?: CompileOptions): unknown[] {
  const grammar = compileJsonSchema(schema, options);
  return texts.filter((t) => accepts(grammar, t));
}

function refuses(schema: unknown, code: string, ...words: string[]): void {
  assert.throws(
    () => compileJsonSchema(schema),
    (e) => {
      assert.ok(e instanceof GrammarError);
      assert.equal(e.code, code, e.message);
      assert.equal(e.param, 'response_format');
      for (const w of words) assert.ok(e.message.includes(w), `'${w}' in: ${e.message}`);
      return true;
    },
  );
}

test('an unsupported keyword is refused by its name and path', () => {
  const at = (s: unknown) => ({ type: 'object', properties: { a: { type: 'array', items: s } } });
  for (const [key, value] of [
    ['uniqueItems', true],
    ['contains', {}],
    ['if', {}],
    ['unevaluatedProperties', false],
    ['dependentSchemas', {}],
    ['$dynamicRef', '#x'],
    ['$anchor', 'x'],
    ['contentEncoding', 'base64'],
    ['nullable', true],
    ['multipleOf', 0.01],
    ['format', 'idn-email'],
    ['pattern', '(a)\\1'],
    ['pattern', 'a(?=b)'],
    ['pattern', '\\bword\\b'],
    ['$ref', 'https://example.org/schema'],
  ] as const) {
    refuses(at({ [key]: value }), 'unsupported_schema', `'${key}'`, "'#/properties/a/items'");
  }
});

test('an unsupported keyword behind a reference is refused too', () => {
  refuses({ $ref: '#/$defs/x', $defs: { x: { contains: {} } } }, 'unsupported_schema', "'contains'", "'#/$defs/x'");
});

test('a wrong schema is refused with the place', () => {
  refuses({ type: 'text' }, 'invalid_schema', '#/type', "'text'");
  refuses({ type: 'string', minLength: -1 }, 'invalid_schema', '#/minLength');
  refuses({ properties: { a: 1 } }, 'invalid_schema', '#/properties/a');
  refuses({ $ref: '#/$defs/none' }, 'invalid_schema', '#/$defs/none');
  refuses({ pattern: 3 }, 'invalid_schema', '#/pattern');
  refuses({ type: 'number', exclusiveMinimum: true, minimum: 3 }, 'invalid_schema', 'exclusiveMinimum');
  refuses('string', 'invalid_schema');
});

test('a schema that nothing satisfies is refused, not sampled into a dead end', () => {
  refuses(false, 'invalid_schema', 'no document');
  refuses({ type: 'integer', exclusiveMinimum: 3, exclusiveMaximum: 4 }, 'invalid_schema', 'no document');
  refuses({ type: 'string', pattern: '^a$', minLength: 2 }, 'invalid_schema', 'no document');
  refuses({ type: 'array', items: false, minItems: 1 }, 'invalid_schema', 'no document');
  const endless = {
    $ref: '#/$defs/n',
    $defs: { n: { type: 'object', properties: { n: { $ref: '#/$defs/n' } }, required: ['n'] } },
  };
  refuses(endless, 'invalid_schema', 'no document');
  refuses({ $ref: '#' }, 'unsupported_schema', '$ref', 'back to itself');
});

test('what leads to a dead end is never offered', () => {
  // the second branch can never be completed, so its first key must not be offered
  const schema = {
    anyOf: [
      { type: 'object', properties: { a: { type: 'null' } }, required: ['a'] },
      { type: 'object', properties: { b: { type: 'string', pattern: '^x', maxLength: 0 } }, required: ['b'] },
    ],
  };
  assert.deepEqual(accepted(schema, ['{"a":null}', '{"b":""}']), ['{"a":null}']);
  for (let seed = 0; seed < 40; seed++) {
    assert.match(randomDocument(compileJsonSchema(schema), randomStream(seed), 10), /"a"/);
  }
});

test('schemas beyond the limits are refused in bounded time', () => {
  const started = performance.now();
  let deep: object = { type: 'string' };
  for (let i = 0; i < 5000; i++) deep = { type: 'array', items: deep };
  refuses(deep, 'schema_too_large');
  const wide = Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [`p${i}`, { type: 'string' }]));
  refuses({ type: 'object', properties: wide }, 'schema_too_large');
  const product = {
    allOf: Array.from({ length: 12 }, (_, i) => ({ anyOf: [{ required: [`a${i}`] }, { required: [`b${i}`] }] })),
  };
  refuses(product, 'schema_too_large', 'alternatives');
  refuses({ type: 'string', pattern: '^(a|b)*a(a|b){30}$' }, 'unsupported_schema', 'pattern', 'states');
  refuses({ type: 'string', pattern: '((a{1,100}){1,100}){1,100}' }, 'unsupported_schema', 'pattern');
  refuses({ enum: Array.from({ length: 300 }, (_, i) => `${i}`.repeat(2000)) }, 'schema_too_large');
  assert.ok(performance.now() - started < 20_000);
});

test('integers are exact at their bounds, also beyond 2^53', () => {
  const texts = ['-6', '-5', '-0', '0', '7', '42', '43', '1.0', '4.2e1', '007', '+1', '- 1'];
  assert.deepEqual(accepted({ type: 'integer', minimum: -5, maximum: 42 }, texts), ['-5', '-0', '0', '7', '42']);
  assert.deepEqual(accepted({ type: 'integer', exclusiveMinimum: -5, exclusiveMaximum: 42 }, texts), ['-0', '0', '7']);
  assert.deepEqual(accepted({ type: 'integer', minimum: 2.5, maximum: 3.5 }, ['2', '3', '4']), ['3']);
  const big = ['9007199254740991', '9007199254740992', '9007199254740993', '100000000000000000000'];
  assert.deepEqual(accepted({ type: 'integer', exclusiveMinimum: 9007199254740991 }, big), big.slice(1));
  refuses({ type: 'integer', exclusiveMinimum: 9007199254740992 }, 'unsupported_schema', 'exclusiveMinimum');
});

test('numbers between bounds mean the same as decimals and as doubles', () => {
  const judgeOf = (schema: object) => judge().compile(schema);
  const texts = [
    '0',
    '-0',
    '0.1',
    '0.10',
    '0.100000000000000005',
    '0.09',
    '0.11',
    '0.2',
    '0.29999',
    '0.3',
    '0.30',
    '0.3000000000000001',
    '0.31',
    '1',
    '1.0',
    '-0.1',
    '-0.2',
    '-0.25',
    '-0.250',
    '-0.251',
    '-1',
    '10',
    '0.25',
    '1e0',
    '2.50',
    '2.5',
    '2.51',
    '02',
    '.5',
    '1.',
  ];
  for (const [min, max] of [
    [0.1, 0.3],
    [-0.25, 2.5],
    [0, 1],
    [-1, 0],
    [-1, -0.1],
    [0.25, 0.25],
    [1e-10, 10],
  ]) {
    for (const schema of [
      { type: 'number', minimum: min, maximum: max },
      { type: 'number', exclusiveMinimum: min, exclusiveMaximum: max },
    ]) {
      const valid = judgeOf(schema);
      const should = texts.filter((t) => /^-?(0|[1-9]\d*)(\.\d{1,15})?$/.test(t) && valid(JSON.parse(t)));
      if (should.length === 0) continue;
      assert.deepEqual(
        accepted(schema, texts).filter((t) => should.includes(t as string)),
        should,
      );
      for (const t of accepted(schema, texts))
        assert.ok(valid(JSON.parse(t as string)), `${t} in ${JSON.stringify(schema)}`);
    }
  }
});

test('numbers never overflow a double and never go on without end', () => {
  const texts = [
    '1e307',
    '9.9e307',
    '1e308',
    '1e999',
    '12e5',
    '1E-307',
    '1e+5',
    '0e0',
    `1${'0'.repeat(23)}`,
    `1${'0'.repeat(24)}`,
  ];
  assert.deepEqual(accepted({ type: 'number' }, texts), ['1e307', '9.9e307', '1E-307', '1e+5', '0e0', texts[8]]);
});

test('strings are any valid JSON string, and well-formed UTF-8 only', () => {
  const good = [
    '""',
    '"é東🏙"',
    '"\\u00e9"',
    '"\\uD83D\\uDE00"',
    '"\\"\\\\\\/\\b\\f\\n\\r\\t"',
    '"\u007f\u2028"',
    '"\\uD7FF\\uE000"',
  ];
  const bad = ['"\n"', '"\\x"', '"\\u12"', '"\\uD83D"', '"\\uDE00"', '"\\uD83D\\u0041"', '"\\uD83Dx"', "'a'", '"'];
  const bytes = (...b: number[]) => Uint8Array.from([0x22, ...b, 0x22]);
  const broken = [
    bytes(0xff),
    bytes(0xc0, 0x80),
    bytes(0xed, 0xa0, 0x80),
    bytes(0xf4, 0x90, 0x80, 0x80),
    bytes(0xe6, 0x9d),
  ];
  for (const schema of [{ type: 'string' }, { type: 'string', minLength: 0, maxLength: 9 }]) {
    assert.deepEqual(accepted(schema, [...good, ...bad, ...broken]), good);
  }
});

test('lengths count characters, not bytes or escapes', () => {
  const texts = ['"a"', '"ab"', '"abc"', '"abcd"', '"東京"', '"🏙🏙🏙"', '"\\ud83d\\ude00b"', '"\\n\\u0041\\n"', '"🏙🏙🏙🏙"'];
  const two = ['"ab"', '"abc"', '"東京"', '"🏙🏙🏙"', '"\\ud83d\\ude00b"', '"\\n\\u0041\\n"'];
  assert.deepEqual(accepted({ type: 'string', minLength: 2, maxLength: 3 }, texts), two);
  // together with a pattern a text has one spelling, that of JSON.stringify
  assert.deepEqual(
    accepted({ type: 'string', minLength: 2, maxLength: 3, pattern: '^[^z]*$' }, texts),
    two.slice(0, 4),
  );
});

test('patterns mean what ECMA-262 says', () => {
  const words = [
    '',
    'a',
    'b',
    'ab',
    'ba',
    'aab',
    'abc',
    'a-b',
    'A1_',
    '\u00e9',
    '🏙',
    ' ',
    'a b',
    'line\n',
    '{}',
    '12',
    '1a',
    'foo.bar',
    '"',
    '\\',
  ];
  for (const pattern of [
    'a',
    '^a',
    'a$',
    '^a$',
    '^$',
    'a|b',
    '^a|b$',
    '^(a|b)+$',
    '^a{2}b?$',
    '^[^a]$',
    '^.$',
    '^\\w+$',
    '\\d',
    '^\\D*$',
    '\\s',
    '^\\S+$',
    '^[\\w-]+$',
    '[a-c]{3}',
    '^(?:ab|a)(?<x>c|b)$',
    '\\u{1F3D9}',
    '\\ud83c\\udfd9',
    '\\.',
    '^["\\\\]$',
    '(^a|b$)',
    'a*',
    '^(a?){3}$',
    '^[\\s\\S]$',
    '^(|x)$',
    '^(^a)',
    '$^',
    '^[]$|a',
    '^[^]$',
  ]) {
    const expected = words.filter((w) => new RegExp(pattern, 'u').test(w));
    const got = accepted(
      { type: 'string', pattern },
      words.map((w) => JSON.stringify(w)),
    );
    assert.deepEqual(
      got,
      expected.map((w) => JSON.stringify(w)),
      pattern,
    );
  }
});

test('formats accept only what an independent validator accepts', () => {
  const names = ['date', 'time', 'date-time', 'uuid', 'ipv4', 'ipv6', 'hostname', 'email', 'uri', 'duration'];
  for (const format of names) {
    const schema = { type: 'string', format };
    const valid = judge().compile(schema);
    const grammar = compileJsonSchema(schema);
    for (let seed = 0; seed < 25; seed++) {
      const text = randomDocument(grammar, randomStream(seed + 1), 60);
      assert.ok(valid(JSON.parse(text)), `${format}: ${text}`);
    }
  }
  const days = ['"2024-02-29"', '"2023-02-29"', '"2000-02-29"', '"1900-02-29"', '"2023-04-31"', '"2023-13-01"'];
  assert.deepEqual(accepted({ format: 'date', type: 'string' }, days), [days[0], days[2]]);
});

test('properties come in the order of the schema, undeclared ones last and only where they are allowed', () => {
  const base = {
    type: 'object',
    properties: { a: { type: 'null' }, b: { type: 'null' }, c: { type: 'null' } },
    required: ['b'],
  };
  const texts = [
    '{}',
    '{"b":null}',
    '{"a":null,"b":null}',
    '{"b":null,"a":null}',
    '{"b":null,"c":null}',
    '{"b":null,"x":1}',
    '{"b":null,"b":null}',
  ];
  const declared = [texts[1], texts[2], texts[4]];
  assert.deepEqual(accepted(base, texts), declared);
  assert.deepEqual(accepted(base, texts, { undeclared: 'open' }), [...declared, texts[5]]);
  assert.deepEqual(accepted({ ...base, additionalProperties: { type: 'integer' } }, texts), [...declared, texts[5]]);
  assert.deepEqual(accepted({ ...base, additionalProperties: { type: 'null' } }, texts), declared);
});

test('an undeclared name cannot be a declared one in another spelling', () => {
  const schema = { type: 'object', properties: { ab: { type: 'null' } }, additionalProperties: { type: 'integer' } };
  const texts = ['{"ab":1}', '{"a\\u0062":1}', '{"\\u0061b":1}', '{"abc":1}', '{"a":1}', '{"x\\u0062":1}'];
  assert.deepEqual(accepted(schema, texts), ['{"abc":1}', '{"a":1}', '{"x\\u0062":1}']);
});

test('patternProperties, propertyNames and counts of properties hold', () => {
  const patterns = {
    type: 'object',
    patternProperties: { '^n': { type: 'integer' }, x$: { type: 'number', minimum: 5 } },
    additionalProperties: false,
  };
  const texts = [
    '{}',
    '{"n":1}',
    '{"n":1.5}',
    '{"ax":5.5}',
    '{"nx":6}',
    '{"nx":6.5}',
    '{"nx":4}',
    '{"q":1}',
    '{"n":1,"ax":7}',
  ];
  assert.deepEqual(accepted(patterns, texts), ['{}', '{"n":1}', '{"ax":5.5}', '{"nx":6}', '{"n":1,"ax":7}']);
  const names = { type: 'object', propertyNames: { pattern: '^[a-z]$' }, minProperties: 1, maxProperties: 2 };
  const objects = ['{}', '{"a":1}', '{"A":1}', '{"a":1,"b":[]}', '{"a":1,"b":2,"c":3}'];
  assert.deepEqual(accepted(names, objects), ['{"a":1}', '{"a":1,"b":[]}']);
  const counted = {
    type: 'object',
    properties: { a: {}, b: {}, c: {} },
    minProperties: 2,
    additionalProperties: false,
  };
  assert.deepEqual(accepted(counted, ['{"a":1}', '{"a":1,"c":1}', '{"b":1,"c":1}', '{"a":1,"b":2,"c":3}']).length, 3);
});

test('oneOf is exact for scalars, proved for objects, or refused', () => {
  const numbers = {
    oneOf: [
      { type: 'integer', minimum: 0, maximum: 10 },
      { type: 'integer', minimum: 5 },
    ],
  };
  assert.deepEqual(accepted(numbers, ['-1', '0', '4', '5', '10', '11']), ['0', '4', '11']);
  const strings = { type: 'string', oneOf: [{ pattern: '^a' }, { pattern: 'b$' }] };
  assert.deepEqual(accepted(strings, ['"a"', '"b"', '"ab"', '"axxb"', '"c"']), ['"a"', '"b"']);
  const tags = { oneOf: ['x', 'y'].map((t) => ({ type: 'object', properties: { t: { const: t } }, required: ['t'] })) };
  assert.deepEqual(accepted(tags, ['{"t":"x"}', '{"t":"z"}', '{}']), ['{"t":"x"}']);
  refuses(
    {
      oneOf: [
        { type: 'object', properties: { a: {} } },
        { type: 'object', properties: { b: {} } },
      ],
    },
    'unsupported_schema',
    "'oneOf'",
    'two branches',
  );
  assert.deepEqual(accepted({ not: { type: ['string', 'array', 'object'] } }, ['1', '"a"', 'null', '[]', 'true']), [
    '1',
    'null',
    'true',
  ]);
  refuses({ type: 'array', not: { minItems: 2 } }, 'unsupported_schema', "'not'");
});

test('allOf and siblings of $ref are merged', () => {
  const schema = {
    $defs: { base: { type: 'object', properties: { id: { type: 'integer' } }, required: ['id'] } },
    allOf: [{ $ref: '#/$defs/base' }, { properties: { id: { minimum: 3 }, name: { type: 'string' } } }],
  };
  assert.deepEqual(accepted(schema, ['{"id":2}', '{"id":3}', '{"id":3,"name":"x"}', '{"name":"x"}']), [
    '{"id":3}',
    '{"id":3,"name":"x"}',
  ]);
});

test('arrays: empty, tuples, bounds', () => {
  const tuple = { type: 'array', prefixItems: [{ type: 'null' }, { type: 'boolean' }] };
  const texts = ['[]', '[null]', '[null,true]', '[null,true,1]', '[true]'];
  assert.deepEqual(accepted(tuple, texts), texts.slice(0, 3));
  assert.deepEqual(accepted(tuple, texts, { undeclared: 'open' }), texts.slice(0, 4));
  assert.deepEqual(accepted({ ...tuple, items: { type: 'integer' }, minItems: 2 }, texts), texts.slice(2, 4));
  assert.deepEqual(accepted({ type: 'array', maxItems: 0 }, ['[]', '[ ]', '[1]']), ['[]', '[ ]']);
});

test('whitespace is bounded, and absent where compact is asked for', () => {
  const texts = [
    '{"a": [1, 2]}',
    '{"a":[1,2]}',
    '{\n  "a": [\n    1,\n    2\n  ]\n}',
    '{  "a":[1,2]}',
    '{"a" :[1,2]}',
    '{\n\n"a":[1,2]}',
    ' {"a":[1,2]}',
    '{"a":[1,2]} ',
  ];
  const schema = { type: 'object', properties: { a: { type: 'array', items: { type: 'integer' } } } };
  assert.deepEqual(accepted(schema, texts), texts.slice(0, 3));
  assert.deepEqual(accepted(schema, texts, { whitespace: 'compact' }), [texts[1]]);
  assert.ok(accepts(compileJsonObject(), `{\n${' '.repeat(32)}"a":1}`));
  assert.ok(!accepts(compileJsonObject(), `{\n${' '.repeat(33)}"a":1}`));
});

test('json_object is any object and nothing else', () => {
  const g = compileJsonObject();
  for (const t of ['{}', '{"a":{"a":[[],{}]},"b":"\\u0000"}', '{"":-1.5e-7}']) assert.ok(accepts(g, t), t);
  for (const t of ['[]', '1', '"a"', '{"a":}', '{"a":1,}', '{a:1}', '{"a":01}', '{"a":NaN}', '{"a":1}}'])
    assert.ok(!accepts(g, t), t);
  const nested = `${'{"a":'.repeat(2000)}1${'}'.repeat(2000)}`;
  assert.ok(accepts(g, nested));
  assert.ok(!accepts(g, nested.slice(1)));
});

test('an enum of twenty thousand strings is followed exactly', () => {
  const values = Array.from({ length: 20_000 }, (_, i) => `v${(i * 7919) % 100_003}`);
  const got = accepted(
    { enum: values },
    [values[0], values[19_999], 'v', 'v1000000', `${values[5]}0`].map((v) => JSON.stringify(v)),
  );
  assert.deepEqual(got, [JSON.stringify(values[0]), JSON.stringify(values[19_999])]);
});

test('ambiguous recursion costs no more the deeper it gets', () => {
  const node = (extra: object) => ({
    type: 'object',
    properties: { n: { $ref: '#/$defs/n' }, ...extra },
    required: [],
  });
  const schema = {
    $ref: '#/$defs/n',
    $defs: { n: { anyOf: [node({}), node({ a: { type: 'null' } }), node({ b: { type: 'null' } })] } },
  };
  const g = compileJsonSchema(schema);
  const started = performance.now();
  assert.ok(accepts(g, `${'{"n":'.repeat(400)}{"b":null}${',"a":null}'.repeat(400)}`));
  assert.ok(!accepts(g, `${'{"n":'.repeat(400)}{"b":null}${',"c":null}'.repeat(400)}`));
  assert.ok(performance.now() - started < 5000);
});
