import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { gguf as peerGguf } from '@huggingface/gguf';
import fc from 'fast-check';
import { LongmindError } from '../../src/errors.js';
import { GGML_TYPES, readGguf, StringList } from '../../src/weights/index.js';
import { smollmPath, withoutSmollm } from '../support/model.js';
import { type GgufSpec, ggufBytes, type TensorSpec, u32, u64, writeGguf } from './gguf-builder.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'longmind-gguf-'));
after(() => rmSync(folder, { recursive: true }));
const file = path.join(folder, 'test.gguf');
const smollm = await smollmPath();

const tensor = (extra: Partial<TensorSpec> = {}): TensorSpec => ({
  name: 'w',
  shape: [32, 2],
  type: 8,
  offset: 0,
  data: new Uint8Array(68),
  ...extra,
});

const good: GgufSpec = {
  metadata: {
    'general.architecture': { string: 'llama' },
    count: { u32: 7 },
    big: { u64: 2n ** 60n },
    small: { u64: 5n },
    ratio: { f32: 0.5 },
    yes: { bool: true },
    words: { strings: ['a', '', '\u4e2d\u6587', 'z'] },
    floats: { f32s: [1, 2.5] },
    ints: { i32s: [-1, 3] },
  },
  tensors: [tensor(), tensor({ name: 'v', shape: [3], type: 0, offset: 96, data: new Uint8Array(12) })],
};

const bad = (spec: GgufSpec, message: RegExp): void => {
  writeGguf(file, spec);
  assert.throws(
    () => readGguf(file),
    (e) => e instanceof LongmindError && e.code === 'bad_gguf' && message.test(e.message) && e.message.includes(file),
    String(message),
  );
};

test('values and tensors of a file are read as they were written', () => {
  const g = readGguf(writeGguf(file, good));
  assert.equal(g.version, 3);
  assert.equal(g.alignment, 32);
  assert.deepEqual(
    ['count', 'big', 'small', 'ratio', 'yes', 'general.architecture'].map((k) => g.metadata.get(k)),
    [7, 2n ** 60n, 5, 0.5, true, 'llama'],
  );
  const words = g.metadata.get('words');
  assert.ok(words instanceof StringList);
  assert.deepEqual([...words], ['a', '', '\u4e2d\u6587', 'z']);
  assert.equal(words.at(4), undefined);
  assert.deepEqual(g.metadata.get('floats'), Float32Array.of(1, 2.5));
  assert.deepEqual(g.metadata.get('ints'), Int32Array.of(-1, 3));
  assert.deepEqual(
    [...g.tensors.values()],
    [
      { name: 'w', type: 'Q8_0', shape: [32, 2], offset: g.dataOffset, byteLength: 68 },
      { name: 'v', type: 'F32', shape: [3], offset: g.dataOffset + 96, byteLength: 12 },
    ],
  );
  assert.equal(g.dataOffset % 32, 0);
});

