// The running softmax of 16 query rows over tiles of 64 positions, in the layout that mma.sync and wgmma share: lane (g, t)
// holds rows g and g + 8, positions 8j + 2t and + 1 (scores), dims 8i + 2t and + 1 (sums).
#pragma once
#include "kv.h"

#define LM_O (LM_HD / 8)

struct Rows {
  float m[2], l[2];  // maximum (scaled), sum of this lane's p
};

/**
 * Scores s → p in place, not yet rounded (pack_p); the rows' maxima and sums; `alpha`: what the sums over V must be multiplied
 * with. limit[r]: positions of the tile that row r sees (0 or less: none).
 * A tile of which a row sees nothing changes nothing of it, to the bit.
 */
LM_DEVICE void softmax(float (*s)[4], Rows &rows, const int *limit, float scale, int t, float *alpha) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (limit[r] < 64) {
#pragma unroll
      for (int j = 0; j < 8; j++)
#pragma unroll
        for (int e = 0; e < 2; e++)
          if (8 * j + 2 * t + e >= limit[r]) s[j][2 * r + e] = -LM_INF;
    }
    float top = s[0][2 * r];
#pragma unroll
    for (int j = 0; j < 8; j++) top = fmaxf(top, fmaxf(s[j][2 * r], s[j][2 * r + 1]));
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
    float m = fmaxf(rows.m[r], top * scale), base = m == -LM_INF ? 0.0f : m, sum = 0.0f;
    alpha[r] = exp2_(rows.m[r] - base);
    rows.m[r] = m;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      s[j][2 * r] = exp2_(fma_(s[j][2 * r], scale, -base));
      s[j][2 * r + 1] = exp2_(fma_(s[j][2 * r + 1], scale, -base));
      float2 f = half2_to_float2(pack_half_exact(s[j][2 * r], s[j][2 * r + 1]));  // what is summed is what multiplies V
      sum += f.x + f.y;
    }
    rows.l[r] = fma_(rows.l[r], alpha[r], sum);
  }
}
/** p in f16 as the a operand of P · V, four groups of 16 positions. */
LM_DEVICE void pack_p(const float (*s)[4], u32 (*p)[4]) {
#pragma unroll
  for (int j = 0; j < 8; j++)
#pragma unroll
    for (int r = 0; r < 2; r++) p[j >> 1][2 * (j & 1) + r] = pack_half_exact(s[j][2 * r], s[j][2 * r + 1]);
}
/** The row's sum over all lanes, at the end of a split. */
LM_DEVICE float row_sum(float l) {
  l += __shfl_xor_sync(~0u, l, 1);
  return l + __shfl_xor_sync(~0u, l, 2);
}
