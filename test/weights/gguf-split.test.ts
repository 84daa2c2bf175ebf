/** GGUF files that gguf-split has cut: read as one, and refused where the parts do not belong together. */
import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { LongmindError } from '../../src/errors.js';
import { readGguf } from '../../src/weights/index.js';
import { type Value, writeGguf } from './gguf-builder.js';

const root = mkdtempSync(path.join(os.tmpdir(), 'longmind-split-'));
after(() => rmSync(root, { recursive: true }));

interface Part {
  tensors: string[];
  no: number;
  count: number;
  total: number;
  more?: Record<string, Value>;
}

const PARTS: Part[] = [
  { tensors: ['a', 'b'], no: 0, count: 3, total: 4, more: { 'general.architecture': { string: 'llama' } } },
  { tensors: ['c'], no: 1, count: 3, total: 4 },
  { tensors: ['d'], no: 2, count: 3, total: 4 },
];

/** The folder's m-0000i-of-00003.gguf; returns their paths. */
function write(change: (parts: Part[]) => void = () => {}): string[] {
  const folder = mkdtempSync(path.join(root, 'm-'));
  const parts = structuredClone(PARTS);
  change(parts);
  return parts.map(({ tensors, no, count, total, more }, i) =>
    writeGguf(path.join(folder, `m-0000${i + 1}-of-00003.gguf`), {
      metadata: {
        ...more,
        'split.no': { u32: no },
        'split.count': { u32: count },
        'split.tensors.count': { u32: total },
      },
      tensors: tensors.map((name, t) => ({
        name,
        shape: [8],
        type: 0,
        offset: 32 * t,
        data: new Uint8Array(32).fill(i),
      })),
    }),
  );
}

function refused(file: string, code: string, message: RegExp): void {
  assert.throws(
    () => readGguf(file),
    (e) => e instanceof LongmindError && e.code === code && message.test(e.message),
  );
}

test('the parts are one model, whichever of them is named', () => {
  const files = write();
  for (const file of files) {
    const model = readGguf(file);
    assert.equal(model.path, files[0]);
    assert.equal(model.metadata.get('general.architecture'), 'llama');
    assert.deepEqual(
      [...model.tensors.values()].map((t) => [t.name, t.file]),
      [
        ['a', files[0]],
        ['b', files[0]],
        ['c', files[1]],
        ['d', files[2]],
      ],
    );
  }
});

test('a missing part is named', () => {
  const files = write();
  rmSync(files[1]);
  refused(files[0], 'file_missing', /m-00002-of-00003\.gguf/);
});

test('a part of another model, a part twice and wrong counts are refused', () => {
  refused(write((p) => (p[1].total = 9))[0], 'bad_gguf', /00002.*split\.tensors\.count is 9.*must be 4/);
  refused(write((p) => (p[1].no = 2))[0], 'bad_gguf', /00002.*split\.no is 2.*must be 1/);
  refused(write((p) => (p[2].count = 4))[0], 'bad_gguf', /00003.*split\.count is 4.*must be 3/);
  refused(write((p) => (p[2].tensors = ['a']))[0], 'bad_gguf', /00003.*'a' is in an earlier part/);
  refused(write((p) => p[2].tensors.push('e'))[0], 'bad_gguf', /hold 5 tensors, it should be 4/);
  const other = { 'general.architecture': { string: 'gemma' } };
  refused(write((p) => (p[1].more = other))[0], 'bad_gguf', /general\.architecture is 'gemma'.*'llama'/);
  for (const count of [2, 99_999, 4_000_000_000]) {
    refused(write((p) => (p[0].count = count))[0], 'bad_gguf', /00001.*(part 1 of|split\.count)/);
  }
});

test('a part under another name says that its others are not found', () => {
  const [first] = write();
  const renamed = path.join(path.dirname(first), 'model.gguf');
  renameSync(first, renamed);
  refused(renamed, 'bad_gguf', /part 1 of 3, and its name does not say so/);
});