test('what cannot be is refused with the reason', () => {
  bad({ magic: 'GGML' }, /not with 'GGUF'/);
  bad({ version: u32(1) }, /version is 1/);
  bad({ version: u32(4) }, /version is 4/);
  bad({ version: Buffer.from([0, 0, 0, 3]) }, /big-endian/);
  bad({ tensorCount: 2n ** 63n }, /number of tensors is 9223372036854775808/);
  bad({ tensorCount: 1_000_000 }, /claims 1000000 tensors/);
  bad({ keyCount: 2 ** 40 }, /claims 1099511627776 metadata entries/);
  bad({ tensors: [tensor(), tensor({ offset: 96 })] }, /'w' is there twice/);
  bad({ tensors: [tensor({ offset: 8 })] }, /not at a multiple of 32/);
  bad(
    { tensors: [tensor({ offset: 2 ** 40 })].map((t) => ({ ...t, data: undefined })) },
    /ends at byte \d+, but the file has/,
  );
  bad(
    { tensors: [tensor({ offset: 2n ** 64n - 32n, data: undefined })] },
    /offset of tensor 'w' is 18446744073709551584/,
  );
  bad({ tensors: [tensor({ shape: [2 ** 32, 2 ** 32] })] }, /impossible shape/);
  bad({ tensors: [tensor({ shape: [32, 0] })] }, /impossible shape/);
  bad({ tensors: [tensor({ shape: [2n ** 63n] })] }, /dimension 0 of tensor 'w' is/);
  bad({ tensors: [tensor({ shape: [1, 1, 1, 1, 1] })] }, /5 dimensions/);
  bad({ tensors: [tensor({ shape: [33, 2] })] }, /not a multiple of Q8_0's block of 32/);
  bad({ tensors: [tensor({ type: 99 })] }, /type number 99/);
  bad({ tensors: [tensor(), tensor({ name: 'v', offset: 32 })] }, /overlap/);
  bad({ metadata: { 'general.alignment': { u32: 24 } } }, /general.alignment is 24/);
  bad({ metadata: { 'general.alignment': { u32: 0 } } }, /general.alignment is 0/);
});

test('metadata with impossible lengths is refused before anything is allocated', () => {
  const raw = (...parts: Buffer[]): GgufSpec => ({ keyCount: 1, raw: Buffer.concat(parts) });
  const key = Buffer.concat([u64(1), Buffer.from('k')]);
  bad(raw(u64(2n ** 64n - 1n), Buffer.alloc(64)), /length of the name of metadata entry 0/);
  bad(raw(u64(70_000), Buffer.alloc(64)), /70000 bytes long/);
  bad(raw(key, u32(8), u64(2 ** 40), Buffer.alloc(64)), /'k' is 1099511627776 bytes long/);
  bad(raw(key, u32(9), u32(8), u64(2 ** 31), Buffer.alloc(64)), /claims 2147483648 strings/);
  bad(raw(key, u32(9), u32(6), u64(2 ** 31), Buffer.alloc(64)), /claims 2147483648 values/);
  bad(raw(key, u32(9), u32(9), u64(1), Buffer.alloc(64)), /array of type number 9/);
  bad(raw(key, u32(77), Buffer.alloc(64)), /type number 77/);
  bad(
    { keyCount: 2, raw: Buffer.concat([key, u32(0), Buffer.of(1), key, u32(0), Buffer.of(1)]) },
    /'k' is there twice/,
  );
});

test('a file that ends too early is refused wherever it ends', () => {
  const bytes = ggufBytes(good);
  for (let length = 0; length < bytes.length; length++) {
    writeFileSync(file, bytes.subarray(0, length));
    assert.throws(
      () => readGguf(file),
      (e) => e instanceof LongmindError && e.code === 'bad_gguf',
      `${length} bytes`,
    );
  }
  writeFileSync(file, bytes);
  truncateSync(file, bytes.length - 1);
  assert.throws(() => readGguf(file), /truncated/);
});

test('any changed bytes either parse or are a typed error, quickly', () => {
  const bytes = ggufBytes(good);
  const change = fc.record({ at: fc.nat(bytes.length - 1), value: fc.nat(255) });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), fc.nat(bytes.length), (changes, cut) => {
      const copy = Buffer.from(bytes);
      for (const { at, value } of changes) copy[at] = value;
      writeFileSync(file, cut % 3 === 0 ? copy.subarray(0, cut) : copy);
      const start = performance.now();
      try {
        const g = readGguf(file);
        for (const t of g.tensors.values()) assert.ok(t.offset + t.byteLength <= g.size);
      } catch (e) {
        if (!(e instanceof LongmindError)) throw e;
      }
      assert.ok(performance.now() - start < 1000);
    }),
    { numRuns: 1500 },
  );
});

test('a missing file and a folder are typed errors', () => {
  const code = (wanted: string) => (e: unknown) => e instanceof LongmindError && e.code === wanted;
  assert.throws(() => readGguf(path.join(folder, 'none.gguf')), code('file_missing'));
  assert.throws(() => readGguf(path.join(file, 'none.gguf')), code('file_missing'));
  assert.throws(() => readGguf(folder), code('bad_gguf'));
});

test('only the header is read, not the tensors', () => {
  const large = writeGguf(file, good);
  truncateSync(large, 2 ** 31); // a hole of 2 GiB
  const before = process.memoryUsage().arrayBuffers;
  assert.equal(readGguf(large).size, 2 ** 31);
  assert.ok(process.memoryUsage().arrayBuffers - before < 16 * 2 ** 20);
  truncateSync(large, 0);
});

test('sizes of the tensor types: a row of 256 values', () => {
  const row = (id: number): number => (256 / GGML_TYPES.get(id)!.blockSize) * GGML_TYPES.get(id)!.blockBytes;
  // bits a weight, as ggml documents them
  const bits: [number, number][] = [
    [0, 32],
    [1, 16],
    [30, 16],
    [2, 4.5],
    [3, 5],
    [6, 5.5],
    [7, 6],
    [8, 8.5],
    [10, 2.625],
    [11, 3.4375],
    [12, 4.5],
    [13, 5.5],
    [14, 6.5625],
    [20, 4.5],
    [23, 4.25],
    [39, 4.25],
  ];
  for (const [id, want] of bits) assert.equal((row(id) * 8) / 256, want, GGML_TYPES.get(id)!.name);
});

test('the default model reads as @huggingface/gguf reads it', { skip: withoutSmollm(smollm) }, async () => {
  const ours = readGguf(smollm!);
  const peer = await peerGguf(smollm!, { allowLocalFile: true });
  const { version, tensor_count, kv_count, ...values } = peer.metadata as Record<string, unknown>;
  assert.equal(ours.version, version);
  assert.equal(ours.tensors.size, Number(tensor_count));
  assert.equal(ours.metadata.size, Number(kv_count));
  const plain = (v: unknown): unknown =>
    typeof v === 'bigint'
      ? Number(v)
      : v instanceof StringList
        ? v.toArray()
        : ArrayBuffer.isView(v)
          ? Array.from(v as Int32Array)
          : v;
  for (const [key, value] of ours.metadata) assert.deepEqual(plain(value), plain(values[key]), key);
  for (const t of peer.tensorInfos) {
    const own = ours.tensors.get(t.name)!;
    assert.deepEqual(own.shape, t.shape.map(Number));
    assert.equal(own.offset, Number(peer.tensorDataOffset) + Number(t.offset));
    assert.equal(own.type, GGML_TYPES.get(t.dtype)!.name);
  }
});
