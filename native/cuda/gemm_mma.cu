// Matrix product with mma.sync: few tokens on sm_90, any number of tokens before.
//
// LM_MW  warps along the features, 16 output features each: 1, 2, 4, 8
// LM_NW  warps along the tokens: each has LM_BN / LM_NW (8, or a multiple of 16)
// LM_BN  tokens of a tile: 8, 16, 32, 64, 128
// LM_KT  tiles of 64 inputs in a stage
// LM_STAGES
// LM_PARTS, LM_RANKS: gemm.h
// Block: 32 · (LM_MW · LM_NW + 1) threads, the last warp copies. Grid: any; a block takes tiles blockIdx.x, + gridDim.x, …
// Shared memory: LM_STAGES · LM_KT · (LM_MW · 2,048 + LM_BN · 128) + LM_MW · LM_NW · LM_STAGING + 16 · LM_STAGES; with LM_NORM
// no LM_BN · 128, but 16 · LM_NORM more.
#include "gemm.h"

#define STAGE_A (LM_KT * LM_MW * 2048)
#define STAGE_B (LM_NORM ? 0 : LM_KT * LM_BN * 128)
#define STAGE (STAGE_A + STAGE_B)
#ifndef LM_NW
#define LM_NW 1
#endif
#define WARPS (LM_MW * LM_NW)
#define NT (LM_BN / LM_NW / 8)

struct Tiles {
  int weight, token, n64, stages;  // tiles of weights and of tokens; stages of a part of a tile
};
LM_DEVICE Tiles tiles_of(const LmGemm &p) {
  int n64 = ceil_div(p.n, 64);
  return {ceil_div(p.n, 16 * LM_MW), ceil_div(p.rows, LM_BN), n64, ceil_div(part_of(p.k64), LM_KT)};
}

/** Weights of one stage: k tiles [k, k + kts). */
LM_DEVICE void copy_weights(const LmGemm &p, int weight, int n64, int k, int kts, u32 dst, u32 full, int lane, u64 policy) {
  if (LM_MW <= 2) {
    int row = weight * 16 * LM_MW;
    const u8 *src = p.weights + ((i64)(row >> 6) * p.k64 + k) * LM_TILE_BYTES + (row & 63) * 128;
    for (int i = 0; i < kts; i++)
      copy_in_once(dst + i * LM_MW * 2048, src + (i64)i * LM_TILE_BYTES, LM_MW * 2048, full, lane, policy);
  } else {
    for (int s = 0; s < LM_MW / 4 && weight * (LM_MW / 4) + s < n64; s++)
      copy_in_once(dst + s * LM_KT * LM_TILE_BYTES, p.weights + ((i64)(weight * (LM_MW / 4) + s) * p.k64 + k) * LM_TILE_BYTES,
                   kts * LM_TILE_BYTES, full, lane, policy);
  }
}
LM_DEVICE u32 weight_bytes(int weight, int n64, int kts) {
  if (LM_MW <= 2) return kts * LM_MW * 2048;
  int strips = n64 - weight * (LM_MW / 4);
  return (strips < LM_MW / 4 ? strips : LM_MW / 4) * kts * LM_TILE_BYTES;
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
LM_DEVICE u32 token_bytes(const LmGemm &p, int first, int kts) {
  if (LM_NORM || LM_TOKENS_BY_LANES) return 0;
  int rows = p.rows - first;
  return (rows < LM_BN ? rows : LM_BN) * 128 * kts;
}

/** The copying warp: a ring of stages through all tiles of this block. Weights do not wait for the kernel before. */
LM_DEVICE void produce(const LmGemm &p, u32 ring, u32 full, u32 empty, int lane) {
  Tiles n = tiles_of(p);
  u64 policy = 0;
#if LM_SM90
  policy = policy_evict_first();
#endif
  int total = 0, ahead = 0, count = n.weight * n.token;
  for (int pass = 0; pass < 2; pass++) {
    // pass 0: weights of the first stages; then the kernel before must be done; pass 1: all the rest
    int i = 0;
    for (int tile = blockIdx.x; tile < count; tile += gridDim.x) {
      int weight, token;
      tile_of(tile, n.weight, n.token, &weight, &token);
      for (int s = 0; s < LM_PARTS * n.stages; s++, i++) {
        int part = s / n.stages, from = (s - part * n.stages) * LM_KT, left = part_of(p.k64) - from;
        int stage = i % LM_STAGES, k = part * part_of(p.k64) + from, kts = left < LM_KT ? left : LM_KT;
        u32 at = ring + stage * STAGE, bar = full + 8 * stage;
        if (pass == 0) {
          if (i >= LM_STAGES) goto next_pass;
        } else if (i >= ahead) {
          barrier_wait(empty + 8 * stage, ((i / LM_STAGES) & 1) ^ 1);
        }
        if ((pass == 0 || i >= ahead) && copies_here(lane)) {
          expect_bytes(bar, weight_bytes(weight, n.n64, kts) + token_bytes(p, token * LM_BN, kts));
          copy_weights(p, weight, n.n64, k, kts, at, bar, lane, policy);
        }
        if (pass == 1) {
#if LM_TOKENS_BY_LANES
          lanes_copy_tokens(p, token * LM_BN, k, kts, at + STAGE_A, bar, lane);
#else
          if (!LM_NORM) copy_tokens(p, token * LM_BN, k, kts, at + STAGE_A, bar, lane);
          copies_done(bar);
#endif
        }
        total = i + 1;
      }
    }
  next_pass:
    if (pass == 0) {
      ahead = total;
      pdl_wait();
    }
  }
  if (LM_TOKENS_BY_LANES) lanes_end();
  else copies_end();
}

/** `b`: the warp's first token. */
LM_DEVICE void multiply(u32 a, u32 b, int kts, int warp, int lane, float (*sum)[4]) {
  int row = (lane & 7) + (lane & 8), half = lane >> 4;
#pragma unroll
  for (int i = 0; i < LM_KT; i++) {
    if (i >= kts) break;
    u32 ai = LM_MW <= 4 ? a + (i * LM_MW + warp) * 2048 : a + ((warp >> 2) * LM_KT + i) * LM_TILE_BYTES + (warp & 3) * 2048;
    u32 bi = b + i * LM_BN * 128;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      u32 x[4];
      ldmatrix4(x, ai + row * 128 + (((2 * k + half) ^ (row & 7)) << 4));
      if (NT == 1) {
        if (k & 1) continue;  // two groups of 16 at once
        u32 y[4], x1[4];
        ldmatrix4(y, bi + (lane & 7) * 128 + (((2 * k + (lane >> 3)) ^ (lane & 7)) << 4));
        ldmatrix4(x1, ai + row * 128 + (((2 * k + 2 + half) ^ (row & 7)) << 4));
        mma_act(sum[0], x, y[0], y[1]);
        mma_act(sum[0], x1, y[2], y[3]);
      } else {
#pragma unroll
        for (int j = 0; j < NT; j += 2) {
          u32 y[4];
          int token = 8 * j + (lane & 7) + ((lane >> 4) << 3);
          ldmatrix4(y, bi + token * 128 + (((2 * k + ((lane >> 3) & 1)) ^ (token & 7)) << 4));
          mma_act(sum[j], x, y[0], y[1]);
          mma_act(sum[j + 1], x, y[2], y[3]);
        }
      }
    }
  }
}

