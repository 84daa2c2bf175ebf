/** The matrix product and the embedding of every weight type, against dequantised weights in f64. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { availableIsas, type CpuDeviceOptions } from '../../src/device/cpu/index.js';
import { GGML_TYPES } from '../../src/device/cpu/layout.js';
import { loadNative } from '../../src/device/cpu/native.js';
import type { Program } from '../../src/device/device.js';
import { FORMATS } from '../reference/formats.js';
import { Reference } from '../reference/forward.js';
import {
  Runner,
  random,
  randomTensor,
  relativeError,
  sequence,
  type TestModel,
  testLibrary,
  writeTensors,
} from './support.js';

const native = loadNative(testLibrary());
const TYPES = Object.keys(GGML_TYPES);
/** Types with superblocks need wider rows. */
const isSuper = (type: string) => FORMATS[type].block === 256;

/** f32 rows of one magnitude, all 127 or -127 once quantised: rows all positive, all negative, and mixed. */
function endPoints(inputs: number, rows: number, r: () => number): Uint8Array {
  const positive = [1, 0, 0.5];
  const values = Float32Array.from({ length: inputs * rows }, (_, i) =>
    r() < positive[Math.floor(i / inputs) % 3] ? 1 : -1,
  );
  return new Uint8Array(values.buffer);
}

/** x = embedding of the token (type `embed`); logits = W · x (+ bias) of type `type`, or x itself if there is no type. */
function product(type: string | null, embed: string, inputs: number, outputs: number, extreme = false): TestModel {
  const r = random(inputs + outputs);
  const vocab = type ? outputs : inputs;
  const embedded = extreme ? endPoints(inputs, vocab, r) : randomTensor(embed, inputs * vocab, r, 1);
  const list = [{ name: 'embd', type: embed, shape: [inputs, vocab], bytes: embedded }];
  const buffers = [{ name: 'x', width: inputs, perLogit: false }];
  const ops: Program['ops'] = [{ op: 'embed', weight: 'embd', out: 'x' }];
  if (type) {
    list.push({
      name: 'w',
      type,
      shape: [inputs, outputs],
      bytes: randomTensor(type, inputs * outputs, r, 0.1, extreme),
    });
    list.push({ name: 'b', type: 'F32', shape: [outputs], bytes: randomTensor('F32', outputs, r, 1) });
    buffers.push({ name: 'y', width: outputs, perLogit: false });
    ops.push({ op: 'linear', in: 'x', outputs: [{ weight: 'w', bias: 'b', out: 'y' }], residual: null });
  }
  buffers.push({ name: 'logits', width: vocab, perLogit: true });
  ops.push({ op: 'gather', in: type ? 'y' : 'x', out: 'logits' }, { op: 'sample', in: 'logits' });
  const dims = { layers: 1, dim: inputs, heads: 1, kvHeads: 1, headDim: 16, ffDim: 1, vocab, contextLength: 512 };
  const { reference, ...source } = writeTensors(list);
  return { program: { dims, buffers, ops }, source, tensors: reference };
}

/** The same as the product that makes logits, whose activations are finer than int8. */
function logitProduct(type: string, inputs: number, outputs: number, extreme = false): TestModel {
  const model = product(type, 'F32', inputs, outputs, extreme);
  const buffers = [
    { name: 'x', width: inputs, perLogit: false },
    { name: 'drawn', width: inputs, perLogit: true },
    { name: 'logits', width: outputs, perLogit: true },
  ];
  const outs = [{ weight: 'w', bias: 'b', out: 'logits' }];
  const ops: Program['ops'] = [
    { op: 'embed', weight: 'embd', out: 'x' },
    { op: 'gather', in: 'x', out: 'drawn' },
    { op: 'linear', in: 'drawn', outputs: outs, residual: null },
    { op: 'sample', in: 'logits' },
  ];
  return { ...model, program: { ...model.program, buffers, ops } };
}

