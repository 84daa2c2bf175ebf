import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { LongmindError } from '../../src/errors.js';
import { createTokenizer, decodeTokens, TokenDecoder, type Tokenizer } from '../../src/tokenizer/index.js';
import { createPreTokenizer } from '../../src/tokenizer/pre-tokenizer.js';
import { readGguf } from '../../src/weights/index.js';
import { smollmPath, withoutSmollm } from '../support/model.js';
import type { Value } from '../weights/gguf-builder.js';
import { asMetadata, digest, PRE_TOKENIZERS, SMALL_TEXTS, smallBpe, smallSentencePiece } from './small-vocabulary.js';
import { mulberry, texts } from './texts.js';

const fixture = (name: string): unknown =>
  JSON.parse(readFileSync(path.resolve(import.meta.dirname ?? '.', '../../../test/fixtures/tokenizer', name), 'utf8'));
const small = fixture('small.json') as Record<string, string[]>;
const make = (values: Record<string, Value>): Tokenizer => createTokenizer(asMetadata(values));
const bpe = smallBpe();
const withPre = (pre: string): Tokenizer => make({ ...bpe, 'tokenizer.ggml.pre': { string: pre } });
const piece = make(smallSentencePiece());
const path135m = await smollmPath();

function assertSame(tokenizer: Tokenizer, digests: readonly string[]): void {
  assert.equal(digests.length, SMALL_TEXTS);
  digests.forEach((want, i) => {
    const text = texts[i]!;
    const got = digest(tokenizer.encode(text, { special: false }), tokenizer.encode(text, { special: true }));
    assert.equal(got, want, `text ${i}: ${JSON.stringify(text)}`);
  });
}

for (const pre of PRE_TOKENIZERS) {
  test(`pre-tokenizer ${pre} gives the ids of llama.cpp on awkward texts`, () => assertSame(withPre(pre), small[pre]!));
}

test('SentencePiece gives the ids of llama.cpp, with and without a space in front', () => {
  assertSame(piece, small.sentencepiece!);
  const noPrefix = make({ ...smallSentencePiece(), 'tokenizer.ggml.add_space_prefix': { bool: false } });
  assertSame(noPrefix, small['sentencepiece-no-prefix']!);
});

test('SmolLM2 gives the ids of llama.cpp on awkward texts', { skip: withoutSmollm(path135m) }, () => {
  const tokenizer = createTokenizer(readGguf(path135m!).metadata);
  const { rows } = fixture('smollm2.json') as { rows: { plain: number[]; special: number[] }[] };
  assert.equal(rows.length, texts.length);
  rows.forEach((row, i) => {
    assert.deepEqual([...tokenizer.encode(texts[i]!, { special: false })], row.plain, JSON.stringify(texts[i]));
    assert.deepEqual([...tokenizer.encode(texts[i]!, { special: true })], row.special, JSON.stringify(texts[i]));
  });
});

test('what a text becomes can be decoded to the same text', () => {
  const tokenizers = [...PRE_TOKENIZERS.map(withPre), piece];
  const mixed = fc.oneof(fc.string({ unit: 'binary', maxLength: 60 }), fc.constantFrom(...texts));
  fc.assert(
    fc.property(mixed, fc.nat(tokenizers.length - 1), (raw, which) => {
      const tokenizer = tokenizers[which]!;
      // SentencePiece writes a space as U+2581 and cannot tell them apart
      const text = raw.replace(/\p{Surrogate}/gu, '\ufffd').replaceAll(tokenizer === piece ? '\u2581' : '\ufffe', '_');
      const ids = tokenizer.encode(text, { special: false });
      assert.equal(tokenizer.decode(ids, { trimPrefix: true }), text);
    }),
    { numRuns: 300 },
  );
});

