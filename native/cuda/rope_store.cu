// Rotary embedding of q (in place) and of k on its way into the KV cache; v is stored as it is. A warp takes a head.
//
// Geometry: kv.h. LM_ROPE_DIMS rotated dimensions, LM_NEOX 1: pairs (i, i + dims / 2), 0: (2i, 2i + 1).
// Block: 256 threads. Grid: (rows, ceil((LM_HEADS + 2 · LM_KV_HEADS) / 8)). Rows beyond *count are padding: they touch nothing.
#include "kv.h"

struct LmRopeStore {
  u16 *qkv;             // (rows, stride) f16: q heads, k heads, v heads
  const float *angles;  // (rows, dims / 2, 2)
  u8 *kv;               // pool, at this layer of block 0
  i64 blockBytes;
  const int *tables;    // (slots, maxBlocks)
  const int *positions; // (rows)
  const int *slots;     // (rows)
  const int *count;     // rows that are tokens
  int stride;
  int maxBlocks;
};

#define PAIRS (LM_HD / 2)
#define EACH ((PAIRS + 31) / 32)

/** The dims of pair i. */
LM_DEVICE void pair_of(int i, bool rotated, int *a, int *b) {
  const int HALF = LM_ROPE_DIMS / 2;
  if (rotated && LM_NEOX && i < HALF) {
    *a = i;
    *b = i + HALF;
  } else {
    *a = 2 * i;
    *b = 2 * i + 1;
  }
}

/** x (LM_HD values in f16, in shared memory) → their place among 16-bit K or V. */
LM_DEVICE void store_half(const u16 *x, u8 *to, int token, int lane) {
  for (int c = lane; c < LM_HD / 8; c += 32) *(uint4 *)(to + kv_half_offset(token, c)) = *(const uint4 *)(x + 8 * c);
}

#if LM_KV_BITS != 16
/** scale = (max - min) / (2^bits - 1), zero = min, both in f16; q = round((x - zero) / scale) into shared memory. */
LM_DEVICE void quantise(const float *x, const int *at, int n, u8 *q, u8 *params, int token, int isV, int lane) {
  const float TOP = LM_KV_BITS == 8 ? 255.0f : 15.0f;
  float low = LM_INF, high = -LM_INF;
  for (int i = 0; i < n; i++) {
    low = min_nan(low, x[i]);
    high = max_nan(high, x[i]);
  }
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) {
    low = min_nan(low, __shfl_xor_sync(~0u, low, d));
    high = max_nan(high, __shfl_xor_sync(~0u, high, d));
  }
  u32 zero = float_to_half(low), scale = float_to_half((high - low) / TOP);
  float z = half_to_float(zero), s = half_to_float(scale), inverse = s > 0.0f ? 1.0f / s : 0.0f;
  if (lane == 0) {
    *(u16 *)(params + param_offset(token, 2 * isV)) = (u16)scale;
    *(u16 *)(params + param_offset(token, 2 * isV + 1)) = (u16)zero;
  }
  for (int i = 0; i < n; i++) {
    float y = fma_(x[i] - z, inverse, 0.5f);
    y = fminf(fmaxf(y, 0.0f), TOP);
    q[at[i]] = (u8)(int)y;
  }
}
LM_DEVICE void store_quantised_k(const u8 *q, u8 *to, int token, int lane) {
#if LM_KV_BITS == 8
  for (int w = lane; w < LM_HD / 4; w += 32) {
    int group = w >> 2, t = w & 3, atom = group / (LM_ATOM / 16), d = 16 * group + 2 * t;
    *(u32 *)(to + k_quant_offset(token, atom, t) + 4 * (group % (LM_ATOM / 16))) = q[d] | q[d + 1] << 8 | q[d + 8] << 16 | q[d + 9] << 24;
  }
#elif LM_ATOM == 16
  for (int w = lane; w < LM_HD / 4; w += 32) {
    int atom = w >> 2, t = w & 3, d = 16 * atom + 2 * t;
    *(u16 *)(to + k_quant_offset(token, atom, t)) = (u16)(q[d] | q[d + 1] << 4 | q[d + 8] << 8 | q[d + 9] << 12);
  }
#else
  for (int w = lane; w < LM_HD / 8; w += 32) {
    int two = w >> 2, t = w & 3, atom = two / (LM_ATOM / 32), d = 32 * two + 2 * t;
    u32 low = q[d] | q[d + 1] << 8 | q[d + 8] << 16 | q[d + 9] << 24, high = q[d + 16] | q[d + 17] << 8 | q[d + 24] << 16 | q[d + 25] << 24;
    *(u32 *)(to + k_quant_offset(token, atom, t) + 4 * (two % (LM_ATOM / 32))) = low | high << 4;
  }
#endif
}
LM_DEVICE void store_quantised_v(const u8 *q, u8 *to, int token, int lane) {
  int x = token & 15, t = (x & 7) >> 1, e = (x & 1) + 2 * (x >> 3);
  const int EIGHTS = LM_V_UNIT / 8;
#if LM_KV_BITS == 8
  for (int d = lane; d < LM_HD; d += 32) to[v_quant_offset(token, d / LM_V_UNIT, d & 7, t) + d % LM_V_UNIT / 8 * 4 + e] = q[d];
#else
  for (int i = lane; i < LM_HD / 2; i += 32) {
    int unit = i / (LM_V_UNIT / 2), two = i % (LM_V_UNIT / 2) / 8, g = i & 7, d = unit * LM_V_UNIT + 16 * two + g;
    to[v_quant_offset(token, unit, g, t) + 4 * two + e] = (u8)(q[d] | q[d + 8] << 4);
  }
#endif
}
#endif

