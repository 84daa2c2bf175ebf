import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileJsonObject, compileJsonSchema, createMatcher, prepareVocabulary } from '../src/index.js';
import { allowed, bytesOf, matcherOf, randomStream, vocabulary } from './support.js';

const { table, end, size, idOf } = vocabulary;
const utf8 = (s: string) => [...Buffer.from(s, 'utf8')];

/** The tokens of the vocabulary whose bytes are these. */
function tokensOf(bytes: readonly number[]): number[] {
  return Array.from({ length: size }, (_, t) => t).filter(
    (t) => !table.special[t] && Buffer.from(bytes).equals(bytesOf(t)),
  );
}

test('tokens may begin and end inside of characters and escapes', () => {
  const g = compileJsonSchema({ type: 'string' });
  const m = matcherOf(g);
  for (const piece of [[0x22], [0xe6, 0x9d], [0xb1, 0x22]]) {
    const [token] = tokensOf(piece);
    assert.ok(allowed(m).includes(token));
    assert.ok(m.accept(token));
  }
  assert.ok(m.isComplete());
  const escaped = matcherOf(g);
  for (const piece of ['"', '\\ud83d', '\\ude00', '\\u', 'de00"']) {
    const [token] = tokensOf(utf8(piece));
    assert.equal(escaped.accept(token), piece !== 'de00"', piece);
  }
  // half a surrogate pair cannot be closed, nor followed by anything but its other half
  const half = matcherOf(g);
  for (const b of utf8('"\\ud83d')) assert.ok(half.accept(b));
  const next = new Set(allowed(half).map((t) => String.fromCharCode(bytesOf(t)[0])));
  assert.deepEqual([...next], ['\\']);
});

test('two tokens with the same bytes are both offered, tokens without bytes never', () => {
  const m = matcherOf(compileJsonSchema({ type: 'string' }));
  m.accept(0x22);
  const same = tokensOf(utf8('abc'));
  assert.equal(same.length, 2);
  const may = allowed(m);
  for (const t of same) assert.ok(may.includes(t));
  for (const t of tokensOf([])) {
    assert.ok(!may.includes(t));
    assert.ok(!m.accept(t));
  }
});

test('end tokens come only when the document is complete, special tokens never', () => {
  const m = matcherOf(compileJsonObject());
  const text = '{"a":"<|end|><|other|>"}';
  for (const b of utf8(text)) {
    const may = allowed(m);
    assert.ok(!may.some((t) => table.special[t]));
    assert.ok(!m.clone().accept(end));
    assert.ok(!m.clone().accept(idOf('<|other|>')));
    assert.ok(m.accept(b));
  }
  assert.deepEqual(allowed(m), [end]);
  assert.ok(!m.isEnded());
  assert.ok(m.accept(end));
  assert.ok(m.isEnded());
  assert.deepEqual(allowed(m), []);
  assert.ok(!m.accept(0x7b) && !m.accept(end));
});

test('an end token that is spelled in text is not offered as text', () => {
  const [brace] = tokensOf(utf8('{}'));
  const m = createMatcher(compileJsonObject(), table, [brace]);
  const words = Math.ceil(size / 32);
  const out = new Int32Array(words);
  m.fillMask(out, 0);
  assert.equal((out[brace >> 5] >>> (brace & 31)) & 1, 0);
  assert.ok(!m.accept(brace));
});

test('a number at the end of the document may go on or end', () => {
  const m = matcherOf(compileJsonSchema({ type: 'integer', minimum: 1, maximum: 20 }));
  assert.ok(m.accept(0x31));
  assert.ok(m.isComplete());
  const may = allowed(m);
  assert.ok(may.includes(end) && may.includes(0x30) && !may.includes(0x2e));
});

test('a refused token changes nothing; ids out of range are refused', () => {
  const m = matcherOf(compileJsonObject());
  const before = allowed(m);
  for (const t of [0x5b, end, -1, size, size + 5, Number.NaN, tokensOf(utf8('[{"'))[0]]) assert.ok(!m.accept(t));
  assert.deepEqual(allowed(m), before);
});

test('clones go their own ways', () => {
  const m = matcherOf(compileJsonSchema({ type: 'array', items: { enum: ['x', 'yy'] } }));
  for (const b of utf8('["')) m.accept(b);
  const fork = m.clone();
  for (const b of utf8('x"]')) assert.ok(m.accept(b));
  for (const b of utf8('yy","x')) assert.ok(fork.accept(b));
  assert.ok(m.isComplete() && !fork.isComplete());
});

test('a grammar survives the structured clone that carries it to another thread', () => {
  const g = compileJsonSchema({ type: 'object', properties: { a: { type: 'string', maxLength: 3 } }, required: ['a'] });
  const copy = structuredClone(g);
  assert.deepEqual(copy, g);
  const m = matcherOf(copy);
  for (const b of utf8('{"a":"abc"}')) assert.ok(m.accept(b));
  assert.ok(m.isComplete());
});

test('a mask row may be longer than the vocabulary; the rest is zero', () => {
  const out = new Int32Array(Math.ceil(size / 32) + 3).fill(-1);
  assert.ok(matcherOf(compileJsonObject()).fillMask(out, 0, out.length));
  assert.deepEqual([...out.subarray(-3)], [0, 0, 0]);
});

test('a vocabulary that cannot spell what must follow says so instead of offering anything', () => {
  const bytes = Uint8Array.from(utf8('{"a'));
  const small = { bytes, offsets: Int32Array.from([0, 1, 2, 3, 3]), special: Uint8Array.from([0, 0, 0, 1]) };
  const m = createMatcher(compileJsonSchema({ type: 'object', properties: { b: {} }, required: ['b'] }), small, [3]);
  assert.ok(m.accept(0) && m.accept(1));
  const out = new Int32Array(1).fill(-1);
  assert.equal(m.fillMask(out, 0), false);
  assert.equal(out[0], 0);
});

test('memory stays bounded over long and varied documents', () => {
  prepareVocabulary(table);
  const g = compileJsonSchema({ type: 'array', items: { anyOf: [{}, { type: 'string', maxLength: 5000 }] } });
  const random = randomStream(1);
  const mask = new Int32Array(Math.ceil(size / 32));
  const text = (): string => {
    const kind = random();
    if (kind < 0.3) return JSON.stringify('é東x'.repeat(200 + Math.floor(random() * 300)));
    // a nesting that never was before
    const open = Array.from({ length: 60 }, () => (random() < 0.5 ? '[' : '{"k":'));
    const close = open.map((c) => (c === '[' ? ']' : '}')).reverse();
    return `${open.join('')}"x"${close.join('')}`;
  };
  const run = (documents: number) => {
    for (let d = 0; d < documents; d++) {
      const m = matcherOf(g);
      for (const [i, b] of utf8(`[${Array.from({ length: 20 }, text).join(',')}]`).entries()) {
        assert.ok(m.accept(b));
        if (i % 50 === 0) m.fillMask(mask, 0);
      }
    }
    globalThis.gc?.();
    return process.memoryUsage().heapUsed;
  };
  const first = run(60);
  const later = run(180);
  assert.ok(later - first < 48 << 20, `${later - first} bytes more after three times as many documents`);
});
