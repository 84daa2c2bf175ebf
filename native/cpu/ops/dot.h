// Integer dot products of one tile (16 rows) with NC columns of int8 activations. Each output element has one f32
// accumulator that takes the blocks of 32 inputs in order, whatever NC is: a column's bits do not depend on its company.
namespace LM_NS {

#if defined(LM_BUILD_AVX512) || defined(LM_BUILD_VNNI)
}  // namespace LM_NS
#include "dot_vnni.h"
namespace LM_NS {
#elif defined(LM_BUILD_AVX2)
// Sixteen registers hold the sums of 16 rows × 4 columns in i16 (of 8 vectors), the weights and an activation; so more columns
// go in groups, and what does not fit waits in the first cache. Integers are exact in any order.
LM_INLINE H q_set(const s8 *q) { return _mm256_set1_epi32(load_i32(q)); }
/** Keeps the compiler from computing all products first and adding them later, which needs more registers than there are. */
LM_INLINE void i_pin(I &a) { __asm__("" : "+x"(a.a), "+x"(a.b)); }
LM_INLINE I i_widen(I a, I pairs) {
  H one = _mm256_set1_epi16(1);
  return {_mm256_add_epi32(a.a, _mm256_madd_epi16(pairs.a, one)), _mm256_add_epi32(a.b, _mm256_madd_epi16(pairs.b, one))};
}
/** Sums of pairs of u8 · s8 in i16, of one chunk for all columns. */
template <int NC>
LM_INLINE void add_pairs(I *s, I w, const s8 *q) {
  for (int c = 0; c < NC; c++) {
    H x = q_set(q + 32 * c);
    s[c].a = _mm256_add_epi16(s[c].a, _mm256_maddubs_epi16(w.a, x));
    s[c].b = _mm256_add_epi16(s[c].b, _mm256_maddubs_epi16(w.b, x));
    i_pin(s[c]);
  }
}
/** a += chunks [FROM, TO) of unpacked weights · q; PAIRS of them fit into i16. */
template <int NC, int PAIRS, int FROM, int TO>
LM_INLINE void add_chunks(I *a, const u8 *u, const s8 *q) {
  if constexpr (NC > 4) {
    add_chunks<NC / 2, PAIRS, FROM, TO>(a, u, q);
    add_chunks<NC - NC / 2, PAIRS, FROM, TO>(a + NC / 2, u, q + 32 * (NC / 2));
  } else {
#pragma GCC unroll 4
    for (int j = FROM; j < TO; j += PAIRS) {
      I s[NC];
      for (int c = 0; c < NC; c++) s[c] = i_set(0);
#pragma GCC unroll 8
      for (int k = j; k < j + PAIRS; k++) add_pairs<NC>(s, i_load(u + 64 * k), q + 4 * k);
      for (int c = 0; c < NC; c++) a[c] = i_widen(a[c], s[c]);
    }
  }
}

/** a += one chunk of signed weights · q. u8 · s8 pairs would saturate at 255 · 127 · 2; |w| ≤ 128 times ±q does not (32,512). */
template <int NC>
LM_INLINE void add_signed(I *a, I v, const s8 *q) {
  I m = {_mm256_abs_epi8(v.a), _mm256_abs_epi8(v.b)};
  for (int c = 0; c < NC; c++) {
    H x = q_set(q + 32 * c);
    a[c] = i_widen(a[c], {_mm256_maddubs_epi16(m.a, _mm256_sign_epi8(x, v.a)), _mm256_maddubs_epi16(m.b, _mm256_sign_epi8(x, v.b))});
    i_pin(a[c]);
  }
}

template <int NC>
LM_INLINE void dot_q8(I *a, const u8 *w, const Block &x) {
  if constexpr (NC > 4) {
    Block y = x;
    y.q += 32 * (NC / 2);
    dot_q8<NC / 2>(a, w, x);
    dot_q8<NC - NC / 2>(a + NC / 2, w, y);
  } else {
    H flip = _mm256_set1_epi8((char)0x80);
    for (int c = 0; c < NC; c++) a[c] = i_set(0);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
      I v = i_load(w + 64 * j);
      add_signed<NC>(a, {_mm256_xor_si256(v.a, flip), _mm256_xor_si256(v.b, flip)}, x.q + 4 * j);
    }
  }
}
/** Nibbles are indexes of a table of values + 128. */
template <int NC>
LM_INLINE void dot_table(I *a, const u8 *w, const Block &x, const u8 *table) {
  if constexpr (NC > 4) {
    Block y = x;
    y.q += 32 * (NC / 2);
    dot_table<NC / 2>(a, w, x, table);
    dot_table<NC - NC / 2>(a + NC / 2, w, y, table);
  } else {
    H t = _mm256_xor_si256(_mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)table)), _mm256_set1_epi8((char)0x80));
    for (int c = 0; c < NC; c++) a[c] = i_set(0);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
      I v = i_load(w + 64 * j), lo = low_nibbles(v), hi = high_nibbles(v);
      add_signed<NC>(a, {_mm256_shuffle_epi8(t, lo.a), _mm256_shuffle_epi8(t, lo.b)}, x.q + 4 * j);
      add_signed<NC>(a, {_mm256_shuffle_epi8(t, hi.a), _mm256_shuffle_epi8(t, hi.b)}, x.q + 4 * j + 16);
    }
  }
}
/** a, b += the halves of a block of two bits each, with THIRD of three. */
template <int NC, int THIRD>
LM_INLINE void dot_q23(I *a, I *b, const u8 *w, const Block &x) {  // 4 pairs: at most 7,112
  alignas(32) u8 u[512];
  if constexpr (THIRD) unpack<Bits3>(u, w);
  else unpack<Bits2>(u, w);
  add_chunks<NC, 4, 0, 4>(a, u, x.q);
  add_chunks<NC, 4, 4, 8>(b, u, x.q);
}
template <int NC>
LM_INLINE void dot_q4(I *a, const u8 *w, const Block &x) {  // 8 pairs: at most 30,480
  if constexpr (NC > 4) {  // unpacked twice: faster than from the cache
    Block y = x;
    y.q += 32 * (NC / 2);
    dot_q4<NC / 2>(a, w, x);
    dot_q4<NC - NC / 2>(a + NC / 2, w, y);
  } else {
    I s[NC];
    for (int c = 0; c < NC; c++) s[c] = i_set(0);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
      I v = i_load(w + 64 * j);
      add_pairs<NC>(s, low_nibbles(v), x.q + 4 * j);
      add_pairs<NC>(s, high_nibbles(v), x.q + 4 * j + 16);
    }
    for (int c = 0; c < NC; c++) a[c] = i_widen(a[c], s[c]);
  }
}
template <int NC>
LM_INLINE void dot_q5(I *a, const u8 *w, const Block &x) {  // 4 pairs: at most 31,496
  alignas(32) u8 u[512];
  unpack<Bits5>(u, w);
  add_chunks<NC, 4, 0, 8>(a, u, x.q);
}
template <int NC>
LM_INLINE void dot_q6(I *a, I *b, const u8 *w, const Block &x) {  // 2 pairs: at most 32,004
  alignas(32) u8 u[512];
  unpack<Bits6>(u, w);
  for (int c = 0; c < NC; c++) {
    a[c] = i_set(x.h0[c]);
    b[c] = i_set(x.h1[c]);
  }
  add_chunks<NC, 2, 0, 4>(a, u, x.q);
  add_chunks<NC, 2, 4, 8>(b, u, x.q);
}
#elif defined(LM_BUILD_NEON)
}  // namespace LM_NS
#include "dot_neon.h"
namespace LM_NS {
#else
LM_INLINE I i_set(i32 x) {
  I r;
  LM_EACH r.v[i] = x;
  return r;
}
LM_INLINE void i_dot(I *a, const u8 *w, const s8 *q) {  // w: one chunk of 16 rows
  LM_EACH a->v[i] += w[4 * i] * q[0] + w[4 * i + 1] * q[1] + w[4 * i + 2] * q[2] + w[4 * i + 3] * q[3];
}
template <int NC>
LM_INLINE void dot_q8(I *a, const u8 *w, const Block &x) {
  for (int c = 0; c < NC; c++) a[c] = i_set(x.n128[c]);
  for (int j = 0; j < 8; j++)
    for (int c = 0; c < NC; c++) i_dot(a + c, w + 64 * j, x.q + 32 * c + 4 * j);
}
/** Chunk j of a block whose nibbles are at w; `bits` more bits of each value lie in h. */
LM_INLINE void chunk(u8 *out, const u8 *w, int j, const u8 *h, int shift, int mask) {
  for (int i = 0; i < 64; i++) {
    u8 v = (u8)((w[64 * (j & 3) + i] >> (j & 4)) & 15);
    out[i] = h ? (u8)(v | (((h[i] >> shift) & mask) << 4)) : v;
  }
}
template <int NC>
LM_INLINE void dot_q4(I *a, const u8 *w, const Block &x) {
  u8 t[64];
  for (int j = 0; j < 8; j++) {
    chunk(t, w, j, 0, 0, 0);
    for (int c = 0; c < NC; c++) i_dot(a + c, t, x.q + 32 * c + 4 * j);
  }
}
template <int NC>
LM_INLINE void dot_q5(I *a, const u8 *w, const Block &x) {
  u8 t[64];
  for (int j = 0; j < 8; j++) {
    chunk(t, w, j, w + 256, j, 1);
    for (int c = 0; c < NC; c++) i_dot(a + c, t, x.q + 32 * c + 4 * j);
  }
}
template <int NC>
LM_INLINE void dot_q6(I *a, I *b, const u8 *w, const Block &x) {
  u8 t[64];
  for (int c = 0; c < NC; c++) {
    a[c] = i_set(x.h0[c]);
    b[c] = i_set(x.h1[c]);
  }
  for (int j = 0; j < 8; j++) {
    chunk(t, w, j, w + 256 + 64 * (j / 4), 2 * (j & 3), 3);
    for (int c = 0; c < NC; c++) i_dot((j < 4 ? a : b) + c, t, x.q + 32 * c + 4 * j);
  }
}
/** Nibbles are indexes of a table of values + 128. */
template <int NC>
LM_INLINE void dot_table(I *a, const u8 *w, const Block &x, const u8 *table) {
  u8 t[64];
  for (int c = 0; c < NC; c++) a[c] = i_set(x.n128[c]);
  for (int j = 0; j < 8; j++) {
    for (int i = 0; i < 64; i++) t[i] = table[(w[64 * (j & 3) + i] >> (j & 4)) & 15];
    for (int c = 0; c < NC; c++) i_dot(a + c, t, x.q + 32 * c + 4 * j);
  }
}
/** a, b += the halves of a block of two bits each, with THIRD of three. */
template <int NC, int THIRD>
LM_INLINE void dot_q23(I *a, I *b, const u8 *w, const Block &x) {
  u8 t[64];
  for (int j = 0; j < 8; j++) {
    for (int i = 0; i < 64; i++) {
      t[i] = (u8)((w[64 * (j / 4) + i] >> (2 * (j & 3))) & 3);
      if (THIRD) t[i] = (u8)(t[i] | ((w[128 + i] >> j) & 1) << 2);
    }
    for (int c = 0; c < NC; c++) i_dot((j < 4 ? a : b) + c, t, x.q + 32 * c + 4 * j);
  }
}
#endif

#if defined(LM_WIDE)
}  // namespace LM_NS
#include "dot_wide.h"
namespace LM_NS {
#endif

// Each format: QB quant bytes and SB scale bytes a block, and the work of block b.
struct Q8_0 {
  enum { QB = 512, SB = 32 };
  template <int NC, class X>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const X &x) {
    I a[NC];
    dot_q8<NC>(a, w, x);
    add_scaled<NC>(f, a, v_half(s + 32 * b), x.d);
  }
};
struct Q4_0 {
  enum { QB = 256, SB = 32 };
  template <int NC, class X>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const X &x) {
    I a[NC];
    for (int c = 0; c < NC; c++) a[c] = i_set(x.n8[c]);
    dot_q4<NC>(a, w, x);
    add_scaled<NC>(f, a, v_half(s + 32 * b), x.d);
  }
};
struct Q4_1 {
  enum { QB = 256, SB = 64 };
  template <int NC, class X>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const X &x) {
    I a[NC];
    for (int c = 0; c < NC; c++) a[c] = i_set(0);
    dot_q4<NC>(a, w, x);
    add_scaled<NC>(f, a, v_half(s + 64 * b), x.d);
    add_minimum<NC>(f, v_half(s + 64 * b + 32), x.ds);
  }
};
template <int NC>
LM_INLINE void add_super(V *f, const I *a, const u8 *s, int j, const Block &x) {
  V d = v_mul(v_half(s), v_u8(s + 64 + 16 * j)), m = v_mul(v_half(s + 32), v_u8(s + 192 + 16 * j));
  add_scaled<NC>(f, a, d, x.d);
  add_minimum<NC>(f, v_sub(v_zero(), m), x.ds);
}
struct Q4_K {
  enum { QB = 256, SB = 40 };
  template <int NC, class X>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const X &x) {
    I a[NC];
    for (int c = 0; c < NC; c++) a[c] = i_set(0);
    dot_q4<NC>(a, w, x);
    add_super<NC>(f, a, s + 320 * (b / 8), b % 8, x);
  }
};
struct Q5_K {
  enum { QB = 320, SB = 40 };
  template <int NC, class X>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const X &x) {
    I a[NC];
    for (int c = 0; c < NC; c++) a[c] = i_set(0);
    dot_q5<NC>(a, w, x);
    add_super<NC>(f, a, s + 320 * (b / 8), b % 8, x);
  }
};
struct Q6_K {
  enum { QB = 384, SB = 36 };
  template <int NC, class X>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const X &x) {
    I a[NC], h[NC];
    dot_q6<NC>(a, h, w, x);
    s += 288 * (b / 8);
    V d = v_half(s);
    add_scaled<NC>(f, a, v_mul(d, v_s8(s + 32 + 32 * (b % 8))), x.d);
    add_scaled<NC>(f, h, v_mul(d, v_s8(s + 48 + 32 * (b % 8))), x.d);
  }
};

