/** Names of tensors in folders of the hub → their roles, which have GGUF's names. */
import { errors } from '../../errors.js';
import type { ModelDims, TensorInfo } from '../../types.js';
import { type ExpertRole, ExpertTensors, splitGateUp } from '../experts.js';
import { rowsOf } from '../shapes.js';
import type { FolderFamily } from './families.js';

const LAYER_ROLES: Readonly<Record<string, string>> = {
  input_layernorm: 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  pre_feedforward_layernorm: 'ffn_norm',
  post_feedforward_layernorm: 'post_ffw_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
  'mlp.gate': 'ffn_gate_inp',
  'mlp.shared_expert_gate': 'ffn_gate_inp_shexp',
  'mlp.shared_expert.gate_proj': 'ffn_gate_shexp',
  'mlp.shared_expert.up_proj': 'ffn_up_shexp',
  'mlp.shared_expert.down_proj': 'ffn_down_shexp',
  // Mixtral, Granite
  'block_sparse_moe.gate': 'ffn_gate_inp',
  'block_sparse_moe.router.layer': 'ffn_gate_inp',
  // InternLM2
  attention_norm: 'attn_norm',
  'attention.wo': 'attn_output',
  ffn_norm: 'ffn_norm',
  'feed_forward.w1': 'ffn_gate',
  'feed_forward.w3': 'ffn_up',
  'feed_forward.w2': 'ffn_down',
};

const MODEL_ROLES: Readonly<Record<string, string>> = {
  'model.embed_tokens': 'token_embd',
  'model.tok_embeddings': 'token_embd',
  'model.norm': 'output_norm',
  lm_head: 'output',
  output: 'output',
};

/** Matrices of one expert: of Mixtral, and of all others. */
const EXPERT =
  /^model\.layers\.(\d+)\.(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(w1|w2|w3|gate_proj|up_proj|down_proj)\.weight$/;
const EXPERT_ROLES: Readonly<Record<string, ExpertRole>> = {
  w1: 'ffn_gate',
  w2: 'ffn_down',
  w3: 'ffn_up',
  gate_proj: 'ffn_gate',
  up_proj: 'ffn_up',
  down_proj: 'ffn_down',
};
/** Matrices of all experts of a layer: as transformers has them in memory, and in Granite's files. */
const ALL_EXPERTS =
  /^model\.layers\.(\d+)\.(?:mlp|block_sparse_moe)\.(?:experts\.)?(gate_up_proj|down_proj|input_linear|output_linear)(?:\.weight)?$/;

/** Buffers that some folders hold and that make no difference. */
const BUFFERS = /rotary_emb\.inv_freq$|\.attention\.rope\.inv_freq$/;
/** What an image goes through; a text never does. */
const VISION = /^(model\.)?(vision_tower|multi_modal_projector)\./;

/** The tensors by their roles. What has no role keeps its name, and is refused by whoever looks for what is left over. */
export function byRole(
  path: string,
  tensors: ReadonlyMap<string, TensorInfo>,
  family: FolderFamily,
  norms: 'pre' | 'post' | 'both',
  dims: ModelDims,
  expertWidth: number,
): Map<string, TensorInfo> {
  const experts = new ExpertTensors();
  const out = new Map<string, TensorInfo>();
  const put = (name: string, t: TensorInfo) => {
    const isNorm = /_norm\.weight$/.test(name);
    out.set(name, { ...t, ...(isNorm && family.normsFromOne && { add: 1 }) });
  };
  for (const [given, tensor] of tensors) {
    if (BUFFERS.test(given) || (family.textOf && VISION.test(given))) continue;
    const name = family.textOf ? withoutPrefix(given, family.textOf) : given;
    const [, inLayer, expert, matrix] = EXPERT.exec(name) ?? [];
    if (inLayer !== undefined) {
      experts.add(inLayer, EXPERT_ROLES[matrix!]!, expert!, tensor);
      continue;
    }
    const [, ofLayer, all] = (tensor.shape.length === 3 && ALL_EXPERTS.exec(name)) || [];
    if (ofLayer !== undefined) {
      for (const [role, t] of layerExperts(all!, tensor, expertWidth)) out.set(`blk.${ofLayer}.${role}_exps.weight`, t);
      continue;
    }
    const m = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name);
    if (!m) {
      const [, stem, end] = /^(.+)\.(weight|bias)$/.exec(name) ?? [];
      const role = stem && Object.hasOwn(MODEL_ROLES, stem) ? MODEL_ROLES[stem] : undefined;
      put(role ? `${role}.${end}` : name, tensor);
      continue;
    }
    const [, layer, part, end] = m as unknown as [string, string, string, string];
    for (const [role, t] of layerTensors(part, end, tensor, norms, dims)) put(`blk.${layer}.${role}.${end}`, t);
  }
  for (const [role, t] of experts.merged(path)) out.set(role, t);
  return out;
}

