/** Inverse frequencies of rotary positions (Su et al. 2021), with the scalings that llama files use. */
import { closeSync, openSync, readSync } from 'node:fs';
import { errors } from '../errors.js';
import type { TensorInfo } from '../types.js';
import type { GgufFile } from './gguf.js';
import type { Keys } from './keys.js';

export interface Rope {
  /** Leading dimensions of a head that are rotated. */
  dims: number;
  freqBase: number;
  /** Pairs (i, i + dims/2) instead of (2i, 2i+1). */
  neox: boolean;
  /** (dims / 2), scaled: angle = position × inverse frequency. */
  inverseFrequencies: Float32Array;
  /** Multiplies cos and sin. */
  magnitude: number;
  scaling: 'none' | 'linear' | 'llama3';
}

const FREQUENCIES = 'rope_freqs.weight';

export function readRope(gguf: GgufFile, keys: Keys, headDim: number): Rope {
  const dims = keys.integer('rope.dimension_count', headDim, 2, headDim);
  if (dims % 2 !== 0) throw errors.badGguf(gguf.path, `rope.dimension_count is ${dims}, which is odd`);
  const freqBase = keys.positive('rope.freq_base', 10000);
  const inverse = Float64Array.from({ length: dims / 2 }, (_, i) => freqBase ** ((-2 * i) / dims));
  const scaling = scale(gguf, keys, inverse);
  return { dims, freqBase, neox: false, inverseFrequencies: Float32Array.from(inverse), magnitude: 1, scaling };
}

/** Divides the inverse frequencies in place. */
function scale(gguf: GgufFile, keys: Keys, inverse: Float64Array): Rope['scaling'] {
  const type = keys.text('rope.scaling.type', 'none');
  const factor = keys.positive('rope.scaling.factor', keys.positive('rope.scale_linear', 1));
  const tensor = gguf.tensors.get(FREQUENCIES);
  if (tensor) {
    const factors = readF32(gguf, tensor, inverse.length);
    for (let i = 0; i < inverse.length; i++) inverse[i]! /= factors[i]!;
    if (type === 'linear') divide(inverse, factor);
    return 'llama3';
  }
  if (type === 'linear' || (type === 'none' && factor !== 1)) {
    divide(inverse, factor);
    return factor === 1 ? 'none' : 'linear';
  }
  if (type === 'llama3') {
    llama3(inverse, factor, keys);
    return 'llama3';
  }
  if (type === 'none') return 'none';
  throw errors.unsupportedModel(`its positions are scaled by '${type}' (supported: none, linear, llama3)`);
}

function divide(inverse: Float64Array, factor: number): void {
  for (let i = 0; i < inverse.length; i++) inverse[i]! /= factor;
}

/** Llama 3.1: long waves are slowed by `factor`, short ones are kept, those between are blended. */
function llama3(inverse: Float64Array, factor: number, keys: Keys): void {
  const low = keys.positive('rope.scaling.low_freq_factor', 1);
  const high = keys.positive('rope.scaling.high_freq_factor', 4);
  const context = keys.positive('rope.scaling.original_context_length', 8192);
  for (let i = 0; i < inverse.length; i++) {
    const turns = (context * inverse[i]!) / (2 * Math.PI);
    const smooth = high === low ? Number(turns >= high) : Math.min(1, Math.max(0, (turns - low) / (high - low)));
    inverse[i]! *= smooth + (1 - smooth) / factor;
  }
}

function readF32(gguf: GgufFile, tensor: TensorInfo, count: number): Float32Array {
  if (tensor.type !== 'F32' || tensor.shape[0] !== count || tensor.byteLength !== 4 * count) {
    const shape = tensor.shape.join(', ');
    throw errors.badGguf(
      gguf.path,
      `tensor '${tensor.name}' is ${tensor.type} (${shape}), the model needs F32 (${count})`,
    );
  }
  const bytes = Buffer.alloc(tensor.byteLength);
  const fd = openSync(gguf.path, 'r');
  try {
    readSync(fd, bytes, 0, bytes.length, tensor.offset);
  } finally {
    closeSync(fd);
  }
  const values = Float32Array.from({ length: count }, (_, i) => bytes.readFloatLE(4 * i));
  if (!values.every((x) => x > 0 && Number.isFinite(x)))
    throw errors.badGguf(gguf.path, `tensor '${tensor.name}' holds values that are not positive`);
  return values;
}
