/** Quantised checkpoints compute what transformers computes with the same weights dequantised; broken ones are typed errors. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { createEngine, inspectModel } from '../../src/index.js';
import { openModel, weightsKeyOf } from '../../src/weights/index.js';
import { fails } from '../support/fails.js';
import { agrees, logitsOf, logitsThroughEviction, mostlyAgrees, referenceLogits, spreadOf } from './agreement.js';
import { checkpoint, checkpointNames, readSafetensorsEntries, withHeader } from './tiny.js';

for (const name of checkpointNames()) {
  describe(name, () => {
    const { expected: f, folder } = checkpoint(name);
    it('agrees with transformers in the reference forward pass', () => agrees(f, referenceLogits(f, folder), 1e-4));
    it('chooses the same tokens on the CPU device, also with the KV thrown away half-way', () => {
      // what is rounded also decides between two experts that score nearly alike
      const share = /mixtral|moe/.test(name) ? 0.95 : 0.99;
      mostlyAgrees(f, logitsThroughEviction(f, folder), 0.1 * spreadOf(f.logits[0]!), share);
    });
  });
}

const engineOptions = { maxBatchSize: 2, cacheBlockSeqLen: 16, threads: 1, speculation: 'off' } as const;

describe('the KV of a quantised checkpoint', () => {
  for (const name of ['awq-32', 'mixtral-gptq4-order', 'fp8-blocks'])
    it(`of ${name} thrown away half-way changes no token`, async () => {
      const { expected: f, folder } = checkpoint(name);
      const run = async (blocks: number) => {
        const engine = await createEngine({ ...engineOptions, model: folder, cacheMaxEntryCount: blocks });
        const greedy = { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, ignoreEos: true };
        const tokens: number[] = [];
        const ask = async (prompt: number[], more: object) => {
          for await (const t of engine.complete({ ...greedy, prompt, maxTokens: 10, ...more })) tokens.push(t.tokenId);
        };
        try {
          await ask(f.ids.slice(0, f.prompt), { sessionId: 's' });
          for (let i = 0; i < 3; i++) await ask(f.ids.slice(i, 60 + i).reverse(), {});
          await ask([f.ids[f.prompt]!], { sessionId: 's', sessionAppend: true });
          return { tokens, recomputed: (await engine.stats()).tokens.recomputed };
        } finally {
          await engine.close();
        }
      };
      const hit = await run(40);
      const miss = await run(8);
      assert.equal(hit.recomputed, 0);
      assert.ok(miss.recomputed > 0, 'nothing was thrown away');
      assert.deepEqual(miss.tokens, hit.tokens);
    });
});

describe('a quantised checkpoint', () => {
  it('is another model for the disk cache when its scales, zero points or order are others', () => {
    const { folder } = checkpoint('gptq8-order-asymmetric');
    const open = () => openModel(folder, { sessionLen: 0, weights: 'file' });
    const packed = open().source.tensors.get('blk.0.ffn_down.weight')!.packed!;
    const keys = new Set([weightsKeyOf(open(), 'file')]);
    for (const part of [packed.scales, packed.zeros!, packed.order!]) {
      const { atime, mtime } = fs.statSync(part.file);
      const fd = fs.openSync(part.file, 'r+');
      const byte = Buffer.alloc(1);
      fs.readSync(fd, byte, 0, 1, part.offset);
      fs.writeSync(fd, Buffer.from([byte[0]! ^ 1]), 0, 1, part.offset);
      fs.closeSync(fd);
      fs.utimesSync(part.file, atime, mtime);
      keys.add(weightsKeyOf(open(), 'file'));
    }
    assert.equal(keys.size, 4);
  });

  it('keeps 4 bits as 4 bits, whatever --weights makes of the rest', async () => {
    const { folder } = checkpoint('awq-32');
    const types = (weights: 'file' | 'q8') =>
      openModel(folder, { sessionLen: 0, weights }).source.tensors.get('blk.0.attn_q.weight')!;
    assert.equal(types('file').type, 'Q4_1');
    assert.equal(types('q8').as, undefined);
    const mx = openModel(checkpoint('ct-mxfp4').folder, { sessionLen: 0, weights: 'file' });
    assert.equal(mx.source.tensors.get('blk.0.attn_q.weight')!.type, 'MXFP4');
    const about = await inspectModel(folder, { ...engineOptions, cacheMaxEntryCount: 8 });
    assert.ok(about.memory.weightBytes > 0);
  });
});

type Config = Record<string, unknown>;

function withQuantisation(name: string, change: Config): string {
  const { folder } = checkpoint(name);
  const file = path.join(folder, 'config.json');
  const config = JSON.parse(fs.readFileSync(file, 'utf8')) as { quantization_config: Config };
  fs.writeFileSync(
    file,
    JSON.stringify({ ...config, quantization_config: { ...config.quantization_config, ...change } }),
  );
  return folder;
}

/** The checkpoint with other entries in its header, or other bytes in its data. */
function withTensors(
  name: string,
  change: (e: ReturnType<typeof readSafetensorsEntries>['entries'], data: Buffer) => void,
) {
  const { folder } = checkpoint(name);
  const file = path.join(folder, 'model.safetensors');
  const { entries, data } = readSafetensorsEntries(file);
  change(entries, data);
  fs.writeFileSync(file, withHeader(JSON.stringify(entries), [data]));
  return folder;
}

