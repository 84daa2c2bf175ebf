/** Folders that are not what they seem: each a typed error that names what is wrong, before anything is loaded. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { createCpuDevice } from '../../src/device/cpu/index.js';
import { llama } from '../../src/model/llama.js';
import { createChatTemplate } from '../../src/tokenizer/chat-template.js';
import { createTokenizer } from '../../src/tokenizer/index.js';
import { openModel } from '../../src/weights/index.js';
import { fails } from '../support/fails.js';
import { readFixture, temporaryFolder, withHeader, writeFolder } from './tiny.js';

const single = readFixture('llama');
const sharded = readFixture('qwen3');
const open = (folder: string) => openModel(folder, { sessionLen: 0, weights: 'file' });

type Entry = { dtype: unknown; shape: unknown; data_offsets: unknown };

/** The folder with another header in its only file. */
function withEntries(change: (entries: Record<string, Entry>) => void): string {
  const folder = writeFolder(single);
  const file = path.join(folder, 'model.safetensors');
  const bytes = fs.readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const entries = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as Record<string, Entry>;
  change(entries);
  fs.writeFileSync(file, withHeader(JSON.stringify(entries), [bytes.subarray(8 + length)]));
  return folder;
}

function withConfig(change: Record<string, unknown>): string {
  const folder = writeFolder(single);
  fs.writeFileSync(path.join(folder, 'config.json'), JSON.stringify({ ...single.config, ...change }));
  return folder;
}

const NAME = 'model.layers.0.mlp.up_proj.weight';

describe('safetensors', () => {
  const offsets = (value: unknown) => () =>
    open(
      withEntries((e) => {
        e[NAME]!.data_offsets = value;
      }),
    );
  it('that is truncated', () => {
    const folder = writeFolder(single);
    const file = path.join(folder, 'model.safetensors');
    for (const [size, message] of [
      [5, /too few for a header/],
      [100, /header claims/],
      [fs.statSync(file).size - 1, /truncated\?/],
    ] as const) {
      fs.truncateSync(file, size);
      if (size > 100) fails(() => open(folder), 'bad_model_file', message);
      writeFolder(single, folder);
      fs.truncateSync(file, size);
      fails(() => open(folder), 'bad_model_file', message);
      writeFolder(single, folder);
    }
  });
  it('whose header claims more than there is', () => {
    const folder = writeFolder(single);
    fs.writeFileSync(path.join(folder, 'model.safetensors'), Buffer.alloc(64, 0xff));
    fails(() => open(folder), 'bad_model_file', /header claims 18446744073709551615 bytes/);
  });
  it('with offsets that cannot be', () => {
    fails(offsets([0, 2 ** 50]), 'bad_model_file', /its shape and dtype need/);
    fails(offsets([2 ** 50, 2 ** 50 + 12_288]), 'bad_model_file', /but the file has/);
    fails(offsets([-4, 12_284]), 'bad_model_file', /no data_offsets/);
    fails(offsets([0.5, 12_288.5]), 'bad_model_file', /no data_offsets/);
    fails(offsets(null), 'bad_model_file', /no data_offsets/);
  });
  it('with tensors that overlap', () =>
    fails(
      () =>
        open(
          withEntries((e) => {
            e[NAME]!.data_offsets = e['model.layers.0.mlp.gate_proj.weight']!.data_offsets;
          }),
        ),
      'bad_model_file',
      /overlap at byte/,
    ));
  it('with shapes and types that cannot be', () => {
    const set = (change: Partial<Entry>) => () => open(withEntries((e) => void Object.assign(e[NAME]!, change)));
    fails(set({ shape: [2 ** 40, 2 ** 40] }), 'bad_model_file', /its shape and dtype need/);
    fails(set({ shape: [0, 4] }), 'bad_model_file', /impossible shape/);
    fails(set({ shape: 'x' }), 'bad_model_file', /impossible shape/);
    fails(set({ dtype: 'Q9' }), 'bad_model_file', /which is not known/);
    fails(set({ shape: [64, 96] }), 'bad_model_file', /has shape \(96, 64\), the model needs \(64, 96\)/);
  });
  it('with weights that are no floats', () => {
    const { config, source } = open(withEntries((e) => void Object.assign(e[NAME]!, { dtype: 'I16' })));
    const { dims, rmsEps, rope, tiedOutput, flags } = config;
    const device = createCpuDevice({ threads: 1 });
    const program = llama({ ...dims, rmsEps, rope, tiedOutput, flags });
    fails(() => device.weightBytes(program, source), 'unsupported_tensor_type', /has type I16/);
    device.close();
  });
  it('with weights in 8 bits whose scales nothing names', () => {
    for (const dtype of ['F8_E4M3', 'F8_E5M2', 'I8', 'U8', 'BOOL']) {
      const folder = withEntries((e) => {
        const [from] = e[NAME]!.data_offsets as [number, number];
        e[NAME] = { dtype, shape: [96, 64], data_offsets: [from, from + 96 * 64] };
      });
      const { config, source } = open(folder);
      const { dims, rmsEps, rope, tiedOutput, flags } = config;
      const device = createCpuDevice({ threads: 1 });
      const program = llama({ ...dims, rmsEps, rope, tiedOutput, flags });
      fails(() => device.weightBytes(program, source), 'unsupported_tensor_type', new RegExp(`has type ${dtype}`));
      device.close();
    }
  });
  it('with a tensor that the architecture does not have, or without one', () => {
    const strange = withEntries((e) => {
      e['model.layers.0.secret.weight'] = e[NAME]!;
      delete e[NAME];
    });
    fails(() => open(strange), 'bad_model_file', /'blk.0.ffn_up.weight' is missing/);
    const more = withEntries((e) => {
      const at = e['model.norm.weight']!.data_offsets;
      e.extra = { dtype: 'F32', shape: [1], data_offsets: [(at as number[])[1], (at as number[])[1]! + 4] };
      e['lm_head.weight']!.dtype = 'BF16';
    });
    fails(() => open(more), 'bad_model_file', /overlap|truncated/);
  });
});