struct Q5_0 {
  enum { QB = 320, SB = 32 };
  template <int NC, class X>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const X &x) {
    I a[NC];
    for (int c = 0; c < NC; c++) a[c] = i_set(2 * x.n8[c]);
    dot_q5<NC>(a, w, x);
    add_scaled<NC>(f, a, v_half(s + 32 * b), x.d);
  }
};
struct Q5_1 {
  enum { QB = 320, SB = 64 };
  template <int NC, class X>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const X &x) {
    I a[NC];
    for (int c = 0; c < NC; c++) a[c] = i_set(0);
    dot_q5<NC>(a, w, x);
    add_scaled<NC>(f, a, v_half(s + 64 * b), x.d);
    add_minimum<NC>(f, v_half(s + 64 * b + 32), x.ds);
  }
};
struct IQ4_NL {
  enum { QB = 256, SB = 32 };
  template <int NC, class X>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const X &x) {
    I a[NC];
    dot_table<NC>(a, w, x, IQ4_TABLE);
    add_scaled<NC>(f, a, v_half(s + 32 * b), x.d);
  }
};
struct MXFP4 {
  enum { QB = 256, SB = 32 };
  template <int NC, class X>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const X &x) {
    I a[NC];
    dot_table<NC>(a, w, x, FP4_TABLE);
    add_scaled<NC>(f, a, v_bf16(s + 32 * b), x.d);
  }
};
struct IQ4_XS {
  enum { QB = 256, SB = 20 };
  template <int NC, class X>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const X &x) {
    I a[NC];
    dot_table<NC>(a, w, x, IQ4_TABLE);
    s += 160 * (b / 8);
    add_scaled<NC>(f, a, v_mul(v_half(s), v_s8(s + 32 + 16 * (b % 8))), x.d);
  }
};
struct Q2_K {
  enum { QB = 128, SB = 40 };
  template <int NC, class X>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const X &x) {
    I a[NC], h[NC];
    for (int c = 0; c < NC; c++) a[c] = h[c] = i_set(0);
    dot_q23<NC, 0>(a, h, w, x);
    s += 320 * (b / 8);
    V d = v_half(s), m = v_half(s + 32);
    u8 sc[32], mn[32];
    for (int i = 0; i < 32; i++) {
      u8 both = s[64 + 32 * (b % 8) + i];
      sc[i] = both & 15;
      mn[i] = both >> 4;
    }
    add_scaled<NC>(f, a, v_mul(d, v_u8(sc)), x.d);
    add_scaled<NC>(f, h, v_mul(d, v_u8(sc + 16)), x.d);
    add_half_minimum<NC>(f, v_mul(m, v_u8(mn)), x.d, x.h0);
    add_half_minimum<NC>(f, v_mul(m, v_u8(mn + 16)), x.d, x.h1);
  }
};
struct Q3_K {
  enum { QB = 192, SB = 36 };
  template <int NC, class X>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const X &x) {
    I a[NC], h[NC];
    for (int c = 0; c < NC; c++) {  // -4 · Σq
      a[c] = i_set(x.h0[c] / 8);
      h[c] = i_set(x.h1[c] / 8);
    }
    dot_q23<NC, 1>(a, h, w, x);
    s += 288 * (b / 8);
    V d = v_half(s);
    add_scaled<NC>(f, a, v_mul(d, v_s8(s + 32 + 32 * (b % 8))), x.d);
    add_scaled<NC>(f, h, v_mul(d, v_s8(s + 48 + 32 * (b % 8))), x.d);
  }
};

