/** Models with experts whose files do not agree with themselves; and forms of their files that no fixture has. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { describe, it } from 'node:test';
import { inspectModel } from '../../src/index.js';
import { llama } from '../../src/model/llama.js';
import { openModel, weightsKeyOf } from '../../src/weights/index.js';
import { Runner } from '../device/support.js';
import { fails } from '../support/fails.js';
import { writeGgufOf } from './gguf.js';
import { type Fixture, readFixture, writeFolder } from './tiny.js';

const mixtral = readFixture('mixtral');
const fused = readFixture('qwen3-moe-fused');
const open = (file: string) => openModel(file, { sessionLen: 0, weights: 'file' });

const changed = (
  f: Fixture,
  config: Record<string, unknown>,
  tensors: (t: Record<string, number[]>) => void = () => {},
) => {
  const copy = { ...f, config: { ...f.config, ...config }, tensors: { ...f.tensors } };
  tensors(copy.tensors);
  return copy;
};
const folderOf = (...given: Parameters<typeof changed>) => writeFolder(changed(...given));
const EXPERT = 'model.layers.1.block_sparse_moe.experts.2.w1.weight';

describe('a folder of a model with experts', () => {
  it('whose numbers of experts cannot be', () => {
    for (const count of [0, -1, 2.5, 1e9, '4'])
      fails(() => open(folderOf(mixtral, { num_local_experts: count })), 'bad_model_file', /num_local_experts/);
    for (const used of [0, 5, 1e6, null])
      fails(() => open(folderOf(mixtral, { num_experts_per_tok: used })), 'bad_model_file', /num_experts_per_tok/);
    fails(() => open(folderOf(readFixture('qwen2-moe'), { decoder_sparse_step: 0 })), 'bad_model_file', /sparse_step/);
  });
  it('that has fewer or more experts than it says', () => {
    for (const count of [3, 5, 60_000])
      fails(
        () => open(folderOf(mixtral, { num_local_experts: count, num_experts_per_tok: 2 })),
        'bad_model_file',
        /shape/,
      );
    const without = (t: Record<string, number[]>) => delete t[EXPERT];
    fails(() => open(folderOf(mixtral, {}, without)), 'bad_model_file', /expert 2 of 'blk.1.ffn_gate' is missing/);
  });
  it('whose experts have numbers that make no sense', () => {
    const renamed = (to: string) => (t: Record<string, number[]>) => {
      t[EXPERT.replace('.2.', `.${to}.`)] = t[EXPERT]!;
      delete t[EXPERT];
    };
    fails(() => open(folderOf(mixtral, {}, renamed('65535'))), 'bad_model_file', /expert 2 of/);
    fails(() => open(folderOf(mixtral, {}, renamed('99999999999999999999'))), 'bad_model_file', /expert 2 of/);
  });
  it('whose experts differ in shape, from each other or from what the model says', () => {
    const smaller = (t: Record<string, number[]>) => {
      t[EXPERT] = [64, 64];
    };
    fails(() => open(folderOf(mixtral, {}, smaller)), 'bad_model_file', /other experts are BF16/);
    fails(() => open(folderOf(mixtral, { intermediate_size: 128 })), 'bad_model_file', /needs \(64, 128, 4\)/);
    fails(() => open(folderOf(fused, { moe_intermediate_size: 48 })), 'bad_model_file', /inputs, 96, experts/);
    fails(() => open(folderOf(fused, { num_experts: 8, num_local_experts: 8 })), 'bad_model_file', /shape/);
  });
  it('that bounds its queries, or has experts of a width that the kernels do not take', () => {
    fails(() => open(folderOf(readFixture('olmoe'), { clip_qkv: 8 })), 'unsupported_model', /clip_qkv/);
    const odd = changed(mixtral, { intermediate_size: 80 });
    for (const [name, [a, b]] of Object.entries(odd.tensors) as [string, [number, number]][])
      if (name.includes('.experts.')) odd.tensors[name] = a === 64 ? [64, 80] : [80, b];
    const { config, source } = open(writeFolder(odd));
    const { dims, rmsEps, rope, tiedOutput, flags } = config;
    const program = llama({ ...dims, rmsEps, rope, tiedOutput, flags });
    fails(() => new Runner({ program, source, tensors: new Map() }), 'unsupported_model', /80 wide/);
  });
  it('is known by all of its files, each expert in its own', () => {
    const { headers } = open(writeFolder({ ...mixtral, shards: Object.keys(mixtral.tensors).length }));
    const files = headers.filter(({ file }) => file.endsWith('.safetensors'));
    assert.equal(files.length, Object.keys(mixtral.tensors).length);
  });
  it('has another key when a weight of one expert is another', () => {
    const folder = writeFolder(mixtral);
    const key = () => weightsKeyOf(openModel(folder, { sessionLen: 0, weights: 'file' }), 'file');
    const before = key();
    assert.equal(key(), before);
    const info = open(folder).source.tensors.get('blk.1.ffn_up_exps.weight')!;
    const run = info.runs![3]!;
    const file = run.file ?? info.file!;
    const { atime, mtime } = fs.statSync(file);
    const fd = fs.openSync(file, 'r+');
    fs.writeSync(fd, Buffer.from([0x7]), 0, 1, run.offset + 100);
    fs.closeSync(fd);
    fs.utimesSync(file, atime, mtime);
    assert.notEqual(key(), before);
  });
  it('is inspected with its experts, which count in memory, in 8 and 4 bits as well', async () => {
    const options = { maxBatchSize: 2, cacheBlockSeqLen: 16, threads: 1, cacheMaxEntryCount: 8 } as const;
    const folder = writeFolder(mixtral);
    const bytes = async (weights: string) => (await inspectModel(folder, { ...options, weights })).memory.weightBytes;
    const about = await inspectModel(folder, options);
    assert.deepEqual([about.experts?.count, about.experts?.used, about.experts?.width], [4, 2, 96]);
    const [file, q8, q4] = [await bytes('file'), await bytes('q8'), await bytes('q4')];
    const experts = 3 * 4 * 3 * 64 * 96;
    assert.ok(file >= 2 * experts, `${file} bytes for ${experts} weights of experts in 16 bits`);
    assert.ok(q8 < 0.7 * file && q4 < 0.7 * q8, `${file} ${q8} ${q4}`);
  });
});

describe('a GGUF file of a model with experts', () => {
  const withKeys = (keys: Record<string, number | undefined>) => writeGgufOf(changed(mixtral, keys));
  it('whose numbers of experts cannot be', () => {
    fails(() => open(withKeys({ num_local_experts: 0 })), 'bad_gguf', /ffn_gate.weight' is missing/);
    fails(() => open(withKeys({ num_experts_per_tok: 0 })), 'bad_gguf', /llama.expert_used_count/);
    fails(() => open(withKeys({ num_experts_per_tok: 5 })), 'bad_gguf', /an integer from 1 to 4/);
    for (const count of [3, 5])
      fails(() => open(withKeys({ num_local_experts: count })), 'bad_gguf', /ffn_gate_inp.weight' has shape/);
    const qwen = readFixture('qwen3-moe');
    fails(() => open(writeGgufOf(changed(qwen, { num_experts: 0, num_local_experts: 0 }))), 'bad_gguf', /expert_count/);
    fails(() => open(writeGgufOf(changed(qwen, { moe_intermediate_size: 64 }))), 'bad_gguf', /has shape/);
  });
  it('with a tensor for each expert gives the bits of one for all', () => {
    const logits = (file: string) => {
      const { config, source } = open(file);
      const { dims, rmsEps, rope, tiedOutput, flags } = config;
      const program = llama({ ...dims, rmsEps, rope, tiedOutput, flags });
      const runner = new Runner({ program, source, tensors: new Map() });
      const out = runner.logits([{ slot: 0, position: 0, tokens: mixtral.ids.slice(0, 20), logits: 'all' }]);
      runner.close();
      return out;
    };
    assert.deepEqual(logits(writeGgufOf(mixtral, { stacked: false })), logits(writeGgufOf(mixtral)));
  });
});
