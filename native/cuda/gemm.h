// What all matrix products share: parameters, the order of tiles, the epilogue.
//
// out (tokens, features) = in (tokens, K) · weights (features, K)ᵀ. The weights are the M side of the tensor cores' product
// and the tokens its N side, so that a single token wastes no more than 7 columns. Each output element is one accumulator
// over ascending groups of 16 inputs, in every kernel: M, tile, warps and stages change no bit.
//
// LM_EPI: what happens to the sums.
//   0 STORE     f16, row-major (saturating): q, k, v
//   1 RESIDUAL  out (f32, row-major) += sum
//   2 SILU      weights hold gate and up interleaved by 8 rows; silu(gate) · up in the activation type, tiled
//   3 LOGITS    f32, row-major
#pragma once
#include "common.h"

#ifndef LM_EPI
#define LM_EPI 0
#endif

struct LmGemm {
  const u8 *weights;  // 16 bits: tiles (common.h); quantised: units (quant.h)
  const u8 *in;       // activations, tiles
  u8 *out;
  const float *bias;  // (features rounded up to 64) or null
  int rows;           // tokens
  int n;              // output features of the product (SILU: 2 × hidden)
  int k64;            // inputs / 64, rounded up; inputs beyond the true ones are zero on both sides
  int stride;         // values between rows of out, a multiple of 4; SILU: tiles in a row of tiles of out
};

/** Bytes that the epilogue of one warp needs in shared memory: 32 tokens × (16 + 4) f32. */
#define LM_STAGING 2560

LM_DEVICE float silu_mul(float gate, float up) {
  float e = exp2_(gate * -1.44269504088896341f), r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(1.0f + e));
  return gate * r * up;
}

/** One token's four features (LM_EPI 2: of the hidden vector) from f32 to where they belong. */
LM_DEVICE void store_four(const LmGemm &p, int token, int feature, float4 v) {
#if LM_EPI == 0
  u16 *out = (u16 *)p.out + (i64)token * p.stride + feature;
  *(uint2 *)out = make_uint2(pack_half(v.x, v.y), pack_half(v.z, v.w));
#elif LM_EPI == 1
  float *out = (float *)p.out + (i64)token * p.stride + feature;
  float4 r = load_f128(out);
  *(float4 *)out = make_float4(r.x + v.x, r.y + v.y, r.z + v.z, r.w + v.w);
#elif LM_EPI == 2
  *(uint2 *)(p.out + tiled_offset(token, feature, p.stride)) = make_uint2(pack_act(v.x, v.y), pack_act(v.z, v.w));
#else
  *(float4 *)((float *)p.out + (i64)token * p.stride + feature) = v;
#endif
}

/**
 * One warp's sums: features [feature, + 16) × tokens [token, + 8 · NT), in the tensor cores' order: lane (g, t) = (lane / 4,
 * lane % 4) holds features g (0, 1) and g + 8 (2, 3) of tokens 2t, 2t + 1 of each eight. They are turned in shared memory.
 */
template <int NT>
LM_DEVICE void epilogue(const LmGemm &p, float (*sum)[4], int feature, int token, u32 staging, int lane) {
  const int SLICE = NT < 4 ? NT : 4, SILU = LM_EPI == 2, WIDTH = SILU ? 12 : 20, QUADS = SILU ? 2 : 4;
  int g = lane >> 2, t = lane & 3;
  if (feature >= p.n) return;
  float bias0 = p.bias ? p.bias[feature + g] : 0.0f, bias1 = p.bias ? p.bias[feature + g + 8] : 0.0f;
#pragma unroll
  for (int slice = 0; slice < NT; slice += SLICE) {
#pragma unroll
    for (int j = 0; j < SLICE; j++) {
      float *s = sum[slice + j];
#pragma unroll
      for (int e = 0; e < 2; e++) {
        u32 at = staging + ((8 * j + 2 * t + e) * WIDTH + g) * 4;
        float a = s[e], b = s[2 + e];
        if (p.bias) a += bias0, b += bias1;
        if (SILU) {
          shared_store_f32(at, silu_mul(a, b));
        } else {
          shared_store_f32(at, a);
          shared_store_f32(at + 32, b);
        }
      }
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < SLICE * 8 * QUADS / 32 || (i == 0 && SLICE * 8 * QUADS < 32); i++) {
      int item = 32 * i + lane, row = item / QUADS, quad = item % QUADS;
      int to = token + 8 * slice + row, f = (SILU ? feature / 2 : feature) + 4 * quad;
      if (row < 8 * SLICE && to < p.rows && f < (SILU ? p.n / 2 : p.n)) {
        uint4 v = shared_u128(staging + row * WIDTH * 4 + quad * 16);
        store_four(p, to, f, make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w)));
      }
    }
    __syncwarp();
  }
}

/** Tile number → (weight tile, token tile): groups of token tiles, so that what is read together stays in the L2 cache. */
LM_DEVICE void tile_of(int tile, int weightTiles, int tokenTiles, int *weight, int *token) {
  const int GROUP = 8;
  int group = tile / (GROUP * weightTiles), first = group * GROUP;
  int size = tokenTiles - first < GROUP ? tokenTiles - first : GROUP, rest = tile - group * GROUP * weightTiles;
  *token = first + rest % size;
  *weight = rest / size;
}
LM_DEVICE int ceil_div(int a, int b) { return (a + b - 1) / b; }
