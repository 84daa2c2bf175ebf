// RMS norm: the order of summation, once. 256 threads a row have one quad of values each in turn, sum their own, then by a
// butterfly over 32 lanes, then eight sums by a tree. A warp that makes a row alone does the same sums one after another.
#pragma once
#include "common.h"

LM_DEVICE float norm_quad(float4 x, float sum) {
  return fma_(x.x, x.x, fma_(x.y, x.y, fma_(x.z, x.z, fma_(x.w, x.w, sum))));
}
LM_DEVICE float norm_lanes(float sum) {
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) sum += __shfl_xor_sync(~0u, sum, d);
  return sum;
}
LM_DEVICE float norm_factor(const float *sums, int width, float eps) {
  float sum = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  return 1.0f / sqrtf(sum / (float)width + eps);
}
LM_DEVICE uint2 norm_pack(float4 x, float k, float4 w) {
  return make_uint2(pack_act(x.x * k * w.x, x.y * k * w.y), pack_act(x.z * k * w.z, x.w * k * w.w));
}

/** One warp: a row of WIDTH values (a multiple of 64) → row `row` of tiles of eight rows in shared memory, 1,024 bytes each. */
template <int WIDTH>
struct WarpNorm {
  static const int QUADS = WIDTH / 4, EACH = (QUADS + 255) / 256;
  float4 w[8][EACH];

  static __device__ __forceinline__ int quad(int part, int i, int lane) { return 32 * part + lane + 256 * i; }
  __device__ __forceinline__ void fetch(const float *weight, int lane) {
#pragma unroll
    for (int part = 0; part < 8; part++)
#pragma unroll
      for (int i = 0; i < EACH; i++) {
        int q = quad(part, i, lane);
        w[part][i] = q < QUADS ? *(const float4 *)(weight + 4 * q) : make_float4(0, 0, 0, 0);
      }
  }
  __device__ __forceinline__ void row(const float *in, float eps, u8 *tiles, int row, int lane) const {
    float4 x[8][EACH];
    float sums[8];
#pragma unroll
    for (int part = 0; part < 8; part++)
#pragma unroll
      for (int i = 0; i < EACH; i++) {
        int q = quad(part, i, lane);
        x[part][i] = q < QUADS ? load_f128(in + 4 * q) : make_float4(0, 0, 0, 0);
      }
#pragma unroll
    for (int part = 0; part < 8; part++) {
      float sum = 0.0f;
#pragma unroll
      for (int i = 0; i < EACH; i++) sum = norm_quad(x[part][i], sum);
      sums[part] = norm_lanes(sum);
    }
    float k = norm_factor(sums, WIDTH, eps);
#pragma unroll
    for (int part = 0; part < 8; part++)
#pragma unroll
      for (int i = 0; i < EACH; i++) {
        int q = quad(part, i, lane);
        if (q < QUADS) *(uint2 *)(tiles + (q >> 4) * 1024 + tile_offset(row, (4 * q) & 63)) = norm_pack(x[part][i], k, w[part][i]);
      }
  }
};
