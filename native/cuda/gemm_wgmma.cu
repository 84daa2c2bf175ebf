// Matrix product with wgmma (sm_90a): 64 output features for each multiplying warpgroup.
//
// LM_WGS      warpgroups that multiply: 1 (decode) or 2 (prefill)
// LM_BN       tokens of a tile: 8, 16, 32, 64, 128, 256
// LM_KT       tiles of 64 inputs in a stage
// LM_STAGES
// LM_WHOLE    1: inputs of a part are a multiple of 64 · LM_KT (no branch between products)
// LM_PARTS, LM_RANKS: gemm.h
// Block: 128 · LM_WGS + 32 threads, the last warp copies; with LM_WGS 2 and LM_BN 256: 384 threads. Grid: any; a block takes tiles blockIdx.x, + gridDim.x, …
// Shared memory: LM_STAGES · LM_KT · (LM_WGS · 8,192 + LM_BN · 128) + 4 · LM_WGS · LM_STAGING + 16 · LM_STAGES.
#include "gemm.h"
#include "wgmma.h"

#ifndef LM_WHOLE
#define LM_WHOLE 0
#endif
#define STAGE_A (LM_KT * LM_WGS * LM_TILE_BYTES)
#define STAGE_B (LM_KT * LM_BN * 128)
#define STAGE (STAGE_A + STAGE_B)
#define NT (LM_BN / 8)
#define SUMS (LM_BN / 2)
// registers move from the copying to the multiplying warpgroups
#define MOVE_REGISTERS (LM_WGS == 2 && LM_BN == 256)
#define BLOCK (128 * LM_WGS + (MOVE_REGISTERS ? 128 : 32))

struct Tiles {
  int weight, token, n64, stages;
};
LM_DEVICE Tiles tiles_of(const LmGemm &p) {
  int n64 = ceil_div(p.n, 64);
  return {ceil_div(n64, LM_WGS), ceil_div(p.rows, LM_BN), n64, ceil_div(part_of(p.k64), LM_KT)};
}
LM_DEVICE int strips_of(int first, int n64) {
  int n = n64 - first;
  return n < 0 ? 0 : n < LM_WGS ? n : LM_WGS;
}

LM_DEVICE void copy_weights(const LmGemm &p, int first, int strips, int k, int kts, u32 dst, u32 full, u64 policy) {
  for (int s = 0; s < strips; s++) {
    const u8 *src = p.weights + ((i64)(first + s) * p.k64 + k) * LM_TILE_BYTES;
    u32 to = dst + s * LM_KT * LM_TILE_BYTES, bytes = kts * LM_TILE_BYTES;
    if (LM_BN <= 64) copy_in_once(to, src, bytes, full, 0, policy);
    else copy_in(to, src, bytes, full, 0);
  }
}
LM_DEVICE void copy_tokens(const LmGemm &p, int first, int k, int kts, u32 dst, u32 full) {
  const int ROWS = LM_BN < 64 ? LM_BN : 64, PIECES = LM_BN < 64 ? 1 : LM_BN / 64;
  for (int i = 0; i < kts; i++)
#pragma unroll
    for (int q = 0; q < PIECES; q++) {
      int row = first + 64 * q, rows = p.rows - row;
      if (rows <= 0) break;
      rows = rows < ROWS ? rows : ROWS;
      u32 to = dst + i * LM_BN * 128 + q * LM_TILE_BYTES;
      const u8 *src = p.in + ((i64)(row >> 6) * p.k64 + k + i) * LM_TILE_BYTES + (row & 63) * 128;
      copy_in(to, src, rows * 128, full, 0);
    }
}

