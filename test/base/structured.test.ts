import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileJsonSchema, compileToolCalls, LongmindError } from '../../src/index.js';

const is = (code: string, param: string, words: string) => (e: unknown) =>
  e instanceof LongmindError && e.code === code && e.status === 400 && e.param === param && e.message.includes(words);

test('a schema that cannot be enforced, is wrong or too large is a LongmindError of the request field', () => {
  assert.throws(
    () => compileJsonSchema({ properties: { a: { uniqueItems: true } } }),
    is('unsupported_schema', 'response_format', "'uniqueItems' at '#/properties/a'"),
  );
  assert.throws(() => compileJsonSchema({ type: 'thing' }), is('invalid_schema', 'response_format', "'#/type'"));
  assert.throws(
    () => compileJsonSchema({ enum: Array.from({ length: 30_000 }, (_, i) => `${i}`.repeat(9)) }),
    is('schema_too_large', 'response_format', 'too large'),
  );
  assert.throws(
    () =>
      compileToolCalls([{ name: 'f', parameters: { contains: {} } }], {
        choice: 'auto',
        format: 'hermes',
      }),
    is('unsupported_schema', 'tools', "'contains'"),
  );
});
