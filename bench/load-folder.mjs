/**
 * How long loading a folder takes beside reading its files: `node bench/load-folder.mjs [FOLDER] [--rounds 5] [--threads N]
 * [--weights file|q8|q4] [--cold] [--form bf16|awq|gptq] [--json]`. Without a folder: a random one of a 1 B shape in BF16, or in
 * the 4 bits of a quantised checkpoint (groups of 128, asymmetric), made and taken away again.
 *
 * In turns: `memory`, one thread reads the files into memory that it keeps (what any loader does at least); `buffer`, into the
 * same 4 MiB again and again (nothing is kept); `load`, the device loads the model. Pages are warm, or with --cold dropped from
 * the system's cache before each (as root). Medians.
 */
import '../dist/bench/plain-errors.js';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createCpuDevice } from '../dist/src/device/cpu/index.js';
import { llama } from '../dist/src/model/llama.js';
import { openModel } from '../dist/src/weights/index.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string' },
    weights: { type: 'string', default: 'file' },
    cold: { type: 'boolean', default: false },
    form: { type: 'string', default: 'bf16' },
    json: { type: 'boolean', default: false },
  },
});

const GROUP = 128;
/** What a matrix is stored as: name, dtype and shape of its parts. */
const FORMS = {
  bf16: (name, shape) => [[`${name}.weight`, 'BF16', shape]],
  awq: (name, [out, inputs]) => [
    [`${name}.qweight`, 'I32', [inputs, out / 8]],
    [`${name}.qzeros`, 'I32', [inputs / GROUP, out / 8]],
    [`${name}.scales`, 'F16', [inputs / GROUP, out]],
  ],
  gptq: (name, [out, inputs]) => [
    [`${name}.qweight`, 'I32', [inputs / 8, out]],
    [`${name}.qzeros`, 'I32', [inputs / GROUP, out / 8]],
    [`${name}.scales`, 'F16', [inputs / GROUP, out]],
  ],
};
const QUANTISATION = {
  awq: { quant_method: 'awq', bits: 4, group_size: GROUP, zero_point: true, version: 'gemm' },
  gptq: { quant_method: 'gptq', bits: 4, group_size: GROUP, sym: false, desc_act: false },
};
if (!Object.hasOwn(FORMS, values.form)) throw new TypeError(`--form is one of ${Object.keys(FORMS).join(', ')}`);

