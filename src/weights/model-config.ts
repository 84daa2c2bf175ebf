/** What a model is, read from its GGUF file and checked against its tensors. Plain data. */
import path from 'node:path';
import { errors } from '../errors.js';
import type { ModelDims, TensorInfo } from '../types.js';
import { FILE_TYPES } from './ggml-types.js';
import type { GgufFile } from './gguf.js';
import { Keys } from './keys.js';
import { type Rope, readRope } from './rope.js';

export interface Quantisation {
  /** 'Q4_1', 'Q4_K_M' … as the file says, else the type that holds most bytes. */
  name: string;
  /** Bytes of all tensors. */
  bytes: number;
  byType: Record<string, { tensors: number; bytes: number; parameters: number }>;
}

export interface ModelConfig {
  architecture: string;
  name: string;
  dims: ModelDims;
  rmsEps: number;
  rope: Rope;
  /** The output matrix is the embedding matrix. */
  tiedOutput: boolean;
  parameters: number;
  quantisation: Quantisation;
}

const SUPPORTED_ARCHITECTURES = ['llama'];

/** Tensors that a llama file may hold and that are used or make no difference. */
const IGNORED = /^(rope_freqs\.weight|blk\.\d+\.(attn_rot_embd|attn\.rotary_emb\.inv_freq))$/;

/** @throws LongmindError unsupported_architecture, unsupported_model, bad_gguf */
export function readModelConfig(gguf: GgufFile): ModelConfig {
  const architecture = gguf.metadata.get('general.architecture');
  if (typeof architecture !== 'string') throw errors.badGguf(gguf.path, "metadata 'general.architecture' is missing");
  if (!SUPPORTED_ARCHITECTURES.includes(architecture))
    throw errors.unsupportedArchitecture(architecture, SUPPORTED_ARCHITECTURES);
  const keys = new Keys(gguf, architecture);
  refuseExtras(keys);
  const dims = readDims(gguf, keys);
  const tiedOutput = !gguf.tensors.has('output.weight');
  checkTensors(gguf, dims, tiedOutput);
  const quantisation = summarise(gguf);
  return {
    architecture,
    name: nameOf(gguf),
    dims,
    rmsEps: keys.positive('attention.layer_norm_rms_epsilon'),
    rope: readRope(gguf, keys, dims.headDim),
    tiedOutput,
    parameters: Object.values(quantisation.byType).reduce((n, t) => n + t.parameters, 0),
    quantisation,
  };
}

function nameOf(gguf: GgufFile): string {
  const name = gguf.metadata.get('general.name');
  return typeof name === 'string' && name !== '' ? name : path.basename(gguf.path).replace(/\.gguf$/i, '');
}

/** Variations that files of this architecture may ask for and that would silently give other results. */
function refuseExtras(keys: Keys): void {
  const off: [key: string, what: string][] = [
    ['expert_count', 'mixture of experts'],
    ['logit_scale', 'scaled logits'],
    ['embedding_scale', 'scaled embeddings'],
    ['residual_scale', 'scaled residuals'],
    ['attention.scale', 'its own attention scale'],
  ];
  for (const [key, what] of off) {
    if (keys.number(key, 0) !== 0) throw errors.unsupportedModel(`it uses ${what}`);
  }
  const window = keys.number('attention.sliding_window', 0);
  if (window !== 0 && window < keys.integer('context_length', 2048))
    throw errors.unsupportedModel(`it uses sliding-window attention over ${window} tokens`);
}

