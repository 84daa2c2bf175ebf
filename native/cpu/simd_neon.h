// Sixteen f32 lanes as four NEON vectors, for simd.h: 64-bit Arm with dot products. Sums and roundings are in the order of the
// other instruction sets, so that with the same fused multiply-adds the bits are theirs.
namespace LM_NS {

struct V {
  float32x4_t v[4];
};
struct I {
  int32x4_t v[4];
};

#define LM_QUARTERS for (int i = 0; i < 4; i++)
#define LM_LANES(type, name, parameters, expr) \
  LM_INLINE type name parameters { \
    type r; \
    LM_QUARTERS r.v[i] = expr; \
    return r; \
  }

LM_INLINE float half_to_float(u16 h) {
  __fp16 x;
  memcpy(&x, &h, 2);
  return (float)x;
}
LM_INLINE u16 float_to_half(float f) {
  __fp16 x = (__fp16)f;
  u16 h;
  memcpy(&h, &x, 2);
  return h;
}

/** The larger, or b if either is NaN, as on x64: vmaxq_f32 would give NaN. */
LM_INLINE float32x4_t larger(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
LM_INLINE float32x4_t smaller(float32x4_t a, float32x4_t b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
/** Numbers of the lanes of quarter i. */
LM_INLINE int32x4_t lanes(int i) {
  const int32x4_t k = {0, 1, 2, 3};
  return vaddq_s32(k, vdupq_n_s32(4 * i));
}
/** All bits of lanes below n of quarter i. */
LM_INLINE uint32x4_t below(int n, int i) { return vcltq_s32(lanes(i), vdupq_n_s32(n)); }

LM_LANES(V, v_zero, (), vdupq_n_f32(0))
LM_LANES(V, v_set, (float x), vdupq_n_f32(x))
LM_LANES(V, v_load, (const float *p), vld1q_f32(p + 4 * i))
LM_INLINE void v_store(float *p, V v) { LM_QUARTERS vst1q_f32(p + 4 * i, v.v[i]); }
LM_INLINE V v_load_n(const float *p, int n) {
  if (n >= 16) return v_load(p);
  float t[16] = {};
  for (int i = 0; i < n; i++) t[i] = p[i];
  return v_load(t);
}
LM_INLINE void v_store_n(float *p, V v, int n) {
  if (n >= 16) return v_store(p, v);
  float t[16];
  v_store(t, v);
  for (int i = 0; i < n; i++) p[i] = t[i];
}
LM_LANES(V, v_add, (V a, V b), vaddq_f32(a.v[i], b.v[i]))
LM_LANES(V, v_sub, (V a, V b), vsubq_f32(a.v[i], b.v[i]))
LM_LANES(V, v_mul, (V a, V b), vmulq_f32(a.v[i], b.v[i]))
LM_LANES(V, v_div, (V a, V b), vdivq_f32(a.v[i], b.v[i]))
LM_LANES(V, v_max, (V a, V b), larger(a.v[i], b.v[i]))
LM_LANES(V, v_min, (V a, V b), smaller(a.v[i], b.v[i]))
LM_LANES(V, v_fma, (V a, V b, V c), vfmaq_f32(c.v[i], a.v[i], b.v[i]))
LM_LANES(V, v_half, (const void *p), vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const u8 *)p + 8 * i))))
LM_INLINE void v_to_half(void *p, V v) {
  LM_QUARTERS vst1_u8((u8 *)p + 8 * i, vreinterpret_u8_f16(vcvt_f16_f32(v.v[i])));
}
LM_LANES(V, v_bf16, (const void *p), vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8((const u8 *)p + 8 * i)), 16)))
LM_LANES(V, v_int, (I a), vcvtq_f32_s32(a.v[i]))
LM_LANES(V, v_keep, (V a, int n, V other), vbslq_f32(below(n, i), a.v[i], other.v[i]))
LM_LANES(V, v_round, (V a), vrndnq_f32(a.v[i]))
LM_LANES(V, v_abs, (V a), vabsq_f32(a.v[i]))

