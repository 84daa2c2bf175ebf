// Joins the splits of decode attention in ascending order: the functions, the order and so the bits of attention.cu with
// LM_SPLIT 0. A warp takes one head of one token.
//
// Geometry: kv.h. Block: 256 threads. Grid: (ceil(heads / 8), tokens).
#include "kv.h"

struct LmCombine {
  const float *partial;   // (tokens, heads, splits, LM_HD)
  const float *weights;   // (tokens, heads, splits, 2)
  u8 *out;                // activations in tiles
  const int *positions;   // (tokens)
  const int *count;       // tokens that are there
  int k64;
  int splits;
};

#define PAIRS ((LM_HD / 2 + 31) / 32)

LM_KERNEL __launch_bounds__(256) combine(const __grid_constant__ LmCombine p) {
  int token = blockIdx.y, head = blockIdx.x * 8 + (threadIdx.x >> 5), lane = threadIdx.x & 31;
  pdl_trigger();
  pdl_wait();
  if (token >= load_i32(p.count) || head >= LM_HEADS) return;
  int splits = load_i32(p.positions + token) / LM_SPLIT_LEN + 1;
  i64 at = ((i64)token * LM_HEADS + head) * p.splits;
  float M = 0, L = 0;
  float2 T[PAIRS];
  for (int s = 0; s < splits; s++) {
    float m = load_f32(p.weights + 2 * (at + s)), l = load_f32(p.weights + 2 * (at + s) + 1), top = m, a = 0, b = 0;
    if (s > 0) merge_weights(M, m, &top, &a, &b);
    L = s > 0 ? merge_value(L, a, l, b) : l;
    M = top;
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
      int d = 2 * (lane + 32 * i);
      if (d >= LM_HD) continue;
      const float *o = p.partial + (at + s) * LM_HD + d;
      float x = load_f32(o), y = load_f32(o + 1);
      T[i] = s > 0 ? make_float2(merge_value(T[i].x, a, x, b), merge_value(T[i].y, a, y, b)) : make_float2(x, y);
    }
  }
  float k = 1.0f / L;
#pragma unroll
  for (int i = 0; i < PAIRS; i++) {
    int d = 2 * (lane + 32 * i);
    if (d < LM_HD) *(u32 *)(p.out + tiled_offset(token, head * LM_HD + d, p.k64)) = pack_act(T[i].x * k, T[i].y * k);
  }
}