// How far ahead of its use a tile is prefetched: the latency of memory under load, several times over, so that what is
// done between tiles does not let the stream run dry.
#define LM_PREFETCH_AHEAD 12288

/**
 * 16 rows × NC columns over all inputs → out[NC][16]. `next` is where the caller goes on reading: the last blocks
 * prefetch from there. X: what a panel block is.
 */
template <class F, class X, int NC>
__attribute__((noinline)) static void tile_columns(const u8 *tile, int nb, const u8 *x, int P, float *out, const u8 *next) {
  enum { STEP = F::QB + F::SB, AHEAD = (LM_PREFETCH_AHEAD + STEP - 1) / STEP };
  int64_t bytes = panelBlockBytes(P);
  const u8 *scales = tile + (int64_t)nb * F::QB, *ahead = tile + AHEAD * STEP;
  int turn = nb > AHEAD ? nb - AHEAD : 0;
  V f[NC];
  for (int c = 0; c < NC; c++) f[c] = v_zero();
  for (int b = 0; b < nb; b++, tile += F::QB, x += bytes, ahead += STEP) {
    if (NC <= 8) {  // few columns: the weights stream from memory
      if (b == turn) ahead = next;
      for (int l = 0; l < STEP; l += 64) __builtin_prefetch(ahead + l);
    }
    F::template block<NC>(f, tile, scales, b, X::at(x, P));
#if defined(LM_BUILD_AVX2) && defined(__clang__)
    // these sums do not fit into the registers: they stay in memory (or clang moves each there and back twice a block)
    if (NC >= 4) __asm__("" : "+m"(f));
#endif
  }
  store_sums<NC>(out, f);
}

