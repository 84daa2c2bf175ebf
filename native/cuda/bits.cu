// Do this GPU's matrix instructions add as the promise of the same bits needs? The sums of 64 features × 64 tokens over
// 2,048 inputs (random, some large), made in ways that must agree to the bit and in one that must not:
//   0 mma.sync · 1 mma.sync, features and tokens elsewhere in the tile · 2 mma.sync, groups of 16 inputs in descending order:
//   other bits, or the data show nothing · 3 wgmma of 8 tokens · 4 of 64 · 5 of 256 · 6 of 64, features from registers
//
// LM_WGMMA  1 on sm_90a: all seven; else the first three
// Block: 128 threads. Grid: ways.
#include "common.h"
#ifndef LM_WGMMA
#define LM_WGMMA 0
#endif
#if LM_WGMMA
#include "wgmma.h"
#endif

struct LmBits {
  float *out;  // (ways, 64 features, 64 tokens)
};

#define STEPS 32
#define TOKENS (LM_WGMMA ? 256 : 64)
#define ROW_SHIFT 21
#define TOKEN_SHIFT 13

LM_DEVICE float value(u32 side, u32 row, u32 k) {
  u32 h = (k + 2048 * row + (side << 20)) * 0x9e3779b9u;
  h = (h ^ (h >> 16)) * 0x85ebca6bu;
  h = (h ^ (h >> 13)) * 0xc2b2ae35u;
  float x = (float)(int)(h ^ (h >> 16)) * 4.656612873e-10f;
  return side && k % 37 == 5 ? 64.0f * x : x;
}
/** 64 inputs of some rows: true row r + shift (mod 64) at place r. */
LM_DEVICE void fill(u8 *tiles, u32 side, int rows, int step, int shift) {
  for (int i = threadIdx.x; i < rows * 32; i += 128) {
    int row = i >> 5, k = 2 * (i & 31), from = (row & ~63) | ((row + shift) & 63);
    *(u32 *)(tiles + (row >> 6) * LM_TILE_BYTES + tile_offset(row & 63, k)) =
        pack_act(value(side, from, 64 * step + k), value(side, from, 64 * step + k + 1));
  }
}
/** One lane's sums [eight of tokens][4] of 64 tokens. */
LM_DEVICE void store(float *out, const float (*sum)[4], int rowShift, int tokenShift) {
  int lane = threadIdx.x & 31, feature = 16 * (threadIdx.x >> 5) + (lane >> 2);
#pragma unroll
  for (int j = 0; j < 8; j++)
#pragma unroll
    for (int e = 0; e < 4; e++)
      out[((feature + 8 * (e >> 1) + rowShift) & 63) * 64 + ((8 * j + 2 * (lane & 3) + (e & 1) + tokenShift) & 63)] = sum[j][e];
}
LM_DEVICE void features(u32 *x, u32 tile, int k) {
  int lane = threadIdx.x & 31, row = (lane & 7) + (lane & 8);
  ldmatrix4(x, tile + (threadIdx.x >> 5) * 2048 + row * 128 + (((2 * k + (lane >> 4)) ^ (row & 7)) << 4));
}

LM_DEVICE void by_mma(float *out, u8 *a, u8 *b, bool moved, bool descending) {
  int lane = threadIdx.x & 31;
  float sum[8][4] = {};
  for (int s = 0; s < STEPS; s++) {
    int step = descending ? STEPS - 1 - s : s;
    __syncthreads();
    fill(a, 0, 64, step, moved ? ROW_SHIFT : 0);
    fill(b, 1, 64, step, moved ? TOKEN_SHIFT : 0);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int k = descending ? 3 - i : i;
      u32 x[4];
      features(x, shared_address(a), k);
#pragma unroll
      for (int j = 0; j < 8; j += 2) {
        u32 y[4];
        int token = 8 * j + (lane & 7) + ((lane >> 4) << 3);
        ldmatrix4(y, shared_address(b) + token * 128 + (((2 * k + ((lane >> 3) & 1)) ^ (token & 7)) << 4));
        mma_act(sum[j], x, y[0], y[1]);
        mma_act(sum[j + 1], x, y[2], y[3]);
      }
    }
  }
  store(out, sum, moved ? ROW_SHIFT : 0, moved ? TOKEN_SHIFT : 0);
}

#if LM_WGMMA
/** The 64 tokens are the last of N; N = 8 takes them eight by eight. */
template <int N, bool REGISTERS>
LM_DEVICE void by_wgmma(float *out, u8 *a, u8 *b) {
  const int PARTS = N < 64 ? 64 / N : 1, FIRST = N < 64 ? 0 : N - 64;
  float sum[PARTS * N / 8][4] = {};
  for (int s = 0; s < STEPS; s++) {
    __syncthreads();
    fill(a, 0, 64, s, 0);
    fill(b + FIRST * 128, 1, 64, s, 0);
    if (FIRST > 0) fill(b, 2, FIRST, s, 0);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    u32 x[4][4];
#pragma unroll
    for (int k = 0; k < 4 && REGISTERS; k++) features(x[k], shared_address(a), k);
    wgmma_hold<PARTS * N / 2>((float *)sum);
    wgmma_fence();
    u64 da = wgmma_descriptor(shared_address(a), 1024, 16);
#pragma unroll
    for (int part = 0; part < PARTS; part++) {
      u64 db = wgmma_descriptor(shared_address(b) + part * N * 128, 1024, 16);
#pragma unroll
      for (int k = 0; k < 4; k++) {
        if (REGISTERS) Wgmma<N>::act((float *)sum[part * N / 8], x[k], db + 2 * k);
        else Wgmma<N>::act((float *)sum[part * N / 8], da + 2 * k, db + 2 * k);
      }
    }
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_hold<PARTS * N / 2>((float *)sum);
  }
  store(out, sum + FIRST / 8, 0, 0);
}
#endif

LM_KERNEL __launch_bounds__(128, 1) bits(const __grid_constant__ LmBits p) {
  __shared__ __align__(1024) u8 a[LM_TILE_BYTES], b[TOKENS * 128];
  float *out = p.out + blockIdx.x * 64 * 64;
  pdl_trigger();
  pdl_wait();
  int way = blockIdx.x;
  if (way < 3) by_mma(out, a, b, way == 1, way == 2);
#if LM_WGMMA
  if (way == 3) by_wgmma<8, false>(out, a, b);
  if (way == 4) by_wgmma<64, false>(out, a, b);
  if (way == 5) by_wgmma<256, false>(out, a, b);
  if (way == 6) by_wgmma<64, true>(out, a, b);
#endif
}
