/** What each architecture of GGUF files does otherwise than LLaMA (llama.cpp, `llama-arch` and `llama-model`). */
import { errors } from '../errors.js';
import type { ExpertFlags, FamilyFlags, LayerFlags, ModelDims, TensorInfo } from '../types.js';
import { type ExpertRole, ExpertTensors } from './experts.js';
import type { GgufFile } from './gguf.js';
import type { Keys } from './keys.js';
import { makeRope, type Rope } from './rope.js';
import { rowsOf } from './shapes.js';

export interface GgufContext {
  gguf: GgufFile;
  keys: Keys;
  dims: ModelDims;
  rope: Rope;
}

export interface GgufFamily {
  neox: boolean;
  flags?: (c: GgufContext) => Partial<FamilyFlags>;
  /** Layers whose attention has a window, where the file gives one; left out: a window is refused. */
  windowed?: (layer: number, c: GgufContext) => boolean;
  /** Rope of a layer, where it is not the model's. */
  ropeOf?: (layer: number, c: GgufContext) => Rope | null;
  /** q, k, v lie in one tensor, gate and up in another. */
  fused?: boolean;
  /** It may have experts; with `must` a file that has none is refused. `normalise`: see ExpertFlags. */
  experts?: { normalise: boolean; must: boolean };
}

const everyLayer = () => true;

const gemma = ({ dims }: GgufContext): Partial<FamilyFlags> => ({
  activation: 'geluTanh',
  embeddingScale: Math.sqrt(dims.dim),
});

/** The largest of Gemma 2 (46 layers) and of Gemma 3 (62) scale scores by the width of the model over its heads. */
const gemmaScale = ({ dims }: GgufContext): number =>
  dims.layers === 46 || dims.layers === 62 ? 1 / Math.sqrt(dims.dim / dims.heads) : 1 / Math.sqrt(dims.headDim);

const graniteScales = ({ keys }: GgufContext): Partial<FamilyFlags> => ({
  embeddingScale: keys.positive('embedding_scale', 1),
  residualScale: keys.positive('residual_scale', 1),
  logitScale: 1 / keys.positive('logit_scale', 1),
  attentionScale: keys.number('attention.scale', 0),
});

export const GGUF_FAMILIES: Readonly<Record<string, GgufFamily>> = {
  // Mixtral is a LLaMA with experts
  llama: { neox: false, windowed: everyLayer, experts: { normalise: true, must: false } },
  qwen2: { neox: true },
  qwen3: { neox: true, flags: () => ({ qkNorm: 'head' }) },
  qwen2moe: { neox: true, experts: { normalise: false, must: true } },
  qwen3moe: { neox: true, flags: () => ({ qkNorm: 'head' }), experts: { normalise: true, must: true } },
  olmoe: { neox: true, flags: () => ({ qkNorm: 'all' }), experts: { normalise: false, must: true } },
  internlm2: { neox: false },
  phi3: { neox: true, windowed: everyLayer, fused: true },
  olmo2: { neox: true, flags: () => ({ norms: 'post', qkNorm: 'all' }) },
  smollm3: { neox: false, ropeOf: (layer, { rope }) => ((layer + 1) % 4 === 0 ? null : rope) },
  granite: { neox: false, flags: graniteScales },
  granitemoe: { neox: false, flags: graniteScales, experts: { normalise: true, must: true } },
  gemma: { neox: true, flags: gemma },
  gemma2: {
    neox: true,
    flags: (c) => ({
      ...gemma(c),
      norms: 'both',
      attentionScale: gemmaScale(c),
      attentionSoftcap: c.keys.number('attn_logit_softcapping', 50),
      logitSoftcap: c.keys.number('final_logit_softcapping', 30),
    }),
    windowed: (layer) => layer % 2 === 0,
  },
  gemma3: {
    neox: true,
    flags: (c) => ({
      ...gemma(c),
      norms: 'both',
      qkNorm: 'head',
      attentionScale: gemmaScale(c),
      logitSoftcap: c.keys.number('final_logit_softcapping', 0),
    }),
    windowed: isLocal,
    ropeOf: (layer, c) => (isLocal(layer) ? localRope(c) : c.rope),
  },
};

/** Gemma 3: five layers with a window and positions of their own, then one without. */
function isLocal(layer: number): boolean {
  return layer % 6 < 5;
}
const locals = new WeakMap<GgufContext, Rope>();
function localRope(c: GgufContext): Rope {
  const made = locals.get(c) ?? makeRope(c.rope.dims, c.keys.positive('rope.freq_base_swa', 10_000), true);
  locals.set(c, made);
  return made;
}