describe('an index', () => {
  const withIndex = (change: (map: Record<string, unknown>) => void): string => {
    const folder = writeFolder(sharded);
    const file = path.join(folder, 'model.safetensors.index.json');
    const index = JSON.parse(fs.readFileSync(file, 'utf8')) as { weight_map: Record<string, unknown> };
    change(index.weight_map);
    fs.writeFileSync(file, JSON.stringify(index));
    return folder;
  };
  it('that leads out of the folder', () => {
    for (const name of ['../evil.safetensors', '/etc/passwd', 'a/b.safetensors', '.safetensors', 'x.bin', 7, null])
      fails(() => open(withIndex((m) => (m['model.norm.weight'] = name))), 'bad_model_file', /no name of a file/);
  });
  it('that names a file that is not there, or another tensor than is in it', () => {
    fails(() => open(withIndex((m) => (m['model.norm.weight'] = 'gone.safetensors'))), 'file_missing', /gone/);
    fails(
      () => open(withIndex((m) => (m.invented = m['model.norm.weight']))),
      'bad_model_file',
      /'invented' is not in 'model-/,
    );
  });
});

describe('a folder', () => {
  it('with its weights pickled only, or with an adapter', () => {
    const folder = writeFolder(single);
    fs.renameSync(path.join(folder, 'model.safetensors'), path.join(folder, 'pytorch_model.bin'));
    fails(() => open(folder), 'unsupported_model', /runs code when it is read/);
    fs.writeFileSync(path.join(folder, 'adapter_config.json'), '{}');
    fails(() => open(folder), 'unsupported_model', /LoRA adapter/);
  });
  it('with code of its own: known architectures are read without it, others refused', () => {
    assert.equal(open(withConfig({ auto_map: { AutoModel: 'evil.Model' } })).config.architecture, 'llama');
    fails(
      () => open(withConfig({ model_type: 'evil', auto_map: { AutoModel: 'evil.Model' } })),
      'unsupported_architecture',
      /'evil'/,
    );
    fails(() => open(withConfig({ model_type: 'constructor' })), 'unsupported_architecture', /'constructor'/);
  });
  it('of quantised weights, or another activation', () => {
    fails(() => open(withConfig({ quantization_config: { quant_method: 'hqq' } })), 'unsupported_model', /'hqq'/);
    fails(() => open(withConfig({ hidden_act: 'relu2' })), 'unsupported_model', /'relu2'/);
  });
  it('with numbers that cannot be', () => {
    for (const [name, value] of [
      ['num_hidden_layers', 1e9],
      ['num_attention_heads', 0],
      ['num_key_value_heads', 3],
      ['head_dim', 2 ** 31],
      ['hidden_size', '64'],
      ['max_position_embeddings', -1],
      ['rms_norm_eps', 0],
      ['rope_parameters', []],
    ] as const)
      fails(
        () => open(withConfig({ [name]: value })),
        'bad_model_file',
        new RegExp(name === 'num_key_value_heads' ? 'evenly' : name),
      );
  });
  it('whose files are pipes, folders, or links in a circle', () => {
    const folder = writeFolder(single);
    const config = path.join(folder, 'config.json');
    fs.rmSync(config);
    assert.equal(spawnSync('mkfifo', [config]).status, 0);
    fails(() => open(folder), 'bad_model_file', /is not a file/);
    fs.rmSync(config);
    fs.mkdirSync(config);
    fails(() => open(folder), 'bad_model_file', /is not a file/);
    fs.rmdirSync(config);
    fs.symlinkSync(config, config);
    fails(() => open(folder), 'io_error', /config.json/);
    fails(() => open(temporaryFolder()), 'bad_model_file', /holds no model/);
  });
  it('whose weights are links: to a device, to nothing, in a circle; those of a cache are followed', () => {
    for (const [f, name] of [
      [single, 'model.safetensors'],
      [sharded, 'model-00002-of-00002.safetensors'],
    ] as const) {
      const folder = writeFolder(f);
      const file = path.join(folder, name);
      const blob = path.join(temporaryFolder(), 'blob');
      fs.renameSync(file, blob);
      const linked = (target: string) => () => {
        fs.rmSync(file, { force: true });
        fs.symlinkSync(target, file);
        return open(folder);
      };
      fails(linked('/dev/zero'), 'bad_model_file', /is not a file/);
      fails(linked(os.tmpdir()), 'bad_model_file', /is not a file/);
      fails(linked('gone'), 'file_missing', /safetensors/);
      fails(linked(name), 'io_error', /safetensors/);
      assert.equal(linked(blob)().config.architecture, f.config.model_type);
    }
  });
  it('whose JSON files end too early', () => {
    for (const name of [
      'config.json',
      'model.safetensors.index.json',
      'tokenizer_config.json',
      'generation_config.json',
    ]) {
      const folder = writeFolder(sharded);
      const file = path.join(folder, name);
      if (!fs.existsSync(file)) fs.writeFileSync(file, JSON.stringify({ eos_token: '</s>' }));
      open(folder);
      fs.truncateSync(file, fs.statSync(file).size - 1);
      fails(() => open(folder), 'bad_model_file', /is not valid JSON/);
    }
    const folder = writeFolder(sharded);
    fs.truncateSync(path.join(folder, 'tokenizer.json'), 1000);
    fails(() => createTokenizer(open(folder).metadata), 'bad_tokenizer', /is not valid JSON/);
  });
  it('whose chat template loops', () => {
    const folder = writeFolder(single);
    const loops = '{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}';
    fs.writeFileSync(path.join(folder, 'chat_template.jinja'), loops);
    const { metadata } = open(folder);
    const template = createChatTemplate(metadata, createTokenizer(metadata));
    fails(() => template.apply([{ role: 'user', content: 'x' }]), 'bad_chat_template', /goes on and on/);
  });
});
