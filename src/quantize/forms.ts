/** What GGUF says of each family (llama.cpp, `convert_hf_to_gguf`): its architecture, the keys, and that nothing is left unsaid. */

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { llamaFlags } from '../base/llama-flags.js';
import { errors } from '../errors.js';
import type { FamilyFlags, LayerFlags, RopeConfig, TensorInfo } from '../types.js';
import { type GgufFile, type ModelConfig, type ModelFiles, openModel, readModelConfig } from '../weights/index.js';
import { entryOf } from './entries.js';

export interface GgufForm {
  name: string;
  /** It rotates neighbours, where folders rotate halves. */
  interleaved: boolean;
  /** q, k and v are one tensor, gate and up another. */
  fused?: boolean;
}

const neighbours = (name: string): GgufForm => ({ name, interleaved: true });
const halves = (name: string): GgufForm => ({ name, interleaved: false });

/** By `model_type`. */
const FORMS: Readonly<Record<string, GgufForm>> = {
  llama: neighbours('llama'),
  mistral: neighbours('llama'),
  mixtral: neighbours('llama'),
  internlm3: neighbours('llama'),
  internlm2: neighbours('internlm2'),
  smollm3: neighbours('smollm3'),
  granite: neighbours('granite'),
  granitemoe: neighbours('granitemoe'),
  qwen2: halves('qwen2'),
  qwen3: halves('qwen3'),
  qwen2_moe: halves('qwen2moe'),
  qwen3_moe: halves('qwen3moe'),
  olmo2: halves('olmo2'),
  olmoe: halves('olmoe'),
  phi3: { ...halves('phi3'), fused: true },
  gemma: halves('gemma'),
  gemma2: halves('gemma2'),
  gemma3_text: halves('gemma3'),
  gemma3: halves('gemma3'),
};

/** @throws unsupported_model for a family that it does not know */
export function formOf({ config: { architecture } }: ModelFiles): GgufForm {
  const form = Object.hasOwn(FORMS, architecture) ? FORMS[architecture] : undefined;
  if (form) return form;
  throw errors.unsupportedModel(`convert does not know '${architecture}' (it knows ${Object.keys(FORMS).join(', ')})`);
}

/** Factors of positions as tensors: so GGUF has the scalings of Llama 3 and LongRoPE. */
export interface RopeFactors {
  name: string;
  values: Float32Array;
}

/** @throws unsupported_model for a scaling that is not written */
export function ropeFactors({ path: folder, config }: ModelFiles, { name }: GgufForm): RopeFactors[] {
  const { rope } = config;
  if (rope.scaling === 'none' || rope.scaling === 'linear') return [];
  if (rope.scaling === 'llama3' && name === 'llama') return [{ name: 'rope_freqs.weight', values: factorsOf(rope) }];
  if (rope.scaling === 'longrope' && name === 'phi3') {
    // which of the two lists is read depends on the longest sequence
    const short = openModel(folder, { sessionLen: 1, weights: 'file' }).config.rope;
    return [
      { name: 'rope_factors_long.weight', values: factorsOf(rope) },
      { name: 'rope_factors_short.weight', values: factorsOf(short) },
    ];
  }
  throw errors.unsupportedModel(`convert cannot write its positions (${rope.scaling}) yet`);
}

/** What each frequency is divided by. */
const factorsOf = ({ dims, freqBase, inverseFrequencies }: RopeConfig): Float32Array =>
  inverseFrequencies.map((f, i) => freqBase ** ((-2 * i) / dims) / f);

/** Entries of a file's metadata: as bytes, and as they will be read. */
class Entries {
  readonly bytes: Buffer[] = [];
  readonly values: GgufFile['metadata'] = new Map();

  constructor(private readonly architecture: string) {}

  text(key: string, value: string): void {
    this.#put(key, entryOf.text(key, value), value);
  }

  u32(key: string, value: number): void {
    const name = `${this.architecture}.${key}`;
    this.#put(name, entryOf.u32(name, value), value);
  }

  f32(key: string, value: number): void {
    const name = `${this.architecture}.${key}`;
    this.#put(name, entryOf.f32(name, value), Math.fround(value));
  }

  #put(key: string, bytes: Buffer, value: string | number): void {
    this.bytes.push(bytes);
    this.values.set(key, value);
  }
}

/**
 * The metadata of a model with these tensors.
 * @throws unsupported_model where a reader would make another model of it
 */
export function modelEntries(
  model: ModelFiles,
  form: GgufForm,
  tensors: readonly TensorInfo[],
  factors: readonly RopeFactors[],
): Buffer[] {
  const { config } = model;
  const e = new Entries(form.name);
  e.text('general.architecture', form.name);
  e.text('general.type', 'model');
  e.text('general.name', config.name);
  dimensionEntries(e, config);
  ropeEntries(e, model, factors);
  expertEntries(e, config);
  familyEntries(e, form, config.flags);
  const named = new Map(tensors.map((t) => [t.name, t]));
  const file = {
    path: model.path,
    size: 0,
    version: 3,
    metadata: e.values,
    tensors: named,
    alignment: 32,
    dataOffset: 0,
  };
  refuseUnsaid(config, readModelConfig(file), factors.length > 0);
  return e.bytes;
}