template <class F, class X, int NC>
LM_INLINE void tile_any(const u8 *tile, int nb, const u8 *x, int P, int nc, float *out, const u8 *next) {
  if (nc == NC) return tile_columns<F, X, NC>(tile, nb, x, P, out, next);
  if constexpr (NC > 1) tile_any<F, X, NC - 1>(tile, nb, x, P, nc, out, next);
}

/** The same for float weights: x is (input, P) f32; one fused multiply-add an input, in order. */
template <int TYPE, int NC>
__attribute__((noinline)) static void tile_float(const u8 *tile, int in, const float *x, int P, float *out) {
  V f[NC];
  for (int c = 0; c < NC; c++) f[c] = v_zero();
  for (int k = 0; k < in; k++, x += P) {
    V w;
    if (TYPE == LM_F32) w = v_load((const float *)tile + 16 * (int64_t)k);
    if (TYPE == LM_F16) w = v_half(tile + 32 * (int64_t)k);
    if (TYPE == LM_BF16) w = v_bf16(tile + 32 * (int64_t)k);
    if (NC <= 8 && !(k & 1)) __builtin_prefetch(tile + 32 * (int64_t)k + LM_PREFETCH_AHEAD);
    for (int c = 0; c < NC; c++) f[c] = v_fma(w, v_set(x[c]), f[c]);
  }
  for (int c = 0; c < NC; c++) v_store(out + 16 * c, f[c]);
}
template <int TYPE, int NC>
LM_INLINE void float_any(const u8 *tile, int in, const float *x, int P, int nc, float *out) {
  if constexpr (NC > LM_FLOAT_COLUMNS) {
    if (nc == NC) {
      tile_float<TYPE, NC / 2>(tile, in, x, P, out);
      return tile_float<TYPE, NC - NC / 2>(tile, in, x + NC / 2, P, out + 16 * (NC / 2));
    }
  } else if (nc == NC) {
    return tile_float<TYPE, NC>(tile, in, x, P, out);
  }
  if constexpr (NC > 1) float_any<TYPE, NC - 1>(tile, in, x, P, nc, out);
}

}  // namespace LM_NS
