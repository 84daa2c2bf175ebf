// Matrix product with quantised weights, dequantised in registers: mma.sync, or wgmma with a in registers (LM_WGMMA = 1).
//
// LM_TYPE     GGML's number: Q4_0, Q4_1, Q8_0, Q4_K, Q5_K, Q6_K
// LM_MW       warps that multiply, 16 output features each: 1, 2, 4, 8; with wgmma 4 or 8
// LM_BN       tokens of a tile: 8, 16, 32, 64, 128; wgmma 256 too
// LM_KU       units of inputs (quant.h) in a stage
// LM_STAGES
// LM_PARTS, LM_RANKS: gemm.h
// Block: 32 · (LM_MW + 1) threads, the last warp copies. Grid: any; a block takes tiles blockIdx.x, + gridDim.x, …
// Shared memory: LM_STAGES · STAGE + LM_MW · LM_STAGING + 16 · LM_STAGES with STAGE = STAGE_B + LM_KU · LM_MW · unit bytes
// rounded up to 1,024, STAGE_B = LM_KU · (QK / 64) · LM_BN · 128; with LM_NORM STAGE_B = 0, and 16 · LM_NORM more.
#define LM_WAITING 2  // weights want the registers
#include "quant.h"
#include "gemm.h"
#if LM_WGMMA
#include "wgmma.h"
#endif

#define SEGMENTS (LM_QK / 64)
#define KT (LM_KU * SEGMENTS)
#define STAGE_B (LM_NORM ? 0 : KT * LM_BN * 128)
#define STAGE_A (LM_KU * LM_MW * LM_UNIT)
#define STAGE ((STAGE_B + STAGE_A + 1023) / 1024 * 1024)
#define NT (LM_BN / 8)

struct Tiles {
  int weight, token, strips, units, stages;
};
LM_DEVICE Tiles tiles_of(const LmGemm &p) {
  int units = p.k64 / SEGMENTS;
  return {ceil_div(p.n, 16 * LM_MW), ceil_div(p.rows, LM_BN), ceil_div(p.n, 64) * 4, units, ceil_div(part_of(units), LM_KU)};
}
LM_DEVICE int strips_of(int weight, int strips) {
  int n = strips - weight * LM_MW;
  return n < LM_MW ? n : LM_MW;
}
LM_DEVICE void copy_weights(const LmGemm &p, int weight, int strips, int units, int k, int count, u32 dst, u32 full, int lane, u64 policy) {
  for (int s = 0; s < strips; s++)
    copy_in_once(dst + s * LM_KU * LM_UNIT, p.weights + ((i64)(weight * LM_MW + s) * units + k) * LM_UNIT, count * LM_UNIT, full, lane,
                 policy);
}
LM_DEVICE void copy_tokens(const LmGemm &p, int first, int k, int kts, u32 dst, u32 full, int lane) {
  for (int i = 0; i < kts; i++)
    for (int q = 0; q < (LM_BN + 63) / 64; q++) {
      int row = first + 64 * q, rows = p.rows - row;
      if (rows <= 0) break;
      rows = rows < (LM_BN < 64 ? LM_BN : 64) ? rows : (LM_BN < 64 ? LM_BN : 64);
      copy_in(dst + i * LM_BN * 128 + q * LM_TILE_BYTES,
              p.in + ((i64)(row >> 6) * p.k64 + k + i) * LM_TILE_BYTES + (row & 63) * 128, rows * 128, full, lane);
    }
}

/** The copying warp: a ring of stages through all tiles of this block. Weights do not wait for the kernel before. */
LM_DEVICE void produce(const LmGemm &p, u32 ring, u32 full, u32 empty, int lane) {
  Tiles n = tiles_of(p);
  u64 policy = 0;
#if LM_SM90
  policy = policy_evict_first();
#endif
  int ahead = 0, count = n.weight * n.token;
  for (int pass = 0; pass < 2; pass++) {
    int i = 0;
    for (int tile = blockIdx.x; tile < count; tile += gridDim.x) {
      int weight, token;
      tile_of(tile, n.weight, n.token, &weight, &token);
      int strips = strips_of(weight, n.strips), rows = p.rows - token * LM_BN;
      rows = rows < LM_BN ? rows : LM_BN;
      for (int s = 0; s < LM_PARTS * n.stages; s++, i++) {
        int part = s / n.stages, from = (s - part * n.stages) * LM_KU, left = part_of(n.units) - from;
        int stage = i % LM_STAGES, k = part * part_of(n.units) + from, units = left < LM_KU ? left : LM_KU;
        u32 at = ring + stage * STAGE, bar = full + 8 * stage;
        if (pass == 0 && i >= LM_STAGES) goto next_pass;
        if (pass == 1 && i >= ahead) barrier_wait(empty + 8 * stage, ((i / LM_STAGES) & 1) ^ 1);
        if ((pass == 0 || i >= ahead) && copies_here(lane)) {
          expect_bytes(bar, strips * units * LM_UNIT + (LM_NORM || LM_TOKENS_BY_LANES ? 0 : rows * 128 * units * SEGMENTS));
          copy_weights(p, weight, strips, n.units, k, units, at + STAGE_B, bar, lane, policy);
        }
        if (pass == 0) {
          ahead = i + 1;
        } else {
#if LM_TOKENS_BY_LANES
          lanes_copy_tokens(p, token * LM_BN, k * SEGMENTS, units * SEGMENTS, at, bar, lane);
#else
          if (!LM_NORM) copy_tokens(p, token * LM_BN, k * SEGMENTS, units * SEGMENTS, at, bar, lane);
          copies_done(bar);
#endif
        }
      }
    }
  next_pass:
    if (pass == 0) pdl_wait();
  }
  if (LM_TOKENS_BY_LANES) lanes_end();
  else copies_end();
}

