/**
 * Which product kernel, with which tiles, for how many rows: what tuning in the chain of a whole step chose (native/cuda/README.md).
 * Every choice adds in the same order, so none changes a bit.
 */
import { invariant } from '../../errors.js';
import type { KernelKey } from './kernels.js';
import { Epilogue, isFloat, type Matrix, type Plan, UNITS, up } from './plan.js';

export interface Gpu {
  /** 90 for compute capability 9.0. */
  capability: number;
  /** sm_90 whose wgmma adds as its mma.sync does. */
  wgmma: boolean;
  multiprocessors: number;
  sharedBytes: number;
}
export interface ProductKernel {
  key: KernelKey;
  block: number;
  shared: number;
  /** Features and rows of a tile. */
  features: number;
  rows: number;
  /** Blocks at most; 0 = one a tile. */
  most: number;
  /** Reads 16-bit tiles, into which quantised weights are dequantised before: the same values, so the same bits. */
  scratch: boolean;
}

/** Beyond so many rows each of several GPUs adds the shares of its own rows alone: sums go over the link once. */
const ALL_OWN_ROWS = 256;
export const ownsRows = (ranks: number, rows: number): boolean => ranks > 1 && rows > ALL_OWN_ROWS;
/** Rows are owned by tiles of so many; of more rows of logits each GPU gets and draws its own. */
export const OWNED_TILE = 64;
export const ownsLogits = (ranks: number, rows: number): boolean => ranks > 1 && rows > OWNED_TILE;
/** From so many rows on quantised weights are dequantised once for all of them. */
const SCRATCH_ROWS = 896;
/** Row counts that kernels are chosen for; beyond the last one: prefill. */
export const ROW_CLASSES = [8, 16, 32, 64, 128, 256, SCRATCH_ROWS, Number.MAX_SAFE_INTEGER];
export const rowClass = (rows: number): number => ROW_CLASSES.find((n) => rows <= n)!;

type Config =
  | { kind: 'mma'; mw: number; nw?: number; bn: number; kt: number; stages: number; most?: number }
  | { kind: 'wgmma'; wgs?: number; bn: number; kt: number; stages: number; most?: number }
  | QuantConfig;
type QuantConfig = { kind: 'q'; mw: number; bn: number; ku: number; stages: number; wgmma?: 1 };
type Role = 'qkv' | 'o' | 'gateUp' | 'down' | 'logits';

const M = { kind: 'mma', mw: 1, kt: 4 } as const;
const W = { kind: 'wgmma', kt: 2 } as const;
const ALL = -1;
/** sm_90, 16-bit weights. `most` ALL: as many blocks as multiprocessors. */
const HOPPER: Record<number, Record<Role, Config>> = {
  8: {
    qkv: { ...M, bn: 8, stages: 6 },
    o: { ...M, bn: 8, stages: 8 },
    gateUp: { ...M, mw: 2, bn: 8, stages: 2 },
    down: { ...M, mw: 2, bn: 8, stages: 7 },
    logits: { ...M, mw: 2, kt: 2, bn: 8, stages: 3 },
  },
  16: {
    qkv: { ...M, bn: 16, stages: 4 },
    o: { ...M, mw: 2, bn: 16, stages: 8, most: ALL },
    gateUp: { ...W, bn: 16, stages: 4 },
    down: { ...M, mw: 2, bn: 16, stages: 6 },
    logits: { ...M, mw: 2, kt: 2, bn: 16, stages: 3 },
  },
  32: {
    qkv: { ...W, bn: 32, stages: 8 },
    o: { ...W, bn: 32, stages: 8 },
    gateUp: { ...W, bn: 32, stages: 8 },
    down: { ...W, bn: 32, stages: 6 },
    logits: { ...W, bn: 32, stages: 4 },
  },
  64: {
    qkv: { ...W, bn: 64, stages: 4 },
    o: { ...W, bn: 64, stages: 6, most: ALL },
    gateUp: { ...W, bn: 64, stages: 4, most: ALL },
    down: { ...W, bn: 64, stages: 6, most: ALL },
    logits: { ...W, bn: 64, stages: 3 },
  },
  128: {
    qkv: { ...W, kt: 1, bn: 64, stages: 6 },
    o: { ...W, kt: 1, bn: 64, stages: 8, most: ALL },
    gateUp: { ...W, kt: 1, bn: 128, wgs: 2, stages: 4, most: ALL },
    down: { ...W, bn: 64, stages: 4 },
    logits: { ...W, kt: 1, bn: 128, stages: 5 },
  },
  256: {
    qkv: { ...W, kt: 1, bn: 256, stages: 4 },
    o: { ...W, bn: 128, stages: 4 },
    gateUp: { ...W, kt: 1, bn: 256, wgs: 2, stages: 4, most: ALL },
    down: { ...W, bn: 128, stages: 4 },
    logits: { ...W, kt: 1, bn: 256, wgs: 2, stages: 4 },
  },
};
/** `qkv` of so few features that tiles of all rows leave half of the multiprocessors idle (a GPU's share of Llama-3-8B, small models). */
const NARROW: Record<number, Config> = {
  128: { ...W, bn: 64, stages: 4 },
  256: { ...W, kt: 1, bn: 64, stages: 6 },
};
/** sm_90, few rows, matrices of a small model: latency is all. */
const SMALL: Record<'float' | 'quantised', Record<Role, Config>> = {
  float: {
    qkv: { ...M, bn: 8, stages: 16 },
    o: { ...M, bn: 8, stages: 8 },
    gateUp: { ...M, mw: 2, bn: 8, stages: 9 },
    down: { ...M, bn: 8, stages: 8 },
    logits: { ...M, mw: 2, kt: 2, bn: 8, stages: 3 },
  },
  quantised: {
    qkv: { kind: 'q', mw: 2, bn: 8, ku: 4, stages: 4 },
    o: { kind: 'q', mw: 2, bn: 8, ku: 4, stages: 4 },
    gateUp: { kind: 'q', mw: 4, bn: 8, ku: 4, stages: 9 },
    down: { kind: 'q', mw: 2, bn: 8, ku: 4, stages: 7 },
    logits: { kind: 'q', mw: 4, bn: 8, ku: 2, stages: 2 },
  },
};
const SMALL_WEIGHTS = 2 ** 22;

