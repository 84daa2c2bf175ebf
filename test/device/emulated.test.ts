/**
 * AVX-VNNI and AMX give the bits of the families whose KV they may read, shown by emulated instructions with what the kernels make
 * of them. In short: `npm run check:emulated` runs the whole contract suite on them.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import koffi from 'koffi';
import { buildNativeLibrary } from '../../src/device/cpu/build.js';
import { availableIsas } from '../../src/device/cpu/index.js';
import { loadNative } from '../../src/device/cpu/native.js';
import { buildEmulated } from './emulated.js';
import { MIXTURES, type ModelOptions, Runner, type RunnerOptions, randomModel, sequence } from './support.js';

const skip = availableIsas(loadNative(buildNativeLibrary())).includes('avx2') ? false : 'no AVX2 to emulate on';

describe('kernels of processors that are not here', { skip }, () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-emulated-'));
  after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const library = skip ? '' : buildEmulated(folder);
  const dots = skip ? () => 0n : (koffi.load(library).func('lm_emulated_dots', 'int64_t', []) as () => number);

  /** Logits of 45 rows (several panels, the last not full) and of one after them. */
  function logits(model: ReturnType<typeof randomModel>, options: RunnerOptions): Float32Array[] {
    const runner = new Runner(model, { threads: 2, maxTokens: 64, maxLogits: 64, ...options });
    const tokens = sequence(46, 7);
    const many = runner.logits([{ slot: 0, position: 0, tokens: tokens.slice(0, 45), logits: 'all' }]);
    const one = runner.logits([{ slot: 0, position: 45, tokens: tokens.slice(45) }]);
    const name = runner.device.info.kernels;
    assert.match(name, /^cpu-(avx2|avx512vnni)-/);
    runner.close();
    return [...many, ...one];
  }

  function same(options: ModelOptions): void {
    const model = randomModel({ layers: 1, ...options });
    const reference = logits(model, { isa: 'avx2' });
    assert.deepEqual(logits(model, { library, isa: 'avxvnni' }), reference);
    const before = Number(dots());
    assert.deepEqual(logits(model, { library, isa: 'amx' }), reference);
    assert.ok(Number(dots()) > before, 'no product went by tiles');
  }

  for (const type of ['Q8_0', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'IQ4_NL', 'MXFP4'])
    it(`${type}: the bits of AVX2`, () => same({ type }));
  for (const type of ['Q4_K', 'Q5_K', 'Q6_K', 'Q2_K', 'Q3_K', 'IQ4_XS'])
    it(`${type}: the bits of AVX2`, () => same({ type, heads: 8, kvHeads: 2, ffDim: 256 }));
  it('experts: the bits of AVX2', () =>
    same({ type: 'Q4_0', flags: { experts: { ...MIXTURES['two of eight'], count: 4 } } }));
});
