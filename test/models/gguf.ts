/** The same tiny models as GGUF files, with the names, layouts and keys that llama.cpp's converter gives them. */
import path from 'node:path';
import { type GgufSpec, type TensorSpec, type Value, writeGguf } from '../weights/gguf-builder.js';
import { encode, type Fixture, temporaryFolder, valuesOf } from './tiny.js';

interface Matrix {
  /** As in the folder: rows first. */
  shape: number[];
  values: Float32Array;
}

/** Architectures by model_type, and whether their rotation is of neighbours, so that rows of q and k are interleaved. */
export const ARCHITECTURES: Readonly<Record<string, { name: string; interleaved: boolean }>> = {
  llama: { name: 'llama', interleaved: true },
  mistral: { name: 'llama', interleaved: true },
  internlm3: { name: 'llama', interleaved: true },
  mixtral: { name: 'llama', interleaved: true },
  qwen2_moe: { name: 'qwen2moe', interleaved: false },
  qwen3_moe: { name: 'qwen3moe', interleaved: false },
  olmoe: { name: 'olmoe', interleaved: false },
  granitemoe: { name: 'granitemoe', interleaved: true },
  internlm2: { name: 'internlm2', interleaved: true },
  granite: { name: 'granite', interleaved: true },
  smollm3: { name: 'smollm3', interleaved: true },
  qwen2: { name: 'qwen2', interleaved: false },
  qwen3: { name: 'qwen3', interleaved: false },
  olmo2: { name: 'olmo2', interleaved: false },
  phi3: { name: 'phi3', interleaved: false },
  gemma: { name: 'gemma', interleaved: false },
  gemma2: { name: 'gemma2', interleaved: false },
  gemma3_text: { name: 'gemma3', interleaved: false },
};

/**
 * What GGUF cannot say: windows of Qwen2, a scale of scores of its own in Gemma 2, layers without experts. And what it would
 * say twice.
 */
const WITHOUT = ['qwen2-windows', 'gemma2-scaled', 'qwen2-moe-mixed', 'qwen3-moe-sparse', 'qwen3-moe-fused'];

export const hasGguf = (f: Fixture): boolean =>
  !WITHOUT.includes(f.name) && Object.hasOwn(ARCHITECTURES, f.config.model_type as string);

const NAMES: readonly [RegExp, string][] = [
  [/^model\.(embed_tokens|tok_embeddings)\./, 'token_embd.'],
  [/^model\.norm\./, 'output_norm.'],
  [/^(lm_head|output)\./, 'output.'],
  [/^model\.layers\.(\d+)\./, 'blk.$1.'],
  [/self_attn\.(q|k|v)_proj/, 'attn_$1'],
  [/self_attn\.(q|k)_norm/, 'attn_$1_norm'],
  [/self_attn\.qkv_proj/, 'attn_qkv'],
  [/(self_attn\.o_proj|attention\.wo)/, 'attn_output'],
  [/mlp\.gate_up_proj/, 'ffn_up'],
  [/(mlp\.gate|block_sparse_moe\.gate|block_sparse_moe\.router\.layer)\./, 'ffn_gate_inp.'],
  [/mlp\.shared_expert_gate/, 'ffn_gate_inp_shexp'],
  [/mlp\.shared_expert\.(gate|up|down)_proj/, 'ffn_$1_shexp'],
  [/block_sparse_moe\.output_linear/, 'ffn_down_exps'],
  [/mlp\.(gate|up|down)_proj/, 'ffn_$1'],
  [/feed_forward\.w1/, 'ffn_gate'],
  [/feed_forward\.w3/, 'ffn_up'],
  [/feed_forward\.w2/, 'ffn_down'],
  [/(input_layernorm|attention_norm)/, 'attn_norm'],
  [/pre_feedforward_layernorm/, 'ffn_norm'],
  [/post_feedforward_layernorm/, 'post_ffw_norm'],
];