function dimensionEntries(e: Entries, { dims, rmsEps }: ModelConfig): void {
  e.u32('block_count', dims.layers);
  e.u32('context_length', dims.contextLength);
  e.u32('embedding_length', dims.dim);
  e.u32('feed_forward_length', dims.ffDim);
  e.u32('attention.head_count', dims.heads);
  e.u32('attention.head_count_kv', dims.kvHeads);
  e.u32('attention.key_length', dims.headDim);
  e.u32('attention.value_length', dims.headDim);
  e.f32('attention.layer_norm_rms_epsilon', rmsEps);
  e.u32('vocab_size', dims.vocab);
}

function ropeEntries(
  e: Entries,
  { path: folder, config: { rope } }: ModelFiles,
  factors: readonly RopeFactors[],
): void {
  e.f32('rope.freq_base', rope.freqBase);
  e.u32('rope.dimension_count', rope.dims);
  if (rope.scaling === 'linear') {
    e.text(`${e.values.get('general.architecture')}.rope.scaling.type`, 'linear');
    e.f32('rope.scaling.factor', 1 / rope.inverseFrequencies[0]!);
  }
  if (rope.scaling === 'longrope' && factors.length > 0) {
    e.u32('rope.scaling.original_context_length', originalContext(folder));
    e.f32('rope.scaling.attn_factor', rope.magnitude);
  }
}

/** Up to where a model with LongRoPE takes its short factors; the reader of the folder has checked it. */
function originalContext(folder: string): number {
  const config = JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8'));
  const scaling = config.rope_parameters ?? config.rope_scaling;
  return (config.original_max_position_embeddings ??
    scaling.original_max_position_embeddings ??
    config.max_position_embeddings) as number;
}

function expertEntries(e: Entries, { flags: { experts } }: ModelConfig): void {
  if (!experts) return;
  if (experts.denseLayers.length > 0) throw errors.unsupportedModel('convert cannot write layers without experts');
  e.u32('expert_count', experts.count);
  e.u32('expert_used_count', experts.used);
  e.u32('expert_feed_forward_length', experts.width);
  if (experts.sharedWidth > 0) e.u32('expert_shared_feed_forward_length', experts.sharedWidth);
}

function familyEntries(e: Entries, { name }: GgufForm, flags: Partial<FamilyFlags>): void {
  const layers = flags.perLayer ?? [];
  const window = Math.max(0, ...layers.map((layer) => layer.window));
  // other architectures of llama.cpp know no windows
  if (window > 0 && ['phi3', 'gemma2', 'gemma3'].includes(name)) e.u32('attention.sliding_window', window);
  if (name === 'gemma3' && layers[0]?.rope) e.f32('rope.freq_base_swa', layers[0].rope.freqBase);
  if (name.startsWith('granite')) {
    e.f32('embedding_scale', flags.embeddingScale ?? 1);
    e.f32('residual_scale', flags.residualScale ?? 1);
    e.f32('logit_scale', 1 / (flags.logitScale ?? 1));
    e.f32('attention.scale', flags.attentionScale ?? 0);
  }
  if (flags.attentionSoftcap && name === 'gemma2') e.f32('attn_logit_softcapping', flags.attentionSoftcap);
  if (flags.logitSoftcap && name.startsWith('gemma')) e.f32('final_logit_softcapping', flags.logitSoftcap);
}

/** In words, where the name says little. */
const WORDS: Partial<Record<string, string>> = {
  perLayer: 'its windows or its layers without positions',
  experts: 'its experts',
  attentionScale: 'its scale of attention',
  attentionSoftcap: 'the bound of its scores',
};

/** `read`: what a reader makes of the entries; `factors`: positions are scaled by tensors, which are not there yet. */
function refuseUnsaid(given: ModelConfig, read: ModelConfig, factors: boolean): void {
  const flags = (c: ModelConfig) => {
    const all = { ...llamaFlags, ...c.flags };
    return { ...all, perLayer: all.perLayer.map((layer) => layerOf(layer, factors)) };
  };
  const parts = (c: ModelConfig): Record<string, unknown> => ({
    ...flags(c),
    ...{ dims: c.dims, rmsEps: c.rmsEps, tiedOutput: c.tiedOutput, positions: factors ? null : anglesOf(c.rope) },
  });
  const theirs = parts(read);
  for (const [name, value] of Object.entries(parts(given)))
    if (!isDeepStrictEqual(rounded(value), rounded(theirs[name])))
      throw errors.unsupportedModel(`convert cannot write ${WORDS[name] ?? `its '${name}'`}: GGUF has no form for it`);
}

const layerOf = ({ rope, window }: LayerFlags, factors: boolean) => ({
  window,
  rope: rope && !factors ? anglesOf(rope) : rope !== null,
});

const anglesOf = ({ dims, magnitude, inverseFrequencies }: RopeConfig) => ({
  ...{ dims, magnitude },
  angles: [...inverseFrequencies],
});

/** Numbers as f32 keep them, and some of what was computed from such. */
function rounded(value: unknown): unknown {
  if (typeof value === 'number') return Number(value.toPrecision(5));
  if (Array.isArray(value)) return value.map(rounded);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, rounded(v)]));
}
