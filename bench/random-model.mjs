// Writes a llama GGUF of random weights in a given shape, for speed only: node bench/random-model.mjs OUT TYPE SHAPE
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

/** Shapes of published models: SmolLM2-135M, a Llama-3.2-1B with a small vocabulary, Llama-3-8B, 6 of Qwen3-30B-A3B's 48 layers; and one made at once. */
const shapes = {
  '10m': { dim: 512, layers: 3, heads: 8, kv: 4, ff: 1024, vocab: 4096, context: 4096, theta: 1e4 },
  '135m': { dim: 576, layers: 30, heads: 9, kv: 3, ff: 1536, vocab: 49152, context: 8192, theta: 1e5 },
  '8b': { dim: 4096, layers: 32, heads: 32, kv: 8, ff: 14336, vocab: 128256, context: 8192, theta: 5e5, output: true },
  '1b': { dim: 2048, layers: 16, heads: 32, kv: 8, ff: 8192, vocab: 49152, context: 16384, theta: 5e5 },
  moe: {
    dim: 2048,
    layers: 6,
    heads: 32,
    kv: 8,
    ff: 768,
    experts: 128,
    used: 8,
    vocab: 49152,
    context: 16384,
    theta: 5e5,
  },
};

/** GGML id, values a block, bytes a block, the f16 bits of a small block scale. */
const types = {
  f32: [0, 1, 4],
  f16: [1, 1, 2],
  q4_0: [2, 32, 18],
  q4_1: [3, 32, 20],
  q8_0: [8, 32, 34],
  bf16: [30, 1, 2],
};

const u32 = (v) => {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(v);
  return b;
};
const u64 = (v) => {
  const b = Buffer.alloc(8);
  b.writeBigUInt64LE(BigInt(v));
  return b;
};
const f32 = (v) => {
  const b = Buffer.alloc(4);
  b.writeFloatLE(v);
  return b;
};
const str = (s) => Buffer.concat([u64(Buffer.byteLength(s)), Buffer.from(s)]);

function metadata(shape, type) {
  const kvs = [];
  const add = (key, id, value) => kvs.push(Buffer.concat([str(key), u32(id), value]));
  const int = (key, v) => add(key, 4, u32(v));
  add('general.architecture', 8, str('llama'));
  add('general.name', 8, str('random weights'));
  int('llama.context_length', shape.context);
  int('llama.embedding_length', shape.dim);
  int('llama.block_count', shape.layers);
  int('llama.feed_forward_length', shape.ff);
  if (shape.experts) {
    int('llama.expert_count', shape.experts);
    int('llama.expert_used_count', shape.used);
  }
  int('llama.attention.head_count', shape.heads);
  int('llama.attention.head_count_kv', shape.kv);
  add('llama.attention.layer_norm_rms_epsilon', 6, f32(1e-5));
  int('llama.rope.dimension_count', shape.dim / shape.heads);
  add('llama.rope.freq_base', 6, f32(shape.theta));
  int('llama.vocab_size', shape.vocab);
  int('general.file_type', { q8_0: 7, q4_0: 2, q4_1: 3, f16: 1, bf16: 32 }[type]);
  const word = (i) =>
    ['<unk>', '<s>', '</s>'][i] ?? (i < 259 ? `<0x${(i - 3).toString(16).toUpperCase().padStart(2, '0')}>` : `▁t${i}`);
  const words = Array.from({ length: shape.vocab }, (_, i) => str(word(i)));
  add('tokenizer.ggml.model', 8, str('llama'));
  add('tokenizer.ggml.tokens', 9, Buffer.concat([u32(8), u64(shape.vocab), ...words]));
  const scores = Buffer.alloc(4 * shape.vocab);
  const kinds = Buffer.alloc(4 * shape.vocab);
  for (let i = 0; i < shape.vocab; i++) {
    scores.writeFloatLE(-i, 4 * i);
    kinds.writeInt32LE(i === 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1, 4 * i);
  }
  add('tokenizer.ggml.scores', 9, Buffer.concat([u32(6), u64(shape.vocab), scores]));
  add('tokenizer.ggml.token_type', 9, Buffer.concat([u32(5), u64(shape.vocab), kinds]));
  int('tokenizer.ggml.bos_token_id', 1);
  int('tokenizer.ggml.eos_token_id', 2);
  return kvs;
}