/** A Llama of 1.1 B parameters whose values are random bits, but for exponents that none may have. */
function writeRandomFolder(folder) {
  const [dim, layers, kv, ff, vocab] = [2048, 16, 512, 8192, 49152];
  const shapes = { 'model.embed_tokens': [vocab, dim], 'model.norm': [dim] };
  for (let i = 0; i < layers; i++)
    for (const [name, shape] of Object.entries({
      'self_attn.q_proj': [dim, dim],
      'self_attn.k_proj': [kv, dim],
      'self_attn.v_proj': [kv, dim],
      'self_attn.o_proj': [dim, dim],
      'mlp.gate_proj': [ff, dim],
      'mlp.up_proj': [ff, dim],
      'mlp.down_proj': [dim, ff],
      input_layernorm: [dim],
      post_attention_layernorm: [dim],
    }))
      shapes[`model.layers.${i}.${name}`] = shape;
  let at = 0;
  const header = {};
  for (const [module, shape] of Object.entries(shapes)) {
    const form = shape.length === 2 && module.includes('layers') ? values.form : 'bf16';
    for (const [name, dtype, stored] of FORMS[form](module, shape)) {
      const end = at + (dtype === 'I32' ? 4 : 2) * stored.reduce((a, b) => a * b, 1);
      header[name] = { dtype, shape: stored, data_offsets: [at, end] };
      at = end;
    }
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const bits = new Uint16Array(2 ** 22);
  let state = 1;
  for (let i = 0; i < bits.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bits[i] = (state >>> 16) & 0xbfff;
  }
  const fd = fs.openSync(path.join(folder, 'model.safetensors'), 'w');
  fs.writeSync(fd, Buffer.concat([length, text]));
  for (let left = at; left > 0; left -= 2 ** 23)
    fs.writeSync(fd, new Uint8Array(bits.buffer), 0, Math.min(left, 2 ** 23));
  // pages that wait to be written are not dropped
  fs.fsyncSync(fd);
  fs.closeSync(fd);
  const config = {
    model_type: 'llama',
    hidden_size: dim,
    num_hidden_layers: layers,
    intermediate_size: ff,
    vocab_size: vocab,
  };
  const heads = { num_attention_heads: 32, num_key_value_heads: 8, max_position_embeddings: 16384, hidden_act: 'silu' };
  const tokenizer = { model: { type: 'BPE', vocab: { a: 0 }, merges: [] } };
  fs.writeFileSync(path.join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  fs.writeFileSync(
    path.join(folder, 'config.json'),
    JSON.stringify({
      ...{ ...config, ...heads, tie_word_embeddings: true },
      ...(values.form !== 'bf16' && { quantization_config: QUANTISATION[values.form] }),
    }),
  );
}

function dropCaches() {
  if (values.cold) fs.writeFileSync('/proc/sys/vm/drop_caches', '3');
}

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc');

/** ms by the clock and of processors (all threads, user and system). */
function timed(work) {
  // the memory of the round before is given back: the next one gets the same pages
  gc();
  dropCaches();
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  work();
  const { user, system } = process.cpuUsage(cpu);
  return { ms: performance.now() - start, cpu: (user + system) / 1000 };
}

/** Reads the files into `bytes`, which is as long as all of them or a buffer that is used again. */
function read(files, bytes, keep) {
  const into = Buffer.from(new ArrayBuffer(bytes));
  let at = 0;
  for (const file of files) {
    const fd = fs.openSync(file, 'r');
    for (let n = 1; n > 0; at += keep ? n : 0) n = fs.readSync(fd, into, at, Math.min(64 * 2 ** 20, bytes - at));
    fs.closeSync(fd);
  }
}

/** Opens the model and loads it to where it could compute; returns what closes it. */
function load(model) {
  const { config, source } = openModel(model, { sessionLen: 512, weights: values.weights });
  const { dims, rmsEps, rope, tiedOutput, flags } = config;
  const device = createCpuDevice(values.threads ? { threads: Number(values.threads) } : {});
  const limits = { maxTokens: 16, maxRows: 1, maxBlocksPerRow: 8, maxLogits: 1, vocab: dims.vocab };
  const kv = { layers: dims.layers, kvHeads: dims.kvHeads, headDim: dims.headDim, blockLen: 64, bits: 16 };
  device.load(llama({ ...dims, rmsEps, rope, tiedOutput, flags }), source, { limits, kv, maxBlocks: 8 });
  const files = new Set([...source.tensors.values()].map((t) => t.file ?? source.path));
  return { files: [...files], close: () => device.close() };
}

const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
const medians = (runs) => ({ ms: median(runs.map((r) => r.ms)), cpu: median(runs.map((r) => r.cpu)) });

function measure(model) {
  const { files, close } = load(model);
  close();
  const bytes = files.reduce((sum, f) => sum + fs.statSync(f).size, 0);
  const runs = { memory: [], buffer: [], load: [] };
  for (let i = 0; i < Number(values.rounds); i++) {
    runs.memory.push(timed(() => read(files, bytes, true)));
    runs.buffer.push(timed(() => read(files, 4 * 2 ** 20, false)));
    let loaded;
    runs.load.push(timed(() => (loaded = load(model))));
    loaded.close();
  }
  const [memory, buffer, loaded] = [runs.memory, runs.buffer, runs.load].map(medians);
  const { weights, cold, form } = values;
  const ratios = { toMemory: loaded.ms / memory.ms, toBuffer: loaded.ms / buffer.ms };
  return { model: path.basename(model), bytes, form, weights, cold, memory, buffer, load: loaded, ...ratios, runs };
}

function print(r) {
  const row = (...cells) =>
    console.log(
      `| ${cells[0].padEnd(21)} |${cells
        .slice(1)
        .map((c) => ` ${c.padStart(9)} |`)
        .join('')}`,
    );
  const times = (name, t, ratio) =>
    row(name, t.ms.toFixed(0), t.cpu.toFixed(0), (r.bytes / t.ms / 1e6).toFixed(2), ratio?.toFixed(2) ?? '');
  console.log(`${(r.bytes / 1e6).toFixed(0)} MB, ${r.cold ? 'cold' : 'warm'}, medians of ${r.runs.load.length}`);
  row('', 'ms', 'cpu ms', 'GB/s', 'load ÷ it');
  times('read, kept in memory', r.memory, r.toMemory);
  times('read through a buffer', r.buffer, r.toBuffer);
  times(`load (${r.weights})`, r.load);
}

const made = positionals[0] ? null : fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-load-'));
try {
  if (made) writeRandomFolder(made);
  const report = measure(positionals[0] ?? made);
  if (values.json) console.log(JSON.stringify(report));
  else print(report);
} finally {
  if (made) fs.rmSync(made, { recursive: true });
}
