import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileJsonSchema, type Grammar, GrammarError } from '../src/index.js';
import { judge, randomDocument, randomStream } from './support.js';

type Random = () => number;
const SCHEMAS = 150;

/** Any combination of keywords, sensible or not: it may be refused, but what compiles must be right. */
function anySchema(random: Random, depth: number): unknown {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)];
  const n = (max: number) => Math.floor(random() * (max + 1));
  const child = () =>
    depth <= 0 ? pick([true, { type: 'null' }, { $ref: '#/$defs/d' }]) : anySchema(random, depth - 1);
  const value = () =>
    pick<unknown>([null, true, 0, 1, 2.5, -3, 'a', 'ab', '', [], [1], {}, { a: 1 }, { a: 'a', b: null }]);
  const names = () => ['a', 'b', 'c'].filter(() => random() < 0.4);
  const map = () => Object.fromEntries(names().map((k) => [k, child()]));
  const keywords: (() => Record<string, unknown>)[] = [
    () => ({ type: pick(['null', 'boolean', 'integer', 'number', 'string', 'array', 'object']) }),
    () => ({ type: ['string', 'object', pick(['array', 'integer', 'null'])] }),
    () => ({ properties: map() }),
    () => ({ properties: map(), required: names() }),
    () => ({ required: names() }),
    () => ({ additionalProperties: pick([false, true, child()]) }),
    () => ({ patternProperties: { [pick(['^a', 'b$', '^[bc]$'])]: child() } }),
    () => ({ propertyNames: pick([{ maxLength: 1 }, { pattern: '^[ab]' }, { enum: ['a', 'x'] }]) }),
    () => ({ minProperties: n(2) }),
    () => ({ maxProperties: n(3) }),
    () => ({ dependentRequired: { a: names() } }),
    () => ({ items: child() }),
    () => ({ prefixItems: [child(), child()] }),
    () => ({ minItems: n(2) }),
    () => ({ maxItems: n(3) }),
    () => ({ minimum: n(6) - 3 }),
    () => ({ exclusiveMaximum: n(6) / 2 }),
    () => ({ minLength: n(2) }),
    () => ({ maxLength: n(3) }),
    () => ({ pattern: pick(['^a', 'b', '^[ab]*$', '.$']) }),
    () => ({ enum: Array.from({ length: 1 + n(4) }, value) }),
    () => ({ const: value() }),
    () => ({ anyOf: [child(), child()] }),
    () => ({ allOf: [child(), child()] }),
    () => ({ oneOf: [child(), child()] }),
    () => ({ not: child() }),
    () => ({ $ref: pick(['#', '#/$defs/d', '#/$defs/e']) }),
  ];
  const out: Record<string, unknown> = {};
  for (let i = 0, count = 1 + n(3); i < count; i++) Object.assign(out, pick(keywords)());
  return out;
}

/** Null where the judge itself gives up: references that lead back to themselves, in parts that nothing uses. */
function judged(schema: object): ((data: unknown) => boolean) | null {
  try {
    return judge().compile(schema);
  } catch (e) {
    if (e instanceof RangeError) return null;
    throw e;
  }
}

test('whatever combination of keywords compiles, only valid documents come out', (t) => {
  let compiled = 0;
  let documents = 0;
  const reasons = new Set<string>();
  for (let seed = 1; seed <= SCHEMAS; seed++) {
    const random = randomStream(seed * 2654435761);
    const schema = Object.assign(anySchema(random, 2) as object, {
      $defs: { d: anySchema(random, 1), e: anySchema(random, 1) },
    });
    for (const undeclared of ['closed', 'open'] as const) {
      let grammar: Grammar;
      try {
        grammar = compileJsonSchema(schema, { undeclared });
      } catch (e) {
        if (!(e instanceof GrammarError)) throw e;
        reasons.add(e.code);
        continue;
      }
      compiled++;
      const valid = judged(schema);
      if (!valid) continue;
      for (let i = 0; i < 4; i++) {
        const text = randomDocument(grammar, random, 25);
        assert.ok(valid(JSON.parse(text)), `seed ${seed}, ${undeclared}: ${text} for ${JSON.stringify(schema)}`);
        documents++;
      }
    }
  }
  t.diagnostic(`${compiled} of ${SCHEMAS * 2} compiled, ${documents} documents`);
  assert.ok(documents > compiled * 3.5);
  assert.ok(compiled > SCHEMAS / 2 && reasons.has('unsupported_schema') && reasons.has('invalid_schema'));
});
