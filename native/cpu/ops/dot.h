// Integer dot products of one tile (16 rows) with NC columns of int8 activations. Each output element has one f32
// accumulator that takes the blocks of 32 inputs in order, whatever NC is: a column's bits do not depend on its company.
namespace LM_NS {

/** What a panel block holds for column c (see prepare.h). */
struct Block {
  const s8 *q;
  const float *d, *ds;
  const i32 *n128, *n8, *h0, *h1;  // h0, h1: -32·Σq of the halves
  LM_INLINE Block at(const u8 *p, int P) {
    const float *f = (const float *)(p + 32 * P);
    const i32 *n = (const i32 *)(f + 2 * P);
    return {(const s8 *)p, f, f + P, n, n + P, n + 2 * P, n + 3 * P};
  }
};

#if defined(LM_BUILD_AVX512)
LM_INLINE I i_set(i32 x) { return _mm512_set1_epi32(x); }
LM_INLINE I i_load(const u8 *p) { return _mm512_loadu_si512(p); }
LM_INLINE I i_dot(I a, I w, const s8 *q) { return _mm512_dpbusd_epi32(a, w, _mm512_set1_epi32(load_i32(q))); }

template <int NC>
LM_INLINE void dot_q8(I *a, const u8 *w, const Block &x) {
  for (int c = 0; c < NC; c++) a[c] = i_set(x.n128[c]);
#pragma GCC unroll 8
  for (int j = 0; j < 8; j++) {
    I v = i_load(w + 64 * j);
    for (int c = 0; c < NC; c++) a[c] = i_dot(a[c], v, x.q + 32 * c + 4 * j);
  }
}
LM_INLINE I low_nibbles(I v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
LM_INLINE I high_nibbles(I v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }

template <int NC>
LM_INLINE void dot_q4(I *a, const u8 *w, const Block &x) {
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    I v = i_load(w + 64 * j), lo = low_nibbles(v), hi = high_nibbles(v);
    for (int c = 0; c < NC; c++) a[c] = i_dot(a[c], lo, x.q + 32 * c + 4 * j);
    for (int c = 0; c < NC; c++) a[c] = i_dot(a[c], hi, x.q + 32 * c + 16 + 4 * j);
  }
}
/** Bit `j` of each byte of h as bit 4. */
LM_INLINE I fifth_bit(I h, int j) {
  I b = j < 4 ? _mm512_slli_epi16(h, 4 - j) : _mm512_srli_epi16(h, j - 4);
  return _mm512_and_si512(b, _mm512_set1_epi8(16));
}
template <int NC>
LM_INLINE void dot_q5(I *a, const u8 *w, const Block &x) {
  I h = i_load(w + 256);
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    I v = i_load(w + 64 * j);
    I lo = _mm512_or_si512(low_nibbles(v), fifth_bit(h, j)), hi = _mm512_or_si512(high_nibbles(v), fifth_bit(h, j + 4));
    for (int c = 0; c < NC; c++) a[c] = i_dot(a[c], lo, x.q + 32 * c + 4 * j);
    for (int c = 0; c < NC; c++) a[c] = i_dot(a[c], hi, x.q + 32 * c + 16 + 4 * j);
  }
}
/** Bits 2j and 2j+1 of each byte of h as bits 4 and 5. */
LM_INLINE I high_bits(I h, int j) {
  I b = j < 2 ? _mm512_slli_epi16(h, 4 - 2 * j) : j == 2 ? h : _mm512_srli_epi16(h, 2);
  return _mm512_and_si512(b, _mm512_set1_epi8(48));
}
template <int NC>
LM_INLINE void dot_q6(I *a, I *b, const u8 *w, const Block &x) {
  for (int c = 0; c < NC; c++) {
    a[c] = i_set(x.h0[c]);
    b[c] = i_set(x.h1[c]);
  }
  I h0 = i_load(w + 256), h1 = i_load(w + 320);
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    I v = i_load(w + 64 * j);
    I lo = _mm512_or_si512(low_nibbles(v), high_bits(h0, j)), hi = _mm512_or_si512(high_nibbles(v), high_bits(h1, j));
    for (int c = 0; c < NC; c++) a[c] = i_dot(a[c], lo, x.q + 32 * c + 4 * j);
    for (int c = 0; c < NC; c++) b[c] = i_dot(b[c], hi, x.q + 32 * c + 16 + 4 * j);
  }
}
/** Nibbles are indexes of a table of values + 128. */
template <int NC>
LM_INLINE void dot_table(I *a, const u8 *w, const Block &x, const u8 *table) {
  I t = _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)table));
  for (int c = 0; c < NC; c++) a[c] = i_set(x.n128[c]);
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    I v = i_load(w + 64 * j), lo = _mm512_shuffle_epi8(t, low_nibbles(v)), hi = _mm512_shuffle_epi8(t, high_nibbles(v));
    for (int c = 0; c < NC; c++) a[c] = i_dot(a[c], lo, x.q + 32 * c + 4 * j);
    for (int c = 0; c < NC; c++) a[c] = i_dot(a[c], hi, x.q + 32 * c + 16 + 4 * j);
  }
}
/** Bit `j` of each byte of h as bit 2. */
LM_INLINE I third_bit(I h, int j) {
  I b = j < 2 ? _mm512_slli_epi16(h, 2 - j) : _mm512_srli_epi16(h, j - 2);
  return _mm512_and_si512(b, _mm512_set1_epi8(4));
}
/** a, b += the halves of a block of two bits each, with THIRD of three. */
template <int NC, int THIRD>
LM_INLINE void dot_q23(I *a, I *b, const u8 *w, const Block &x) {
  I v0 = i_load(w), v1 = i_load(w + 64), h = THIRD ? i_load(w + 128) : v0, two = _mm512_set1_epi8(3);
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    I lo = _mm512_and_si512(_mm512_srli_epi16(v0, 2 * j), two), hi = _mm512_and_si512(_mm512_srli_epi16(v1, 2 * j), two);
    if (THIRD) {
      lo = _mm512_or_si512(lo, third_bit(h, j));
      hi = _mm512_or_si512(hi, third_bit(h, j + 4));
    }
    for (int c = 0; c < NC; c++) a[c] = i_dot(a[c], lo, x.q + 32 * c + 4 * j);
    for (int c = 0; c < NC; c++) b[c] = i_dot(b[c], hi, x.q + 32 * c + 16 + 4 * j);
  }
}
#elif defined(LM_BUILD_AVX2)
// Sixteen registers hold the sums of 16 rows × 4 columns in i16 (of 8 vectors), the weights and an activation; so more columns
// go in groups, and what does not fit waits in the first cache. Integers are exact in any order.
typedef __m256i H;
LM_INLINE I i_set(i32 x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
LM_INLINE I i_load(const u8 *p) { return {_mm256_loadu_si256((const H *)p), _mm256_loadu_si256((const H *)(p + 32))}; }
LM_INLINE void i_store(u8 *p, I v) {
  _mm256_store_si256((H *)p, v.a);
  _mm256_store_si256((H *)(p + 32), v.b);
}
LM_INLINE I i_and(I a, int m) {
  H k = _mm256_set1_epi8((char)m);
  return {_mm256_and_si256(a.a, k), _mm256_and_si256(a.b, k)};
}
LM_INLINE I i_or(I a, I b) { return {_mm256_or_si256(a.a, b.a), _mm256_or_si256(a.b, b.b)}; }
template <int N>
LM_INLINE I i_shift(I a) {  // left for N > 0
  if (N > 0) return {_mm256_slli_epi16(a.a, N > 0 ? N : 0), _mm256_slli_epi16(a.b, N > 0 ? N : 0)};
  return {_mm256_srli_epi16(a.a, N < 0 ? -N : 0), _mm256_srli_epi16(a.b, N < 0 ? -N : 0)};
}
LM_INLINE I low_nibbles(I v) { return i_and(v, 15); }
LM_INLINE I high_nibbles(I v) { return i_and(i_shift<-4>(v), 15); }
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
template <int J, int THIRD>
LM_INLINE void unpack_q23(u8 *u, const u8 *w) {
  I v = i_and(i_shift<-2 * (J & 3)>(i_load(w + 64 * (J / 4))), 3);
  if (THIRD) v = i_or(v, i_and(i_shift<2 - J>(i_load(w + 128)), 4));
  i_store(u + 64 * J, v);
  if constexpr (J > 0) unpack_q23<J - 1, THIRD>(u, w);
}
/** a, b += the halves of a block of two bits each, with THIRD of three. */
template <int NC, int THIRD>
LM_INLINE void dot_q23(I *a, I *b, const u8 *w, const Block &x) {  // 4 pairs: at most 7,112
  alignas(32) u8 u[512];
  unpack_q23<7, THIRD>(u, w);
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
template <int J>
LM_INLINE void unpack_q5(u8 *u, const u8 *w, I h) {
  I v = i_load(w + 64 * J);
  i_store(u + 64 * J, i_or(low_nibbles(v), i_and(i_shift<4 - J>(h), 16)));
  i_store(u + 64 * J + 256, i_or(high_nibbles(v), i_and(i_shift<-J>(h), 16)));
}
template <int NC>
LM_INLINE void dot_q5(I *a, const u8 *w, const Block &x) {  // 4 pairs: at most 31,496
  alignas(32) u8 u[512];
  I h = i_load(w + 256);
  unpack_q5<0>(u, w, h);
  unpack_q5<1>(u, w, h);
  unpack_q5<2>(u, w, h);
  unpack_q5<3>(u, w, h);
  add_chunks<NC, 4, 0, 8>(a, u, x.q);
}
template <int J>
LM_INLINE void unpack_q6(u8 *u, const u8 *w, I h0, I h1) {
  I v = i_load(w + 64 * J);
  i_store(u + 64 * J, i_or(low_nibbles(v), i_and(i_shift<4 - 2 * J>(h0), 48)));
  i_store(u + 64 * J + 256, i_or(high_nibbles(v), i_and(i_shift<4 - 2 * J>(h1), 48)));
}
template <int NC>
LM_INLINE void dot_q6(I *a, I *b, const u8 *w, const Block &x) {  // 2 pairs: at most 32,004
  alignas(32) u8 u[512];
  I h0 = i_load(w + 256), h1 = i_load(w + 320);
  unpack_q6<0>(u, w, h0, h1);
  unpack_q6<1>(u, w, h0, h1);
  unpack_q6<2>(u, w, h0, h1);
  unpack_q6<3>(u, w, h0, h1);
  for (int c = 0; c < NC; c++) {
    a[c] = i_set(x.h0[c]);
    b[c] = i_set(x.h1[c]);
  }
  add_chunks<NC, 2, 0, 4>(a, u, x.q);
  add_chunks<NC, 2, 4, 8>(b, u, x.q);
}
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

/** acc += d · dx · dot, for each column. */
template <int NC>
LM_INLINE void add_scaled(V *f, const I *a, V d, const float *dx) {
  for (int c = 0; c < NC; c++) f[c] = v_fma(v_int(a[c]), v_mul(d, v_set(dx[c])), f[c]);
}
template <int NC>
LM_INLINE void add_minimum(V *f, V m, const float *ds) {
  for (int c = 0; c < NC; c++) f[c] = v_fma(m, v_set(ds[c]), f[c]);
}

// Each format: QB quant bytes and SB scale bytes a block, and the work of block b.
struct Q8_0 {
  enum { QB = 512, SB = 32 };
  template <int NC>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const Block &x) {
    I a[NC];
    dot_q8<NC>(a, w, x);
    add_scaled<NC>(f, a, v_half(s + 32 * b), x.d);
  }
};
struct Q4_0 {
  enum { QB = 256, SB = 32 };
  template <int NC>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const Block &x) {
    I a[NC];
    for (int c = 0; c < NC; c++) a[c] = i_set(x.n8[c]);
    dot_q4<NC>(a, w, x);
    add_scaled<NC>(f, a, v_half(s + 32 * b), x.d);
  }
};
struct Q4_1 {
  enum { QB = 256, SB = 64 };
  template <int NC>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const Block &x) {
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
  template <int NC>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const Block &x) {
    I a[NC];
    for (int c = 0; c < NC; c++) a[c] = i_set(0);
    dot_q4<NC>(a, w, x);
    add_super<NC>(f, a, s + 320 * (b / 8), b % 8, x);
  }
};
struct Q5_K {
  enum { QB = 320, SB = 40 };
  template <int NC>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const Block &x) {
    I a[NC];
    for (int c = 0; c < NC; c++) a[c] = i_set(0);
    dot_q5<NC>(a, w, x);
    add_super<NC>(f, a, s + 320 * (b / 8), b % 8, x);
  }
};
struct Q6_K {
  enum { QB = 384, SB = 36 };
  template <int NC>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const Block &x) {
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
  template <int NC>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const Block &x) {
    I a[NC];
    for (int c = 0; c < NC; c++) a[c] = i_set(2 * x.n8[c]);
    dot_q5<NC>(a, w, x);
    add_scaled<NC>(f, a, v_half(s + 32 * b), x.d);
  }
};
struct Q5_1 {
  enum { QB = 320, SB = 64 };
  template <int NC>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const Block &x) {
    I a[NC];
    for (int c = 0; c < NC; c++) a[c] = i_set(0);
    dot_q5<NC>(a, w, x);
    add_scaled<NC>(f, a, v_half(s + 64 * b), x.d);
    add_minimum<NC>(f, v_half(s + 64 * b + 32), x.ds);
  }
};
struct IQ4_NL {
  enum { QB = 256, SB = 32 };
  template <int NC>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const Block &x) {
    I a[NC];
    dot_table<NC>(a, w, x, IQ4_TABLE);
    add_scaled<NC>(f, a, v_half(s + 32 * b), x.d);
  }
};
struct MXFP4 {
  enum { QB = 256, SB = 32 };
  template <int NC>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const Block &x) {
    I a[NC];
    dot_table<NC>(a, w, x, FP4_TABLE);
    add_scaled<NC>(f, a, v_bf16(s + 32 * b), x.d);
  }
};
struct IQ4_XS {
  enum { QB = 256, SB = 20 };
  template <int NC>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const Block &x) {
    I a[NC];
    dot_table<NC>(a, w, x, IQ4_TABLE);
    s += 160 * (b / 8);
    add_scaled<NC>(f, a, v_mul(v_half(s), v_s8(s + 32 + 16 * (b % 8))), x.d);
  }
};
/** acc -= d · dx · (m of the nibbles) · Σq of a half; h = -32·Σq. */
template <int NC>
LM_INLINE void add_half_minimum(V *f, V m, const float *dx, const i32 *h) {
  for (int c = 0; c < NC; c++) f[c] = v_fma(m, v_set(dx[c] * ((float)h[c] * (1.0f / 32))), f[c]);
}
struct Q2_K {
  enum { QB = 128, SB = 40 };
  template <int NC>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const Block &x) {
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
  template <int NC>
  LM_INLINE void block(V *f, const u8 *w, const u8 *s, int b, const Block &x) {
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
 * prefetch from there.
 */
template <class F, int NC>
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
    F::template block<NC>(f, tile, scales, b, Block::at(x, P));
  }
  for (int c = 0; c < NC; c++) v_store(out + 16 * c, f[c]);
}

template <class F, int NC>
LM_INLINE void tile_any(const u8 *tile, int nb, const u8 *x, int P, int nc, float *out, const u8 *next) {
  if (nc == NC) return tile_columns<F, NC>(tile, nb, x, P, out, next);
  if constexpr (NC > 1) tile_any<F, NC - 1>(tile, nb, x, P, nc, out, next);
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
