/** Sampling in plain f64: the distribution a device draws from, and the raw log-probabilities. */
import type { StepSampling } from '../../src/device/device.js';

/** Logits after bias, mask and penalties for logit row i; -Infinity where banned. */
export function adjusted(logits: ArrayLike<number>, s: StepSampling, i: number): Float64Array {
  const y = Float64Array.from(logits);
  for (let k = s.biasStart[i]; k < s.biasStart[i + 1]; k++) y[s.biasTokens[k]] += s.biasValues[k];
  if (s.maskRow[i] >= 0) {
    const row = s.maskRow[i] * Math.ceil(y.length / 32);
    y.forEach((_, t) => {
      if (!((s.masks[row + (t >> 5)] >> (t & 31)) & 1)) y[t] = Number.NEGATIVE_INFINITY;
    });
  }
  for (let k = s.historyStart[i]; k < s.historyStart[i + 1]; k++) {
    const t = s.historyTokens[k];
    y[t] = y[t] > 0 ? y[t] / s.repetitionPenalty[i] : y[t] * s.repetitionPenalty[i];
    // generated tokens only, not those that stand in the prompt alone
    if (s.historyCounts[k] > 0) y[t] -= s.presencePenalty[i] + s.frequencyPenalty[i] * s.historyCounts[k];
  }
  return y;
}

/** Probability of each token for row i: adjusted, then temperature, top-k, top-p, min-p. Greedy: all on the argmax. */
export function distribution(logits: ArrayLike<number>, s: StepSampling, i: number): Float64Array {
  const y = adjusted(logits, s, i);
  const order = [...y.keys()].sort((a, b) => y[b] - y[a] || a - b);
  const p = new Float64Array(y.length);
  if (s.temperature[i] === 0) {
    p[order[0]] = 1;
    return p;
  }
  const top = y[order[0]];
  const e = y.map((v) => Math.exp((v - top) / s.temperature[i]));
  let kept = s.topK[i] > 0 ? order.slice(0, s.topK[i]) : order;
  const mass = kept.reduce((sum, t) => sum + e[t], 0);
  if (s.topP[i] < 1) {
    let sum = 0;
    let n = 0;
    while (n < kept.length && (n === 0 || sum < s.topP[i] * mass)) sum += e[kept[n++]];
    kept = kept.slice(0, n);
  }
  if (s.minP[i] > 0) kept = kept.filter((t) => e[t] >= s.minP[i]);
  const total = kept.reduce((sum, t) => sum + e[t], 0);
  for (const t of kept) p[t] = e[t] / total;
  return p;
}

/** Raw log-probabilities. */
export function logSoftmax(logits: ArrayLike<number>): Float64Array {
  const x = Float64Array.from(logits);
  const top = x.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const lse = top + Math.log(x.reduce((sum, v) => sum + Math.exp(v - top), 0));
  return x.map((v) => v - lse);
}

const mix64 = (x: bigint): bigint => {
  let z = BigInt.asUintN(64, x);
  z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
  z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
  return z ^ (z >> 31n);
};

/** The random number in [0, 1) that draws the token at `position`. */
function uniformAt(low: number, high: number, position: number): number {
  const golden = 0x9e3779b97f4a7c15n;
  const key = mix64(((BigInt(high) << 32n) | BigInt(low)) + golden);
  return Number(mix64(key + golden * BigInt(position + 1)) >> 11n) / 2 ** 53;
}

/** The token of row i at `position`, or -1 if none may come. */
export function drawToken(logits: ArrayLike<number>, s: StepSampling, i: number, position: number): number {
  if (!Float64Array.from(logits).every(Number.isFinite)) return -1;
  if (!adjusted(logits, s, i).some((y) => y > Number.NEGATIVE_INFINITY)) return -1;
  const p = distribution(logits, s, i);
  if (s.temperature[i] === 0) return p.indexOf(1);
  const target = uniformAt(s.seed[2 * i], s.seed[2 * i + 1], position);
  let sum = 0;
  let last = -1;
  for (let t = 0; t < p.length && sum <= target; t++) {
    if (p[t] === 0) continue;
    sum += p[t];
    last = t;
  }
  return last;
}