function layerExperts(what: string, t: TensorInfo, width: number): [ExpertRole, TensorInfo][] {
  if (what === 'down_proj' || what === 'output_linear') return [['ffn_down', t]];
  const { gate, up } = splitGateUp(t, width);
  return [
    ['ffn_gate', gate],
    ['ffn_up', up],
  ];
}

/** `language_model.model.x`, or as newer files have it, `model.language_model.x` → `model.x`. */
function withoutPrefix(name: string, prefix: string): string {
  if (name.startsWith(`${prefix}.`)) return name.slice(prefix.length + 1);
  if (name.startsWith(`model.${prefix}.`)) return `model.${name.slice(`model.${prefix}.`.length)}`;
  return name;
}

function layerTensors(
  part: string,
  end: string,
  t: TensorInfo,
  norms: 'pre' | 'post' | 'both',
  d: ModelDims,
): [role: string, TensorInfo][] {
  const q = d.heads * d.headDim;
  const kv = d.kvHeads * d.headDim;
  switch (part) {
    case 'post_attention_layernorm':
      return [[norms === 'pre' ? 'ffn_norm' : 'post_attention_norm', t]];
    case 'self_attn.qkv_proj':
      return split(t, [
        ['attn_q', q],
        ['attn_k', kv],
        ['attn_v', kv],
      ]);
    case 'mlp.gate_up_proj':
      return split(t, [
        ['ffn_gate', d.ffDim],
        ['ffn_up', d.ffDim],
      ]);
    case 'attention.wqkv':
      return end === 'weight' ? splitGroups(t, d) : [[part, t]];
    default:
      return [[Object.hasOwn(LAYER_ROLES, part) ? LAYER_ROLES[part]! : part, t]];
  }
}

/** Rows of several matrices, one after another. */
function split(t: TensorInfo, parts: [role: string, rows: number][]): [string, TensorInfo][] {
  checkRows(
    t,
    t.shape.at(-1)!,
    parts.reduce((sum, [, rows]) => sum + rows, 0),
  );
  let from = 0;
  return parts.map(([role, rows]) => {
    const piece = rowsOf(t, t.name, from, rows);
    from += rows;
    return [role, piece];
  });
}

/** InternLM2: for each KV head the rows of its query heads, of its key, and of its value. */
function splitGroups(t: TensorInfo, d: ModelDims): [string, TensorInfo][] {
  const queries = (d.heads / d.kvHeads) * d.headDim;
  const group = queries + 2 * d.headDim;
  checkRows(t, t.shape[1] ?? 1, group * d.kvHeads);
  const gather = (from: number, rows: number): TensorInfo => {
    const pieces = Array.from({ length: d.kvHeads }, (_, g) => rowsOf(t, t.name, g * group + from, rows));
    const byteLength = pieces.reduce((sum, p) => sum + p.byteLength, 0);
    const runs = pieces.map((p) => ({ offset: p.offset, rows, row: p.packed?.row }));
    return { ...t, shape: [t.shape[0]!, rows * d.kvHeads], offset: pieces[0]!.offset, byteLength, runs };
  };
  return [
    ['attn_q', gather(0, queries)],
    ['attn_k', gather(queries, d.headDim)],
    ['attn_v', gather(queries + d.headDim, d.headDim)],
  ];
}

function checkRows(t: TensorInfo, have: number, need: number): void {
  if (have !== need)
    throw errors.badModelFile(t.file ?? '', `tensor '${t.name}' has ${have} rows, the model needs ${need}`);
}
