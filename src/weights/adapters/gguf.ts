/** Adapters as llama.cpp's convert_lora_to_gguf.py makes them. */
import { errors } from '../../errors.js';
import type { TensorInfo } from '../../types.js';
import type { GgufFile } from '../gguf.js';
import { GGUF_FAMILIES } from '../gguf-families.js';
import { readGguf } from '../gguf-split.js';
import { ADAPTED_ROLES, type AdaptedModel, type Pair } from './shape.js';

const NAME = /^blk\.(\d{1,5})\.(\w+)\.weight\.lora_([ab])$/;

/** `pairwise`: see partsOf. @throws bad_adapter, bad_gguf, io_error */
export function readGgufAdapter(file: string, name: string, model: AdaptedModel): { pairs: Pair[]; pairwise: boolean } {
  const gguf = readGguf(file);
  const bad = (what: string) => errors.badAdapter(name, what);
  const { metadata } = gguf;
  if (metadata.get('general.type') !== 'adapter')
    throw bad(`'${file}' is no adapter (its general.type is not 'adapter')`);
  if (metadata.get('adapter.type') !== 'lora')
    throw bad(`'${file}' is no LoRA adapter (its adapter.type is not 'lora')`);
  if (metadata.has('adapter.alora.invocation_tokens'))
    throw bad('it is an activated LoRA, which works from some tokens on only');
  const architecture = String(metadata.get('general.architecture'));
  const family = Object.hasOwn(GGUF_FAMILIES, architecture) ? GGUF_FAMILIES[architecture] : undefined;
  if (!family) throw bad(`it is for models of architecture '${architecture.slice(0, 60)}', which is not known`);
  const alpha = metadata.get('adapter.lora.alpha');
  if (typeof alpha !== 'number' || !Number.isFinite(alpha)) throw bad("metadata 'adapter.lora.alpha' is no number");
  return { pairs: pairsOf(gguf, alpha, model, bad), pairwise: !family.neox };
}

function pairsOf(gguf: GgufFile, alpha: number, { dims }: AdaptedModel, bad: (what: string) => Error): Pair[] {
  const found = new Map<string, { a?: TensorInfo; b?: TensorInfo; layer: number; matrix: string }>();
  for (const [key, t] of gguf.tensors) {
    const [, layer, matrix, side] = NAME.exec(key) ?? [];
    if (!matrix || !([...ADAPTED_ROLES, 'attn_qkv'] as string[]).includes(matrix))
      throw bad(
        `it holds '${key.slice(0, 200)}'; adapters can add to ${ADAPTED_ROLES.join(', ')}, not to embeddings, the output or experts`,
      );
    const id = `blk.${layer}.${matrix}`;
    const entry = found.get(id) ?? { layer: Number(layer), matrix };
    entry[side as 'a' | 'b'] = { ...t, file: gguf.path };
    found.set(id, entry);
  }
  return [...found].map(([name, { layer, matrix, a, b }]) => {
    if (!a || !b) throw bad(`'${name}' has ${a ? 'no B' : 'no A'}`);
    // Phi-3: the rows of gate stand before those of up
    const role = matrix === 'ffn_up' && b.shape[1] === 2 * dims.ffDim ? 'ffn_gate_up' : matrix;
    // as llama.cpp has it: no alpha, no scale
    return { layer, role, name, a, b, scale: alpha === 0 ? 1 : alpha / (b.shape[0] ?? 1) };
  });
}