test('text that spells special tokens never becomes one', () => {
  const tokenizers = [withPre('llama-bpe'), withPre('smollm'), piece];
  for (const tokenizer of tokenizers) {
    const controls = tokenizer.controlTexts();
    assert.ok(controls.length >= 3);
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.constantFrom(...controls), fc.string({ maxLength: 3 })), { maxLength: 6 }),
        (parts) => {
          const ids = tokenizer.encode(parts.join(''), { special: false });
          for (const id of ids) assert.equal(tokenizer.tokenBytes.special[id], 0, tokenizer.tokenText(id));
        },
      ),
    );
    for (const text of controls)
      assert.deepEqual([...tokenizer.encode(text, { special: true })], [tokenizer.tokenId(text)]);
  }
});

test('the stream decoder puts out whole characters, and in all the same as decoding at once', () => {
  const tokenizer = withPre('smollm');
  const id = fc.nat(tokenizer.vocabSize + 3);
  fc.assert(
    fc.property(fc.array(id, { maxLength: 40 }), fc.boolean(), (ids, special) => {
      const decoder = tokenizer.createDecoder({ special });
      const parts = ids.map((t) => decoder.push(t));
      assert.equal(parts.join('') + decoder.flush(), tokenizer.decode(ids, { special }));
    }),
    { numRuns: 500 },
  );
  const bytes = new TextEncoder().encode('a\u00e9\u4e2d\u{1f600}');
  const table = {
    bytes,
    offsets: Int32Array.from({ length: bytes.length + 1 }, (_, i) => i),
    special: new Uint8Array(bytes.length),
  };
  const decoder = new TokenDecoder(table);
  assert.deepEqual(
    [...bytes.keys()].map((i) => decoder.push(i)),
    ['a', '', '\u00e9', '', '', '\u4e2d', '', '', '', '\u{1f600}'],
  );
  assert.equal(decoder.flush(), '');
});

test('bytes that are no text become U+FFFD, as any UTF-8 decoder does it', () => {
  const all = Uint8Array.from({ length: 256 }, (_, i) => i);
  const table = { bytes: all, offsets: Int32Array.from({ length: 257 }, (_, i) => i), special: new Uint8Array(256) };
  const standard = new TextDecoder('utf-8', { ignoreBOM: true });
  const tricky = fc.constantFrom(
    0x41,
    0x80,
    0xbf,
    0xc0,
    0xc3,
    0xe0,
    0xe4,
    0xb8,
    0xad,
    0xed,
    0xa0,
    0xef,
    0xbb,
    0xbf,
    0xf0,
    0x9f,
    0x98,
    0xf4,
    0xf5,
    0xff,
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(tricky, fc.nat(255)), { maxLength: 24 }), (ids) => {
      const want = standard.decode(Uint8Array.from(ids));
      assert.equal(decodeTokens(table, ids), want);
      const decoder = new TokenDecoder(table);
      assert.equal(ids.map((i) => decoder.push(i)).join('') + decoder.flush(), want);
    }),
    { numRuns: 2000 },
  );
});

test('every character is in exactly one piece of a pre-tokenizer', () => {
  for (const name of PRE_TOKENIZERS) {
    const pre = createPreTokenizer(name)!;
    for (const text of texts) {
      const clean = text.replace(/\p{Surrogate}/gu, '\ufffd');
      assert.equal(pre.split(clean).join(''), clean, name);
    }
  }
});

test('a long word costs n log n: eight times the length, far less than sixty-four times the time', () => {
  const random = mulberry(3);
  const word = (n: number): string => Array.from({ length: n }, () => 'etaoin'[Math.floor(random() * 6)]).join('');
  for (const tokenizer of [withPre('smollm'), piece]) {
    const time = (text: string): number => {
      const runs = [0, 1, 2].map(() => {
        const start = performance.now();
        tokenizer.encode(text, { special: false });
        return performance.now() - start;
      });
      return Math.min(...runs);
    };
    time(word(20_000));
    const ratio = time(word(320_000)) / time(word(40_000));
    assert.ok(ratio < 32, `${ratio.toFixed(1)} times`);
  }
});

