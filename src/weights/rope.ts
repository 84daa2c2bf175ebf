/** Inverse frequencies of rotary positions (Su et al. 2021), with the scalings that models use. */
import { errors } from '../errors.js';
import type { RopeConfig } from '../types.js';

export interface Rope extends RopeConfig {
  scaling: 'none' | RopeScaling['kind'];
}

export type RopeScaling =
  | { kind: 'linear'; factor: number }
  /** Llama 3.1: long waves are slowed by `factor`, short ones are kept, those between are blended. */
  | { kind: 'llama3'; factor: number; low: number; high: number; context: number }
  /** Peng et al. 2023. `magnitude`: null = 0.1 · ln(factor) + 1. */
  | {
      kind: 'yarn';
      factor: number;
      context: number;
      betaFast: number;
      betaSlow: number;
      truncate: boolean;
      magnitude: number | null;
    }
  /** A divisor of its own for each frequency (Ding et al. 2024, and what GGUF files of Llama 3.1 hold). */
  | { kind: 'longrope' | 'factors'; factors: ArrayLike<number>; magnitude: number };

/** @throws unsupported_model where the scaling does not fit `dims` */
export function makeRope(dims: number, freqBase: number, neox: boolean, ...scalings: RopeScaling[]): Rope {
  const inverse = Float64Array.from({ length: dims / 2 }, (_, i) => freqBase ** ((-2 * i) / dims));
  let magnitude = 1;
  for (const s of scalings) magnitude *= scale(inverse, s, dims, freqBase);
  const scaling = scalings[0]?.kind ?? 'none';
  return { dims, freqBase, neox, inverseFrequencies: Float32Array.from(inverse), magnitude, scaling };
}

/** Scales the inverse frequencies in place; returns what cos and sin are multiplied with. */
function scale(inverse: Float64Array, s: RopeScaling, dims: number, freqBase: number): number {
  switch (s.kind) {
    case 'linear':
      for (let i = 0; i < inverse.length; i++) inverse[i]! /= s.factor;
      return 1;
    case 'llama3':
      llama3(inverse, s);
      return 1;
    case 'yarn':
      yarn(inverse, s, dims, freqBase);
      return s.magnitude ?? (s.factor > 1 ? 0.1 * Math.log(s.factor) + 1 : 1);
    default:
      if (s.factors.length !== inverse.length)
        throw errors.unsupportedModel(
          `its positions have ${s.factors.length} factors for ${inverse.length} frequencies`,
        );
      for (let i = 0; i < inverse.length; i++) inverse[i]! /= s.factors[i]!;
      return s.magnitude;
  }
}

function llama3(inverse: Float64Array, s: Extract<RopeScaling, { kind: 'llama3' }>): void {
  for (let i = 0; i < inverse.length; i++) {
    const turns = (s.context * inverse[i]!) / (2 * Math.PI);
    const smooth =
      s.high === s.low ? Number(turns >= s.high) : Math.min(1, Math.max(0, (turns - s.low) / (s.high - s.low)));
    inverse[i]! *= smooth + (1 - smooth) / s.factor;
  }
}

/** Waves of more turns than betaFast are kept, those of fewer than betaSlow slowed, and between them it goes over evenly. */
function yarn(inverse: Float64Array, s: Extract<RopeScaling, { kind: 'yarn' }>, dims: number, freqBase: number): void {
  const at = (turns: number): number => (dims * Math.log(s.context / (turns * 2 * Math.PI))) / (2 * Math.log(freqBase));
  const [from, to] = [at(s.betaFast), at(s.betaSlow)];
  const low = Math.max(s.truncate ? Math.floor(from) : from, 0);
  const top = Math.min(s.truncate ? Math.ceil(to) : to, dims - 1);
  const high = top === low ? low + 0.001 : top;
  for (let i = 0; i < inverse.length; i++) {
    const slowed = Math.min(1, Math.max(0, (i - low) / (high - low)));
    inverse[i]! *= 1 - slowed + slowed / s.factor;
  }
}
