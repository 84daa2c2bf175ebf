// Quantised weights: GGUF's bits in the order in which a lane of mma.sync (and of wgmma with a in registers) wants them.
//
// A unit holds 16 rows × QK inputs (64, or 256 for K-quants); the units of 16 rows are contiguous over all inputs. In it the
// quants come in segments of 64 inputs, four groups of 16, word j of lane (g, t) for group j: rows g and g + 8, inputs
// 2t, 2t + 1, 2t + 8, 2t + 9. The lane's eight values are pairs i = 0 … 3 = (g, low), (g + 8, low), (g, high), (g + 8, high).
//   nibbles  16 bytes a lane: pair i in nibbles i and i + 4 of word j
//   bytes    2 × 16 bytes a lane (groups 0, 1; groups 2, 3): byte 2i, 2i + 1 of pair i; stored as value + 128
//   2 bits   8 bytes a lane, two groups a word: pair i of group j at bits 8 · (j % 2) + 2i and 16 more
//   1 bit    4 bytes a lane: pair i of group j at bits 4j + i and 16 more
// Scales: 8 bytes for each g and segment, [row g, row g + 8]. Missing rows are zero in all fields: their weights are zero.
//
//   type   QK   unit                                                                                  bytes  bits a weight
//   Q8_0   64   bytes 1,024 · d f16 [2 blocks] 64                                                     1,088  8.5
//   Q4_0   64   nibbles 512 · d 64                                                                      576  4.5
//   Q4_1   64   nibbles 512 · d 64 · m 64                                                               640  5
//   Q4_K   256  nibbles 2,048 · 4 × (sc, sc, m, m u8) 256 · (d, dmin f16) 64                          2,368  4.625
//   Q5_K   256  nibbles 2,048 · 1 bit 512 · 4 × (sc, sc, m, m u8) 256 · (d, dmin f16) 64            2,880  5.625
//   Q6_K   256  nibbles 2,048 · 2 bits 1,024 · 4 × (sc s8 × 4) 256 · d f16 32                         3,360  6.5625
//
// A weight has one value wherever it is used, so the same bits come out everywhere. bf16 activations: in f32, rounded once. f16
// activations: block scale and minimum rounded to f16 (they are f16 but for K-quants), then one f16 multiply-add of the quant:
// half the instructions.
#pragma once
#include "common.h"

#define LM_Q4_0 2
#define LM_Q4_1 3
#define LM_Q8_0 8
#define LM_Q4_K 12
#define LM_Q5_K 13
#define LM_Q6_K 14

/** 6-bit scales and minima, from one pair of f16 each 256 inputs. */
#define LM_IS_45K (LM_TYPE == LM_Q4_K || LM_TYPE == LM_Q5_K)
#define LM_IS_K (LM_IS_45K || LM_TYPE == LM_Q6_K)
#define LM_HAS_MINIMUM (LM_IS_45K || LM_TYPE == LM_Q4_1)
#define LM_QK (LM_IS_K ? 256 : 64)
#define LM_UNIT                                                                                                             \
  (LM_TYPE == LM_Q8_0   ? 1088                                                                                             \
   : LM_TYPE == LM_Q4_0 ? 576                                                                                              \
   : LM_TYPE == LM_Q4_1 ? 640                                                                                              \
   : LM_TYPE == LM_Q4_K ? 2368                                                                                             \
   : LM_TYPE == LM_Q5_K ? 2880                                                                                             \
                        : 3360)
/** Bytes of quants in a segment; where the scales of segment s begin; of a unit's own scales. */
#define LM_SEGMENT (LM_TYPE == LM_Q8_0 ? 1024 : 512)
#define LM_SCALES (LM_TYPE == LM_Q8_0 ? 1024 : LM_TYPE == LM_Q4_K ? 2048 : LM_TYPE == LM_Q5_K ? 2560 : LM_TYPE == LM_Q6_K ? 3072 : 512)
#define LM_UNIT_SCALES (LM_SCALES + 256)
/** Where K-quants have what is beyond nibbles. */
#define LM_HIGH_BITS 2048

/** Scale and minimum of the lane's two rows, for both blocks of 32 (four of 16 for Q6_K) of a segment. */
struct SegmentScales {
  float scale[2][4];
  float minimum[2][2];
};
LM_DEVICE float byte_to_float(u32 w, int i) { return (float)((w >> (8 * i)) & 0xff); }
LM_DEVICE float signed_byte_to_float(u32 w, int i) { return (float)(s8)((w >> (8 * i)) & 0xff); }

