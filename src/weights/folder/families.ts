/** What each `model_type` of config.json does otherwise than LLaMA. */
import { errors } from '../../errors.js';
import type { FamilyFlags, LayerFlags, ModelDims } from '../../types.js';
import { denseLayers } from '../experts.js';
import type { Rope } from '../rope.js';
import type { Fields } from './json.js';
import { plainRope, type RopeNeeds, readFolderRope } from './rope.js';

type LayerKind = 'full_attention' | 'sliding_attention';

export interface FolderContext {
  config: Fields;
  dims: ModelDims;
  needs: RopeNeeds;
  /** Of layers that see everything. */
  rope: Rope;
}

export interface FolderFamily {
  flags?: (c: FolderContext) => Partial<FamilyFlags>;
  /** Kinds of the layers where config.json does not list them (`layer_types`); left out: all see everything. */
  kindOf?: (layer: number, c: FolderContext) => LayerKind;
  /** Layers with a window have positions of their own: their base, if config.json does not name it. */
  localTheta?: (c: FolderContext) => number;
  /** Layers whose positions are not rotated. */
  noRope?: (layer: number, c: FolderContext) => boolean;
  /** Norm weights are stored as what they differ from 1. */
  normsFromOne?: boolean;
  /** Name of the activation's field (default `hidden_act`). */
  activationField?: string;
  tied?: boolean;
  /** The language model of a model with eyes: its fields are in `text_config`, its tensors have a prefix. */
  textOf?: string;
}

const always = (): LayerKind => 'sliding_attention';
const sliding = (yes: boolean): LayerKind => (yes ? 'sliding_attention' : 'full_attention');

const gemma: FolderFamily = {
  normsFromOne: true,
  tied: true,
  activationField: 'hidden_activation',
  flags: ({ dims }) => ({ activation: 'geluTanh', embeddingScale: Math.sqrt(dims.dim) }),
};

const gemma3: FolderFamily = {
  ...gemma,
  flags: (c) => ({
    ...gemma.flags!(c),
    norms: 'both',
    qkNorm: 'head',
    attentionScale: c.config.positive('query_pre_attn_scalar', 256) ** -0.5,
    attentionSoftcap: c.config.amount('attn_logit_softcapping'),
    logitSoftcap: c.config.amount('final_logit_softcapping'),
  }),
  kindOf: (layer, { config }) => sliding((layer + 1) % config.integer('sliding_window_pattern', 6) !== 0),
  localTheta: ({ config }) => config.positive('rope_local_base_freq', 10_000),
};

/** The last layers, from `max_window_layers` on, and only if `use_sliding_window` says so. */
const qwenKind = (layer: number, { config }: FolderContext): LayerKind =>
  sliding(config.flag('use_sliding_window', false) && layer >= config.integer('max_window_layers', 28, 0));

interface ExpertRules {
  /** Field of an expert's width; default: `intermediate_size`. */
  width?: 'moe_intermediate_size';
  /** Weights sum to 1: always, or if `norm_topk_prob` says so. */
  normalise: boolean | 'said';
  /** An expert for every token, with a gate (Qwen2-MoE). */
  shared?: boolean;
}

/** `num_experts` and `num_local_experts` are two names of one thing. */
function readExperts({ config, dims }: FolderContext, rules: ExpertRules): Pick<FamilyFlags, 'experts'> {
  const count = config.integer(config.has('num_experts') ? 'num_experts' : 'num_local_experts', undefined, 1, 65_536);
  const step = config.integer('decoder_sparse_step', 1);
  const plain = config.numbers('mlp_only_layers') ?? [];
  return {
    experts: {
      count,
      used: config.integer('num_experts_per_tok', undefined, 1, count),
      width: rules.width ? config.integer(rules.width) : dims.ffDim,
      normalise: rules.normalise === 'said' ? config.flag('norm_topk_prob', false) : rules.normalise,
      scale: 1,
      sharedWidth: rules.shared ? config.integer('shared_expert_intermediate_size') : 0,
      sharedGate: rules.shared === true,
      denseLayers: denseLayers(dims, (layer) => plain.includes(layer) || (layer + 1) % step !== 0),
    },
  };
}

const graniteScales = ({ config }: FolderContext): Partial<FamilyFlags> => ({
  embeddingScale: config.positive('embedding_multiplier', 1),
  residualScale: config.positive('residual_multiplier', 1),
  logitScale: 1 / config.positive('logits_scaling', 1),
  attentionScale: config.positive('attention_multiplier', 1),
});

