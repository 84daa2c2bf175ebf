/** Rotary positions as GGUF files describe them. */
import { closeSync, openSync, readSync } from 'node:fs';
import { errors } from '../errors.js';
import type { TensorInfo } from '../types.js';
import type { GgufFile } from './gguf.js';
import type { Keys } from './keys.js';
import { makeRope, type Rope, type RopeScaling } from './rope.js';

export interface RopeOptions {
  /** Pairs of half the dimensions apart. */
  neox: boolean;
  /** Longest sequence that will be: LongRoPE has other factors beyond the context it was trained with. */
  sessionLen: number;
}

export function readRope(gguf: GgufFile, keys: Keys, headDim: number, options: RopeOptions): Rope {
  const dims = keys.integer('rope.dimension_count', headDim, 2, headDim);
  if (dims % 2 !== 0) throw errors.badGguf(gguf.path, `rope.dimension_count is ${dims}, which is odd`);
  return makeRope(
    dims,
    keys.positive('rope.freq_base', 10000),
    options.neox,
    ...readScalings(gguf, keys, dims / 2, options),
  );
}

function readScalings(gguf: GgufFile, keys: Keys, count: number, { sessionLen }: RopeOptions): RopeScaling[] {
  const type = keys.text('rope.scaling.type', 'none');
  const factor = keys.positive('rope.scaling.factor', keys.positive('rope.scale_linear', 1));
  const freqs = gguf.tensors.get('rope_freqs.weight');
  if (freqs) {
    const factors: RopeScaling = { kind: 'factors', factors: readF32(gguf, freqs, count), magnitude: 1 };
    return type === 'linear' ? [factors, { kind: 'linear', factor }] : [factors];
  }
  const long = gguf.tensors.get('rope_factors_long.weight');
  const short = gguf.tensors.get('rope_factors_short.weight');
  if (long && short) {
    const context = keys.integer('rope.scaling.original_context_length', keys.integer('context_length', 2048));
    const factors = readF32(gguf, sessionLen > context ? long : short, count);
    return [{ kind: 'longrope', factors, magnitude: keys.positive('rope.scaling.attn_factor', 1) }];
  }
  switch (type) {
    case 'none':
    case 'linear':
      return factor === 1 ? [] : [{ kind: 'linear', factor }];
    case 'llama3':
      return [
        {
          kind: 'llama3',
          factor,
          low: keys.positive('rope.scaling.low_freq_factor', 1),
          high: keys.positive('rope.scaling.high_freq_factor', 4),
          context: keys.positive('rope.scaling.original_context_length', 8192),
        },
      ];
    case 'yarn':
      return [readYarn(keys, factor)];
    default:
      throw errors.unsupportedModel(
        `its positions are scaled by '${type}' (supported: none, linear, llama3, yarn, longrope)`,
      );
  }
}

function readYarn(keys: Keys, factor: number): RopeScaling {
  const context = keys.integer('rope.scaling.original_context_length', keys.integer('context_length', 2048));
  const usual = factor > 1 ? 0.1 * Math.log(factor) + 1 : 1;
  return {
    kind: 'yarn',
    factor,
    context,
    betaFast: keys.positive('rope.scaling.yarn_beta_fast', 32),
    betaSlow: keys.positive('rope.scaling.yarn_beta_slow', 1),
    truncate: true,
    magnitude: usual * keys.positive('rope.scaling.attn_factor', 1),
  };
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
  const fd = openSync(tensor.file ?? gguf.path, 'r');
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