/** One lane: a ring of stages through all tiles of this block. Weights do not wait for the kernel before. */
LM_DEVICE void produce(const LmGemm &p, u32 ring, u32 full, u32 empty) {
  Tiles n = tiles_of(p);
  u64 policy = policy_evict_first();
  int ahead = 0, count = n.weight * n.token;
  for (int pass = 0; pass < 2; pass++) {
    // pass 0: weights of the first stages; then the kernel before must be done; pass 1: all the rest
    int i = 0;
    for (int tile = blockIdx.x; tile < count; tile += gridDim.x) {
      int weight, token;
      tile_of(tile, n.weight, n.token, &weight, &token);
      int first = weight * LM_WGS, strips = strips_of(first, n.n64);
      int rows = p.rows - token * LM_BN;
      rows = rows < LM_BN ? rows : LM_BN;
      for (int s = 0; s < LM_PARTS * n.stages; s++, i++) {
        int part = s / n.stages, from = (s - part * n.stages) * LM_KT, left = part_of(p.k64) - from;
        int stage = i % LM_STAGES, k = part * part_of(p.k64) + from, kts = left < LM_KT ? left : LM_KT;
        u32 at = ring + stage * STAGE, bar = full + 8 * stage;
        if (pass == 0 && i >= LM_STAGES) goto next_pass;
        if (pass == 1 && i >= ahead) barrier_wait(empty + 8 * stage, ((i / LM_STAGES) & 1) ^ 1);
        if (pass == 0 || i >= ahead) {
          expect_bytes(bar, kts * (strips * LM_TILE_BYTES + rows * 128));
          copy_weights(p, first, strips, k, kts, at, bar, policy);
        }
        if (pass == 0) ahead = i + 1;
        else copy_tokens(p, token * LM_BN, k, kts, at + STAGE_A, bar);
      }
    }
  next_pass:
    if (pass == 0) pdl_wait();
  }
}

LM_KERNEL __launch_bounds__(BLOCK, MOVE_REGISTERS ? 1 : 0) gemm(const __grid_constant__ LmGemm p) {
  extern __shared__ __align__(1024) u8 memory[];
  u32 ring = shared_address(memory), staging = ring + LM_STAGES * STAGE, full = staging + 4 * LM_WGS * LM_STAGING,
      empty = full + 8 * LM_STAGES;
  int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), lane = threadIdx.x & 31;  // uniform, so the compiler sees
  if (threadIdx.x == 0) {
    for (int i = 0; i < LM_STAGES; i++) {
      barrier_init(full + 8 * i, 1);
      barrier_init(empty + 8 * i, 4 * LM_WGS * LM_WARP_ARRIVALS);
    }
    barrier_fence_init();
  }
  __syncthreads();
  pdl_trigger();
  if (warp >= 4 * LM_WGS) {
    if (MOVE_REGISTERS) asm volatile("setmaxnreg.dec.sync.aligned.u32 56;");
    if (warp == 4 * LM_WGS && lane == 0) produce(p, ring, full, empty);
  } else {
    if (MOVE_REGISTERS) asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
    Tiles n = tiles_of(p);
    int i = 0, group = warp >> 2;
    pdl_wait();
    for (int tile = blockIdx.x; tile < n.weight * n.token; tile += gridDim.x) {
      int weight, token;
      tile_of(tile, n.weight, n.token, &weight, &token);
      int feature = (weight * LM_WGS + group) * 64 + (warp & 3) * 16;
      Residual<NT> residual;
      fetch<NT>(p, residual, feature, token * LM_BN, lane);
#pragma unroll 1
      for (int part = 0; part < LM_PARTS; part++) {
        float sum[SUMS];
#pragma unroll
        for (int j = 0; j < SUMS; j++) sum[j] = 0.0f;
        for (int s = 0; s < n.stages; s++, i++) {
          int stage = i % LM_STAGES, left = part_of(p.k64) - s * LM_KT, kts = left < LM_KT ? left : LM_KT;
          u32 at = ring + stage * STAGE;
          barrier_wait(full + 8 * stage, (i / LM_STAGES) & 1);
#pragma unroll
          for (int kt = 0; kt < LM_KT; kt++) {
            if (LM_KT == 1 || LM_WHOLE || kt < kts) {
              wgmma_hold<SUMS>(sum);
              wgmma_fence();
              u64 a = wgmma_descriptor(at + (group * LM_KT + kt) * LM_TILE_BYTES, 1024, 16);
              u64 b = wgmma_descriptor(at + STAGE_A + kt * LM_BN * 128, 1024, 16);
#pragma unroll
              for (int k = 0; k < 4; k++) Wgmma<LM_BN>::act(sum, a + 2 * k, b + 2 * k);
              wgmma_hold<SUMS>(sum);
            }
            wgmma_commit();  // a group even if it is empty: the wait counts groups
          }
          wgmma_wait<LM_KT>();  // the stage before is used up
          if (s > 0) release_stage(empty + 8 * ((i - 1) % LM_STAGES), lane);
        }
        wgmma_wait<0>();
        wgmma_hold<SUMS>(sum);
        release_stage(empty + 8 * ((i - 1) % LM_STAGES), lane);
        epilogue<NT>(p, (float(*)[4])sum, residual, feature, token * LM_BN, staging + warp * LM_STAGING, lane, part);
      }
    }
    pushed();
  }
}
