// Token ids → rows of the embedding matrix in f32, and cos and sin of their positions.
//
// LM_TYPE  of the matrix: 0 = tiles of the activation type, or a quantised type (quant.h); it may be the output matrix too.
//          -1 = f32, row-major, 64 · k64 values a row
// Block: 256 threads. Grid: tokens (rows).
#include "quant.h"

struct LmEmbed {
  const u8 *table;
  float *out;           // (rows, stride)
  const int *tokens;    // -1 - i: what logit row i of the step before drew
  const int *drawn;
  const int *positions;
  const float *inverse; // (half) inverse frequencies
  float *angles;        // (rows, half, 2) cos and sin
  int rows;
  int dim;
  int k64;
  int stride;
  int vocab;
  int half;             // rotated dimensions / 2
  float magnitude;
};

#if LM_TYPE == -1
LM_DEVICE void embed_eight(const LmEmbed &p, int row, int k, float *v) {
  const float *x = (const float *)p.table + (i64)row * 64 * p.k64 + k;
#pragma unroll
  for (int i = 0; i < 8; i++) v[i] = x[i];
}
#elif LM_TYPE == 0
LM_DEVICE void embed_eight(const LmEmbed &p, int row, int k, float *v) {
  uint4 w = *(const uint4 *)(p.table + tiled_offset(row, k, p.k64));
  u32 x[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    float2 f = act2_to_float2(x[i]);
    v[2 * i] = f.x, v[2 * i + 1] = f.y;
  }
}
#else
/** Eight values of one row, in f32 without a further rounding. */
LM_DEVICE void embed_eight(const LmEmbed &p, int row, int k, float *v) {
  const int SEGMENTS = LM_QK / 64;
  int g = row & 7, half = (row >> 3) & 1, segment = k / 64, j = k % 64 / 16, high = k % 16 / 8, i = half + 2 * high;
  const u8 *unit = p.table + ((i64)(row >> 4) * (p.k64 / SEGMENTS) + segment / SEGMENTS) * LM_UNIT;
  const u8 *s = unit + LM_SCALES + (LM_IS_K ? 64 * (segment % 4) : 0) + 8 * g + 4 * half;
  float scale, minimum = 0.0f;
  int b = j >> 1;
  if (LM_IS_45K) {
    u32 d = *(const u32 *)(unit + LM_UNIT_SCALES + 8 * g + 4 * half);
    scale = half_to_float(d & 0xffff) * (float)s[b];
    minimum = -(half_to_float(d >> 16) * (float)s[2 + b]);
  } else if (LM_TYPE == LM_Q6_K) {
    scale = half_to_float(*(const u16 *)(unit + LM_UNIT_SCALES + 4 * g + 2 * half)) * (float)(s8)s[j];
  } else {
    scale = half_to_float(((const u16 *)s)[b]);
    if (LM_TYPE == LM_Q4_1) minimum = half_to_float(((const u16 *)(s + 64))[b]);
  }
  const u8 *quants = unit + segment % SEGMENTS * LM_SEGMENT;
#pragma unroll
  for (int e = 0; e < 8; e++) {
    int lane = 4 * g + e / 2;
    float q;
    if (LM_TYPE == LM_Q8_0) {
      q = (float)quants[(j >> 1) * 512 + 16 * lane + (j & 1) * 8 + 2 * i + (e & 1)] - 128.0f;
    } else {
      u32 w = *(const u32 *)(quants + 16 * lane + 4 * j);
      u32 n = (w >> (4 * i + 16 * (e & 1))) & 15;
      if (LM_TYPE == LM_Q6_K) {
        u32 h = *(const u32 *)(unit + LM_HIGH_BITS + 256 * (segment % SEGMENTS) + 8 * lane + 4 * (j >> 1));
        n |= ((h >> (8 * (j & 1) + 2 * i + 16 * (e & 1))) & 3) << 4;
      }
      if (LM_TYPE == LM_Q5_K) {
        u32 h = *(const u32 *)(unit + LM_HIGH_BITS + 128 * (segment % SEGMENTS) + 4 * lane);
        n |= ((h >> (4 * j + i + 16 * (e & 1))) & 1) << 4;
      }
      q = (float)n - (LM_TYPE == LM_Q4_0 ? 8.0f : LM_TYPE == LM_Q6_K ? 32.0f : 0.0f);
    }
    v[e] = fma_(q, scale, minimum);
  }
}
#endif

LM_KERNEL __launch_bounds__(256) embed(const __grid_constant__ LmEmbed p) {
  int row = blockIdx.x;
  pdl_trigger();
  pdl_wait();
  if (row >= p.rows) return;
  int token = load_i32(p.tokens + row);
  if (token < 0) token = load_i32(p.drawn - 1 - token);
  if (token < 0 || token >= p.vocab) token = 0;
  for (int k = 8 * threadIdx.x; k < p.dim; k += 8 * 256) {
    float v[8];
    embed_eight(p, token, k, v);
    float *out = p.out + (i64)row * p.stride + k;
#pragma unroll
    for (int i = 0; i < 8; i++)
      if (k + i < p.dim) out[i] = v[i];
  }
  double position = (double)load_i32(p.positions + row);
  for (int i = threadIdx.x; i < p.half; i += 256) {
    // in half turns, reduced exactly: no angle grows too large for f32
    double turns = position * ((double)p.inverse[i] * 0.31830988618379067154);
    float s, c;
    sincospif((float)(turns - 2.0 * rint(turns * 0.5)), &s, &c);
    ((float2 *)p.angles)[(i64)row * p.half + i] = make_float2(c * p.magnitude, s * p.magnitude);
  }
}
