/** Kernels are compiled by processes of their own and found again on disk. NVRTC is needed, a GPU is not. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { findNvrtc } from '../../../src/device/cuda/index.js';
import { KernelStore, packParams, readTable } from '../../../src/device/cuda/kernels.js';
import { fetchNvrtc } from '../../../src/hub/nvrtc.js';

const fetched = path.join(os.homedir(), '.cache/longmind/nvrtc-13');
// as `--device cuda` does: looked for here, else fetched once
const place =
  findNvrtc(13, fetched, process.env) ??
  (await fetchNvrtc(13, fetched, {}).then(
    () => findNvrtc(13, fetched, process.env),
    () => null,
  ));

describe('kernels', () => {
  it('are compiled once for all, and a source that NVRTC refuses is told in its words', {
    skip: place ? false : 'no NVRTC here, and none can be fetched',
  }, (t) => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'longmind-cubin-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const store = new KernelStore(readTable(), 80, place!, folder);
    const keys = [0, 1].map((ACT) => ({ kernel: 'silu_mul', macros: { ACT } }));
    const seen: number[] = [];
    const first = store.load(keys, (done) => seen.push(done));
    assert.equal(seen.at(-1), 2);
    assert.equal(Buffer.from(first[0]!.subarray(1, 4)).toString(), 'ELF');
    const again = new KernelStore(readTable(), 80, place!, folder);
    assert.deepEqual(
      again.load(keys, () => assert.fail('compiled again')),
      first,
    );
    const broken = { kernel: 'rms_norm', macros: { ACT: 1 } }; // without its width
    assert.throws(() => store.load([broken]), { code: 'cuda_unavailable', message: /norm\.cu[\s\S]*LM_WIDTH/ });
    assert.equal(readdirSync(folder).filter((n) => n.endsWith('.json')).length, 0);
  });

  it('get their parameters as C lays a struct out', () => {
    const params: [string, 'i32' | 'pointer' | 'f32'][] = [
      ['a', 'i32'],
      ['b', 'pointer'],
      ['c', 'f32'],
    ];
    const bytes = packParams(params, { a: -1, b: 2 ** 46 + 5, c: 0.5 });
    const view = new DataView(bytes.buffer);
    assert.equal(bytes.length, 24);
    assert.equal(view.getInt32(0, true), -1);
    assert.equal(view.getBigInt64(8, true), BigInt(2 ** 46 + 5));
    assert.equal(view.getFloat32(16, true), 0.5);
    assert.throws(() => packParams(params, { a: 1, b: 2 }), /'c' is missing/);
  });
});