const open = (folder: string) => openModel(folder, { sessionLen: 0, weights: 'file' });
const load = (folder: string) => {
  const f = checkpoint('gptq4-32').expected;
  return logitsOf(f, folder, 'file');
};
const Q = 'model.layers.0.self_attn.q_proj';

describe('a quantization_config that is not computed is refused by its field', () => {
  const cases: [string, Config, RegExp][] = [
    ['awq-128-biases', { version: 'gemv' }, /'version' is 'gemv'/],
    ['awq-128-biases', { bits: 3 }, /'bits' is 3/],
    ['gptq4-32', { bits: 2 }, /'bits' is 2/],
    ['gptq4-32', { checkpoint_format: 'marlin' }, /'checkpoint_format' is "marlin"/],
    [
      'gptq4-32',
      { dynamic: { '-:.*gate': {}, '.*down.*': { bits: 8 } } },
      /'dynamic' has an entry of its own for '\.\*down/,
    ],
    ['gptq4-32', { surprise: 1 }, /'surprise' is not known/],
    ['gptq4-32', { quant_method: 'bitsandbytes' }, /'quant_method' is 'bitsandbytes'/],
    ['fp8-blocks', { fmt: 'e5m2' }, /'fmt' is "e5m2"/],
    ['ct-w8a8', { format: 'marlin-24' }, /'format' is "marlin-24"/],
    ['ct-w8a8', { sparsity_config: { format: 'sparse-24-bitmask' } }, /'format' is "sparse-24-bitmask"/],
  ];
  for (const [name, change, message] of cases)
    it(`${name} ${JSON.stringify(change)}`, () =>
      fails(() => open(withQuantisation(name, change)), 'unsupported_model', message));
});

it('modules that GPTQ left out by name change nothing', () => {
  const tensors = open(withQuantisation('gptq4-32', { dynamic: { '-:.*mlp\\.gate$': {} } })).source.tensors;
  assert.equal(tensors.get('blk.0.ffn_down.weight')!.type, 'Q4_0');
});