/** Quantised weights: blocks of 256 inputs (tuned with Q4_K), of 32 (with Q8_0). Stages are fewer where they do not fit. */
const K = { kind: 'q', ku: 1 } as const;
const B = { kind: 'q' } as const;
const QUANTISED: Record<'large' | 'small', Record<number, Record<Role, QuantConfig>>> = {
  large: {
    8: {
      qkv: { ...K, mw: 4, bn: 8, ku: 4, stages: 2 },
      o: { ...K, mw: 4, bn: 8, ku: 4, stages: 2 },
      gateUp: { ...K, mw: 8, bn: 8, ku: 2, stages: 2 },
      down: { ...K, mw: 1, bn: 8, ku: 4, stages: 3 },
      logits: { ...K, mw: 8, bn: 8, stages: 4 },
    },
    64: {
      qkv: { ...K, mw: 4, bn: 64, stages: 4, wgmma: 1 },
      o: { ...K, mw: 4, bn: 64, stages: 3, wgmma: 1 },
      gateUp: { ...K, mw: 4, bn: 64, stages: 2, wgmma: 1 },
      down: { ...K, mw: 4, bn: 64, stages: 3, wgmma: 1 },
      logits: { ...K, mw: 4, bn: 64, stages: 2, wgmma: 1 },
    },
    128: {
      qkv: { ...K, mw: 8, bn: 64, stages: 3, wgmma: 1 },
      o: { ...K, mw: 4, bn: 64, stages: 3, wgmma: 1 },
      gateUp: { ...K, mw: 8, bn: 128, stages: 2, wgmma: 1 },
      down: { ...K, mw: 4, bn: 64, stages: 3, wgmma: 1 },
      logits: { ...K, mw: 8, bn: 128, stages: 2, wgmma: 1 },
    },
    256: {
      qkv: { ...K, mw: 8, bn: 128, stages: 2, wgmma: 1 },
      o: { ...K, mw: 8, bn: 64, stages: 3, wgmma: 1 },
      gateUp: { ...K, mw: 8, bn: 128, stages: 2, wgmma: 1 },
      down: { ...K, mw: 8, bn: 64, stages: 3, wgmma: 1 },
      logits: { ...K, mw: 8, bn: 128, stages: 2, wgmma: 1 },
    },
  },
  small: {
    8: {
      qkv: { ...B, mw: 4, bn: 8, ku: 4, stages: 6 },
      o: { ...B, mw: 4, bn: 8, ku: 8, stages: 3 },
      gateUp: { ...B, mw: 8, bn: 8, ku: 4, stages: 5 },
      down: { ...B, mw: 1, bn: 8, ku: 8, stages: 5 },
      logits: { ...B, mw: 8, bn: 8, ku: 4, stages: 2 },
    },
    64: {
      qkv: { ...B, mw: 4, bn: 64, ku: 2, stages: 5, wgmma: 1 },
      o: { ...B, mw: 4, bn: 64, ku: 8, stages: 2 },
      gateUp: { ...B, mw: 8, bn: 64, ku: 2, stages: 2, wgmma: 1 },
      down: { ...B, mw: 4, bn: 64, ku: 8, stages: 2 },
      logits: { ...B, mw: 8, bn: 64, ku: 2, stages: 2, wgmma: 1 },
    },
    128: {
      qkv: { ...B, mw: 8, bn: 64, ku: 4, stages: 3, wgmma: 1 },
      o: { ...B, mw: 4, bn: 64, ku: 4, stages: 3 },
      gateUp: { ...B, mw: 8, bn: 128, ku: 2, stages: 2, wgmma: 1 },
      down: { ...B, mw: 4, bn: 64, ku: 4, stages: 3 },
      logits: { ...B, mw: 8, bn: 128, ku: 2, stages: 2, wgmma: 1 },
    },
    256: {
      qkv: { ...B, mw: 8, bn: 128, ku: 2, stages: 2, wgmma: 1 },
      o: { ...B, mw: 8, bn: 64, ku: 4, stages: 3, wgmma: 1 },
      gateUp: { ...B, mw: 8, bn: 128, ku: 2, stages: 2, wgmma: 1 },
      down: { ...B, mw: 8, bn: 64, ku: 4, stages: 3, wgmma: 1 },
      logits: { ...B, mw: 8, bn: 128, ku: 2, stages: 2, wgmma: 1 },
    },
  },
};
/** `down` for few rows where its features make tiles for all multiprocessors (Llama-3-70B): twice the warps, one wave of blocks. */
const WIDE_DOWN: QuantConfig = { ...K, mw: 4, bn: 8, ku: 4, stages: 3 };
const WIDE_FEATURES = 8192;
const HOPPER_PREFILL: Config = { ...W, kt: 1, bn: 256, wgs: 2, stages: 4, most: ALL };

