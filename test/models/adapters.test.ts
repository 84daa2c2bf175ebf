/** LoRA adapters of tiny models, from PEFT folders and from GGUF files, compute what PEFT computes. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { llama } from '../../src/model/llama.js';
import { openAdapter, openModel } from '../../src/weights/index.js';
import { type Row, Runner, relativeError } from '../device/support.js';
import { readTensors } from '../reference/device.js';
import { Reference } from '../reference/forward.js';
import { fails } from '../support/fails.js';
import {
  type AdapterFixture,
  adapterNames,
  hasGgufAdapter,
  readAdapterFixture,
  writeGgufAdapter,
  writePeft,
} from './adapters.js';
import { agrees, mostlyAgrees, spreadOf } from './agreement.js';
import { writeGgufOf } from './gguf.js';
import { readFixture, temporaryFolder, writeFolder } from './tiny.js';

function open(model: string, adapter: string, weights: 'file' | 'q8' = 'file') {
  const { config, source } = openModel(model, { sessionLen: 0, weights });
  const { dims, rmsEps, rope, tiedOutput, flags } = config;
  const adapters = [openAdapter(adapter, 'it', config)];
  return { program: { ...llama({ ...dims, rmsEps, rope, tiedOutput, flags }), adapters }, source };
}

/** The prompt in two pieces, then token by token. */
function pieces(f: AdapterFixture): Row[] {
  const ids = f.ids.slice(0, -1);
  const cuts = [33, f.prompt, ...ids.slice(f.prompt).map((_, i) => f.prompt + 1 + i)];
  return cuts.map((end, i) => {
    const position = cuts[i - 1] ?? 0;
    return { slot: 0, position, tokens: ids.slice(position, end), logits: 'all', adapter: 0 };
  });
}

type Logits = (Float32Array | Float64Array)[];

function referenceLogits(f: AdapterFixture, model: string, adapter: string): Logits {
  const { program, source } = open(model, adapter);
  const reference = new Reference(program, readTensors(program, source), { bits: 32 }, 'exact');
  const runner = new Runner({ program, source, tensors: new Map() });
  const out = pieces(f).flatMap((row) => reference.step(runner.fill([row])));
  runner.close();
  return out;
}

function logitsOf(f: AdapterFixture, model: string, adapter: string, weights: 'file' | 'q8' = 'file'): Logits {
  const runner = new Runner({ ...open(model, adapter, weights), tensors: new Map() });
  const out = pieces(f).flatMap((row) => runner.logits([row]));
  runner.close();
  return out;
}

/** What rounding K and V to 16 bits makes of the logits of these models. */
const KV_ROUNDED = 4e-3;

for (const name of adapterNames()) {
  const f = readAdapterFixture(name);
  describe(`adapter ${name}`, () => {
    const family = readFixture(f.family);
    const folder = writeFolder(family);
    const peft = writePeft(f);
    it('agrees with PEFT in the reference forward pass', () => agrees(f, referenceLogits(f, folder, peft), 1e-4));
    it('agrees with PEFT on the CPU device', () => agrees(f, logitsOf(f, folder, peft), KV_ROUNDED));
    it('chooses the same tokens when the weights of the model have 8 bits', () => {
      // about 40 positions are no ties: one of them may differ
      mostlyAgrees(f, logitsOf(f, folder, peft, 'q8'), 0.25 * spreadOf(f.logits[0]!), 0.97);
    });
    it('agrees with PEFT on a model from GGUF, whose rows have another order', () => {
      agrees(f, logitsOf(f, writeGgufOf(family), peft), KV_ROUNDED);
    });
    if (hasGgufAdapter(f))
      it('from GGUF it is the same, on a model from GGUF and from a folder', () => {
        const gguf = writeGgufAdapter(f);
        const want = logitsOf(f, folder, peft);
        for (const model of [folder, writeGgufOf(family)]) agrees(f, logitsOf(f, model, gguf), KV_ROUNDED);
        for (const [p, x] of logitsOf(f, folder, gguf).entries())
          assert.ok(relativeError(x, want[p]!) < 1e-6, `position ${p}`);
      });
  });
}

// ---------------------------------------------------------------- what is refused