function rename(name: string, normsAfter: boolean): string {
  const named = NAMES.reduce((n, [from, to]) => n.replace(from, to), name);
  return named.replace('post_attention_layernorm', normsAfter ? 'post_attention_norm' : 'ffn_norm');
}

/** Rows of each head from halves to neighbours. */
function interleave({ shape, values }: Matrix, headDim: number): Matrix {
  const width = shape[1] ?? 1;
  const out = new Float32Array(values.length);
  for (let row = 0; row < shape[0]!; row++) {
    const head = row - (row % headDim);
    const i = row % headDim;
    const to = head + (i < headDim / 2 ? 2 * i : 2 * (i - headDim / 2) + 1);
    out.set(values.subarray(row * width, (row + 1) * width), to * width);
  }
  return { shape, values: out };
}

/** InternLM2's q, k, v of each group apart. */
function ungroup(m: Matrix, heads: number, kvHeads: number, headDim: number): Record<'q' | 'k' | 'v', Matrix> {
  const width = m.shape[1]!;
  const perGroup = heads / kvHeads + 2;
  const pick = (wanted: (i: number) => boolean): Matrix => {
    const rows: Float32Array[] = [];
    for (let h = 0; h < perGroup * kvHeads; h++)
      if (wanted(h % perGroup)) rows.push(m.values.subarray(h * headDim * width, (h + 1) * headDim * width));
    const values = new Float32Array(rows.length * headDim * width);
    rows.forEach((r, i) => {
      values.set(r, i * headDim * width);
    });
    return { shape: [rows.length * headDim, width], values };
  };
  return { q: pick((i) => i < perGroup - 2), k: pick((i) => i === perGroup - 2), v: pick((i) => i === perGroup - 1) };
}

const EXPERT = /^model\.layers\.(\d+)\..*\.experts\.(\d+)\.(w1|w2|w3|gate_proj|up_proj|down_proj)\.weight$/;
const PARTS: Record<string, string> = { w1: 'gate', w2: 'down', w3: 'up' };

/** Matrices of a layer's experts one after another, as the converter stacks them. */
function stackExperts(given: Map<string, Matrix>, stacked: boolean): Map<string, Matrix> {
  const out = new Map<string, Matrix>();
  const stacks = new Map<string, Matrix[]>();
  for (const [name, m] of given) {
    const [, layer, expert, what] = EXPERT.exec(name) ?? [];
    const [, ofLayer] = /^model\.layers\.(\d+)\.block_sparse_moe\.input_linear/.exec(name) ?? [];
    if (layer !== undefined) {
      const key = `blk.${layer}.ffn_${PARTS[what!] ?? what!.split('_')[0]}_exps.weight`;
      const list = stacks.get(key) ?? [];
      list[Number(expert)] = m;
      stacks.set(key, list);
    } else if (ofLayer !== undefined) {
      const [experts, rows, width] = m.shape as [number, number, number];
      const half = (first: number): Matrix[] =>
        Array.from({ length: experts }, (_, e) => {
          const from = (e * rows + first) * width;
          return { shape: [rows / 2, width], values: m.values.subarray(from, from + (rows / 2) * width) };
        });
      stacks.set(`blk.${ofLayer}.ffn_gate_exps.weight`, half(0));
      stacks.set(`blk.${ofLayer}.ffn_up_exps.weight`, half(rows / 2));
    } else out.set(name, m);
  }
  for (const [key, list] of stacks) {
    if (!stacked) {
      list.forEach((m, e) => {
        out.set(key.replace('_exps', `.${e}`), m);
      });
      continue;
    }
    const size = list[0]!.values.length;
    const values = new Float32Array(size * list.length);
    list.forEach((m, e) => {
      values.set(m.values, e * size);
    });
    out.set(key, { shape: [list.length, ...list[0]!.shape], values });
  }
  return out;
}