/** unit: address in shared memory. */
LM_DEVICE SegmentScales segment_scales(u32 unit, int segment, int g) {
  SegmentScales r;
  uint2 s = shared_u64(unit + LM_SCALES + (LM_IS_K ? 64 * segment : 0) + 8 * g);
  u32 own[2] = {0, 0};
  if (LM_IS_45K) {
    uint2 d = shared_u64(unit + LM_UNIT_SCALES + 8 * g);
    own[0] = d.x, own[1] = d.y;
  }
  if (LM_TYPE == LM_Q6_K) {
    u32 d = shared_u32(unit + LM_UNIT_SCALES + 4 * g);
    own[0] = d & 0xffff, own[1] = d >> 16;
  }
  uint2 m = make_uint2(0, 0);
  if (LM_TYPE == LM_Q4_1) m = shared_u64(unit + LM_SCALES + 64 + 8 * g);
#pragma unroll
  for (int row = 0; row < 2; row++) {
    u32 w = row ? s.y : s.x, mw = row ? m.y : m.x;
    float d = half_to_float(own[row] & 0xffff);
    if (LM_TYPE == LM_Q6_K) {
#pragma unroll
      for (int b = 0; b < 4; b++) r.scale[row][b] = d * signed_byte_to_float(w, b);
      r.minimum[row][0] = r.minimum[row][1] = 0.0f;
    } else {
#pragma unroll
      for (int b = 0; b < 2; b++) {
        if (LM_IS_45K) {
          r.scale[row][b] = d * byte_to_float(w, b);
          r.minimum[row][b] = -(half_to_float(own[row] >> 16) * byte_to_float(w, 2 + b));
        } else {
          r.scale[row][b] = half_to_float((w >> (16 * b)) & 0xffff);
          r.minimum[row][b] = LM_TYPE == LM_Q4_1 ? half_to_float((mw >> (16 * b)) & 0xffff) : 0.0f;
        }
      }
    }
  }
  return r;
}

struct SegmentQuants {
  u32 w[LM_TYPE == LM_Q8_0 ? 8 : 4];
  u32 high[2];
};
LM_DEVICE SegmentQuants segment_quants(u32 unit, int segment, int lane) {
  SegmentQuants r;
  uint4 a = shared_u128(unit + segment * LM_SEGMENT + 16 * lane);
  r.w[0] = a.x, r.w[1] = a.y, r.w[2] = a.z, r.w[3] = a.w;
#if LM_TYPE == LM_Q8_0
  a = shared_u128(unit + 512 + 16 * lane);
  r.w[4] = a.x, r.w[5] = a.y, r.w[6] = a.z, r.w[7] = a.w;
#endif
  r.high[0] = r.high[1] = 0;
  if (LM_TYPE == LM_Q6_K) {
    uint2 h = shared_u64(unit + LM_HIGH_BITS + 256 * segment + 8 * lane);
    r.high[0] = h.x, r.high[1] = h.y;
  }
  if (LM_TYPE == LM_Q5_K) r.high[0] = shared_u32(unit + LM_HIGH_BITS + 128 * segment + 4 * lane);
  return r;
}

/** Pair i of group j as two f16 integers, exact. */
LM_DEVICE u32 quant_pair(const SegmentQuants &q, int j, int i) {
#if LM_TYPE == LM_Q8_0
  return hsub2(prmt(q.w[2 * j + (i >> 1)], 0x64646464, i & 1 ? 0x4342 : 0x4140), 0x64806480);  // 1024 + byte, minus 1152
#elif LM_TYPE == LM_Q6_K
  u32 x = and_or(q.w[j] >> (4 * i), 0x000f000f, 0x64006400);
  return hsub2(x | (((q.high[j >> 1] >> (8 * (j & 1) + 2 * i)) & 0x00030003) << 4), 0x64206420);
#elif LM_TYPE == LM_Q5_K
  u32 x = and_or(q.w[j] >> (4 * i), 0x000f000f, 0x64006400);
  return hsub2(x | (((q.high[0] >> (4 * j + i)) & 0x00010001) << 4), 0x64006400);
#else
  return hsub2(and_or(q.w[j] >> (4 * i), 0x000f000f, 0x64006400), LM_TYPE == LM_Q4_0 ? 0x64086408 : 0x64006400);
#endif
}

/** The a operand (16 rows × 16 inputs) of group j of a segment. */
LM_DEVICE void dequantise(const SegmentQuants &q, const SegmentScales &s, int j, u32 *a) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    int row = i & 1, block = LM_TYPE == LM_Q6_K ? j : j >> 1;
    u32 pair = quant_pair(q, j, i);
    float scale = s.scale[row][block], minimum = s.minimum[row][j >> 1];
    if (LM_ACT) {
      u32 s2 = pack_half_exact(scale, scale);
      a[i] = LM_HAS_MINIMUM ? hfma2(pair, s2, pack_half_exact(minimum, minimum)) : hmul2(pair, s2);
      continue;
    }
    float2 v = half2_to_float2(pair);
    if (LM_HAS_MINIMUM) {
      v.x = fma_(v.x, scale, minimum);
      v.y = fma_(v.y, scale, minimum);
    } else {
      v.x *= scale;
      v.y *= scale;
    }
    a[i] = pack_bf16(v.x, v.y);
  }
}