LM_KERNEL __launch_bounds__(32 * (WARPS + 1), 1) gemm(const __grid_constant__ LmGemm p) {
  extern __shared__ __align__(1024) u8 memory[];
  u32 ring = shared_address(memory), staging = ring + LM_STAGES * STAGE, full = staging + WARPS * LM_STAGING,
      empty = full + 8 * LM_STAGES;
  int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  if (threadIdx.x == 0) {
    for (int i = 0; i < LM_STAGES; i++) {
      barrier_init(full + 8 * i, full_arrivals());
      barrier_init(empty + 8 * i, WARPS * LM_WARP_ARRIVALS);
    }
    barrier_fence_init();
  }
  __syncthreads();
  pdl_trigger();
  if (warp == WARPS) {
    if (LM_TOKENS_BY_LANES || copies_here(lane)) produce(p, ring, full, empty, lane);
    return;
  }
  Tiles n = tiles_of(p);
  int i = 0;
#if LM_NORM
  u32 normed = empty + 8 * LM_STAGES;
  make_inputs<WARPS>(p, memory + (normed - ring), warp, lane);
#else
  pdl_wait();
#endif
  for (int tile = blockIdx.x; tile < n.weight * n.token; tile += gridDim.x) {
    int weight, token;
    tile_of(tile, n.weight, n.token, &weight, &token);
    int feature = (weight * LM_MW + warp % LM_MW) * 16, first = warp / LM_MW * 8 * NT;
    Residual<NT> residual;
    fetch<NT>(p, residual, feature, token * LM_BN + first, lane);
#pragma unroll 1
    for (int part = 0; part < LM_PARTS; part++) {
      float sum[NT][4];
#pragma unroll
      for (int j = 0; j < NT; j++) sum[j][0] = sum[j][1] = sum[j][2] = sum[j][3] = 0.0f;
      for (int s = 0; s < n.stages; s++, i++) {
        int stage = i % LM_STAGES, left = part_of(p.k64) - s * LM_KT, kts = left < LM_KT ? left : LM_KT;
        barrier_wait(full + 8 * stage, (i / LM_STAGES) & 1);
#if LM_NORM
        u32 b = normed + s * LM_KT * 1024;
#else
        u32 b = ring + stage * STAGE + STAGE_A + first * 128;
#endif
        multiply(ring + stage * STAGE, b, kts, warp % LM_MW, lane, sum);
        release_stage(empty + 8 * stage, lane);
      }
      epilogue<NT>(p, sum, residual, feature, token * LM_BN + first, staging + warp * LM_STAGING, lane, part);
    }
  }
  pushed();
}