function readDims(gguf: GgufFile, keys: Keys): ModelDims {
  const layers = keys.integer('block_count', undefined, 1, 10_000);
  const dim = keys.integer('embedding_length');
  const heads = keys.integer('attention.head_count', undefined, 1, 65_536);
  const kvHeads = keys.integer('attention.head_count_kv', heads, 1, heads);
  if (heads % kvHeads !== 0)
    throw errors.badGguf(gguf.path, `${heads} attention heads cannot share ${kvHeads} KV heads evenly`);
  const headDim = keys.integer('attention.key_length', dim / heads);
  if (keys.integer('attention.value_length', headDim) !== headDim)
    throw errors.unsupportedModel('its keys and values have different lengths');
  const embedding = gguf.tensors.get('token_embd.weight');
  if (!embedding) throw errors.badGguf(gguf.path, "tensor 'token_embd.weight' is missing");
  return {
    layers,
    dim,
    heads,
    kvHeads,
    headDim,
    ffDim: keys.integer('feed_forward_length'),
    vocab: embedding.shape[1] ?? 1,
    contextLength: keys.integer('context_length', 2048),
  };
}

/** Every tensor of the program is there in its shape, and none that the program would leave out. */
function checkTensors(gguf: GgufFile, d: ModelDims, tiedOutput: boolean): void {
  const q = d.heads * d.headDim;
  const kv = d.kvHeads * d.headDim;
  const wanted = new Map<string, number[]>([
    ['token_embd.weight', [d.dim, d.vocab]],
    ['output_norm.weight', [d.dim]],
  ]);
  if (!tiedOutput) wanted.set('output.weight', [d.dim, d.vocab]);
  for (let layer = 0; layer < d.layers; layer++) {
    const add = (name: string, shape: number[]) => wanted.set(`blk.${layer}.${name}.weight`, shape);
    add('attn_norm', [d.dim]);
    add('attn_q', [d.dim, q]);
    add('attn_k', [d.dim, kv]);
    add('attn_v', [d.dim, kv]);
    add('attn_output', [q, d.dim]);
    add('ffn_norm', [d.dim]);
    add('ffn_gate', [d.dim, d.ffDim]);
    add('ffn_up', [d.dim, d.ffDim]);
    add('ffn_down', [d.ffDim, d.dim]);
  }
  for (const [name, shape] of wanted) checkShape(gguf, name, shape);
  for (const name of gguf.tensors.keys()) {
    if (!wanted.has(name) && !IGNORED.test(name))
      throw errors.unsupportedModel(`its tensor '${name}' is not part of the architecture as it is computed here`);
  }
}

function checkShape(gguf: GgufFile, name: string, shape: number[]): void {
  const tensor = gguf.tensors.get(name);
  if (!tensor) throw errors.badGguf(gguf.path, `tensor '${name}' is missing`);
  const same = tensor.shape.every((n, i) => n === (shape[i] ?? 1)) && tensor.shape.length >= shape.length;
  if (!same) {
    const have = tensor.shape.join(', ');
    throw errors.badGguf(gguf.path, `tensor '${name}' has shape (${have}), the model needs (${shape.join(', ')})`);
  }
}

const elementsOf = (t: TensorInfo): number => t.shape.reduce((a, b) => a * b, 1);

function summarise(gguf: GgufFile): Quantisation {
  const byType: Quantisation['byType'] = {};
  let bytes = 0;
  for (const t of gguf.tensors.values()) {
    byType[t.type] ??= { tensors: 0, bytes: 0, parameters: 0 };
    const entry = byType[t.type]!;
    entry.tensors++;
    entry.bytes += t.byteLength;
    entry.parameters += elementsOf(t);
    bytes += t.byteLength;
  }
  const fileType = gguf.metadata.get('general.file_type');
  const most = Object.entries(byType).sort((a, b) => b[1].bytes - a[1].bytes)[0]?.[0] ?? 'none';
  return { name: (typeof fileType === 'number' ? FILE_TYPES[fileType] : undefined) ?? most, bytes, byType };
}

/** First tensor whose type is not in the list, by its name: for a clear refusal before anything is loaded. */
export function checkTensorTypes(gguf: GgufFile, supported: string[]): void {
  for (const t of gguf.tensors.values()) {
    if (!supported.includes(t.type)) throw errors.unsupportedTensorType(t.name, t.type, supported);
  }
}
