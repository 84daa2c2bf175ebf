/** convert: a folder's GGUF file is the one that llama.cpp's converter makes of it. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { LongmindError } from '../../src/errors.js';
import { tokenizerEntries } from '../../src/quantize/folder-tokenizer.js';
import { headerOf } from '../../src/quantize/header.js';
import { convert, quantize } from '../../src/quantize/index.js';
import { createTokenizer } from '../../src/tokenizer/index.js';
import { openModel, readGguf } from '../../src/weights/index.js';
import { relativeError } from '../device/support.js';
import { hasGguf, writeGgufOf } from '../models/gguf.js';
import { checkpoint, fixtureNames, readFixture, temporaryFolder, writeFolder } from '../models/tiny.js';
import { decodeTensor } from '../reference/formats.js';
import { awkwardTexts } from '../tokenizer/texts.js';

const OPEN = { sessionLen: 0, weights: 'file' } as const;

function values(file: string, name: string): Float32Array {
  const { type, offset, byteLength, shape } = readGguf(file).tensors.get(name)!;
  const bytes = new Uint8Array(readFileSync(file).subarray(offset, offset + byteLength));
  return decodeTensor(
    type,
    bytes,
    shape.reduce((a, b) => a * b, 1),
  );
}

const target = () => path.join(temporaryFolder(), 'out.gguf');

/** Windows of these architectures, and YaRN, are not written. */
const REFUSED = ['mistral', 'llama-yarn'];
const WINDOWLESS = ['mixtral'];

for (const name of fixtureNames().filter((n) => hasGguf(readFixture(n)) && !REFUSED.includes(n))) {
  test(`${name}: names, rows, types, dimensions and positions`, async () => {
    const fixture = readFixture(name);
    if (WINDOWLESS.includes(name)) fixture.config.sliding_window = null;
    const wanted = writeGgufOf(fixture);
    const output = target();
    await convert(writeFolder(fixture), output, { threads: 1 });
    const [ours, theirs] = [readGguf(output), readGguf(wanted)];
    assert.deepEqual([...ours.tensors.keys()].sort(), [...theirs.tensors.keys()].sort());
    for (const t of theirs.tensors.values()) {
      assert.equal(ours.tensors.get(t.name)!.type, t.type, t.name);
      assert.deepEqual(ours.tensors.get(t.name)!.shape, t.shape, t.name);
      if (t.name.startsWith('rope_')) assert.ok(relativeError(values(output, t.name), values(wanted, t.name)) < 1e-6);
      else assert.deepEqual(values(output, t.name), values(wanted, t.name), t.name);
    }
    const [a, b] = [openModel(output, OPEN).config, openModel(wanted, OPEN).config];
    for (const key of ['architecture', 'dims', 'rmsEps', 'tiedOutput', 'flags'] as const)
      assert.deepEqual(a[key], b[key]);
    assert.ok(relativeError(a.rope.inverseFrequencies, b.rope.inverseFrequencies) < 1e-6);
    assert.equal(a.rope.neox, b.rope.neox);
  });
}

test('a folder is quantised in one go', async () => {
  const folder = writeFolder(readFixture('qwen2'));
  const output = target();
  await quantize(folder, output, { type: 'Q8_0' });
  const { tensors } = readGguf(output);
  assert.equal(tensors.get('blk.0.ffn_up.weight')!.type, 'Q8_0');
  assert.equal(tensors.get('blk.0.attn_norm.weight')!.type, 'F32');
  assert.equal(readGguf(output).metadata.get('general.file_type'), 7);
});

