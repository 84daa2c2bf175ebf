/** `--weights`: what becomes of a model's weights while they are loaded. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { llama } from '../../src/model/llama.js';
import { encode, type QuantType } from '../../src/quantize/encode.js';
import { openModel } from '../../src/weights/index.js';
import { Runner, writeTensors } from '../device/support.js';
import { readTensors } from '../reference/device.js';
import { agrees, KV_ROUNDED, logitsOf } from './agreement.js';
import { type Fixture, readFixture, writeFolder } from './tiny.js';

/** Logits of a prompt with weights that were quantised beforehand, as llama.cpp's quantiser does it. */
function quantisedBefore(f: Fixture, folder: string, weights: 'q8' | 'q4'): { got: Float32Array[]; types: string[] } {
  const { config, source } = openModel(folder, { sessionLen: 0, weights });
  const { dims, rmsEps, rope, tiedOutput, flags } = config;
  const program = llama({ ...dims, rmsEps, rope, tiedOutput, flags });
  const plain = readTensors(program, openModel(folder, { sessionLen: 0, weights: 'file' }).source);
  const list = [...source.tensors].map(([name, { shape, as }]) => {
    const values = Float32Array.from(plain.get(name)!.values);
    const bytes = as ? encode(as as QuantType, values)! : new Uint8Array(values.buffer);
    return { name, type: as ?? 'F32', shape, bytes };
  });
  const { reference: _, ...written } = writeTensors(list);
  const runner = new Runner({ program, source: written, tensors: new Map() });
  const got = runner.logits([{ slot: 0, position: 0, tokens: f.ids.slice(0, f.prompt), logits: 'all' }]);
  runner.close();
  return { got, types: list.map(({ type }) => type) };
}

describe('weights that are quantised while they are loaded', () => {
  for (const name of ['llama', 'qwen2', 'gemma3'])
    for (const weights of ['q8', 'q4'] as const)
      it(`${name}, ${weights}: the bits of weights that were quantised before`, () => {
        const f = readFixture(name);
        const folder = writeFolder(f);
        const { got, types } = quantisedBefore(f, folder, weights);
        assert.ok(types.includes(weights === 'q4' ? 'Q4_0' : 'Q8_0'));
        const loaded = logitsOf({ ...f, ids: f.ids.slice(0, f.prompt + 1) }, folder, weights);
        got.forEach((x, p) => {
          assert.deepEqual(loaded[p], x, `position ${p}`);
        });
      });
});

describe('weights of 32 bits that become 16', () => {
  for (const name of ['olmo2', 'llama-one-kv-head-biases', 'qwen3-moe-sparse'])
    it(`${name}: values that 16 bits hold give transformers' logits`, () => {
      const f = readFixture(name);
      assert.equal(f.dtype, 'float32');
      agrees(f, logitsOf(f, writeFolder(f), 'bf16'), KV_ROUNDED);
    });
});
