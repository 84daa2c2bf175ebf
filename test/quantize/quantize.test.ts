/** quantize: files are whole or not there, hold what llama.cpp's presets say, and keep what is not weights. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { LongmindError } from '../../src/errors.js';
import { convert, quantize } from '../../src/quantize/index.js';
import { PRESETS, typeFor } from '../../src/quantize/mixture.js';
import { readGguf, StringList } from '../../src/weights/index.js';
import { random, randomTensor, relativeError } from '../device/support.js';
import { checkpoint } from '../models/tiny.js';
import { decodeTensor, FORMATS } from '../reference/formats.js';
import { type TensorSpec, type Value, writeGguf } from '../weights/gguf-builder.js';

const root = mkdtempSync(path.join(os.tmpdir(), 'longmind-quantize-'));
after(() => rmSync(root, { recursive: true }));

const IDS: Record<string, number> = { F32: 0, F16: 1, Q4_0: 2, Q8_0: 8, Q6_K: 14, BF16: 30 };
const METADATA: Record<string, Value> = {
  'general.architecture': { string: 'llama' },
  'general.file_type': { u32: 1 },
  'llama.block_count': { u32: 1 },
  'tokenizer.chat_template': { string: '{{ messages }} – ünïcode' },
  'tokenizer.ggml.tokens': { strings: ['<s>', 'a', '\u{1f600}'] },
  'tokenizer.ggml.scores': { f32s: [0, -1, -2.5] },
};

type Spec = [name: string, type: string, shape: number[]];

function model(specs: Spec[], metadata = METADATA, name = 'in.gguf'): string {
  let offset = 0;
  const tensors: TensorSpec[] = specs.map(([name, type, shape], i) => {
    const data = randomTensor(
      type,
      shape.reduce((a, b) => a * b, 1),
      random(i + 1),
      0.02,
    );
    const tensor = { name, shape, type: IDS[type], offset, data };
    offset += Math.ceil(data.length / 32) * 32;
    return tensor;
  });
  return writeGguf(path.join(mkdtempSync(path.join(root, 'm-')), name), { metadata, tensors });
}

const SMALL: Spec[] = [
  ['token_embd.weight', 'F16', [256, 40]],
  ['blk.0.attn_norm.weight', 'F32', [256]],
  ['blk.0.attn_q.weight', 'F32', [256, 64]],
  ['blk.0.attn_v.weight', 'BF16', [256, 32]],
  ['blk.0.attn_output.weight', 'F16', [64, 256]],
  ['blk.0.ffn_down.weight', 'F16', [96, 256]],
  ['blk.0.odd.weight', 'F16', [33, 8]],
];

async function refused(promise: Promise<unknown>, code: string, message: RegExp): Promise<void> {
  await assert.rejects(promise, (e) => e instanceof LongmindError && e.code === code && message.test(e.message));
}

function values(file: string, name: string): Float32Array {
  const { type, offset, byteLength, shape } = readGguf(file).tensors.get(name)!;
  const bytes = readFileSync(file).subarray(offset, offset + byteLength);
  return decodeTensor(
    type,
    new Uint8Array(bytes),
    shape.reduce((a, b) => a * b, 1),
  );
}

test('weights get their types, values stay near, metadata stay', async () => {
  const input = model(SMALL);
  const output = `${input}.out`;
  const got = await quantize(input, output, { type: 'q4_k_m', threads: 2 });
  const was = readGguf(input);
  const is = readGguf(output);
  assert.equal(got.bytes, is.size);
  assert.deepEqual(
    [...is.tensors.values()].map((t) => [t.name, t.type]),
    [
      ['token_embd.weight', 'Q6_K'],
      ['blk.0.attn_norm.weight', 'F32'],
      ['blk.0.attn_q.weight', 'Q4_K'],
      ['blk.0.attn_v.weight', 'Q6_K'],
      ['blk.0.attn_output.weight', 'Q5_0'],
      ['blk.0.ffn_down.weight', 'Q8_0'],
      ['blk.0.odd.weight', 'F16'],
    ],
  );
  const limits: Record<string, number> = { F32: 0, F16: 0, Q8_0: 0.007, Q6_K: 0.022, Q5_0: 0.055, Q4_K: 0.08 };
  for (const t of is.tensors.values()) {
    const error = relativeError(values(output, t.name), values(input, t.name));
    assert.ok(error <= limits[t.type] && error >= limits[t.type] / 4, `${t.name}, ${t.type}: ${error}`);
  }
  for (const [key, value] of was.metadata) {
    const kept = is.metadata.get(key);
    if (value instanceof StringList) assert.deepEqual((kept as StringList).toArray(), value.toArray());
    else if (key !== 'general.file_type') assert.deepEqual(kept, value);
  }
  assert.equal(is.metadata.get('general.file_type'), 15);
  assert.equal(is.metadata.get('general.quantization_version'), 2);
});

test('the file does not depend on how many threads write it', async () => {
  const input = model([['blk.0.attn_q.weight', 'F16', [256, 9000]]]);
  await quantize(input, `${input}.1`, { type: 'Q8_0', threads: 1 });
  await quantize(input, `${input}.3`, { type: 'Q8_0', threads: 3 });
  assert.deepEqual(readFileSync(`${input}.1`), readFileSync(`${input}.3`));
});

test('a model in parts becomes one file', async () => {
  const split = (no: number): Record<string, Value> => ({
    ...(no === 0 ? METADATA : {}),
    'split.no': { u32: no },
    'split.count': { u32: 2 },
    'split.tensors.count': { u32: SMALL.length },
  });
  const first = model(SMALL.slice(0, 3), split(0), 'm-00001-of-00002.gguf');
  const second = path.join(path.dirname(first), 'm-00002-of-00002.gguf');
  writeFileSync(second, readFileSync(model(SMALL.slice(3), split(1))));
  await quantize(first, `${first}.out`, { type: 'Q8_0' });
  const is = readGguf(`${first}.out`);
  assert.equal(is.tensors.size, SMALL.length);
  assert.deepEqual(
    [...is.metadata.keys()].filter((k) => k.startsWith('split.')),
    [],
  );
  assert.ok(relativeError(values(`${first}.out`, 'blk.0.attn_v.weight'), values(second, 'blk.0.attn_v.weight')) < 0.01);
});

test('a file that is there is replaced only when asked for', async () => {
  const input = model(SMALL);
  const output = path.join(path.dirname(input), 'there.gguf');
  writeFileSync(output, 'precious');
  await refused(quantize(input, output, { type: 'Q8_0' }), 'invalid_option', /not there yet/);
  assert.equal(readFileSync(output, 'utf8'), 'precious');
  await quantize(input, output, { type: 'Q8_0', force: true });
  assert.equal(readGguf(output).tensors.size, SMALL.length);
});

test('what is quantised already is quantised again with a warning, or refused by its type', async () => {
  const notes: string[] = [];
  const input = model([['blk.0.attn_q.weight', 'Q4_0', [256, 64]]]);
  await quantize(input, `${input}.out`, { type: 'Q5_K_M', onNote: (n) => notes.push(n) });
  assert.match(notes.join(), /1 tensors are quantised already \(Q4_0\)/);
  assert.ok(relativeError(values(`${input}.out`, 'blk.0.attn_q.weight'), values(input, 'blk.0.attn_q.weight')) < 0.05);
  const other = model([['blk.0.attn_q.weight', 'Q6_K', [256, 64]]]);
  await refused(quantize(other, `${other}.out`, { type: 'Q4_0' }), 'unsupported_tensor_type', /Q6_K/);
});

test('folders whose matrices are packed in words are refused, not copied as they lie', async () => {
  const output = path.join(root, 'packed.gguf');
  const refused = { code: 'unsupported_model', message: /quantised checkpoint/ };
  for (const name of ['awq-32', 'gptq8-32', 'ct-fp8-tensor']) {
    const { folder: input } = checkpoint(name);
    await assert.rejects(convert(input, output), refused);
    await assert.rejects(quantize(input, output, { type: 'Q8_0' }), refused);
  }
});

test('stopped or failed, nothing is left behind', async () => {
  const input = model([['blk.0.attn_q.weight', 'F16', [256, 40_000]]]);
  const folder = path.dirname(input);
  const stop = new AbortController();
  const running = quantize(input, `${input}.out`, {
    type: 'Q4_K_M',
    threads: 2,
    signal: stop.signal,
    onProgress: () => stop.abort(new Error('stopped')),
  });
  await assert.rejects(running, /stopped/);
  assert.deepEqual(readdirSync(folder), ['in.gguf']);
  const bytes = readFileSync(input);
  bytes.writeUInt16LE(0x7e00, bytes.length - 64);
  writeFileSync(input, bytes);
  await refused(quantize(input, `${input}.out`, { type: 'Q4_0' }), 'bad_gguf', /attn_q.*not a number/);
  await refused(quantize(input, `${input}.out`, { type: 'Q4_9' }), 'invalid_option', /Q4_K_M/);
  await refused(quantize(input, `${input}.out`, { type: 'Q4_0', threads: 0 }), 'invalid_option', /threads/);
  await refused(quantize(input, path.join(folder, 'none', 'x.gguf'), { type: 'Q4_0' }), 'io_error', /none/);
  assert.deepEqual(readdirSync(folder), ['in.gguf']);
});

test('presets give the layers more bits that llama.cpp gives more', () => {
  const types = (preset: string, role: string, layers = 32) =>
    Array.from({ length: layers }, (_, i) => {
      const t = { name: `blk.${i}.${role}.weight`, type: 'F16', shape: [4096, 4096], offset: 0, byteLength: 0 };
      return typeFor(t, PRESETS[preset], { layers, tied: false });
    });
  const where = (list: (string | null)[], type: string) => list.flatMap((t, i) => (t === type ? [i] : []));
  const more = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31];
  for (const role of ['attn_v', 'ffn_down']) {
    assert.deepEqual(where(types('Q4_K_M', role), 'Q6_K'), more);
    assert.deepEqual(where(types('Q5_K_M', role), 'Q6_K'), more);
    assert.deepEqual(where(types('Q4_K_S', role), 'Q5_K'), [0, 1, 2, 3]);
  }
  assert.deepEqual(new Set(types('Q4_K_M', 'attn_k')), new Set(['Q4_K']));
  assert.deepEqual(new Set(types('Q4_K_M', 'attn_qkv')), new Set(['Q5_K']));
  assert.ok(Object.values(PRESETS).every(({ type }) => FORMATS[type].block >= 32));
});