LM_KERNEL __launch_bounds__(256) rope_store(const __grid_constant__ LmRopeStore p) {
  __shared__ __align__(16) u8 staging[8][LM_HD * 2];
  int row = blockIdx.x, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  pdl_trigger();
  pdl_wait();
  if (row >= load_i32(p.count)) return;
  int position = load_i32(p.positions + row), slot = load_i32(p.slots + row);
  int block = load_i32(p.tables + (i64)slot * p.maxBlocks + position / LM_BLOCK_LEN), token = position % LM_BLOCK_LEN;
  const float2 *angles = (const float2 *)p.angles + (i64)row * (LM_ROPE_DIMS / 2);
  int head = blockIdx.y * 8 + warp;
  if (head >= LM_HEADS + 2 * LM_KV_HEADS) return;
  u16 *x = p.qkv + (i64)row * p.stride + head * LM_HD;
  bool isV = head >= LM_HEADS + LM_KV_HEADS, isQ = head < LM_HEADS;
  float v[2 * EACH];
  int at[2 * EACH], n = 0;
#pragma unroll
  for (int j = 0; j < EACH; j++) {
    int i = lane + 32 * j;
    v[2 * j] = v[2 * j + 1] = 0.0f;
    at[2 * j] = at[2 * j + 1] = 0;
    if (i >= PAIRS) continue;
    int a, b;
    pair_of(i, !isV, &a, &b);
    float y, z;
    if (b == a + 1) {
      float2 f = half2_to_float2(load_u32(x + a));
      y = f.x, z = f.y;
    } else {
      u32 u, w;
      asm volatile("{ .reg .b16 t; ld.global.cg.b16 t, [%1]; cvt.u32.u16 %0, t; }" : "=r"(u) : "l"(x + a) : "memory");
      asm volatile("{ .reg .b16 t; ld.global.cg.b16 t, [%1]; cvt.u32.u16 %0, t; }" : "=r"(w) : "l"(x + b) : "memory");
      y = half_to_float(u), z = half_to_float(w);
    }
    if (!isV && i < LM_ROPE_DIMS / 2) {
      float c = load_f32(&angles[i].x), s = load_f32(&angles[i].y), u = y;
      y = u * c - z * s;
      z = u * s + z * c;
    }
    v[2 * j] = y, v[2 * j + 1] = z;
    at[2 * j] = a, at[2 * j + 1] = b;
    n = 2 * j + 2;
  }
  __syncwarp();
  u8 *to = p.kv + block * p.blockBytes + (i64)(head - LM_HEADS - (isV ? LM_KV_HEADS : 0)) * LM_HEAD_BYTES;
  u8 *data = to + (isV ? LM_BLOCK_LEN * LM_ROW_BYTES : 0);
  if (isQ || LM_KV_BITS == 16) {
#pragma unroll
    for (int j = 0; j < 2 * EACH; j++)
      if (j < n) ((u16 *)staging[warp])[at[j]] = (u16)float_to_half(v[j]);
    __syncwarp();
    if (isQ) {
      for (int c = lane; c < LM_HD / 8; c += 32) *(uint4 *)(x + 8 * c) = *(const uint4 *)(staging[warp] + 16 * c);
    } else {
      store_half((const u16 *)staging[warp], data, token, lane);
    }
  } else {
#if LM_KV_BITS != 16
    quantise(v, at, n, staging[warp], to + 2 * LM_BLOCK_LEN * LM_ROW_BYTES, token, isV, lane);
    __syncwarp();
    if (isV) store_quantised_v(staging[warp], data, token, lane);
    else store_quantised_k(staging[warp], data, token, lane);
#endif
  }
}
