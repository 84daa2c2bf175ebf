import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { LongmindError } from '../../src/errors.js';
import { checkTensorTypes, type ModelConfig, readGguf, readModelConfig } from '../../src/weights/index.js';
import { smollmPath, withoutSmollm } from '../support/model.js';
import { type TensorSpec, type Value, writeGguf } from './gguf-builder.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'longmind-config-'));
after(() => rmSync(folder, { recursive: true }));
const smollm = await smollmPath();

const metadata: Record<string, Value> = {
  'general.architecture': { string: 'llama' },
  'general.name': { string: 'tiny' },
  'llama.block_count': { u32: 2 },
  'llama.embedding_length': { u32: 8 },
  'llama.feed_forward_length': { u32: 16 },
  'llama.attention.head_count': { u32: 4 },
  'llama.attention.head_count_kv': { u32: 2 },
  'llama.attention.layer_norm_rms_epsilon': { f32: 1e-5 },
  'llama.context_length': { u32: 64 },
  'llama.rope.freq_base': { f32: 10000 },
};

const shapes = (): Map<string, number[]> => {
  const all = new Map([
    ['token_embd.weight', [8, 10]],
    ['output_norm.weight', [8]],
  ]);
  for (const layer of [0, 1]) {
    const layerShapes = {
      attn_norm: [8],
      attn_q: [8, 8],
      attn_k: [8, 4],
      attn_v: [8, 4],
      attn_output: [8, 8],
      ffn_norm: [8],
      ffn_gate: [8, 16],
      ffn_up: [8, 16],
      ffn_down: [16, 8],
    };
    for (const [name, shape] of Object.entries(layerShapes)) all.set(`blk.${layer}.${name}.weight`, shape);
  }
  return all;
};

interface Change {
  keys?: Record<string, Value | null>;
  tensors?: Record<string, number[] | null>;
  /** Values of a tensor, F32. */
  values?: Record<string, number[]>;
}

function read(change: Change = {}): ModelConfig {
  const keys = Object.fromEntries(
    Object.entries({ ...metadata, ...change.keys }).filter((e): e is [string, Value] => e[1] !== null),
  );
  const all = shapes();
  for (const [name, shape] of Object.entries(change.tensors ?? {})) shape ? all.set(name, shape) : all.delete(name);
  let offset = 0;
  const tensors = [...all].map(([name, shape]): TensorSpec => {
    const data = new Uint8Array(
      Float32Array.from(change.values?.[name] ?? new Array(shape.reduce((a, b) => a * b)).fill(0)).buffer,
    );
    const t = { name, shape, type: 0, offset, data };
    offset += Math.ceil(data.length / 32) * 32;
    return t;
  });
  return readModelConfig(readGguf(writeGguf(path.join(folder, 'm.gguf'), { metadata: keys, tensors })));
}

const fails = (change: Change, code: string, message: RegExp): void =>
  assert.throws(
    () => read(change),
    (e) => e instanceof LongmindError && e.code === code && message.test(e.message),
    String(message),
  );

test('dimensions, names and defaults come from the metadata and the shapes', () => {
  const c = read();
  assert.deepEqual(c.dims, {
    layers: 2,
    dim: 8,
    heads: 4,
    kvHeads: 2,
    headDim: 2,
    ffDim: 16,
    vocab: 10,
    contextLength: 64,
  });
  assert.equal(c.name, 'tiny');
  assert.equal(c.tiedOutput, true);
  assert.equal(c.rmsEps, Math.fround(1e-5));
  assert.equal(c.parameters, 8 * 10 + 8 + 2 * (8 + 64 + 32 + 32 + 64 + 8 + 128 + 128 + 128));
  assert.deepEqual(c.quantisation, {
    name: 'F32',
    bytes: 4 * c.parameters,
    byType: { F32: { tensors: 20, bytes: 4 * c.parameters, parameters: c.parameters } },
  });
  assert.equal(read({ keys: { 'general.file_type': { u32: 15 } } }).quantisation.name, 'Q4_K_M');
  assert.equal(read({ tensors: { 'output.weight': [8, 10] } }).tiedOutput, false);
  assert.equal(read({ keys: { 'llama.attention.head_count_kv': { i32s: [2, 2] } } }).dims.kvHeads, 2);
});

