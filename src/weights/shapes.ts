/** The tensors that a model of these dimensions and flags is made of, by their roles; names are GGUF's. */
import { errors } from '../errors.js';
import type { ExpertFlags, FamilyFlags, ModelDims, TensorInfo } from '../types.js';

/** Name → shape, `shape[0]` contiguous. */
export function neededTensors(d: ModelDims, tiedOutput: boolean, flags: Partial<FamilyFlags>): Map<string, number[]> {
  const { norms = 'pre', qkNorm = 'none', biases } = flags;
  const q = d.heads * d.headDim;
  const kv = d.kvHeads * d.headDim;
  const wanted = new Map<string, number[]>([
    ['token_embd.weight', [d.dim, d.vocab]],
    ['output_norm.weight', [d.dim]],
  ]);
  if (!tiedOutput) wanted.set('output.weight', [d.dim, d.vocab]);
  for (let layer = 0; layer < d.layers; layer++) {
    const matrix = (name: string, inputs: number, outputs: number, bias = false) => {
      wanted.set(`blk.${layer}.${name}.weight`, [inputs, outputs]);
      if (bias) wanted.set(`blk.${layer}.${name}.bias`, [outputs]);
    };
    const norm = (name: string, width: number) => wanted.set(`blk.${layer}.${name}.weight`, [width]);
    if (norms !== 'post') norm('attn_norm', d.dim);
    matrix('attn_q', d.dim, q, biases?.qkv);
    matrix('attn_k', d.dim, kv, biases?.qkv);
    matrix('attn_v', d.dim, kv, biases?.qkv);
    if (qkNorm !== 'none') norm('attn_q_norm', qkNorm === 'head' ? d.headDim : q);
    if (qkNorm !== 'none') norm('attn_k_norm', qkNorm === 'head' ? d.headDim : kv);
    matrix('attn_output', q, d.dim, biases?.output);
    if (norms !== 'pre') norm('post_attention_norm', d.dim);
    if (norms !== 'post') norm('ffn_norm', d.dim);
    if (flags.experts && !flags.experts.denseLayers.includes(layer)) {
      for (const [name, shape] of expertTensors(d.dim, flags.experts)) wanted.set(`blk.${layer}.${name}.weight`, shape);
    } else {
      matrix('ffn_gate', d.dim, d.ffDim, biases?.gateUp);
      matrix('ffn_up', d.dim, d.ffDim, biases?.gateUp);
      matrix('ffn_down', d.ffDim, d.dim, biases?.down);
    }
    if (norms !== 'pre') norm('post_ffw_norm', d.dim);
  }
  return wanted;
}

function expertTensors(dim: number, e: ExpertFlags): [name: string, shape: number[]][] {
  const { count, width, sharedWidth, sharedGate } = e;
  return [
    ['ffn_gate_inp', [dim, count]],
    ['ffn_gate_exps', [dim, width, count]],
    ['ffn_up_exps', [dim, width, count]],
    ['ffn_down_exps', [width, dim, count]],
    ...(sharedGate ? ([['ffn_gate_inp_shexp', [dim]]] as [string, number[]][]) : []),
    ...(sharedWidth > 0
      ? ([
          ['ffn_gate_shexp', [dim, sharedWidth]],
          ['ffn_up_shexp', [dim, sharedWidth]],
          ['ffn_down_shexp', [sharedWidth, dim]],
        ] as [string, number[]][])
      : []),
  ];
}

/**
 * Every tensor of the program is there in its shape, and none that the program would leave out.
 * @throws bad_gguf, bad_model_file, unsupported_model
 */
export function checkTensors(
  path: string,
  tensors: ReadonlyMap<string, TensorInfo>,
  wanted: ReadonlyMap<string, number[]>,
  ignored: RegExp,
): void {
  for (const [name, shape] of wanted) {
    const tensor = tensors.get(name);
    if (!tensor) throw errors.badModelFile(path, `tensor '${name}' is missing`);
    const same = tensor.shape.every((n, i) => n === (shape[i] ?? 1)) && tensor.shape.length >= shape.length;
    if (same) continue;
    const have = tensor.shape.join(', ');
    throw errors.badModelFile(
      tensor.file ?? path,
      `tensor '${tensor.name}' has shape (${have}), the model needs (${shape.join(', ')})`,
    );
  }
  for (const name of tensors.keys()) {
    if (!wanted.has(name) && !ignored.test(name))
      throw errors.unsupportedModel(`its tensor '${name}' is not part of the architecture as it is computed here`);
  }
}

/** Biases that the first layer has: files do not say it otherwise. */
export function biasesOf(tensors: ReadonlyMap<string, TensorInfo>): FamilyFlags['biases'] {
  const has = (name: string) => tensors.has(`blk.0.${name}.bias`);
  return { qkv: has('attn_q'), output: has('attn_output'), gateUp: has('ffn_gate'), down: has('ffn_down') };
}

/** Rows [from, from + rows) of a matrix or vector as a tensor of its own. */
export function rowsOf(t: TensorInfo, name: string, from: number, rows: number): TensorInfo {
  const isVector = t.shape.length === 1;
  const all = isVector ? t.shape[0]! : t.shape[1]!;
  const bytes = t.byteLength / all;
  const shape = isVector ? [rows] : [t.shape[0]!, rows];
  if (t.packed)
    return { ...t, name, shape, byteLength: rows * bytes, packed: { ...t.packed, row: t.packed.row + from } };
  return { ...t, name, shape, offset: t.offset + from * bytes, byteLength: rows * bytes };
}
