/** From the tensors of an adapter's file to parts that fit a model: fused matrices taken apart, shapes and ranks checked. */
import { errors } from '../../errors.js';
import type { AdapterPart, FamilyFlags, ModelDims, TensorInfo } from '../../types.js';
import type { Rope } from '../rope.js';
import { neededTensors } from '../shapes.js';

/** Of the model that the adapter is for. */
export interface AdaptedModel {
  architecture: string;
  dims: ModelDims;
  tiedOutput: boolean;
  flags: Partial<FamilyFlags>;
  rope: Rope;
}

/** A and B of one matrix, as the file has them. */
export interface Pair {
  layer: number;
  /** GGUF's name of the matrix; 'attn_qkv' and 'ffn_gate_up' hold several. */
  role: string;
  /** For messages. */
  name: string;
  a: TensorInfo;
  b: TensorInfo;
  scale: number;
}

export const ADAPTED_ROLES = ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'] as const;
const FUSED: Readonly<Record<string, readonly string[]>> = {
  attn_qkv: ['attn_q', 'attn_k', 'attn_v'],
  ffn_gate_up: ['ffn_gate', 'ffn_up'],
};

/** Beyond it an adapter is no longer a small addition. */
const MAX_RANK = 1024;
const TYPES = ['F32', 'F16', 'BF16'];

/**
 * `pairwise`: rows of q and k are ordered as llama.cpp has them for rotations of neighbours (2i, 2i+1).
 * @throws bad_adapter
 */
export function partsOf(name: string, pairs: readonly Pair[], model: AdaptedModel, pairwise: boolean): AdapterPart[] {
  const shapes = neededTensors(model.dims, model.tiedOutput, model.flags);
  const parts: AdapterPart[] = [];
  for (const pair of pairs) parts.push(...partsOfPair(name, pair, model, shapes, pairwise));
  const seen = new Set<string>();
  for (const { weight } of parts) {
    if (seen.has(weight)) throw errors.badAdapter(name, `it adds to '${weight}' twice`);
    seen.add(weight);
  }
  if (parts.length === 0) throw errors.badAdapter(name, 'it holds no A and B of any matrix');
  return parts;
}

function partsOfPair(
  name: string,
  pair: Pair,
  model: AdaptedModel,
  shapes: ReadonlyMap<string, number[]>,
  pairwise: boolean,
): AdapterPart[] {
  const { layer, role, a, b, scale } = pair;
  const bad = (what: string) => errors.badAdapter(name, what);
  if (layer >= model.dims.layers)
    throw bad(`it is for another model: it adds to layer ${layer}, and this one has ${model.dims.layers}`);
  const targets = FUSED[role] ?? [role];
  const wanted = targets.map((t) => shapes.get(`blk.${layer}.${t}.weight`));
  if (wanted.some((w) => !w))
    throw bad(`it adds to '${pair.name}', and this model (${model.architecture}) has no such matrix`);
  const inputs = wanted[0]![0]!;
  const outputs = wanted.reduce((sum, w) => sum + w![1]!, 0);
  const rank = a.shape[1] ?? 1;
  if (rank > MAX_RANK) throw bad(`'${pair.name}' has rank ${rank}; at most ${MAX_RANK} can be`);
  for (const [t, x, y] of [
    [a, inputs, rank],
    [b, rank, outputs],
  ] as const) {
    if (t.shape.length > 2 || t.shape[0] !== x || (t.shape[1] ?? 1) !== y)
      throw bad(
        `it is for another model, or damaged: '${t.name}' has shape (${t.shape.join(', ')}), this model needs (${x}, ${y})`,
      );
    if (!TYPES.includes(t.type)) throw bad(`'${t.name}' has type ${t.type}; ${TYPES.join(', ')} can be read`);
  }
  if (!Number.isFinite(scale)) throw bad(`the scale of '${pair.name}' is ${scale}`);
  let first = 0;
  return targets.map((target, i) => {
    const count = wanted[i]![1]!;
    const rows = rowsOf(target, first, count, model, pairwise, targets.length > 1, bad);
    first += count;
    return { weight: `blk.${layer}.${target}.weight`, rank, scale, a, b, rows };
  });
}

/** Which rows of B make the outputs of a matrix; null: the same ones. */
function rowsOf(
  role: string,
  first: number,
  count: number,
  { dims, rope }: AdaptedModel,
  pairwise: boolean,
  fused: boolean,
  bad: (what: string) => Error,
): Int32Array | null {
  const turned = (role === 'attn_q' || role === 'attn_k') && pairwise === rope.neox;
  if (!turned && !fused) return null;
  if (turned && rope.dims !== dims.headDim)
    throw bad(`rows of '${role}' of heads that are rotated in part cannot be reordered`);
  const half = dims.headDim / 2;
  return Int32Array.from({ length: count }, (_, i) => {
    if (!turned) return first + i;
    const at = i % dims.headDim;
    // the model's row (head, pair, which of the two) is the adapter's (head, which, pair), or the other way round
    const from = rope.neox ? 2 * (at % half) + Math.floor(at / half) : (at % 2) * half + (at >> 1);
    return first + i - at + from;
  });
}
