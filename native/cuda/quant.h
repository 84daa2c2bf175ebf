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

/**
 * Scale and minimum of the lane's two rows, for both blocks of 32 (four of 16 for Q6_K) of a segment. f16 activations: pairs of
 * f16, first block low. An f16 times an integer of a byte is exact in f32, so a product in f16 is that, rounded once.
 */
struct SegmentScales {
#if LM_ACT
  u32 scale[2][2];
  u32 minimum[2];
#else
  float scale[2][4];
  float minimum[2][2];
#endif
};
LM_DEVICE float byte_to_float(u32 w, int i) { return (float)((w >> (8 * i)) & 0xff); }
LM_DEVICE float signed_byte_to_float(u32 w, int i) { return (float)(s8)((w >> (8 * i)) & 0xff); }
/** Bytes 0, 1 (`high`: 2, 3) of w as f16 integers, exact; as signed bytes with LM_Q6_K, whose w has its sign bits turned. */
LM_DEVICE u32 byte_pair(u32 w, bool high) {
  return hsub2(prmt(w, 0x64646464, high ? 0x4342 : 0x4140), LM_TYPE == LM_Q6_K ? 0x64806480 : 0x64006400);
}

/** What a unit has of the lane's two rows: 45K (d, dmin), Q6_K d, Q4_1 a segment's minima. */
LM_DEVICE uint2 unit_scales(u32 unit, int g) {
  if (LM_IS_45K) return shared_u64(unit + LM_UNIT_SCALES + 8 * g);
  if (LM_TYPE == LM_Q4_1) return shared_u64(unit + LM_SCALES + 64 + 8 * g);
  u32 d = LM_TYPE == LM_Q6_K ? shared_u32(unit + LM_UNIT_SCALES + 4 * g) : 0;
  return make_uint2(d & 0xffff, d >> 16);
}

/** s: a segment's, d: its unit's. */
LM_DEVICE SegmentScales segment_scales(uint2 s, uint2 d) {
  SegmentScales r;
#pragma unroll
  for (int row = 0; row < 2; row++) {
    u32 w = row ? s.y : s.x, own = row ? d.y : d.x;
#if LM_ACT
    r.scale[row][0] = w, r.scale[row][1] = 0, r.minimum[row] = LM_TYPE == LM_Q4_1 ? own : 0;
    if (LM_TYPE == LM_Q6_K) w ^= 0x80808080;
    if (LM_IS_K) r.scale[row][0] = hmul2(byte_pair(w, false), both_low(own));
    if (LM_TYPE == LM_Q6_K) r.scale[row][1] = hmul2(byte_pair(w, true), both_low(own));
    if (LM_IS_45K) r.minimum[row] = hmul2(byte_pair(w, true), both_high(own ^ 0x80000000));
#else
    float scale = half_to_float(own & 0xffff);
#pragma unroll
    for (int b = 0; b < 4; b++) {
      if (LM_TYPE == LM_Q6_K) r.scale[row][b] = scale * signed_byte_to_float(w, b);
      if (b > 1) continue;
      if (LM_IS_45K) {
        r.scale[row][b] = scale * byte_to_float(w, b);
        r.minimum[row][b] = -(half_to_float(own >> 16) * byte_to_float(w, 2 + b));
      } else if (LM_TYPE != LM_Q6_K) {
        r.scale[row][b] = half_to_float((w >> (16 * b)) & 0xffff);
        r.minimum[row][b] = LM_TYPE == LM_Q4_1 ? half_to_float((own >> (16 * b)) & 0xffff) : 0.0f;
      }
    }
#endif
  }
  return r;
}

/** What a lane reads of a segment. */
struct Segment {
  u32 w[LM_TYPE == LM_Q8_0 ? 8 : 4];
  u32 high[2];
  uint2 scales;
};
/** unit: address in shared memory. */
LM_DEVICE Segment load_segment(u32 unit, int segment, int lane) {
  Segment r;
  r.scales = shared_u64(unit + LM_SCALES + (LM_IS_K ? 64 * segment : 0) + 8 * (lane >> 2));
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

/** Shifts left, or right where the distance is negative. */
LM_DEVICE u32 shifted(u32 x, int left) { return left < 0 ? x >> -left : x << left; }

/**
 * Pair i of group j as two f16 integers, exact. Nibbles of even pairs stand at bit 0 of a half of w or w >> 8, as 1024 + q once they have an
 * exponent; those of odd pairs stay at bit 4, as 64 + q: one shift for four pairs. Higher bits are brought above them.
 */
LM_DEVICE u32 quant_pair(const Segment &q, int j, int i) {
#if LM_TYPE == LM_Q8_0
  return hsub2(prmt(q.w[2 * j + (i >> 1)], 0x64646464, i & 1 ? 0x4342 : 0x4140), 0x64806480);  // 1024 + byte, minus 1152
#else
  u32 w = i & 2 ? q.w[j] >> 8 : q.w[j];
  u32 x = i & 1 ? and_or(w, 0x00f000f0, 0x54005400) : and_or(w, 0x000f000f, 0x64006400);
  u32 zero = i & 1 ? 0x54005400 : 0x64006400;
#if LM_TYPE == LM_Q6_K
  x = and_or(shifted(q.high[j >> 1], (i & 1 ? 8 : 4) - 8 * (j & 1) - 2 * i), i & 1 ? 0x03000300 : 0x00300030, x);
  zero = i & 1 ? 0x56005600 : 0x64206420;  // and 32
#elif LM_TYPE == LM_Q5_K
  x = and_or(shifted(q.high[0], (i & 1 ? 8 : 4) - 4 * j - i), i & 1 ? 0x01000100 : 0x00100010, x);
#elif LM_TYPE == LM_Q4_0
  zero = i & 1 ? 0x54805480 : 0x64086408;  // and 8
#endif
  return hsub2(x, zero);
#endif
}

/** The a operand (16 rows × 16 inputs) of group j of a segment. */
LM_DEVICE void dequantise(const Segment &q, const SegmentScales &s, int j, u32 *a) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    int row = i & 1, block = LM_TYPE == LM_Q6_K ? j : j >> 1;
    u32 pair = quant_pair(q, j, i);
#if LM_ACT
    u32 scales = s.scale[row][block >> 1], scale = block & 1 ? both_high(scales) : both_low(scales);
    u32 minimum = block & 1 ? both_high(s.minimum[row]) : both_low(s.minimum[row]);
    a[i] = LM_HAS_MINIMUM ? hfma2(pair, scale, minimum) : hmul2(pair, scale);
#else
    float scale = s.scale[row][block], minimum = s.minimum[row][j >> 1];
    float2 v = half2_to_float2(pair);
    if (LM_HAS_MINIMUM) {
      v.x = fma_(v.x, scale, minimum);
      v.y = fma_(v.y, scale, minimum);
    } else {
      v.x *= scale;
      v.y *= scale;
    }
    a[i] = pack_bf16(v.x, v.y);
#endif
  }
}