test('positions: plain, linear and llama3 scaling', () => {
  const wide: Change = {
    keys: { 'llama.attention.head_count': { u32: 1 }, 'llama.attention.head_count_kv': { u32: 1 } },
    tensors: Object.fromEntries(
      [0, 1].flatMap((l) => ['attn_k', 'attn_v'].map((n) => [`blk.${l}.${n}.weight`, [8, 8]])),
    ),
  };
  const inverse = (change: Change): number[] => [
    ...read({
      keys: { ...wide.keys, ...change.keys },
      tensors: { ...wide.tensors, ...change.tensors },
      values: change.values,
    }).rope.inverseFrequencies,
  ];
  const plain = [0, 1, 2, 3].map((i) => 10000 ** (-i / 4));
  const close = (got: number[], want: number[]): void => {
    for (const [i, g] of got.entries()) assert.ok(Math.abs(g / want[i]! - 1) < 1e-6, `${g} ${want[i]}`);
  };
  close(inverse({}), plain);
  const linear = { 'llama.rope.scaling.type': { string: 'linear' }, 'llama.rope.scaling.factor': { f32: 4 } };
  close(
    inverse({ keys: linear }),
    plain.map((f) => f / 4),
  );
  const factors = [1, 2, 4, 8];
  close(
    inverse({ tensors: { 'rope_freqs.weight': [4] }, values: { 'rope_freqs.weight': factors } }),
    plain.map((f, i) => f / factors[i]!),
  );
  // Llama 3.1: wave lengths under 8192/4 stay, those over 8192 are eight times slower
  const llama3 = {
    'llama.rope.scaling.type': { string: 'llama3' },
    'llama.rope.scaling.factor': { f32: 8 },
    'llama.rope.freq_base': { f32: 500000 },
  };
  const base = [0, 1, 2, 3].map((i) => 500000 ** (-i / 4));
  const smooth = ((8192 * base[2]!) / (2 * Math.PI) - 1) / 3;
  close(inverse({ keys: llama3 }), [base[0]!, base[1]!, base[2]! * (smooth + (1 - smooth) / 8), base[3]! / 8]);
  fails({ keys: { 'llama.rope.scaling.type': { string: 'ntk' } } }, 'unsupported_model', /'ntk'/);
  fails({ tensors: { 'rope_freqs.weight': [5] } }, 'bad_gguf', /the model needs F32 \(1\)/);
});

test('other architectures and variations that would compute something else are refused', () => {
  fails({ keys: { 'general.architecture': { string: 'mamba' } } }, 'unsupported_architecture', /'mamba'/);
  fails({ keys: { 'general.architecture': null } }, 'bad_gguf', /general.architecture/);
  fails({ keys: { 'llama.expert_count': { u32: 8 } } }, 'bad_gguf', /llama.expert_used_count' is missing/);
  assert.deepEqual(
    read({ keys: { 'llama.attention.sliding_window': { u32: 32 } } }).flags.perLayer?.map((l) => l.window),
    [32, 32],
  );
  fails(
    { keys: { 'llama.attention.head_count_kv': { i32s: [2, 4] } } },
    'unsupported_model',
    /differs from layer to layer/,
  );
  fails({ tensors: { 'blk.0.attn_q.bias': [8] } }, 'bad_gguf', /attn_k.bias' is missing/);
  fails({ tensors: { 'blk.1.attn_q.bias': [8] } }, 'unsupported_model', /attn_q.bias/);
});

test('missing or wrong metadata and tensors are named', () => {
  fails({ keys: { 'llama.block_count': null } }, 'bad_gguf', /'llama.block_count' is missing/);
  fails({ keys: { 'llama.block_count': { u32: 0 } } }, 'bad_gguf', /must be an integer from 1/);
  fails({ keys: { 'llama.block_count': { string: 'two' } } }, 'bad_gguf', /must be a number/);
  fails({ keys: { 'llama.attention.head_count': { u32: 3 } } }, 'bad_gguf', /./);
  fails({ keys: { 'llama.rope.dimension_count': { u32: 1 } } }, 'bad_gguf', /rope.dimension_count/);
  fails({ tensors: { 'token_embd.weight': null } }, 'bad_gguf', /'token_embd.weight' is missing/);
  fails({ tensors: { 'blk.1.ffn_up.weight': null } }, 'bad_gguf', /'blk.1.ffn_up.weight' is missing/);
  fails({ tensors: { 'blk.1.ffn_up.weight': [8, 15] } }, 'bad_gguf', /shape \(8, 15\), the model needs \(8, 16\)/);
});

test('a tensor type that a device lacks is named before anything is loaded', () => {
  read();
  const gguf = readGguf(path.join(folder, 'm.gguf'));
  checkTensorTypes(gguf, ['F32']);
  assert.throws(() => checkTensorTypes(gguf, ['Q8_0']), /'token_embd.weight' has type F32/);
});

test('the default model is what it says', { skip: withoutSmollm(smollm) }, () => {
  const c = readModelConfig(readGguf(smollm!));
  assert.deepEqual(c.dims, {
    layers: 30,
    dim: 576,
    heads: 9,
    kvHeads: 3,
    headDim: 64,
    ffDim: 1536,
    vocab: 49152,
    contextLength: 8192,
  });
  assert.equal(c.parameters, 134_515_008);
  assert.equal(c.rope.freqBase, 100_000);
  assert.equal(c.tiedOutput, true);
});
