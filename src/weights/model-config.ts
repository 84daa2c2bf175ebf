/** What a model is, whatever its files: dimensions, flags of its family, tensors by their roles. Plain data; here from GGUF. */
import path from 'node:path';
import { errors } from '../errors.js';
import type { FamilyFlags, ModelDims, TensorInfo } from '../types.js';
import { FILE_TYPES } from './ggml-types.js';
import type { GgufFile } from './gguf.js';
import { GGUF_FAMILIES, mergeExperts, readExperts, readLayers, splitFused } from './gguf-families.js';
import { readRope } from './gguf-rope.js';
import { Keys } from './keys.js';
import type { Rope } from './rope.js';
import { biasesOf, checkTensors, neededTensors } from './shapes.js';

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
  flags: Partial<FamilyFlags>;
  /** By their roles, whatever the files call them. */
  tensors: ReadonlyMap<string, TensorInfo>;
  parameters: number;
  quantisation: Quantisation;
}

/** Tensors that a file may hold and that are used or make no difference. */
const IGNORED =
  /^(rope_freqs\.weight|rope_factors_(long|short)\.weight|blk\.\d+\.(attn_rot_embd|attn\.rotary_emb\.inv_freq|rope_freqs\.weight|rope_factors_(long|short)\.weight))$/;

/**
 * `sessionLen`: longest sequence that will be (0: the context length).
 * @throws LongmindError unsupported_architecture, unsupported_model, bad_gguf
 */
export function readModelConfig(gguf: GgufFile, sessionLen = 0): ModelConfig {
  const architecture = gguf.metadata.get('general.architecture');
  if (typeof architecture !== 'string') throw errors.badGguf(gguf.path, "metadata 'general.architecture' is missing");
  const family = Object.hasOwn(GGUF_FAMILIES, architecture) ? GGUF_FAMILIES[architecture] : undefined;
  if (!family) throw errors.unsupportedArchitecture(architecture, Object.keys(GGUF_FAMILIES));
  const keys = new Keys(gguf, architecture);
  refuseExtras(keys, architecture);
  const dims = readDims(gguf, keys);
  const tensors = family.fused ? splitFused(gguf, dims) : mergeExperts(gguf.path, gguf.tensors);
  const rope = readRope(gguf, keys, dims.headDim, {
    neox: family.neox,
    sessionLen: sessionLen || dims.contextLength,
  });
  const context = { gguf, keys, dims, rope };
  const flags = {
    ...family.flags?.(context),
    biases: biasesOf(tensors),
    perLayer: readLayers(family, context),
    experts: readExperts(family, context),
  };
  const tiedOutput = !gguf.tensors.has('output.weight');
  checkTensors(gguf.path, tensors, neededTensors(dims, tiedOutput, flags), IGNORED);
  const quantisation = summarise(gguf.tensors.values(), fileType(gguf));
  return {
    architecture,
    name: nameOf(gguf),
    dims,
    rmsEps: keys.positive('attention.layer_norm_rms_epsilon'),
    rope,
    tiedOutput,
    flags,
    tensors,
    parameters: Object.values(quantisation.byType).reduce((n, t) => n + t.parameters, 0),
    quantisation,
  };
}

function nameOf(gguf: GgufFile): string {
  const name = gguf.metadata.get('general.name');
  return typeof name === 'string' && name !== '' ? name : path.basename(gguf.path).replace(/\.gguf$/i, '');
}

/** Variations that files of this architecture may ask for and that would silently give other results. */
function refuseExtras(keys: Keys, architecture: string): void {
  const scales: [key: string, what: string][] = [
    ['logit_scale', 'scaled logits'],
    ['embedding_scale', 'scaled embeddings'],
    ['residual_scale', 'scaled residuals'],
    ['attention.scale', 'its own attention scale'],
  ];
  if (architecture.startsWith('granite')) return;
  for (const [key, what] of scales) {
    if (keys.number(key, 0) !== 0) throw errors.unsupportedModel(`it uses ${what}`);
  }
}

function readDims(gguf: GgufFile, keys: Keys): ModelDims {
  const layers = keys.integer('block_count', undefined, 1, 10_000);
  const dim = keys.integer('embedding_length');
  const heads = keys.integer('attention.head_count', undefined, 1, 65_536);
  const kvHeads = keys.integer('attention.head_count_kv', heads, 1, heads);
  if (heads % kvHeads !== 0)
    throw errors.badGguf(gguf.path, `${heads} attention heads cannot share ${kvHeads} KV heads evenly`);
  const headDim = keys.integer('attention.key_length', dim / heads, 1, 65_536);
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

const elementsOf = (t: TensorInfo): number => t.shape.reduce((a, b) => a * b, 1);

const fileType = (gguf: GgufFile): string | undefined => {
  const type = gguf.metadata.get('general.file_type');
  return typeof type === 'number' ? FILE_TYPES[type] : undefined;
};

/** `name`: what the file says of itself. */
export function summarise(tensors: Iterable<TensorInfo>, name?: string): Quantisation {
  const byType: Quantisation['byType'] = {};
  let bytes = 0;
  for (const t of tensors) {
    byType[t.type] ??= { tensors: 0, bytes: 0, parameters: 0 };
    const entry = byType[t.type]!;
    entry.tensors++;
    entry.bytes += t.byteLength;
    entry.parameters += elementsOf(t);
    bytes += t.byteLength;
  }
  const most = Object.entries(byType).sort((a, b) => b[1].bytes - a[1].bytes)[0]?.[0] ?? 'none';
  return { name: name ?? most, bytes, byType };
}

/** First tensor whose type is not in the list, by its name: for a clear refusal before anything is loaded. */
export function checkTensorTypes(gguf: GgufFile, supported: string[]): void {
  for (const t of gguf.tensors.values()) {
    if (!supported.includes(t.type)) throw errors.unsupportedTensorType(t.name, t.type, supported);
  }
}