function ggufOf(f: Fixture, { stacked = true } = {}): Required<Pick<GgufSpec, 'metadata' | 'tensors'>> {
  const c = f.config as Record<string, number>;
  const type = f.config.model_type as string;
  const { name, interleaved } = ARCHITECTURES[type]!;
  const heads = c.num_attention_heads!;
  const kvHeads = c.num_key_value_heads!;
  const headDim = c.head_dim ?? c.hidden_size! / heads;
  const normsAfter = /^(olmo2|gemma2|gemma3)/.test(type);
  const matrices = new Map<string, Matrix>();
  const all = new Map(Object.entries(f.tensors).map(([n, shape]) => [n, { shape, values: valuesOf(f, n) }]));
  for (const [given, m] of stackExperts(all, stacked)) {
    const layer = /^model\.layers\.(\d+)\.attention\.wqkv/.exec(given)?.[1];
    if (layer === undefined) matrices.set(rename(given, normsAfter), m);
    else
      for (const [part, piece] of Object.entries(ungroup(m, heads, kvHeads, headDim)))
        matrices.set(`blk.${layer}.attn_${part}.weight`, piece);
  }
  for (const [role, m] of matrices) {
    if (interleaved && /attn_[qk]\.(weight|bias)$/.test(role)) matrices.set(role, interleave(m, headDim));
    if (f.normsFromOne && /_norm\.weight$/.test(role)) matrices.set(role, { ...m, values: m.values.map((v) => v + 1) });
  }
  const metadata = keysOf(f, name, headDim, matrices);
  return { metadata, tensors: specsOf(f, matrices) };
}

/** `stacked`: experts of a layer in one tensor; else each in its own, as in the first files of Mixtral. */
export const writeGgufOf = (f: Fixture, options: { stacked?: boolean } = {}): string =>
  writeGguf(path.join(temporaryFolder(), `${f.name}.gguf`), ggufOf(f, options));

/** As gguf-split cuts it; returns the parts. */
export function splitGgufOf(f: Fixture, count: number): string[] {
  const { metadata, tensors } = ggufOf(f);
  const folder = temporaryFolder();
  return Array.from({ length: count }, (_, part) => {
    let offset = 0;
    const own = tensors
      .filter((_, i) => i % count === part)
      .map((t) => {
        const placed = { ...t, offset };
        offset += Math.ceil(t.data!.length / 32) * 32;
        return placed;
      });
    const split = { no: part, count, 'tensors.count': tensors.length };
    const keys = Object.entries(split).map(([key, value]) => [`split.${key}`, { u32: value }] as const);
    return writeGguf(path.join(folder, `${f.name}-${number(part + 1)}-of-${number(count)}.gguf`), {
      metadata: { ...(part === 0 && metadata), ...Object.fromEntries(keys) },
      tensors: own,
    });
  });
}

const number = (n: number): string => String(n).padStart(5, '0');

function specsOf(f: Fixture, matrices: ReadonlyMap<string, Matrix>): TensorSpec[] {
  let offset = 0;
  return [...matrices].map(([name, { shape, values }]) => {
    const type =
      shape.length === 1 || name.includes('ffn_gate_inp')
        ? 'F32'
        : ({ bfloat16: 'BF16', float16: 'F16', float32: 'F32' } as const)[f.dtype];
    const data = encode(values, type);
    const spec = { name, shape: [...shape].reverse(), type: { F32: 0, F16: 1, BF16: 30 }[type], offset, data };
    offset += Math.ceil(data.length / 32) * 32;
    return spec;
  });
}

