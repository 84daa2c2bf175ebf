// Sixteen f32 lanes on every instruction set. Included only by files compiled once per instruction set: everything here
// is static, so that no copy of a function can be shared between objects built with different flags.
#pragma once
#include <stdint.h>
#include <string.h>

#if defined(LM_BUILD_AMX)
#define LM_NS lm_amx
#elif defined(LM_BUILD_VNNI)
#define LM_NS lm_avxvnni
#elif defined(LM_BUILD_AVX512)
#define LM_NS lm_avx512
#elif defined(LM_BUILD_AVX2)
#define LM_NS lm_avx2
#endif
#if defined(LM_BUILD_AVX512)
#define LM_WIDEST 12
#define LM_FLOAT_COLUMNS 12  // whose f32 sums fit into registers
#elif defined(LM_BUILD_AVX2)
#define LM_WIDEST 6
#define LM_FLOAT_COLUMNS 6
#elif defined(LM_BUILD_NEON)
#if defined(LM_BUILD_I8MM)
#define LM_NS lm_i8mm
#else
#define LM_NS lm_dotprod
#endif
#define LM_WIDEST 12
#define LM_FLOAT_COLUMNS 6
#else
#define LM_NS lm_portable
#define LM_WIDEST 4
#define LM_FLOAT_COLUMNS 4
#endif
#if !defined(LM_COLUMNS)  // a test may want other panels
#define LM_COLUMNS LM_WIDEST
#endif

// Logit rows have activations of 16 bits where those are as fast as two planes of 8.
#if defined(LM_BUILD_AVX2)
#define LM_WIDE
#define LM_FINE_TOKENS 4
#else
#define LM_FINE_TOKENS (LM_COLUMNS / 2)
#endif

#if defined(LM_BUILD_AVX512) || defined(LM_BUILD_AVX2)
#include <immintrin.h>
#endif
#if defined(LM_BUILD_NEON)
#include <arm_neon.h>
#endif

#define LM_INLINE static inline __attribute__((always_inline))

namespace LM_NS {

typedef uint8_t u8;
typedef int8_t s8;
typedef uint16_t u16;
typedef int32_t i32;
typedef uint32_t u32;

LM_INLINE i32 load_i32(const void *p) {
  i32 v;
  memcpy(&v, p, 4);
  return v;
}
LM_INLINE float bits_f32(u32 b) {
  float f;
  memcpy(&f, &b, 4);
  return f;
}
LM_INLINE u32 f32_bits(float f) {
  u32 b;
  memcpy(&b, &f, 4);
  return b;
}

#if !defined(LM_BUILD_NEON)
// f16 ↔ f32, exact and round-to-nearest-even. The portable build uses these for every lane.
LM_INLINE float half_to_float(u16 h) {
#if defined(LM_BUILD_AVX512) || defined(LM_BUILD_AVX2)
  return _cvtsh_ss(h);
#else
  u32 sign = (u32)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 1023;
  if (e == 31) return bits_f32(sign | 0x7f800000u | (m << 13));
  if (e == 0) {
    float f = (float)m * 5.9604644775390625e-8f;  // 2^-24
    return bits_f32(sign | f32_bits(f));
  }
  return bits_f32(sign | ((e + 112) << 23) | (m << 13));
#endif
}
LM_INLINE u16 float_to_half(float f) {
#if defined(LM_BUILD_AVX512) || defined(LM_BUILD_AVX2)
  return _cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT);
#else
  u32 b = f32_bits(f), sign = (b >> 16) & 0x8000, a = b & 0x7fffffff;
  if (a > 0x7f800000) return (u16)(sign | 0x7e00 | ((a >> 13) & 0x3ff));
  if (a >= 0x477ff000) return (u16)(sign | 0x7c00);
  if (a < 0x38800000) {  // subnormal: adding 0.5 rounds to a multiple of 2^-24
    float r = bits_f32(a) + 0.5f;
    return (u16)(sign | (f32_bits(r) - 0x3f000000));
  }
  return (u16)(sign | ((a + 0xfff + ((a >> 13) & 1) - 0x38000000) >> 13));
#endif
}
#endif