describe('an adapter that cannot be used is refused with what is wrong', () => {
  const f = readAdapterFixture('all');
  const model = openModel(writeFolder(readFixture('llama')), { sessionLen: 0, weights: 'file' }).config;
  const refused = (adapter: string, message: RegExp, of = model) =>
    fails(() => openAdapter(adapter, 'it', of), 'bad_adapter', message);
  const Q = 'base_model.model.model.layers.0.self_attn.q_proj';

  for (const [what, config, message] of [
    ['DoRA', { use_dora: true }, /DoRA/],
    ['biases', { bias: 'lora_only' }, /biases/],
    ['biases of B', { lora_bias: true }, /lora_bias/],
    ['modules of its own', { modules_to_save: ['lm_head'] }, /modules_to_save/],
    ['tokens of its own', { trainable_token_indices: [1, 2] }, /trainable_token_indices/],
    ['another method', { peft_type: 'IA3' }, /IA3/],
    ['PiSSA', { init_lora_weights: 'pissa' }, /pissa/],
    ['repeated layers', { layer_replication: [[0, 2]] }, /layer_replication/],
    ['experts as parameters', { target_parameters: ['mlp.experts.gate_up_proj'] }, /experts/],
    ['a rank of 0', { r: 0 }, /'r' is 0/],
    ['a rank that its weights have not', { r: 21 }, /rank 20, its adapter_config.json says 21/],
    ['no alpha', { lora_alpha: 'much' }, /lora_alpha/],
    ['a pattern that could run for ever', { rank_pattern: { '(a+)+$': 4 } }, /plain names/],
  ] as const)
    it(`PEFT: ${what}`, () => refused(writePeft(f, { config }), message));

  for (const [what, tensors, message] of [
    ['embeddings', { 'base_model.model.model.embed_tokens.lora_embedding_A': [20, 307] }, /embeddings/],
    ['the output', { 'base_model.model.lm_head.lora_A.weight': [20, 64] }, /lm_head/],
    ['experts', { 'base_model.model.model.layers.0.mlp.experts.0.up_proj.lora_A.weight': [20, 64] }, /experts/],
    ['magnitudes', { [`${Q}.lora_magnitude_vector`]: [64] }, /DoRA/],
    ['an A alone', { [`${Q}.lora_B.weight`]: null }, /no B/],
    ['a B alone', { [`${Q}.lora_A.weight`]: null }, /no A/],
    ['an A of another width', { [`${Q}.lora_A.weight`]: [4, 128] }, /another model, or damaged.*\(128, 4\).*\(64, 4\)/],
    ['a B of another width', { [`${Q}.lora_B.weight`]: [64, 5] }, /another model, or damaged/],
    [
      'a layer that the model has not',
      {
        'base_model.model.model.layers.3.mlp.up_proj.lora_A.weight': [20, 64],
        'base_model.model.model.layers.3.mlp.up_proj.lora_B.weight': [96, 20],
      },
      /layer 3, and this one has 3/,
    ],
  ] as [string, Record<string, number[] | null>, RegExp][])
    it(`PEFT: ${what}`, () => refused(writePeft(f, { tensors }), message));

  it('PEFT: a matrix twice', () => {
    const qkv = 'base_model.model.model.layers.0.self_attn.qkv_proj';
    const twice = { [`${qkv}.lora_A.weight`]: [20, 64], [`${qkv}.lora_B.weight`]: [128, 20] };
    refused(writePeft(f, { tensors: twice }), /'blk.0.attn_q.weight' twice/);
  });

  it('PEFT: a huge rank', () => {
    const big = { [`${Q}.lora_A.weight`]: [2000, 64], [`${Q}.lora_B.weight`]: [64, 2000] };
    refused(
      writePeft(f, {
        config: { rank_pattern: { 'layers.0.self_attn.q_proj': 2000, ...(f.config.rank_pattern as object) } },
        tensors: big,
      }),
      /rank 2000/,
    );
  });

  it('PEFT: files that are truncated, missing or pickled', () => {
    const folder = writePeft(f);
    const weights = path.join(folder, 'adapter_model.safetensors');
    for (const size of [fs.statSync(weights).size - 1, 100, 3]) {
      fs.truncateSync(weights, size);
      refused(folder, /truncated|header/);
    }
    fs.renameSync(weights, path.join(folder, 'adapter_model.bin'));
    refused(folder, /pickled/);
    fs.writeFileSync(path.join(folder, 'adapter_config.json'), '{"r": 8');
    refused(folder, /not valid JSON/);
    refused(temporaryFolder(), /no adapter_config.json/);
  });

  it('of another model', () => {
    const gemma = openModel(writeFolder(readFixture('gemma2')), { sessionLen: 0, weights: 'file' }).config;
    refused(writePeft(f), /another model/, gemma);
    const mixtral = openModel(writeFolder(readFixture('mixtral')), { sessionLen: 0, weights: 'file' }).config;
    refused(writePeft(f), /no such matrix/, mixtral);
  });

  it('GGUF: a model, another kind of adapter, no alpha, truncated', () => {
    const one = readAdapterFixture('one-layer');
    refused(writeGgufOf(readFixture('llama')), /no adapter/);
    refused(writeGgufAdapter(one, { 'adapter.type': { string: 'control' } }), /no LoRA adapter/);
    refused(writeGgufAdapter(one, { 'adapter.lora.alpha': { string: 'x' } }), /alpha/);
    refused(writeGgufAdapter(one, { 'general.architecture': { string: 'bert' } }), /bert/);
    refused(writeGgufAdapter(one, { 'adapter.alora.invocation_tokens': { u32: 1 } }), /activated/);
    const file = writeGgufAdapter(one);
    fs.truncateSync(file, fs.statSync(file).size - 33);
    refused(file, /truncated/);
    const renamed = { ...one, tensors: { 'base_model.model.model.layers.0.mlp.experts.lora_A.weight': [8, 64] } };
    refused(writeGgufAdapter(renamed), /not to embeddings, the output or experts/);
  });
});