function tensors(shape, type) {
  const list = [];
  const head = shape.dim / shape.heads;
  const add = (name, dims, t) => list.push({ name, dims, type: t });
  // llama.cpp keeps the embedding of a Q4_0 file in more bits; so do we
  add('token_embd.weight', [shape.dim, shape.vocab], type === 'q4_0' ? 'q8_0' : type);
  if (shape.output) add('output.weight', [shape.dim, shape.vocab], type);
  add('output_norm.weight', [shape.dim], 'f32');
  for (let l = 0; l < shape.layers; l++) {
    const p = `blk.${l}.`;
    add(`${p}attn_norm.weight`, [shape.dim], 'f32');
    add(`${p}ffn_norm.weight`, [shape.dim], 'f32');
    add(`${p}attn_q.weight`, [shape.dim, shape.dim], type);
    add(`${p}attn_k.weight`, [shape.dim, shape.kv * head], type);
    add(`${p}attn_v.weight`, [shape.dim, shape.kv * head], type);
    add(`${p}attn_output.weight`, [shape.dim, shape.dim], type);
    const [end, ...more] = shape.experts ? ['_exps', shape.experts] : [''];
    // random, or all tokens would go to the same experts
    if (shape.experts) add(`${p}ffn_gate_inp.weight`, [shape.dim, shape.experts], 'f16');
    add(`${p}ffn_gate${end}.weight`, [shape.dim, shape.ff, ...more], type);
    add(`${p}ffn_up${end}.weight`, [shape.dim, shape.ff, ...more], type);
    add(`${p}ffn_down${end}.weight`, [shape.ff, shape.dim, ...more], type);
  }
  let offset = 0;
  for (const t of list) {
    const [, values, bytes] = types[t.type];
    t.size = (t.dims.reduce((a, b) => a * b, 1) / values) * bytes;
    t.offset = offset;
    offset += Math.ceil(t.size / 32) * 32;
  }
  return list;
}

let normal = null;
/** N(0, 0.02) in bf16, 16 MiB of it. */
function normalBf16(random) {
  if (normal) return normal;
  normal = Buffer.alloc(2 ** 24);
  const f = new Float32Array(1);
  const bits = new Uint32Array(f.buffer);
  const unit = () => (random() + 1) / 2 ** 32;
  for (let i = 0; i < normal.length; i += 2) {
    f[0] = 0.02 * Math.sqrt(-2 * Math.log(unit())) * Math.cos(2 * Math.PI * unit());
    normal.writeUInt16LE(bits[0] >>> 16, i);
  }
  return normal;
}

function fill(t, random) {
  const b = Buffer.alloc(Math.ceil(t.size / 32) * 32);
  if (t.type === 'f32') for (let i = 0; i < t.size; i += 4) b.writeFloatLE(1, i);
  else if (t.type === 'bf16') {
    // normal numbers over and over: gigabytes are written in seconds
    const piece = normalBf16(random);
    for (let at = 0; at < b.length; at += piece.length) piece.copy(b, at);
  } else if (t.type === 'f16') {
    for (let i = 0; i < t.size; i += 2)
      b.writeUInt16LE(((random() >>> 16) & 0x8000) | (0x2000 + ((random() >>> 20) & 0x7ff)), i);
  } else {
    const bytes = types[t.type][2];
    for (let i = 0; i < t.size; i++) b[i] = random() >>> 24;
    for (let i = 0; i < t.size; i += bytes) {
      b.writeUInt16LE(t.type === 'q8_0' ? 0x0c00 : 0x1c00, i);
      if (t.type === 'q4_1') b.writeUInt16LE(0xa400, i + 2); // minimum = about -7.5 scales
    }
  }
  return b;
}

export function writeRandomModel(out, type, shapeName) {
  const shape = shapes[shapeName];
  if (!shape || !types[type])
    throw new Error(`TYPE is one of ${Object.keys(types)}, SHAPE one of ${Object.keys(shapes)}`);
  const kvs = metadata(shape, type);
  const list = tensors(shape, type);
  const infos = list.map((t) =>
    Buffer.concat([str(t.name), u32(t.dims.length), ...t.dims.map(u64), u32(types[t.type][0]), u64(t.offset)]),
  );
  let head = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(list.length), u64(kvs.length), ...kvs, ...infos]);
  head = Buffer.concat([head, Buffer.alloc((32 - (head.length % 32)) % 32)]);
  let seed = 12345;
  const random = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed;
  };
  fs.mkdirSync(path.dirname(out), { recursive: true });
  const fd = fs.openSync(`${out}.part`, 'w');
  fs.writeSync(fd, head);
  for (const t of list) fs.writeSync(fd, fill(t, random));
  fs.closeSync(fd);
  fs.renameSync(`${out}.part`, out);
  return out;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [, , out, type = 'q8_0', shape = '135m'] = process.argv;
  if (!out) {
    console.error('usage: node bench/random-model.mjs OUT q8_0|q4_0|q4_1|f16|bf16 135m|1b|8b|moe');
    process.exit(2);
  }
  console.log(writeRandomModel(out, type, shape), fs.statSync(out).size);
}