function keysOf(f: Fixture, name: string, headDim: number, matrices: Map<string, Matrix>): Record<string, Value> {
  const c = f.config as Record<string, number>;
  const keys: Record<string, Value> = { 'general.architecture': { string: name }, 'general.name': { string: f.name } };
  const u32 = (key: string, value: number) => (keys[`${name}.${key}`] = { u32: value });
  const f32 = (key: string, value: number) => (keys[`${name}.${key}`] = { f32: value });
  const text = (key: string, value: string) => (keys[`${name}.${key}`] = { string: value });
  u32('block_count', c.num_hidden_layers!);
  u32('embedding_length', c.hidden_size!);
  u32('feed_forward_length', c.intermediate_size!);
  u32('attention.head_count', c.num_attention_heads!);
  u32('attention.head_count_kv', c.num_key_value_heads!);
  u32('attention.key_length', headDim);
  u32('attention.value_length', headDim);
  u32('context_length', c.max_position_embeddings!);
  f32('attention.layer_norm_rms_epsilon', c.rms_norm_eps!);
  if (typeof c.sliding_window === 'number') u32('attention.sliding_window', c.sliding_window);
  const experts = c.num_experts ?? c.num_local_experts;
  if (experts !== undefined) {
    u32('expert_count', experts);
    u32('expert_used_count', c.num_experts_per_tok!);
    if (c.moe_intermediate_size) u32('expert_feed_forward_length', c.moe_intermediate_size);
    if (c.shared_expert_intermediate_size) u32('expert_shared_feed_forward_length', c.shared_expert_intermediate_size);
  }
  if (name.startsWith('granite')) {
    f32('embedding_scale', c.embedding_multiplier!);
    f32('residual_scale', c.residual_multiplier!);
    f32('logit_scale', c.logits_scaling!);
    f32('attention.scale', c.attention_multiplier!);
  }
  if (name === 'gemma2') {
    f32('attn_logit_softcapping', c.attn_logit_softcapping!);
    f32('final_logit_softcapping', c.final_logit_softcapping!);
  }
  ropeKeys(f, headDim, matrices, { u32, f32, text });
  return keys;
}

type Put<T> = (key: string, value: T) => void;

function ropeKeys(
  f: Fixture,
  headDim: number,
  matrices: Map<string, Matrix>,
  { u32, f32, text }: { u32: Put<number>; f32: Put<number>; text: Put<string> },
): void {
  const all = f.config.rope_parameters as Record<string, unknown>;
  const rope = (all.full_attention ?? all) as Record<string, number> & Record<string, number[] | string>;
  const dims = headDim * ((rope.partial_rotary_factor as number | undefined) ?? 1);
  f32('rope.freq_base', rope.rope_theta as number);
  u32('rope.dimension_count', dims);
  const vector = (name: string, values: ArrayLike<number>) =>
    matrices.set(name, { shape: [values.length], values: Float32Array.from(values) });
  switch (rope.rope_type as unknown as string) {
    case 'linear':
    case 'yarn':
      text('rope.scaling.type', rope.rope_type as unknown as string);
      f32('rope.scaling.factor', rope.factor as number);
      if (rope.original_max_position_embeddings)
        u32('rope.scaling.original_context_length', rope.original_max_position_embeddings as number);
      break;
    case 'llama3':
      vector('rope_freqs.weight', llama3Factors(rope as unknown as Record<string, number>, dims));
      break;
    case 'longrope': {
      const original = f.config.original_max_position_embeddings as number;
      const scale = (f.config.max_position_embeddings as number) / original;
      vector('rope_factors_long.weight', rope.long_factor as unknown as number[]);
      vector('rope_factors_short.weight', rope.short_factor as unknown as number[]);
      u32('rope.scaling.original_context_length', original);
      f32('rope.scaling.attn_factor', Math.sqrt(1 + Math.log(scale) / Math.log(original)));
    }
  }
}

function llama3Factors(r: Record<string, number>, dims: number): number[] {
  return Array.from({ length: dims / 2 }, (_, i) => {
    const wave = 2 * Math.PI * r.rope_theta! ** ((2 * i) / dims);
    const context = r.original_max_position_embeddings!;
    if (wave < context / r.high_freq_factor!) return 1;
    if (wave > context / r.low_freq_factor!) return r.factor!;
    const smooth = (context / wave - r.low_freq_factor!) / (r.high_freq_factor! - r.low_freq_factor!);
    return 1 / ((1 - smooth) / r.factor! + smooth);
  });
}