export const FOLDER_FAMILIES: Readonly<Record<string, FolderFamily>> = {
  llama: {},
  mistral: { kindOf: always },
  ministral: { kindOf: always },
  qwen2: { kindOf: qwenKind },
  qwen3: { kindOf: qwenKind, flags: () => ({ qkNorm: 'head' }) },
  internlm2: {},
  internlm3: {},
  phi3: { kindOf: always },
  olmo2: { flags: () => ({ norms: 'post', qkNorm: 'all' }) },
  olmo3: {
    flags: () => ({ norms: 'post', qkNorm: 'all' }),
    kindOf: (layer) => sliding((layer + 1) % 4 !== 0),
    localTheta: ({ config, rope }) => config.positive('rope_theta', rope.freqBase),
  },
  granite: { flags: graniteScales },
  mixtral: { kindOf: always, flags: (c) => readExperts(c, { normalise: true }) },
  qwen2_moe: {
    kindOf: qwenKind,
    flags: (c) => readExperts(c, { width: 'moe_intermediate_size', normalise: 'said', shared: true }),
  },
  qwen3_moe: {
    kindOf: (_, { config }) => sliding(config.flag('use_sliding_window', false)),
    flags: (c) => ({ qkNorm: 'head', ...readExperts(c, { width: 'moe_intermediate_size', normalise: 'said' }) }),
  },
  olmoe: {
    flags: (c) => {
      if (c.config.has('clip_qkv')) throw errors.unsupportedModel('it bounds queries, keys and values (clip_qkv)');
      return { qkNorm: 'all', ...readExperts(c, { normalise: 'said' }) };
    },
  },
  granitemoe: { flags: (c) => ({ ...graniteScales(c), ...readExperts(c, { normalise: true }) }) },
  smollm3: {
    tied: true,
    noRope: (layer, { config }) => {
      const listed = config.numbers('no_rope_layers');
      return listed ? listed[layer] === 0 : (layer + 1) % config.integer('no_rope_layer_interval', 4) === 0;
    },
    kindOf: (layer, c) =>
      sliding(c.config.flag('use_sliding_window', false) && FOLDER_FAMILIES.smollm3!.noRope!(layer, c)),
  },
  gemma,
  gemma2: {
    ...gemma,
    flags: (c) => ({
      ...gemma.flags!(c),
      norms: 'both',
      attentionScale: c.config.positive('query_pre_attn_scalar', 256) ** -0.5,
      attentionSoftcap: c.config.amount('attn_logit_softcapping'),
      logitSoftcap: c.config.amount('final_logit_softcapping'),
    }),
    kindOf: (layer) => sliding(layer % 2 === 0),
  },
  gemma3_text: gemma3,
  gemma3: { ...gemma3, textOf: 'language_model' },
};

/** Flags of the layers; empty where all are alike and without a window. */
export function readLayerFlags(family: FolderFamily, c: FolderContext): LayerFlags[] {
  const { config, dims } = c;
  const listed = config.texts('layer_types');
  if (listed && listed.length < dims.layers) throw config.bad('layer_types', `a list of ${dims.layers} layers`);
  const kinds = Array.from({ length: dims.layers }, (_, layer) =>
    listed ? knownKind(listed[layer]!) : (family.kindOf?.(layer, c) ?? 'full_attention'),
  );
  const local = kinds.includes('sliding_attention');
  const window = local ? windowOf(config, dims) : 0;
  const localRope = local && family.localTheta ? ropeOfWindows(family, c) : c.rope;
  if (window === 0 && !family.noRope && localRope === c.rope) return [];
  return kinds.map((kind, layer) => {
    const isLocal = kind === 'sliding_attention';
    const rope = family.noRope?.(layer, c) ? null : isLocal ? localRope : c.rope;
    return { rope, window: isLocal ? window : 0 };
  });
}

function knownKind(kind: string): LayerKind {
  if (kind === 'full_attention' || kind === 'sliding_attention') return kind;
  throw errors.unsupportedModel(`it has layers of type '${kind.slice(0, 80)}'`);
}

/** 0 where it is as long as the context, or none is given. */
function windowOf(config: Fields, dims: ModelDims): number {
  const window = config.integer('sliding_window', 0, 0);
  return window < dims.contextLength ? window : 0;
}

function ropeOfWindows(family: FolderFamily, c: FolderContext): Rope {
  if (c.config.child('rope_parameters')?.has('sliding_attention'))
    return readFolderRope(c.config, { ...c.needs, defaultTheta: family.localTheta!(c) }, 'sliding_attention');
  return plainRope(c.dims.headDim, family.localTheta!(c));
}