function roleOf(epilogue: number, matrix: Matrix): Role {
  if (epilogue === Epilogue.store) return 'qkv';
  if (epilogue === Epilogue.silu) return 'gateUp';
  if (epilogue === Epilogue.logits) return 'logits';
  return matrix.rowInputs > 2 * matrix.features ? 'down' : 'o';
}

const isSmall = ({ features, k64 }: Matrix): boolean => features * k64 * 64 < SMALL_WEIGHTS;

/** Quantised weights, dequantised in registers. */
function quantised(matrix: Matrix, epilogue: number, rows: number, { wgmma, sharedBytes }: Gpu): QuantConfig {
  const large = UNITS[matrix.type]!.inputs === 256;
  if (!wgmma) {
    if (rows <= 8) return { kind: 'q', mw: 2, bn: 8, ku: large ? 1 : 4, stages: 4 };
    // two stages of 64 tokens do not fit where a block has 99 KiB
    return { kind: 'q', mw: 4, bn: sharedBytes < 120_000 ? 32 : 64, ku: large ? 1 : 2, stages: 2 };
  }
  if (rows > 256) return { kind: 'q', mw: 8, bn: 128, ku: large ? 1 : 2, stages: 2, wgmma: 1 };
  const role = roleOf(epilogue, matrix);
  if (rows <= 8 && !large && isSmall(matrix)) return SMALL.quantised[role] as QuantConfig;
  if (rows <= 8 && large && role === 'down' && matrix.features >= WIDE_FEATURES) return WIDE_DOWN;
  const tuned = QUANTISED[large ? 'large' : 'small'][rows <= 8 ? 8 : Math.max(rows, 64)]![role];
  return { ...tuned, bn: Math.min(rows, tuned.bn) };
}

/** Is this product one of 16-bit tiles, because there are so many rows? */
const usesScratch = (matrix: Matrix, rows: number, gpu: Gpu): boolean =>
  gpu.wgmma && !isFloat(matrix.type) && rows > SCRATCH_ROWS;

/** Bytes of the tiles that products of a plan dequantise into. */
export function scratchBytes(plan: Plan, gpu: Gpu): number {
  const sizes = plan.ops.map((op) => {
    if (op.op !== 'product' || plan.buffers.get(op.out)!.perLogit) return 0;
    const matrix = plan.matrices[op.matrix]!;
    return usesScratch(matrix, Number.MAX_SAFE_INTEGER, gpu) ? up(matrix.features, 64) * matrix.k64 * 128 : 0;
  });
  return Math.max(0, ...sizes);
}