#if !LM_WGMMA
/** One segment of 64 inputs. */
LM_DEVICE void multiply(const Segment &q, uint2 own, u32 b, int lane, float (*sum)[4]) {
  SegmentScales s = segment_scales(q.scales, own);
#pragma unroll
  for (int k = 0; k < 4; k++) {
    u32 x[4], y[4];
    dequantise(q, s, k, x);
    if (NT == 1) {
      if ((k & 1) == 0) ldmatrix4(y, b + (lane & 7) * 128 + (((2 * k + (lane >> 3)) ^ (lane & 7)) << 4));
      u32 x1[4];
      if (k & 1) continue;
      dequantise(q, s, k + 1, x1);
      mma_act(sum[0], x, y[0], y[1]);
      mma_act(sum[0], x1, y[2], y[3]);
    } else {
#pragma unroll
      for (int j = 0; j < NT; j += 2) {
        int token = 8 * j + (lane & 7) + ((lane >> 4) << 3);
        ldmatrix4(y, b + token * 128 + (((2 * k + ((lane >> 3) & 1)) ^ (token & 7)) << 4));
        mma_act(sum[j], x, y[0], y[1]);
        mma_act(sum[j + 1], x, y[2], y[3]);
      }
    }
  }
}
#endif

LM_KERNEL __launch_bounds__(32 * (LM_MW + 1), 1) gemm(const __grid_constant__ LmGemm p) {
  extern __shared__ __align__(1024) u8 memory[];
  u32 ring = shared_address(memory), staging = ring + LM_STAGES * STAGE, full = staging + LM_MW * LM_STAGING,
      empty = full + 8 * LM_STAGES;
  int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), lane = threadIdx.x & 31;
  if (threadIdx.x == 0) {
    for (int i = 0; i < LM_STAGES; i++) {
      barrier_init(full + 8 * i, full_arrivals());
      barrier_init(empty + 8 * i, LM_MW * LM_WARP_ARRIVALS);
    }
    barrier_fence_init();
  }
  __syncthreads();
  pdl_trigger();
  if (warp == LM_MW) {
    if (LM_TOKENS_BY_LANES || copies_here(lane)) produce(p, ring, full, empty, lane);
    return;
  }
  Tiles n = tiles_of(p);
  int i = 0;
#if LM_NORM
  u32 normed = empty + 8 * LM_STAGES;
  make_inputs<LM_MW>(p, memory + (normed - ring), warp, lane);
#else
  pdl_wait();
#endif
  for (int tile = blockIdx.x; tile < n.weight * n.token; tile += gridDim.x) {
    int weight, token;
    tile_of(tile, n.weight, n.token, &weight, &token);
    int feature = (weight * LM_MW + warp) * 16;
    Residual<NT> residual;
    fetch<NT>(p, residual, feature, token * LM_BN, lane);
#pragma unroll 1
    for (int part = 0; part < LM_PARTS; part++) {
      float sum[NT][4];
#pragma unroll
      for (int j = 0; j < NT; j++) sum[j][0] = sum[j][1] = sum[j][2] = sum[j][3] = 0.0f;
      for (int s = 0; s < n.stages; s++, i++) {
        int stage = i % LM_STAGES, left = part_of(n.units) - s * LM_KU, units = left < LM_KU ? left : LM_KU;
        u32 at = ring + stage * STAGE;
        barrier_wait(full + 8 * stage, (i / LM_STAGES) & 1);
        for (int u = 0; u < units; u++) {
          u32 unit = at + STAGE_B + (warp * LM_KU + u) * LM_UNIT;
          Segment segment = load_segment(unit, 0, lane);
          uint2 own = unit_scales(unit, lane >> 2);
#if LM_WGMMA
          u32 values[2][4][4];
#endif
#pragma unroll
          for (int e = 0; e < SEGMENTS; e++) {
#if LM_NORM
            u32 b = normed + ((s * LM_KU + u) * SEGMENTS + e) * 1024;
#else
            u32 b = at + (u * SEGMENTS + e) * LM_BN * 128;
#endif
#if LM_WGMMA
            // the values of one segment are made while the product of the one before runs
            SegmentScales scales = segment_scales(segment.scales, own);
            u32(*x)[4] = values[e & 1];
#pragma unroll
            for (int k = 0; k < 4; k++) dequantise(segment, scales, k, x[k]);
            if (e + 1 < SEGMENTS) segment = load_segment(unit, e + 1, lane);
            wgmma_hold<4 * NT>((float *)sum);
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < 4; k++) Wgmma<LM_BN>::act((float *)sum, x[k], wgmma_descriptor(b, 1024, 16) + 2 * k);
            wgmma_commit();
            if (e + 1 < SEGMENTS) wgmma_wait<1>();
            else wgmma_wait<0>();
            wgmma_hold<4 * NT>((float *)sum);
#else
            Segment next = segment;
            if (e + 1 < SEGMENTS) next = load_segment(unit, e + 1, lane);
            multiply(segment, own, b, lane, sum);
            segment = next;
#endif
          }
        }
        release_stage(empty + 8 * stage, lane);
      }
      epilogue<NT>(p, sum, residual, feature, token * LM_BN, staging + warp * LM_STAGING, lane, part);
    }
  }
  pushed();
}
