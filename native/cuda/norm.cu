// RMS norm: f32 rows → activations in tiles. 256 threads a row.
//
// LM_WIDTH  values a row. Rows of `in` and `weight` are readable up to the next multiple of 4, where `in` holds zeros.
// Block: 256 threads. Grid: rows.
#include "norm.h"

struct LmNorm {
  const float *in;
  const float *weight;
  u8 *out;           // tiles
  const int *index;  // row i of out is row index[i] of in (gather), or null
  int rows;
  int stride;        // f32 values between rows of in
  int k64;
  float eps;
};

#define QUADS ((LM_WIDTH + 3) / 4)
#define EACH ((QUADS + 255) / 256)

LM_KERNEL __launch_bounds__(256) rms_norm(const __grid_constant__ LmNorm p) {
  __shared__ float sums[8];
  int row = blockIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  float4 w[EACH], x[EACH];
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    int q = threadIdx.x + 256 * i;
    w[i] = q < QUADS ? *(const float4 *)(p.weight + 4 * q) : make_float4(0, 0, 0, 0);
  }
  pdl_trigger();
  pdl_wait();
  if (row >= p.rows) return;
  const float *in = p.in + (i64)(p.index ? load_i32(p.index + row) : row) * p.stride;
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    int q = threadIdx.x + 256 * i;
    x[i] = q < QUADS ? load_f128(in + 4 * q) : make_float4(0, 0, 0, 0);
  }
#pragma unroll
  for (int i = 0; i < EACH; i++) sum = norm_quad(x[i], sum);
  sum = norm_lanes(sum);
  if (lane == 0) sums[warp] = sum;
  __syncthreads();
  float k = norm_factor(sums, LM_WIDTH, p.eps);
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    int q = threadIdx.x + 256 * i;
    if (q < QUADS) *(uint2 *)(p.out + tiled_offset(row, 4 * q, p.k64)) = norm_pack(x[i], k, w[i]);
  }
}