function configOf(matrix: Matrix, epilogue: number, rows: number, gpu: Gpu): Config {
  if (usesScratch(matrix, rows, gpu)) return HOPPER_PREFILL;
  if (!isFloat(matrix.type)) return quantised(matrix, epilogue, rows, gpu);
  if (gpu.wgmma && rows <= 8 && isSmall(matrix)) return SMALL.float[roleOf(epilogue, matrix)];
  const narrow = epilogue === Epilogue.store && matrix.features <= 32 * gpu.multiprocessors;
  if (gpu.wgmma) return (narrow && NARROW[rows]) || (HOPPER[rows]?.[roleOf(epilogue, matrix)] ?? HOPPER_PREFILL);
  if (rows <= 16) return { ...M, mw: 2, bn: rows, stages: 4 };
  return { kind: 'mma', mw: 8, bn: 64, kt: 1, stages: 3 };
}

/** The kernel for a matrix and a class of row counts. `norm`: values a row whose norm it makes itself, or 0. */
export function productKernel(
  matrix: Matrix,
  act: number,
  epilogue: number,
  rows: number,
  gpu: Gpu,
  norm = 0,
): ProductKernel {
  const c = configOf(matrix, epilogue, rows, gpu);
  const most = 'most' in c && c.most === ALL ? gpu.multiprocessors : 0;
  const scratch = usesScratch(matrix, rows, gpu);
  const tokens = norm > 0 ? 0 : c.bn * 128;
  const common = { ACT: act, BN: c.bn, ...sumsOf(matrix, epilogue, rows) };
  if (c.kind === 'mma') {
    const nw = c.nw ?? 1;
    const { shared, stages } = ring(c.stages, c.kt * (c.mw * 2048 + tokens), c.mw * nw, gpu, 16 * norm);
    const macros = { ...common, MW: c.mw, NW: nw, KT: c.kt, STAGES: stages, NORM: norm };
    return {
      key: { kernel: 'gemm_mma', macros },
      block: 32 * (c.mw * nw + 1),
      shared,
      features: 16 * c.mw,
      rows: c.bn,
      most,
      scratch,
    };
  }
  if (c.kind === 'wgmma') {
    const wgs = c.wgs ?? 1;
    const { shared, stages } = ring(c.stages, c.kt * (wgs * 8192 + c.bn * 128), 4 * wgs, gpu);
    const whole = (matrix.k64 / matrix.cuts) % c.kt === 0 && c.kt > 1 ? 1 : 0;
    const macros = { ...common, WGS: wgs, KT: c.kt, STAGES: stages, WHOLE: whole };
    const block = wgs === 2 && c.bn === 256 ? 384 : 128 * wgs + 32;
    return { key: { kernel: 'gemm_wgmma', macros }, block, shared, features: 64 * wgs, rows: c.bn, most, scratch };
  }
  const unit = UNITS[matrix.type]!;
  const stage = up(c.ku * (unit.inputs / 64) * tokens + c.ku * c.mw * unit.bytes, 1024);
  const { shared, stages } = ring(c.stages, stage, c.mw, gpu, 16 * norm);
  const macros = { ...common, TYPE: matrix.type, MW: c.mw, KU: c.ku, STAGES: stages, WGMMA: c.wgmma ?? 0, NORM: norm };
  const key = { kernel: 'gemm_q', macros };
  return { key, block: 32 * (c.mw + 1), shared, features: 16 * c.mw, rows: c.bn, most, scratch };
}

/** What a product does with its sums: shares of them are pushed to all GPUs as logits are. */
function sumsOf({ cuts, ranks }: Matrix, epilogue: number, rows: number): Record<string, number> {
  const owned = epilogue === Epilogue.logits ? ownsLogits(ranks, rows) : ownsRows(ranks, rows);
  if (ranks > 1) return { EPI: Epilogue.logits, RANKS: ranks, ...(owned ? { OWNED: 1 } : {}) };
  return epilogue === Epilogue.residual && cuts > 1 ? { EPI: epilogue, PARTS: cuts } : { EPI: epilogue };
}

/** As many stages as wanted, or as shared memory holds. */
function ring(wanted: number, stage: number, warps: number, { sharedBytes }: Gpu, more = 0) {
  const stages = Math.min(wanted, Math.floor((sharedBytes - warps * 2560 - more) / (stage + 16)));
  invariant(stages >= 2, `a product's stage of ${stage} bytes does not fit ${sharedBytes} bytes of shared memory`);
  return { stages, shared: stages * stage + warps * 2560 + 16 * stages + more };
}
