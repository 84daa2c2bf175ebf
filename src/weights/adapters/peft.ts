/** Adapters as PEFT saves them: adapter_config.json and adapter_model.safetensors. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { errors } from '../../errors.js';
import type { TensorInfo } from '../../types.js';
import { Fields, readJson, shown } from '../folder/json.js';
import { readSafetensors } from '../folder/safetensors.js';
import { ADAPTED_ROLES, type Pair } from './shape.js';

const PEFT_CONFIG = 'adapter_config.json';
const PEFT_WEIGHTS = 'adapter_model.safetensors';
const MAX_CONFIG = 2 ** 22;

const ROLES: Readonly<Record<string, string>> = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.qkv_proj': 'attn_qkv',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  'mlp.gate_up_proj': 'ffn_gate_up',
  // InternLM2
  'attention.wo': 'attn_output',
  'feed_forward.w1': 'ffn_gate',
  'feed_forward.w3': 'ffn_up',
  'feed_forward.w2': 'ffn_down',
};

/** Fields that change what is computed, and what they are when they change nothing. */
const UNUSED: readonly [field: string, why: string][] = [
  ['use_dora', 'it is a DoRA adapter, which scales the columns of the matrices too'],
  ['use_qalora', 'it is a QA-LoRA adapter'],
  ['kasa_config', 'it is a KaSA adapter'],
  ['monteclora_config', 'it is a MonteCLoRA adapter'],
  ['arrow_config', 'it chooses among other adapters (arrow_config)'],
  ['use_bdlora', 'it is a block-diagonal adapter'],
  ['alora_invocation_tokens', 'it is an activated LoRA, which works from some tokens on only'],
  ['modules_to_save', 'it brings whole matrices of its own (modules_to_save)'],
  ['trainable_token_indices', 'it brings embeddings of its own (trainable_token_indices)'],
  ['layer_replication', 'it repeats layers of the model (layer_replication)'],
  ['megatron_config', 'it is for Megatron'],
  ['lora_bias', 'it has biases (lora_bias)'],
  ['fan_in_fan_out', 'its matrices are transposed (fan_in_fan_out)'],
  ['target_parameters', 'it adds to parameters that are no linear layers (target_parameters), such as experts'],
];
/** How A and B began, where that left the model's own weights as they were. */
const STARTS: readonly unknown[] = [true, false, 'gaussian', 'orthogonal', 'eva', undefined];

interface Scales {
  /** Of a module, by its name in the model, for a rank. */
  of(module: string, rank: number): number;
  /** That the configuration says it has. */
  rankOf(module: string): number;
}

/** @throws bad_adapter, bad_model_file, io_error */
export function readPeft(folder: string, name: string): { file: string; pairs: Pair[] } {
  const configPath = path.join(folder, PEFT_CONFIG);
  const config = readJson(configPath, MAX_CONFIG);
  if (!config) throw errors.badAdapter(name, `'${folder}' has no ${PEFT_CONFIG}`);
  const scales = readConfig(new Fields(configPath, config), config, name);
  const file = path.join(folder, PEFT_WEIGHTS);
  if (!existsSync(file))
    throw errors.badAdapter(
      name,
      existsSync(path.join(folder, 'adapter_model.bin'))
        ? 'its weights are pickled (adapter_model.bin), a format that runs code when it is read: save it as safetensors'
        : `'${folder}' has no ${PEFT_WEIGHTS}`,
    );
  return { file, pairs: pairsOf(readSafetensors(file), scales, name) };
}