test('families, windows and files that GGUF has no form for here are refused by name', async () => {
  const refused = (input: string, message: RegExp) =>
    assert.rejects(convert(input, target()), (e) => e instanceof LongmindError && message.test(e.message));
  await refused(writeFolder(readFixture('olmo3')), /'olmo3' \(it knows llama, mistral,/);
  await refused(writeFolder(readFixture('mistral')), /windows/);
  await refused(writeFolder(readFixture('gemma2-scaled')), /scale of attention/);
  for (const name of ['qwen2-moe-mixed', 'qwen3-moe-sparse']) await refused(writeFolder(readFixture(name)), /experts/);
  await refused(checkpoint('awq-32').folder, /quantised checkpoint/);
  await refused(writeFolder(readFixture('qwen2-windows')), /windows/);
  await refused(writeFolder(readFixture('llama-yarn')), /positions \(yarn\)/);
  await refused(writeGgufOf(readFixture('llama')), /a folder with a config\.json/);
  const folder = writeFolder(readFixture('llama'));
  for (const name of ['unigram', 'gpt2-prefix', 'deepseek']) {
    writeFileSync(path.join(folder, 'tokenizer.json'), JSON.stringify(tokenizerJson(name)));
    await refused(folder, /tokenizer \((Unigram|BPE), \w+\) has no form/);
  }
});

const JSONS = path.resolve(import.meta.dirname ?? '.', '../../../test/fixtures/tokenizer-json');
const tokenizerJson = (name: string): { added_tokens: { id: number }[] } =>
  JSON.parse(readFileSync(path.join(JSONS, `${name}.json`), 'utf8')).tokenizer;

for (const name of ['llama3', 'cl100k', 'qwen2', 'smollm']) {
  test(`a ${name} tokenizer gives the same ids from GGUF as from tokenizer.json`, () => {
    const json = tokenizerJson(name);
    const folder = new Map<string, unknown>([
      ['tokenizer.huggingface.json', JSON.stringify(json)],
      ['tokenizer.huggingface.config', JSON.stringify({ bos_token: '<|begin_of_text|>' })],
      ['tokenizer.chat_template', '{{ messages }}'],
    ]);
    const vocab = 1000;
    const file = target();
    writeFileSync(file, headerOf(tokenizerEntries(folder, vocab), 0, []));
    const { metadata } = readGguf(file);
    assert.equal(metadata.get('tokenizer.chat_template'), '{{ messages }}');
    const [a, b] = [createTokenizer(folder), createTokenizer(metadata)];
    // GGUF's tokenizers do not normalise
    for (const text of awkwardTexts(500).map((t) => t.normalize('NFC'))) {
      for (const special of [true, false])
        assert.deepEqual([...b.encode(text, { special })], [...a.encode(text, { special })], JSON.stringify(text));
    }
    assert.deepEqual([...b.startTokens], [...a.startTokens]);
    for (const { id } of json.added_tokens) assert.equal(b.tokenBytes.special[id], a.tokenBytes.special[id]);
  });
}

const PIECES = path.resolve(JSONS, '../sentencepiece.json');

/** A folder with the tokenizer.model of test/models/sentencepiece.test.ts alone. */
function pieceFolder(): string {
  const folder = writeFolder(readFixture('internlm2'));
  rmSync(path.join(folder, 'tokenizer.json'));
  const { model } = JSON.parse(readFileSync(PIECES, 'utf8')) as { model: string };
  writeFileSync(path.join(folder, 'tokenizer.model'), Buffer.from(model, 'base64'));
  return folder;
}

function writtenTokenizer(metadata: ReadonlyMap<string, unknown>) {
  const file = target();
  writeFileSync(file, headerOf(tokenizerEntries(metadata, 1000), 0, []));
  return createTokenizer(readGguf(file).metadata);
}

/** The same model as a tokenizer.json, merges as the converter of transformers makes them: all cuts of a piece, the best pieces first. */
function spacedJson(spacePrefix: boolean): Record<string, unknown> {
  const pieces = openModel(pieceFolder(), OPEN).metadata;
  const tokens = pieces.get('tokenizer.ggml.tokens') as string[];
  const scores = pieces.get('tokenizer.ggml.scores') as Float32Array;
  const kinds = pieces.get('tokenizer.ggml.token_type') as Int32Array;
  const vocab = Object.fromEntries(tokens.map((t, i) => [t, i]));
  const merges = tokens.flatMap((token, id) => {
    const cuts = Array.from({ length: token.length - 1 }, (_, i) => [token.slice(0, i + 1), token.slice(i + 1)]);
    return kinds[id] !== 1 ? [] : cuts.filter((cut) => cut.every((part) => part in vocab)).map((cut) => ({ id, cut }));
  });
  merges.sort((a, b) => scores[b.id]! - scores[a.id]!);
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const named = tokens.map((content, id) => ({ id, content, special: true, normalized: false }));
  return {
    version: '1.0',
    added_tokens: named.filter(({ id }) => kinds[id] === 2 || kinds[id] === 3),
    normalizer: spacePrefix ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, replace] } : replace,
    pre_tokenizer: null,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: { type: 'ByteFallback' },
    model: {
      type: 'BPE',
      vocab,
      merges: merges.map((m) => m.cut),
      unk_token: '<unk>',
      fuse_unk: true,
      byte_fallback: true,
    },
  };
}

for (const spacePrefix of [true, false]) {
  test(`a SentencePiece model in a tokenizer.json gives the same ids from GGUF, ${spacePrefix ? 'with' : 'without'} a space before`, () => {
    const folder = new Map<string, unknown>([
      ['tokenizer.huggingface.json', JSON.stringify(spacedJson(spacePrefix))],
      ['tokenizer.huggingface.config', JSON.stringify({ bos_token: '<s>', eos_token: '</s>' })],
    ]);
    const [a, b] = [createTokenizer(folder), writtenTokenizer(folder)];
    for (const text of awkwardTexts(500)) {
      for (const special of [true, false])
        assert.deepEqual([...b.encode(text, { special })], [...a.encode(text, { special })], JSON.stringify(text));
    }
    assert.deepEqual([...b.startTokens], [...a.startTokens]);
    assert.deepEqual([...b.endTokens], [...a.endTokens]);
  });
}

test('a tokenizer.model alone is written as it is', async () => {
  const folder = pieceFolder();
  const output = target();
  // its embedding has fewer rows than it has pieces
  await assert.rejects(convert(folder, output), /700 pieces, its embedding 307 rows/);
  const { metadata } = openModel(folder, OPEN);
  const [a, b] = [createTokenizer(metadata), writtenTokenizer(metadata)];
  for (const text of awkwardTexts(200)) {
    for (const special of [true, false])
      assert.deepEqual([...b.encode(text, { special })], [...a.encode(text, { special })], JSON.stringify(text));
  }
});

test('merges that scores cannot say are refused', () => {
  const json = spacedJson(true) as { model: { merges: string[][] } };
  const refused = (merges: string[][], message: RegExp) => {
    const given = { ...json, model: { ...json.model, merges } };
    const metadata = new Map([['tokenizer.huggingface.json', JSON.stringify(given)]]);
    assert.throws(
      () => tokenizerEntries(metadata, 1000),
      (e) => e instanceof LongmindError && message.test(e.message),
    );
  };
  const { merges } = json.model;
  const many = merges.findIndex((m, i) => m.join('') === merges[i + 1]?.join(''));
  assert.ok(many >= 0, 'no piece has two cuts');
  refused(merges.toSpliced(many, 1), /a way to make/);
  refused([...merges.toSpliced(many, 1), merges[many]!], /lie apart/);
});