LM_INLINE V unsigned_bytes(uint8x16_t x) {
  uint16x8_t a = vmovl_u8(vget_low_u8(x)), b = vmovl_u8(vget_high_u8(x));
  return {{vcvtq_f32_u32(vmovl_u16(vget_low_u16(a))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(a))),
           vcvtq_f32_u32(vmovl_u16(vget_low_u16(b))), vcvtq_f32_u32(vmovl_u16(vget_high_u16(b)))}};
}
LM_INLINE V v_u8(const void *p) { return unsigned_bytes(vld1q_u8((const u8 *)p)); }
LM_INLINE V v_s8(const void *p) {
  int8x16_t x = vld1q_s8((const s8 *)p);
  int16x8_t a = vmovl_s8(vget_low_s8(x)), b = vmovl_s8(vget_high_s8(x));
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(a))),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(b)))}};
}
/** 16 values of 4 bits: the low or the high halves of 16 bytes. */
LM_INLINE V v_u4(const void *p, int high) {
  uint8x16_t x = vld1q_u8((const u8 *)p);
  return unsigned_bytes(high ? vshrq_n_u8(x, 4) : vandq_u8(x, vdupq_n_u8(15)));
}
/** The low halves of 8 bytes, then the high halves. */
LM_INLINE V v_u4_pairs(const void *p) {
  uint8x8_t x = vld1_u8((const u8 *)p);
  return unsigned_bytes(vcombine_u8(vand_u8(x, vdup_n_u8(15)), vshr_n_u8(x, 4)));
}

LM_INLINE float32x4_t scale2_quarter(float32x4_t a, float32x4_t n) {
  uint32x4_t low = vcltq_f32(n, vdupq_n_f32(-126.0f));
  int32x4_t e = vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23);
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(vmulq_f32(a, vreinterpretq_f32_s32(e))), low));
}
/** a · 2^n for whole n; 0 far below the smallest number. */
LM_LANES(V, v_scale2, (V a, V n), scale2_quarter(a.v[i], n.v[i]))

LM_INLINE float v_sum(V v) {
  float32x4_t a = vaddq_f32(vaddq_f32(v.v[0], v.v[2]), vaddq_f32(v.v[1], v.v[3]));
  float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
  return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}
LM_INLINE float v_maximum(V v) {
  float32x4_t a = larger(larger(v.v[0], v.v[2]), larger(v.v[1], v.v[3]));
  float t[4];
  vst1q_f32(t, a);
  float b = t[0] > t[2] ? t[0] : t[2], c = t[1] > t[3] ? t[1] : t[3];
  return b > c ? b : c;
}
/** Largest |lane| of both by bit pattern, so that NaN wins. */
LM_INLINE float v_abs_maximum(V a, V b) {
  uint32x4_t m = vdupq_n_u32(0);
  LM_QUARTERS {
    m = vmaxq_u32(m, vreinterpretq_u32_f32(vabsq_f32(a.v[i])));
    m = vmaxq_u32(m, vreinterpretq_u32_f32(vabsq_f32(b.v[i])));
  }
  return bits_f32(vmaxvq_u32(m));
}
/** Rounds to nearest even, stores 16 int8, returns their sum. */
LM_INLINE i32 v_to_s8(s8 *p, V v) {
  int32x4_t q[4];
  LM_QUARTERS q[i] = vcvtnq_s32_f32(v.v[i]);
  int16x8_t a = vqmovn_high_s32(vqmovn_s32(q[0]), q[1]), b = vqmovn_high_s32(vqmovn_s32(q[2]), q[3]);
  vst1q_s8(p, vqmovn_high_s16(vqmovn_s16(a), b));
  return vaddvq_s32(vaddq_s32(vaddq_s32(q[0], q[2]), vaddq_s32(q[1], q[3])));
}
LM_INLINE int v_any_nan(V v) {
  uint32x4_t same = vdupq_n_u32(0xffffffffu);
  LM_QUARTERS same = vandq_u32(same, vceqq_f32(v.v[i], v.v[i]));
  return vminvq_u32(same) == 0;
}
/** Bit i: lane i of a ≥ lane i of b. */
LM_INLINE u32 v_mask_ge(V a, V b) {
  uint32x4_t bits = vdupq_n_u32(0), one = vdupq_n_u32(1);
  LM_QUARTERS bits = vorrq_u32(bits, vandq_u32(vcgeq_f32(a.v[i], b.v[i]), vshlq_u32(one, lanes(i))));
  return vaddvq_u32(bits);
}
#undef LM_LANES

}  // namespace LM_NS
