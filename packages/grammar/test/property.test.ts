import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileJsonSchema, type Matcher } from '../src/index.js';
import { sample } from './random-schema.js';
import { accepts, allowed, judge, randomDocument, randomStream, vocabulary } from './support.js';

const SCHEMAS = 120;

test('documents that satisfy a schema are accepted, compact and indented', () => {
  const ajv = judge();
  let documents = 0;
  for (let seed = 1; seed <= SCHEMAS; seed++) {
    const random = randomStream(seed);
    const { schema, document } = sample(random, 3);
    const grammar = compileJsonSchema(schema);
    const valid = ajv.compile(schema);
    for (let i = 0; i < 8; i++) {
      const doc = document(random);
      // the generator may only be wrong about overlapping unions and escapes, never silently
      assert.ok(valid(doc), `seed ${seed}: the generated document is not valid`);
      for (const text of [JSON.stringify(doc), JSON.stringify(doc, null, 2)]) {
        assert.ok(accepts(grammar, text), `seed ${seed}: ${text} for ${JSON.stringify(schema)}`);
        documents++;
      }
    }
  }
  assert.equal(documents, SCHEMAS * 16);
});

test('a mutated document is accepted only if it still satisfies the schema', () => {
  const ajv = judge();
  let mutants = 0;
  let refused = 0;
  for (let seed = 1; seed <= SCHEMAS; seed++) {
    const random = randomStream(seed * 7919);
    const { schema, document } = sample(random, 3);
    const grammar = compileJsonSchema(schema);
    const valid = ajv.compile(schema);
    for (let i = 0; i < 12; i++) {
      const bytes = [...Buffer.from(JSON.stringify(document(random)), 'utf8')];
      const at = Math.floor(random() * (bytes.length + 1));
      const kind = random();
      const byte =
        random() < 0.7 ? '"{}[]:,0-9.ae\\ntu'.charCodeAt(Math.floor(random() * 17)) : Math.floor(random() * 256);
      if (kind < 0.3) bytes.splice(at, 1);
      else if (kind < 0.6) bytes.splice(at, 0, byte);
      else if (kind < 0.8) bytes[Math.min(at, bytes.length - 1)] = byte;
      else bytes.splice(at);
      mutants++;
      if (!accepts(grammar, Uint8Array.from(bytes))) {
        refused++;
        continue;
      }
      const text = new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes));
      assert.ok(valid(JSON.parse(text)), `seed ${seed}: ${text} accepted for ${JSON.stringify(schema)}`);
    }
  }
  assert.ok(refused > mutants / 2, `${refused} of ${mutants} mutants refused`);
});

test('random walks over the mask always end, in documents that satisfy the schema', () => {
  const ajv = judge();
  for (const undeclared of ['closed', 'open'] as const) {
    for (let seed = 1; seed <= SCHEMAS; seed++) {
      const random = randomStream(seed * 104729);
      const { schema } = sample(random, 2);
      const grammar = compileJsonSchema(schema, { undeclared });
      const valid = ajv.compile(schema);
      const text = randomDocument(grammar, random, 40);
      assert.ok(valid(JSON.parse(text)), `seed ${seed}: ${text} for ${JSON.stringify(schema)}`);
    }
  }
});

test('a mask offers exactly the tokens that accept takes', () => {
  let states = 0;
  for (let seed = 1; seed <= 30; seed++) {
    const random = randomStream(seed * 31337);
    const { schema } = sample(random, 2);
    const grammar = compileJsonSchema(schema);
    randomDocument(grammar, random, 30, (m: Matcher) => {
      if (states++ % 3 !== 0) return;
      const may = new Set(allowed(m));
      for (let t = 0; t < vocabulary.size; t++) {
        assert.equal(m.clone().accept(t), may.has(t), `seed ${seed}: token ${t} for ${JSON.stringify(schema)}`);
      }
    });
  }
  assert.ok(states > 150);
});
