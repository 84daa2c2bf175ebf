/** A llama of random f32 weights as a file: small enough for everything, of whatever shape a test wants. */
import { type TensorSpec, type Value, writeGguf } from '../weights/gguf-builder.js';

interface Shape {
  headDim: number;
  heads?: number;
  layers?: number;
  /** Longest sequence; default 256. */
  context?: number;
  chatTemplate?: string;
  /** Tokens of these texts instead of words, the last of the vocabulary. */
  texts?: readonly string[];
}

const VOCAB = 320;
const FF = 64;

function metadata(
  dim: number,
  { heads = 2, layers = 1, context = 256, chatTemplate, texts = [] }: Shape,
): Record<string, Value> {
  const word = (i: number) => (i < 259 ? `<0x${(i - 3).toString(16).toUpperCase().padStart(2, '0')}>` : `▁w${i}`);
  const own = VOCAB - texts.length;
  const tokens = Array.from({ length: VOCAB }, (_, i) => ['<unk>', '<s>', '</s>'][i] ?? texts[i - own] ?? word(i));
  return {
    'general.architecture': { string: 'llama' },
    'general.name': { string: 'small' },
    'llama.context_length': { u32: context },
    'llama.embedding_length': { u32: dim },
    'llama.block_count': { u32: layers },
    'llama.feed_forward_length': { u32: FF },
    'llama.attention.head_count': { u32: heads },
    'llama.attention.head_count_kv': { u32: 1 },
    'llama.attention.layer_norm_rms_epsilon': { f32: 1e-5 },
    'llama.rope.dimension_count': { u32: dim / heads },
    'tokenizer.ggml.model': { string: 'llama' },
    'tokenizer.ggml.tokens': { strings: tokens },
    'tokenizer.ggml.scores': { f32s: tokens.map((_, i) => -i) },
    'tokenizer.ggml.token_type': {
      i32s: tokens.map((_, i) => (i === 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : i < own ? 1 : 4)),
    },
    'tokenizer.ggml.bos_token_id': { u32: 1 },
    'tokenizer.ggml.eos_token_id': { u32: 2 },
    ...(chatTemplate === undefined
      ? {}
      : { 'tokenizer.chat_template': { string: chatTemplate }, 'tokenizer.ggml.add_space_prefix': { bool: false } }),
  };
}

function tensors(dim: number, headDim: number, layers: number): TensorSpec[] {
  const list: TensorSpec[] = [];
  let offset = 0;
  let seed = 1;
  const add = (name: string, ...shape: number[]) => {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    for (let i = 0; i < values.length; i++) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      values[i] = shape.length === 1 ? 1 : (seed / 2 ** 32 - 0.5) * 0.5;
    }
    list.push({ name, shape, type: 0, offset, data: new Uint8Array(values.buffer) });
    offset += Math.ceil((4 * values.length) / 32) * 32;
  };
  add('token_embd.weight', dim, VOCAB);
  add('output_norm.weight', dim);
  for (let l = 0; l < layers; l++) {
    add(`blk.${l}.attn_norm.weight`, dim);
    add(`blk.${l}.ffn_norm.weight`, dim);
    add(`blk.${l}.attn_q.weight`, dim, dim);
    add(`blk.${l}.attn_k.weight`, dim, headDim);
    add(`blk.${l}.attn_v.weight`, dim, headDim);
    add(`blk.${l}.attn_output.weight`, dim, dim);
    add(`blk.${l}.ffn_gate.weight`, dim, FF);
    add(`blk.${l}.ffn_up.weight`, dim, FF);
    add(`blk.${l}.ffn_down.weight`, FF, dim);
  }
  return list;
}

export function writeSmallLlama(file: string, shape: Shape): string {
  const { headDim, heads = 2, layers = 1 } = shape;
  const dim = headDim * heads;
  return writeGguf(file, { metadata: metadata(dim, shape), tensors: tensors(dim, headDim, layers) });
}