test('no text makes a pre-tokenizer slow', () => {
  const n = 60_000;
  const runs = [' ', '\n', ' \n', 'A', 'a', '1', '\u4e2d', '!', "'", 'A\u4e2d', ' .', '\t1'].map((s) =>
    s.repeat(n / s.length),
  );
  const inputs = [...runs, ...runs.map((r) => `${r}5`), ...runs.map((r) => `x${r}y`)];
  for (const name of PRE_TOKENIZERS) {
    const pre = createPreTokenizer(name)!;
    for (const text of inputs) {
      const start = performance.now();
      pre.split(text);
      const took = performance.now() - start;
      assert.ok(took < 1000, `${name} takes ${took.toFixed()} ms for ${JSON.stringify(text.slice(0, 8))}…`);
    }
  }
});

test('a start token is wanted as the file, or else the family, says', () => {
  assert.deepEqual(withPre('smollm').startTokens, []);
  assert.deepEqual(withPre('llama-bpe').startTokens, [1]);
  const off = make({
    ...bpe,
    'tokenizer.ggml.pre': { string: 'llama-bpe' },
    'tokenizer.ggml.add_bos_token': { bool: false },
  });
  assert.deepEqual(off.startTokens, []);
  assert.deepEqual(piece.startTokens, [1]);
  assert.equal(piece.encode('a', { special: false, addBos: true })[0], 1);
});

test('tokens that end a generation are known by name, and marked special', () => {
  const tokenizer = withPre('smollm');
  const names = tokenizer.endTokens.map((id) => tokenizer.tokenText(id));
  assert.deepEqual(names, ['<|endoftext|>', '<|im_end|>']);
  assert.deepEqual(piece.endTokens, [2]);
});

test('an unknown pre-tokenizer is said so, and taken as default', () => {
  const unknown = withPre('brand-new');
  assert.match(unknown.warnings.join(), /'brand-new' is not known/);
  assert.deepEqual(
    unknown.encode('a 1234', { special: false }),
    withPre('default').encode('a 1234', { special: false }),
  );
  assert.match(make(bpe).warnings.join(), /names no pre-tokenizer/);
});

test('ids of the model beyond the vocabulary stand for nothing', () => {
  const tokenizer = createTokenizer(asMetadata(bpe), { modelVocab: 5000 });
  assert.equal(tokenizer.tokenBytes.special.length, 5000);
  assert.equal(tokenizer.decode([4999, -1, 5000, 1e9], { special: true }), '');
});

test('metadata that makes no tokenizer is a typed error', () => {
  const broken: [Record<string, Value>, RegExp][] = [
    [{}, /tokenizer.ggml.model' is missing/],
    [{ ...bpe, 'tokenizer.ggml.model': { string: 'bert' } }, /'bert' is not supported/],
    [{ 'tokenizer.ggml.model': { string: 'gpt2' } }, /tokens' is missing/],
    [{ ...bpe, 'tokenizer.ggml.tokens': { string: 'x' } }, /must be a list of strings/],
    [{ ...bpe, 'tokenizer.ggml.token_type': { i32s: [1] } }, /list of \d+ numbers/],
    [{ ...bpe, 'tokenizer.ggml.pre': { u32: 1 } }, /must be a string/],
  ];
  for (const [values, message] of broken) {
    assert.throws(
      () => make(values),
      (e) => e instanceof LongmindError && e.code === 'bad_tokenizer' && message.test(e.message),
    );
  }
  const { 'tokenizer.ggml.merges': _, ...noMerges } = bpe;
  assert.throws(() => make(noMerges), /merges' is missing/);
});

test('a run of millions of one kind of character becomes tokens or a typed error of the caller', () => {
  const tokenizer = createTokenizer(asMetadata({ ...smallBpe(), 'tokenizer.ggml.pre': { string: 'smollm' } }));
  for (const c of [' ', '.', '\u3000']) {
    try {
      assert.ok(tokenizer.encode(c.repeat(5e6), { special: false }).length > 0);
    } catch (e) {
      assert.deepEqual([(e as LongmindError).code, (e as LongmindError).status], ['invalid_request', 400], String(e));
    }
  }
});