/** Flags of the layers; empty where all are alike and without a window. */
export function readLayers(family: GgufFamily, c: GgufContext): LayerFlags[] {
  const { keys, dims } = c;
  const given = keys.number('attention.sliding_window', 0);
  const window = given > 0 && given < dims.contextLength ? given : 0;
  if (window > 0 && !family.windowed)
    throw errors.unsupportedModel(`it uses sliding-window attention over ${window} tokens`);
  if (window === 0 && !family.ropeOf) return [];
  return Array.from({ length: dims.layers }, (_, layer) => ({
    rope: family.ropeOf ? family.ropeOf(layer, c) : c.rope,
    window: family.windowed?.(layer, c) ? window : 0,
  }));
}

/** llama.cpp's `gating_func` for a softmax. */
const SOFTMAX = 1;

/** Experts as the file's keys have them; null: none. @throws bad_gguf, unsupported_model */
export function readExperts(family: GgufFamily, { gguf, keys, dims }: GgufContext): ExpertFlags | null {
  const rules = family.experts;
  if (!rules && keys.number('expert_count', 0) !== 0) throw errors.unsupportedModel('it uses mixture of experts');
  if (!rules || (!rules.must && keys.number('expert_count', 0) === 0)) return null;
  const count = keys.integer('expert_count', undefined, 1, 65_536);
  if (keys.number('expert_gating_func', SOFTMAX) !== SOFTMAX || keys.number('expert_group_count', 1) > 1)
    throw errors.unsupportedModel('its router is not a softmax over all experts');
  if (keys.number('leading_dense_block_count', 0) !== 0)
    throw errors.unsupportedModel('its first layers have no experts');
  const gated = gguf.tensors.has('blk.0.ffn_gate_inp_shexp.weight');
  const shared = gated || gguf.tensors.has('blk.0.ffn_gate_shexp.weight');
  return {
    count,
    used: keys.integer('expert_used_count', undefined, 1, count),
    width: keys.integer('expert_feed_forward_length', dims.ffDim),
    normalise: rules.normalise,
    scale: keys.number('expert_weights_scale', 0) || 1,
    sharedWidth: shared ? keys.integer('expert_shared_feed_forward_length', dims.ffDim) : 0,
    sharedGate: gated,
    denseLayers: [],
  };
}

const ONE_EXPERT = /^blk\.(\d+)\.(ffn_gate|ffn_up|ffn_down)\.(\d+)\.weight$/;

/** The first files of Mixtral have a tensor for each expert. */
export function mergeExperts(path: string, tensors: ReadonlyMap<string, TensorInfo>): Map<string, TensorInfo> {
  const experts = new ExpertTensors();
  const out = new Map<string, TensorInfo>();
  for (const [name, t] of tensors) {
    const [, layer, role, expert] = ONE_EXPERT.exec(name) ?? [];
    if (layer === undefined) out.set(name, t);
    else experts.add(layer, role as ExpertRole, expert!, t);
  }
  for (const [role, t] of experts.merged(path)) out.set(role, t);
  return out;
}

/** Tensors by their roles: those that hold several matrices are taken apart. */
export function splitFused(gguf: GgufFile, dims: ModelDims): Map<string, TensorInfo> {
  const out = new Map<string, TensorInfo>();
  const q = dims.heads * dims.headDim;
  const kv = dims.kvHeads * dims.headDim;
  for (const [name, t] of gguf.tensors) {
    const m = /^(blk\.\d+\.)(attn_qkv|ffn_up)\.(weight|bias)$/.exec(name);
    if (!m) {
      out.set(name, t);
      continue;
    }
    const [, layer, what, end] = m;
    const parts: [string, number][] =
      what === 'attn_qkv'
        ? [
            ['attn_q', q],
            ['attn_k', kv],
            ['attn_v', kv],
          ]
        : [
            ['ffn_gate', dims.ffDim],
            ['ffn_up', dims.ffDim],
          ];
    const rows = t.shape[t.shape.length === 1 ? 0 : 1];
    const sum = parts.reduce((n, [, r]) => n + r, 0);
    if (rows !== sum) throw errors.badGguf(gguf.path, `tensor '${name}' has ${rows} rows, the model needs ${sum}`);
    let from = 0;
    for (const [role, count] of parts) {
      out.set(`${layer}${role}.${end}`, rowsOf(t, `${layer}${role}.${end}`, from, count));
      from += count;
    }
  }
  return out;
}