function sameInCompany(model: TestModel, isa: CpuDeviceOptions['isa']): void {
  const runner = new Runner(model, { isa, maxTokens: 64 });
  const tokens = sequence(40, 3, 83);
  const rows = (n: number) => runner.logits([{ slot: 0, position: 0, tokens: tokens.slice(0, n), logits: 'all' }]);
  const reference = rows(40);
  for (const n of [...Array.from({ length: 13 }, (_, i) => i + 1), 20, 27, 33])
    for (const [i, row] of rows(n).entries()) assert.deepEqual(row, reference[i]);
  const alone = runner.logits([{ slot: 0, position: 39, tokens: tokens.slice(39) }]);
  assert.deepEqual(alone[0], reference[39]);
  runner.close();
}

function worstError(model: TestModel, n: number, isa: CpuDeviceOptions['isa']): number {
  const runner = new Runner(model, { isa, maxTokens: 64 });
  const tokens = sequence(n, n, model.program.dims.vocab);
  const got = runner.logits([{ slot: 0, position: 0, tokens, logits: 'all' }]);
  const want = new Reference(model.program, model.tensors, { bits: 16 }).step(runner.step);
  runner.close();
  return Math.max(...got.map((x, i) => relativeError(x, want[i])));
}

for (const isa of availableIsas(native)) {
  describe(`products on ${isa}`, () => {
    for (const type of TYPES) {
      const inputs = isSuper(type) ? 512 : 96;
      it(`${type}: 1 to 40 columns, outputs no multiple of 16`, () => {
        const model = product(type, 'F32', inputs, 83);
        for (const n of [1, 2, 3, 5, 7, 11, 12, 13, 29, 40]) {
          const error = worstError(model, n, isa);
          assert.ok(error < 1e-5, `${n} columns: relative error ${error}`);
        }
      });
      it(`${type}: a column has the same bits in company of 0 to 39 others`, () =>
        sameInCompany(product(type, 'F32', inputs, 83), isa));
      it(`${type}: 1 to 9 logit rows, close to products of what is not rounded, the same bits in company`, () => {
        const model = logitProduct(type, inputs, 83);
        for (const n of [1, 2, 3, 4, 5, 9]) {
          const error = worstError(model, n, isa);
          assert.ok(error < 5e-5, `${n} rows: relative error ${error}`);
        }
        sameInCompany(model, isa);
        const error = worstError(logitProduct(type, inputs, 48, true), 12, isa);
        assert.ok(error < 5e-5, `end points: relative error ${error}`);
      });
      it(`${type}: end points of the quants do not saturate`, () => {
        const error = worstError(product(type, 'F32', inputs, 48, true), 12, isa);
        assert.ok(error < 1e-5, `relative error ${error}`);
      });
      it(`${type}: the embedding is the dequantised row`, () => {
        const model = product(null, type, isSuper(type) ? 256 : 96, 0);
        assert.ok(worstError(model, 17, isa) < 2e-7);
      });
    }
    for (const type of ['F32', 'F16', 'BF16']) {
      it(`${type}: inputs no multiple of 16`, () =>
        assert.ok(worstError(product(type, 'F32', 37, 21), 14, isa) < 1e-5));
    }
  });
}

describe('weights in memory', () => {
  for (const type of TYPES) {
    const limit = type === 'IQ4_XS' || type === 'MXFP4' ? 6 : type === 'Q3_K' ? 4 : 3;
    it(`${type} takes what it takes in the file, within ${limit}%`, () => {
      const { block, bytes } = FORMATS[type];
      const file = ((2048 * 2048) / block) * bytes;
      const ours = native.tensorBytes(GGML_TYPES[type], 2048, 2048, 0);
      assert.ok(ours >= file && ours <= (1 + limit / 100) * file, `${ours} bytes, ${file} in the file`);
    });
  }
  it('a quantised width that is no whole number of blocks is refused', () => {
    assert.equal(native.tensorBytes(GGML_TYPES.Q8_0, 48, 16, 0), 0);
    assert.equal(native.tensorBytes(GGML_TYPES.Q4_K, 288, 16, 0), 0);
    assert.equal(native.tensorBytes(99, 256, 16, 0), 0);
  });
});