function readConfig(f: Fields, config: Record<string, unknown>, name: string): Scales {
  const bad = (what: string) => errors.badAdapter(name, what);
  const type = f.text('peft_type', 'missing');
  if (type !== 'LORA') throw bad(`its peft_type is '${type.slice(0, 40)}'; only LORA can be used`);
  const bias = f.text('bias', 'none');
  if (bias !== 'none') throw bad(`it changes biases too (bias: '${bias.slice(0, 40)}'); only 'none' can be used`);
  for (const [field, why] of UNUSED) {
    const value = config[field] ?? false;
    if (value !== false && !(Array.isArray(value) && value.length === 0)) throw bad(why);
  }
  if (!STARTS.includes(config.init_lora_weights ?? undefined))
    throw bad(
      `it began as ${shown(config.init_lora_weights)} (init_lora_weights), which changes the model's own weights too`,
    );
  const rank = f.integer('r', undefined, 1);
  const alpha = f.positive('lora_alpha', 8);
  const root = f.flag('use_rslora', false);
  const ranks = patterns(f, 'rank_pattern', bad);
  const alphas = patterns(f, 'alpha_pattern', bad);
  return {
    rankOf: (module) => ranks(module) ?? rank,
    of: (module, r) => (alphas(module) ?? alpha) / (root ? Math.sqrt(r) : r),
  };
}

/** Names are ends of modules' names, or with '^' whole ones. They are regular expressions, of which others are not run. */
function patterns(f: Fields, field: string, bad: (what: string) => Error): (module: string) => number | undefined {
  const entries = Object.entries(f.child(field)?.object ?? {}).map(([key, value]) => {
    const plain = key.replaceAll('\\.', '.').replace(/\$$/, '');
    if (!/^\^?[\w.]+$/.test(plain)) throw bad(`${field} has the pattern ${shown(key)}; only plain names can be used`);
    if (typeof value !== 'number' || !(value > 0))
      throw bad(`${field} of ${shown(key)} is ${shown(value)}, no positive number`);
    return [plain, value] as const;
  });
  const matches = (key: string, module: string) =>
    key.startsWith('^') ? module === key.slice(1) : module === key || module.endsWith(`.${key}`);
  return (module) => entries.find(([key]) => matches(key, module))?.[1];
}

const NAME =
  /^base_model\.model\.((?:(?:model\.)?language_model\.)?(?:model\.)?layers\.(\d{1,5})\.(.+))\.lora_([AB])\.weight$/;

function pairsOf(tensors: ReadonlyMap<string, TensorInfo>, scales: Scales, name: string): Pair[] {
  const bad = (what: string) => errors.badAdapter(name, what);
  const found = new Map<string, { layer: number; role: string; A?: TensorInfo; B?: TensorInfo }>();
  for (const [key, t] of tensors) {
    const [, module, layer, part, side] = NAME.exec(key) ?? [];
    const role = part !== undefined && Object.hasOwn(ROLES, part) ? ROLES[part] : undefined;
    if (!module || !role) throw bad(`it holds '${key.slice(0, 200)}'; ${refusal(key)}`);
    const entry = found.get(module) ?? { layer: Number(layer), role };
    entry[side as 'A' | 'B'] = t;
    found.set(module, entry);
  }
  return [...found].map(([module, { layer, role, A, B }]) => {
    if (!A || !B) throw bad(`'${module}' has ${A ? 'no B' : 'no A'}`);
    const rank = A.shape[1] ?? 1;
    if (rank !== scales.rankOf(module))
      throw bad(`'${module}' has rank ${rank}, its ${PEFT_CONFIG} says ${scales.rankOf(module)}`);
    return { layer, role, name: module, a: A, b: B, scale: scales.of(module, rank) };
  });
}

function refusal(key: string): string {
  if (key.includes('lora_magnitude')) return 'DoRA adapters cannot be used';
  if (/embed_tokens|lora_embedding|tok_embeddings/.test(key)) return 'adapters of embeddings cannot be used';
  if (/lm_head/.test(key)) return 'adapters of the output matrix (lm_head) cannot be used';
  if (/experts?\b|block_sparse_moe|\.mlp\.gate\./.test(key)) return 'adapters of experts cannot be used';
  return `adapters can add to ${ADAPTED_ROLES.join(', ')} (q, k, v, o, gate, up and down projections)`;
}