describe('a broken quantised checkpoint is a typed error', () => {
  it('with a group size that cannot be', () => {
    fails(() => open(withQuantisation('gptq4-32', { group_size: 0 })), 'bad_model_file', /group_size/);
    fails(
      () => open(withQuantisation('gptq4-32', { group_size: 48 })),
      'bad_model_file',
      /no multiple of the group size 48|must be/,
    );
    fails(() => open(withQuantisation('gptq4-32', { group_size: 64 })), 'bad_model_file', /must be|no multiple/);
    fails(
      () => open(withQuantisation('fp8-blocks', { weight_block_size: [0, 128] })),
      'bad_model_file',
      /weight_block_size/,
    );
    fails(
      () => open(withQuantisation('fp8-blocks', { weight_block_size: [16, 16] })),
      'bad_model_file',
      /does not divide/,
    );
  });
  it('with parts of another shape or type, or without them', () => {
    for (const part of ['qweight', 'qzeros', 'scales', 'g_idx']) {
      const set = (change: Config) => () =>
        open(withTensors('gptq4-32', (e) => void Object.assign(e[`${Q}.${part}`]!, change)));
      fails(set({ dtype: part === 'scales' ? 'I16' : 'F32' }), 'bad_model_file', /must be|shape and dtype/);
      const shape = withTensors('gptq4-32', (e) => {
        e[`${Q}.${part}`]!.shape.reverse().push(1);
      });
      fails(() => open(shape), 'bad_model_file', /must be|no matrix/);
      if (part === 'g_idx') continue;
      const without = withTensors('gptq4-32', (e) => {
        delete e[`${Q}.${part}`];
      });
      fails(() => open(without), 'bad_model_file', /missing|no quantised weights beside it/);
    }
    const bare = withTensors('fp8-tensor-odd', (e) => {
      delete e[`${Q}.weight_scale_inv`];
    });
    fails(() => open(bare), 'bad_model_file', /weight_scale' is missing/);
  });
  it('with an expert that lacks a part, or is of another kind than the others', () => {
    const E = 'model.layers.0.mlp.experts.2.down_proj';
    const without = withTensors('qwen3-moe-gptq8', (e) => {
      delete e[`${E}.scales`];
    });
    fails(() => open(without), 'bad_model_file', /experts\.2\.down_proj\.scales' is missing/);
    const plain = withTensors('qwen3-moe-fp8-blocks', (e) => {
      Object.assign(e[`${E}.weight`]!, { dtype: 'BF16', shape: [160, 80] });
      delete e[`${E}.weight_scale_inv`];
    });
    fails(() => open(plain), 'bad_model_file', /is BF16 .* other experts are Q8_0/);
  });
  it('with stacked experts whose blocks and scales do not fit', () => {
    const stem = 'model.layers.0.mlp.experts.gate_up_proj';
    const change = (part: string, change: Config) => () =>
      open(withTensors('qwen3-moe-mxfp4', (e) => void Object.assign(e[`${stem}_${part}`]!, change)));
    fails(
      change('blocks', { shape: [4, 192, 1, 32] }),
      'bad_model_file',
      /it must be U8 of \(experts, outputs, blocks, 16\)/,
    );
    fails(change('scales', { shape: [4, 96, 4] }), 'bad_model_file', /it must be U8 of \(4, 192, 2\)/);
    const without = withTensors('qwen3-moe-mxfp4', (e) => {
      delete e[`${stem}_scales`];
    });
    fails(() => open(without), 'bad_model_file', /_scales' is missing/);
    const alone = withTensors('qwen3-moe-mxfp4', (e) => {
      delete e[`${stem}_blocks`];
    });
    fails(() => open(alone), 'bad_model_file', /no quantised weights beside it/);
  });
  it('with a group index or zero points that break what the config says', () => {
    const at = (part: string, value: number) =>
      withTensors('gptq4-32', (e, data) => void data.writeInt32LE(value, e[`${Q}.${part}`]!.data_offsets[0]));
    for (const g of [-1, 2, 2 ** 31 - 1])
      fails(() => load(at('g_idx', g)), 'bad_model_file', /group index is out of range/);
    fails(() => load(at('g_idx', 1)), 'bad_model_file', /not in order/);
    fails(() => load(at('qzeros', 0)), 'bad_model_file', /zero points/);
  });
});
