// The residual stream takes in what each rank's share of a product came to, in the order of ranks; then its RMS norm, as norm.cu makes it.
//
// LM_WIDTH  values a row, LM_RANKS; LM_NORM 0: only the sums, no norm
// LM_OWNED  0: all ranks make the same rows. 1: each makes those that it owns, and stores norms (LM_NORM 0: sums) to all; its residual
//           stream has no others in between. `meet` must follow
// The shares were pushed into this GPU's memory by the products (LM_EPI 3 with LM_RANKS).
// Block: 256 threads. Grid: rows; LM_OWNED: 64 · ceil(ceil(rows / 64) / ranks).
#include "norm.h"
#include "ranks.h"
#ifndef LM_OWNED
#define LM_OWNED 0
#endif

struct LmReduce {
  float *x;            // (rows, stride)
  const float *shares; // (ranks, a share of `shareStride` values: (rows, stride))
  const float *weight;
  u8 *out;             // tiles
  const i64 *peers;    // (ranks) addresses of the flags of each
  const u32 *flags;    // of this one
  const int *step;     // its number, in the step's header
  int slot;
  int rank;
  int rows;
  int stride;
  int k64;
  float eps;
  i64 shareStride;
  const i64 *outs;     // LM_OWNED: (ranks) addresses instead of out (LM_NORM 0: and of x), one on each GPU
};

#define QUADS ((LM_WIDTH + 3) / 4)
#define EACH ((QUADS + 255) / 256)

LM_DEVICE float4 add_quad(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }

LM_KERNEL __launch_bounds__(256) reduce(const __grid_constant__ LmReduce p) {
  __shared__ float sums[8];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  int row = LM_OWNED ? owned_row(blockIdx.x, p.rank, LM_RANKS) : blockIdx.x;
  float4 w[EACH], x[EACH];
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    int q = threadIdx.x + 256 * i;
    w[i] = LM_NORM && q < QUADS ? *(const float4 *)(p.weight + 4 * q) : make_float4(0, 0, 0, 0);
  }
  u32 step = load_u32(p.step);
  pdl_trigger();
  pdl_wait();
  meet_ranks<LM_RANKS>(p.peers, p.flags, p.slot, p.rank, step, blockIdx.x == 0);
#if LM_OWNED
  u8 *outs[LM_RANKS];
#pragma unroll
  for (int r = 0; r < LM_RANKS; r++) outs[r] = (u8 *)p.outs[r];
#endif
  float *at = p.x + (i64)row * p.stride;
  if (row < p.rows) {
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      int q = threadIdx.x + 256 * i;
      x[i] = q < QUADS ? load_f128(at + 4 * q) : make_float4(0, 0, 0, 0);
    }
  }
  __syncthreads();
  if (row >= p.rows) return;
  float4 s[LM_RANKS][EACH];
#pragma unroll
  for (int r = 0; r < LM_RANKS; r++)
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      int q = threadIdx.x + 256 * i;
      s[r][i] = q < QUADS ? load_f128(p.shares + r * p.shareStride + (i64)row * p.stride + 4 * q) : make_float4(0, 0, 0, 0);
    }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    int q = threadIdx.x + 256 * i;
#pragma unroll
    for (int r = 0; r < LM_RANKS; r++) x[i] = add_quad(x[i], s[r][i]);
    if (q < QUADS) *(float4 *)(at + 4 * q) = x[i];
#if LM_OWNED && !LM_NORM
#pragma unroll
    for (int r = 0; r < LM_RANKS; r++)
      if (q < QUADS && r != p.rank) *(float4 *)((float *)outs[r] + (i64)row * p.stride + 4 * q) = x[i];
#endif
    sum = norm_quad(x[i], sum);
  }
#if LM_NORM
  sum = norm_lanes(sum);
  if (lane == 0) sums[warp] = sum;
  __syncthreads();
  float k = norm_factor(sums, LM_WIDTH, p.eps);
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    int q = threadIdx.x + 256 * i;
    if (q >= QUADS) continue;
    uint2 v = norm_pack(x[i], k, w[i]);
#if LM_OWNED
#pragma unroll
    for (int r = 0; r < LM_RANKS; r++) *(uint2 *)(outs[r] + tiled_offset(row, 4 * q, p.k64)) = v;
#else
    *(uint2 *)(p.out + tiled_offset(row, 4 * q, p.k64)) = v;
#endif
  }
#endif
#if LM_OWNED
  fence_system();
#endif
}
