import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Grammar } from '../../src/index.js';
import { Grammars } from '../../src/server/grammars.js';
import { errorOf, hello, rig } from '../support/http.js';

const point = { type: 'object', properties: { x: { type: 'integer' } }, required: ['x'], additionalProperties: false };
const format = (schema: unknown, more: object = {}) => ({
  type: 'json_schema',
  json_schema: { name: 'answer', schema, ...more },
});

test('every structured answer is generated under a grammar, equal schemas under the same one', async (t) => {
  const { post, engine } = await rig(t);
  const ask = async (response_format: unknown) => {
    const response = await post('/v1/chat/completions', { messages: hello, response_format });
    assert.equal(response.status, 200, await response.text());
    return engine.calls.at(-1)!.request.grammar as Grammar | undefined;
  };
  assert.equal(await ask({ type: 'text' }), undefined);
  assert.equal(await ask(null), undefined);
  const object = await ask({ type: 'json_object' });
  const strict = await ask(format(point, { strict: true }));
  assert.ok(object && strict && object !== strict);
  assert.equal(await ask(format(point, { strict: false })), strict);
  assert.equal(await ask({ type: 'json_object' }), object);
  assert.notEqual(await ask(format({ ...point, required: [] })), strict);
  await post('/v1/completions', { prompt: 'x', response_format: format(point) });
  assert.equal(engine.calls.at(-1)!.request.grammar, strict);
});

const bad: [string, object, string, string][] = [
  [
    'a keyword that cannot be enforced',
    { response_format: format({ uniqueItems: true }) },
    'unsupported_schema',
    'response_format',
  ],
  [
    'a contradiction',
    { response_format: format({ type: 'integer', enum: ['x'] }) },
    'invalid_schema',
    'response_format',
  ],
  ['a schema that is no schema', { response_format: format({ type: 'ineger' }) }, 'invalid_schema', 'response_format'],
  ['no schema', { response_format: { type: 'json_schema' } }, 'invalid_request', 'response_format.json_schema'],
  [
    'no schema in json_schema',
    { response_format: { type: 'json_schema', json_schema: { name: 'x' } } },
    'invalid_request',
    'response_format.json_schema.schema',
  ],
  ['another type', { response_format: { type: 'xml' } }, 'invalid_request', 'response_format.type'],
  ['a stop string', { response_format: { type: 'json_object' }, stop: ['}'] }, 'invalid_request', 'stop'],
  [
    'stop tokens',
    { response_format: { type: 'json_object' }, stop_token_ids: [5] },
    'invalid_request',
    'stop_token_ids',
  ],
  ['ignore_eos', { response_format: { type: 'json_object' }, ignore_eos: true }, 'invalid_request', 'ignore_eos'],
  ['min_tokens', { response_format: { type: 'json_object' }, min_tokens: 5 }, 'invalid_request', 'min_tokens'],
  ['a ban', { response_format: { type: 'json_object' }, logit_bias: { 5: -100 } }, 'invalid_request', 'logit_bias'],
];

test("a schema nested without end is the caller's fault, also in tools and in the arguments of a history", async (t) => {
  const { post, engine } = await rig(t);
  const nest = (levels: number) => `${'{"not":'.repeat(levels)}{}${'}'.repeat(levels)}`;
  const messages = JSON.stringify(hello);
  for (const levels of [100, 2_000, 100_000]) {
    const deep = nest(levels);
    const call = {
      role: 'assistant',
      tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: deep } }],
    };
    const bodies: [string, string, string][] = [
      [
        `{"messages":${messages},"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":${deep}}}}`,
        'schema_too_large',
        'response_format',
      ],
      [
        `{"messages":${messages},"tools":[{"type":"function","function":{"name":"f","parameters":${deep}}}]}`,
        'schema_too_large',
        'tools',
      ],
      [
        JSON.stringify({ messages: [call] }),
        levels > 128 ? 'invalid_request' : '',
        'messages[0].tool_calls[0].function.arguments',
      ],
    ];
    for (const [body, code, param] of bodies) {
      const response = await post('/v1/chat/completions', body);
      if (code === '') {
        assert.equal(response.status, 200);
        continue;
      }
      assert.equal(response.status, 400);
      const error = await errorOf(response);
      assert.deepEqual([error.code, error.param], [code, param], error.message);
    }
  }
  assert.equal(engine.calls.length, 1);
});

for (const [what, fields, code, param] of bad) {
  test(`refused before anything runs: ${what}`, async (t) => {
    const { post, engine } = await rig(t);
    const response = await post('/v1/chat/completions', { messages: hello, ...fields });
    assert.equal(response.status, 400);
    const error = await errorOf(response);
    assert.deepEqual([error.code, error.param], [code, param], error.message);
    assert.equal(engine.calls.length, 0);
  });
}

/** Each pattern costs the compiler a good while, whatever it is run on. */
const slowSchema = (patterns: number) => ({
  anyOf: Array.from({ length: patterns }, (_, i) => ({
    type: 'string',
    pattern: `^(a|b)*a(a|b){${8 + (i % 2)}}${i}$`,
  })),
});

test('a schema that takes too long is stopped, and the next one is compiled as ever', async () => {
  const grammars = new Grammars({ compileMs: 1 });
  await assert.rejects(grammars.get({ kind: 'schema', schema: slowSchema(40) }), {
    code: 'schema_too_large',
    status: 400,
  });
  await grammars.close();
  const patient = new Grammars();
  const [one, two] = await Promise.all([
    patient.get({ kind: 'schema', schema: point }),
    patient.get({ kind: 'schema', schema: point }),
  ]);
  assert.equal(one, two);
  await patient.close();
  await assert.rejects(patient.get({ kind: 'schema', schema: { type: 'null' } }), { code: 'engine_closed' });
});

test('compiling keeps the event loop free', async () => {
  const grammars = new Grammars();
  await grammars.get({ kind: 'object' });
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }, 1);
  const start = performance.now();
  await grammars.get({ kind: 'schema', schema: slowSchema(12) }).catch(() => {});
  const took = performance.now() - start;
  clearInterval(timer);
  await grammars.close();
  assert.ok(took < 100 || longest < took / 2, `the loop stood still for ${longest} of ${took} ms`);
});

test('grammars that were not used for long are forgotten', async () => {
  const grammars = new Grammars({ bytes: 40_000 });
  const first = await grammars.get({ kind: 'object' });
  for (let i = 0; i < 10; i++) await grammars.get({ kind: 'schema', schema: { const: `document ${i}` } });
  assert.ok(grammars.count < 11);
  assert.notEqual(await grammars.get({ kind: 'object' }), first);
  await grammars.close();
});
