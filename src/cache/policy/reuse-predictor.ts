/**
 * How likely a released text is used again: logistic regression over a few things known at its release, learned online.
 * Every release counts as a failure at once, and as a success if it comes back: so nothing waits for an outcome, and
 * early experience is not all success. That shifts the score, but keeps its order, which is all that counts here.
 * Features are packed into one integer, so that they can be kept with a ghost.
 */

/** Buckets of each feature: turn, new blocks, length, last pause, part of the text. */
const SIZES = [8, 8, 16, 16, 4] as const;
const SHIFTS = [0, 3, 6, 10, 14] as const;
export const FEATURE_BITS = 16;
const FEATURES = SIZES.length;

/** Score classes. */
export const SCORE_BINS = 16;
const LOWEST = -5;
const BIN_WIDTH = 0.4;

/** Size of the first steps of learning. */
const RATE = 0.2;
/** Where learning starts: talks that went on go on, long new texts less so, what was used before more so. */
const START = [
  [0, -0.3, 0, 0.45, 0.75, 1, 1.2, 1.35],
  [0.9, 0.9, 0.45, 0, -0.3, -0.6, -0.6, -0.6],
  [],
  [],
  [-1.5, 0, 0.75],
] as const;

/** Parts of a released text, from its end: its last block, the blocks new in this turn, and those used before. */
export const END = 0;
export const FRESH = 1;
export const OLD = 2;

/** `turn`, `fresh`, `length` are counts; `pause` is in blocks stored since the text was last used, -1: never. */
export function packFeatures(turn: number, fresh: number, length: number, pause: number, part: number): number {
  const t = Math.min(7, turn);
  const f = Math.min(7, log2(fresh));
  const l = Math.min(15, 2 * log2(length));
  const p = pause < 0 ? 0 : Math.min(15, 1 + log2(pause));
  return t | (f << SHIFTS[1]) | (l << SHIFTS[2]) | (p << SHIFTS[3]) | (part << SHIFTS[4]);
}

/** Share of uses that a score class stands for. */
export function rateOfBin(bin: number): number {
  return 1 / (1 + Math.exp(-(LOWEST + (bin + 0.5) * BIN_WIDTH)));
}

export class ReusePredictor {
  readonly #weights = SIZES.map((n, i) => {
    const w = new Float64Array(n);
    w.set(START[i]!);
    return w;
  });
  readonly #counts = SIZES.map((n) => new Float64Array(n));
  #bias = -1;
  #seen = 0;

  score(features: number): number {
    let s = this.#bias;
    for (let i = 0; i < FEATURES; i++) s += this.#weights[i]![(features >>> SHIFTS[i]!) & (SIZES[i]! - 1)]!;
    return s;
  }

  bin(features: number): number {
    return Math.max(0, Math.min(SCORE_BINS - 1, Math.floor((this.score(features) - LOWEST) / BIN_WIDTH)));
  }

  learn(features: number, used: boolean): void {
    const error = (used ? 1 : 0) - 1 / (1 + Math.exp(-this.score(features)));
    this.#bias += (error * RATE) / Math.sqrt(++this.#seen + 10);
    for (let i = 0; i < FEATURES; i++) {
      const k = (features >>> SHIFTS[i]!) & (SIZES[i]! - 1);
      const n = ++this.#counts[i]![k]!;
      this.#weights[i]![k]! += (error * RATE) / Math.sqrt(n + 10);
    }
  }
}

/** Whole part of the binary logarithm of n + 1. */
function log2(n: number): number {
  return 31 - Math.clz32(n + 1);
}