#if defined(LM_BUILD_AVX512)
typedef __m512 V;
typedef __m512i I;
LM_INLINE V v_zero() { return _mm512_setzero_ps(); }
LM_INLINE V v_set(float x) { return _mm512_set1_ps(x); }
LM_INLINE V v_load(const float *p) { return _mm512_loadu_ps(p); }
LM_INLINE void v_store(float *p, V v) { _mm512_storeu_ps(p, v); }
LM_INLINE __mmask16 first(int n) { return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1); }
LM_INLINE V v_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
LM_INLINE void v_store_n(float *p, V v, int n) { _mm512_mask_storeu_ps(p, first(n), v); }
LM_INLINE V v_add(V a, V b) { return _mm512_add_ps(a, b); }
LM_INLINE V v_sub(V a, V b) { return _mm512_sub_ps(a, b); }
LM_INLINE V v_mul(V a, V b) { return _mm512_mul_ps(a, b); }
LM_INLINE V v_div(V a, V b) { return _mm512_div_ps(a, b); }
LM_INLINE V v_max(V a, V b) { return _mm512_max_ps(a, b); }
LM_INLINE V v_min(V a, V b) { return _mm512_min_ps(a, b); }
LM_INLINE V v_fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
LM_INLINE V v_half(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
LM_INLINE void v_to_half(void *p, V v) {
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
LM_INLINE V v_bf16(const void *p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
LM_INLINE V v_u8(const void *p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
LM_INLINE V v_s8(const void *p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
LM_INLINE V v_int(I a) { return _mm512_cvtepi32_ps(a); }
/** Lanes n… replaced by `other`. */
LM_INLINE V v_keep(V a, int n, V other) { return _mm512_mask_blend_ps(first(n), other, a); }
LM_INLINE V v_round(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/** a · 2^n for whole n; 0 far below the smallest number. */
LM_INLINE V v_scale2(V a, V n) { return _mm512_scalef_ps(a, n); }
LM_INLINE V v_abs(V a) { return _mm512_abs_ps(a); }
LM_INLINE float v_sum(V v) {
  __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}
LM_INLINE float v_maximum(V v) { return _mm512_reduce_max_ps(v); }
/** Largest |lane| of both by bit pattern, so that NaN wins. */
LM_INLINE float v_abs_maximum(V a, V b) {
  __m512i m = _mm512_set1_epi32(0x7fffffff);
  __m512i x = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(a), m), _mm512_and_si512(_mm512_castps_si512(b), m));
  return bits_f32((u32)_mm512_reduce_max_epi32(x));
}
/** Rounds to nearest even, stores 16 int8, returns their sum. */
LM_INLINE i32 v_to_s8(s8 *p, V v) {
  __m512i i = _mm512_cvtps_epi32(v);
  _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(i));
  return _mm512_reduce_add_epi32(i);
}
LM_INLINE int v_any_nan(V v) { return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q) != 0; }
/** 16 values of 4 bits: the low or the high halves of 16 bytes. */
LM_INLINE V v_u4(const void *p, int high) {
  __m128i x = _mm_loadu_si128((const __m128i *)p), m = _mm_set1_epi8(15);
  x = _mm_and_si128(high ? _mm_srli_epi16(x, 4) : x, m);
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(x));
}
/** The low halves of 8 bytes, then the high halves. */
LM_INLINE V v_u4_pairs(const void *p) {
  __m128i x = _mm_loadl_epi64((const __m128i *)p), m = _mm_set1_epi8(15);
  x = _mm_unpacklo_epi64(_mm_and_si128(x, m), _mm_and_si128(_mm_srli_epi16(x, 4), m));
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(x));
}
/** Bit i: lane i of a ≥ lane i of b. */
LM_INLINE u32 v_mask_ge(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
#elif defined(LM_BUILD_AVX2)
struct V {
  __m256 a, b;
};
struct I {
  __m256i a, b;
};
LM_INLINE V v_zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
LM_INLINE V v_set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
LM_INLINE V v_load(const float *p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
LM_INLINE void v_store(float *p, V v) {
  _mm256_storeu_ps(p, v.a);
  _mm256_storeu_ps(p + 8, v.b);
}
LM_INLINE I first(int n) {
  __m256i i = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), k = _mm256_set1_epi32(n);
  return {_mm256_cmpgt_epi32(k, i), _mm256_cmpgt_epi32(k, _mm256_add_epi32(i, _mm256_set1_epi32(8)))};
}
LM_INLINE V v_load_n(const float *p, int n) {
  I m = first(n);
  return {_mm256_maskload_ps(p, m.a), _mm256_maskload_ps(p + 8, m.b)};
}
LM_INLINE void v_store_n(float *p, V v, int n) {
  I m = first(n);
  _mm256_maskstore_ps(p, m.a, v.a);
  _mm256_maskstore_ps(p + 8, m.b, v.b);
}
#define LM_PAIR(name, op) \
  LM_INLINE V name(V x, V y) { return {op(x.a, y.a), op(x.b, y.b)}; }
LM_PAIR(v_add, _mm256_add_ps)
LM_PAIR(v_sub, _mm256_sub_ps)
LM_PAIR(v_mul, _mm256_mul_ps)
LM_PAIR(v_div, _mm256_div_ps)
LM_PAIR(v_max, _mm256_max_ps)
LM_PAIR(v_min, _mm256_min_ps)
#undef LM_PAIR
LM_INLINE V v_fma(V x, V y, V z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
LM_INLINE V v_half(const void *p) {
  const __m128i *q = (const __m128i *)p;
  return {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
}
LM_INLINE void v_to_half(void *p, V v) {
  __m128i *q = (__m128i *)p;
  _mm_storeu_si128(q, _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(q + 1, _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT));
}
LM_INLINE V v_int(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
LM_INLINE V v_bf16(const void *p) {
  const __m128i *q = (const __m128i *)p;
  __m256i a = _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(q)), 16);
  __m256i b = _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(q + 1)), 16);
  return {_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)};
}
LM_INLINE V v_u8(const void *p) {
  __m128i x = _mm_loadu_si128((const __m128i *)p);
  return v_int(I{_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))});
}
LM_INLINE V v_s8(const void *p) {
  __m128i x = _mm_loadu_si128((const __m128i *)p);
  return v_int(I{_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128(x, 8))});
}
LM_INLINE V v_keep(V x, int n, V o) {
  I m = first(n);
  return {_mm256_blendv_ps(o.a, x.a, _mm256_castsi256_ps(m.a)), _mm256_blendv_ps(o.b, x.b, _mm256_castsi256_ps(m.b))};
}
LM_INLINE V v_round(V x) {
  return {_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
LM_INLINE __m256 scale2_half(__m256 a, __m256 n) {
  __m256 low = _mm256_cmp_ps(n, _mm256_set1_ps(-126.0f), _CMP_LT_OQ);
  __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_andnot_ps(low, _mm256_mul_ps(a, _mm256_castsi256_ps(e)));
}
LM_INLINE V v_scale2(V a, V n) { return {scale2_half(a.a, n.a), scale2_half(a.b, n.b)}; }
LM_INLINE V v_abs(V x) {
  __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return {_mm256_and_ps(x.a, m), _mm256_and_ps(x.b, m)};
}
LM_INLINE float v_sum(V v) {
  __m256 a = _mm256_add_ps(v.a, v.b);
  __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}
LM_INLINE float v_maximum(V v) {
  __m256 a = _mm256_max_ps(v.a, v.b);
  __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_shuffle_ps(b, b, 1)));
}
LM_INLINE float v_abs_maximum(V x, V y) {
  V ax = v_abs(x), ay = v_abs(y);
  __m256i m = _mm256_max_epi32(_mm256_max_epi32(_mm256_castps_si256(ax.a), _mm256_castps_si256(ax.b)),
                               _mm256_max_epi32(_mm256_castps_si256(ay.a), _mm256_castps_si256(ay.b)));
  __m128i b = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
  b = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0x4e));
  b = _mm_max_epi32(b, _mm_shuffle_epi32(b, 0xb1));
  return bits_f32((u32)_mm_cvtsi128_si32(b));
}
LM_INLINE i32 i_sum(__m256i s) {
  __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4e));
  t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1));
  return _mm_cvtsi128_si32(t);
}
LM_INLINE i32 v_to_s8(s8 *p, V v) {
  __m256i a = _mm256_cvtps_epi32(v.a), b = _mm256_cvtps_epi32(v.b);
  __m256i w = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
  _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
  return i_sum(_mm256_add_epi32(a, b));
}
/** Rounds to nearest even, stores 16 int16, of each four the even ones first, returns their sum. */
LM_INLINE i32 v_to_s16(u8 *p, V v) {
  __m256i a = _mm256_cvtps_epi32(v.a), b = _mm256_cvtps_epi32(v.b);
  __m256i w = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
  _mm256_storeu_si256((__m256i *)p, _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(w, 0xd8), 0xd8));
  return i_sum(_mm256_add_epi32(a, b));
}
LM_INLINE int v_any_nan(V v) {
  return _mm256_movemask_ps(_mm256_cmp_ps(v.a, v.a, _CMP_UNORD_Q)) | _mm256_movemask_ps(_mm256_cmp_ps(v.b, v.b, _CMP_UNORD_Q));
}
/** 16 values of 4 bits: the low or the high halves of 16 bytes. */
LM_INLINE V v_u4(const void *p, int high) {
  __m128i x = _mm_loadu_si128((const __m128i *)p), m = _mm_set1_epi8(15);
  x = _mm_and_si128(high ? _mm_srli_epi16(x, 4) : x, m);
  return v_int(I{_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))});
}
/** The low halves of 8 bytes, then the high halves. */
LM_INLINE V v_u4_pairs(const void *p) {
  __m128i x = _mm_loadl_epi64((const __m128i *)p), m = _mm_set1_epi8(15);
  x = _mm_unpacklo_epi64(_mm_and_si128(x, m), _mm_and_si128(_mm_srli_epi16(x, 4), m));
  return v_int(I{_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))});
}
/** Bit i: lane i of a ≥ lane i of b. */
LM_INLINE u32 v_mask_ge(V x, V y) {
  return (u32)_mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ)) |
         (u32)_mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)) << 8;
}
#elif defined(LM_BUILD_NEON)
}  // namespace LM_NS
#include "simd_neon.h"
namespace LM_NS {
#else
struct V {
  float v[16];
};
struct I {
  i32 v[16];
};
#define LM_EACH for (int i = 0; i < 16; i++)
LM_INLINE V v_zero() { return V{}; }
LM_INLINE V v_set(float x) {
  V r;
  LM_EACH r.v[i] = x;
  return r;
}
LM_INLINE V v_load(const float *p) {
  V r;
  memcpy(&r, p, 64);
  return r;
}
LM_INLINE void v_store(float *p, V v) { memcpy(p, &v, 64); }
LM_INLINE V v_load_n(const float *p, int n) {
  V r;
  LM_EACH r.v[i] = i < n ? p[i] : 0.0f;
  return r;
}
LM_INLINE void v_store_n(float *p, V v, int n) {
  LM_EACH if (i < n) p[i] = v.v[i];
}
#define LM_PAIR(name, expr) \
  LM_INLINE V name(V a, V b) { \
    V r; \
    LM_EACH r.v[i] = expr; \
    return r; \
  }
LM_PAIR(v_add, a.v[i] + b.v[i])
LM_PAIR(v_sub, a.v[i] - b.v[i])
LM_PAIR(v_mul, a.v[i] * b.v[i])
LM_PAIR(v_div, a.v[i] / b.v[i])
LM_PAIR(v_max, a.v[i] > b.v[i] ? a.v[i] : b.v[i])
LM_PAIR(v_min, a.v[i] < b.v[i] ? a.v[i] : b.v[i])
#undef LM_PAIR
/** No fused multiply-add in the baseline: two roundings, on this instruction set always. */
LM_INLINE V v_fma(V a, V b, V c) {
  V r;
  LM_EACH r.v[i] = a.v[i] * b.v[i] + c.v[i];
  return r;
}
LM_INLINE V v_half(const void *p) {
  V r;
  u16 h[16];
  memcpy(h, p, 32);
  LM_EACH r.v[i] = half_to_float(h[i]);
  return r;
}
LM_INLINE void v_to_half(void *p, V v) {
  u16 h[16];
  LM_EACH h[i] = float_to_half(v.v[i]);
  memcpy(p, h, 32);
}
LM_INLINE V v_bf16(const void *p) {
  V r;
  u16 h[16];
  memcpy(h, p, 32);
  LM_EACH r.v[i] = bits_f32((u32)h[i] << 16);
  return r;
}
LM_INLINE V v_u8(const void *p) {
  V r;
  LM_EACH r.v[i] = (float)((const u8 *)p)[i];
  return r;
}
LM_INLINE V v_s8(const void *p) {
  V r;
  LM_EACH r.v[i] = (float)((const s8 *)p)[i];
  return r;
}
LM_INLINE V v_int(I a) {
  V r;
  LM_EACH r.v[i] = (float)a.v[i];
  return r;
}
LM_INLINE V v_keep(V a, int n, V o) {
  V r;
  LM_EACH r.v[i] = i < n ? a.v[i] : o.v[i];
  return r;
}
LM_INLINE float round_even(float x) {
  float y = x + 12582912.0f;  // 1.5·2^23: right for |x| < 2^22, which is all that comes here
  return y - 12582912.0f;
}
LM_INLINE V v_round(V a) {
  V r;
  LM_EACH r.v[i] = round_even(a.v[i]);
  return r;
}
LM_INLINE V v_scale2(V a, V n) {
  V r;
  LM_EACH {
    float e = n.v[i] < -126.0f ? -126.0f : n.v[i];
    float s = bits_f32((u32)((i32)e + 127) << 23);
    r.v[i] = n.v[i] < -126.0f ? 0.0f : a.v[i] * s;
  }
  return r;
}
LM_INLINE V v_abs(V a) {
  V r;
  LM_EACH r.v[i] = bits_f32(f32_bits(a.v[i]) & 0x7fffffff);
  return r;
}
LM_INLINE float v_sum(V v) {
  float t[8];
  for (int i = 0; i < 8; i++) t[i] = v.v[i] + v.v[i + 8];
  for (int i = 0; i < 4; i++) t[i] = t[i] + t[i + 4];
  return (t[0] + t[2]) + (t[1] + t[3]);
}
LM_INLINE float v_maximum(V v) {
  float m = v.v[0];
  for (int i = 1; i < 16; i++) m = v.v[i] > m ? v.v[i] : m;
  return m;
}
LM_INLINE float v_abs_maximum(V a, V b) {
  u32 m = 0;
  LM_EACH {
    u32 x = f32_bits(a.v[i]) & 0x7fffffff, y = f32_bits(b.v[i]) & 0x7fffffff;
    m = x > m ? x : m;
    m = y > m ? y : m;
  }
  return bits_f32(m);
}
LM_INLINE i32 v_to_s8(s8 *p, V v) {
  i32 s = 0;
  LM_EACH {
    float x = v.v[i];
    i32 q = x >= -127.5f && x <= 127.5f ? (i32)round_even(x) : 0;
    p[i] = (s8)q;
    s += q;
  }
  return s;
}
LM_INLINE int v_any_nan(V v) {
  int any = 0;
  LM_EACH any |= v.v[i] != v.v[i];
  return any;
}
/** 16 values of 4 bits: the low or the high halves of 16 bytes. */
LM_INLINE V v_u4(const void *p, int high) {
  V r;
  LM_EACH r.v[i] = (float)((((const u8 *)p)[i] >> (high ? 4 : 0)) & 15);
  return r;
}
/** The low halves of 8 bytes, then the high halves. */
LM_INLINE V v_u4_pairs(const void *p) {
  V r;
  LM_EACH r.v[i] = (float)((((const u8 *)p)[i & 7] >> (i < 8 ? 0 : 4)) & 15);
  return r;
}
/** Bit i: lane i of a ≥ lane i of b. */
LM_INLINE u32 v_mask_ge(V a, V b) {
  u32 m = 0;
  LM_EACH m |= (u32)(a.v[i] >= b.v[i]) << i;
  return m;
}
#endif

/** 2^x, relative error < 2e-7; 1 exactly at 0; 0 below -126 or so and for -Infinity. The only exponential there is. */
LM_INLINE V v_exp2(V x) {
  x = v_min(v_max(x, v_set(-200.0f)), v_set(127.0f));
  V n = v_round(x), f = v_sub(x, n);
  V p = v_set(1.535336188319500e-4f);
  p = v_fma(p, f, v_set(1.339887440266574e-3f));
  p = v_fma(p, f, v_set(9.618437357674640e-3f));
  p = v_fma(p, f, v_set(5.550332471162809e-2f));
  p = v_fma(p, f, v_set(2.402264791363012e-1f));
  p = v_fma(p, f, v_set(6.931472028550421e-1f));
  p = v_fma(p, f, v_set(1.0f));
  return v_scale2(p, n);
}
LM_INLINE V v_exp(V x) { return v_exp2(v_mul(x, v_set(1.44269504088896341f))); }
/** cap · tanh(x / cap); NaN and infinities give NaN. */
LM_INLINE V v_softcap(V x, float cap) {
  V e = v_exp(v_mul(x, v_set(2.0f / cap)));
  V t = v_sub(v_set(1.0f), v_div(v_set(2.0f), v_add(e, v_set(1.0f))));
  return v_add(v_mul(v_set(cap), t), v_sub(x, x));
}
/** GELU by its tanh approximation: x · sigmoid(2 · sqrt(2 / π) · (x + 0.044715 x³)). */
LM_INLINE V v_gelu(V x) {
  V cube = v_mul(v_mul(x, x), x);
  V z = v_mul(v_set(-1.5957691216057308f), v_fma(v_set(0.044715f), cube, x));
  return v_div(x, v_add(v_set(1.0f), v_exp(z)));
}
/** x · sigmoid(x). */
LM_INLINE V v_silu(V x) { return v_div(x, v_add(v_set(1.0f), v_exp(v_sub(v_zero(), x)))); }

}  // namespace LM_NS
