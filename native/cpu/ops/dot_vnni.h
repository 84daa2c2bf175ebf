// A block's products by instructions that multiply four bytes and add them up in 32 bits: AVX-512 VNNI, and AVX-VNNI, whose
// vectors are half as wide. Weights are unsigned; the sums begin with what their offset takes off. Included by dot.h.
namespace LM_NS {

#if defined(LM_BUILD_AVX512)
LM_INLINE I i_dot(I a, I w, const s8 *q) { return _mm512_dpbusd_epi32(a, w, _mm512_set1_epi32(load_i32(q))); }
#else
LM_INLINE I i_dot(I a, I w, const s8 *q) {
  H x = _mm256_set1_epi32(load_i32(q));
  return {_mm256_dpbusd_avx_epi32(a.a, w.a, x), _mm256_dpbusd_avx_epi32(a.b, w.b, x)};
}
#endif

template <int NC>
LM_INLINE void add_chunk(I *a, I w, const s8 *q) {
  for (int c = 0; c < NC; c++) a[c] = i_dot(a[c], w, q + 32 * c);
}
/** low, high += the halves of a block. */
template <class Bits, int NC, int J = 0>
LM_INLINE void add_halves(I *low, I *high, const u8 *w, const Block &x) {
  add_chunk<NC>(low, Bits::template at<J>(w), x.q + 4 * J);
  add_chunk<NC>(high, Bits::template at<J + 4>(w), x.q + 4 * J + 16);
  if constexpr (J < 3) add_halves<Bits, NC, J + 1>(low, high, w, x);
}

template <int NC>
LM_INLINE void dot_q8(I *a, const u8 *w, const Block &x) {
  for (int c = 0; c < NC; c++) a[c] = i_set(x.n128[c]);
#pragma GCC unroll 8
  for (int j = 0; j < 8; j++) add_chunk<NC>(a, i_load(w + 64 * j), x.q + 4 * j);
}
template <int NC>
LM_INLINE void dot_q4(I *a, const u8 *w, const Block &x) { add_halves<Bits4, NC>(a, a, w, x); }
template <int NC>
LM_INLINE void dot_q5(I *a, const u8 *w, const Block &x) { add_halves<Bits5, NC>(a, a, w, x); }
template <int NC>
LM_INLINE void dot_q6(I *a, I *b, const u8 *w, const Block &x) {
  for (int c = 0; c < NC; c++) {
    a[c] = i_set(x.h0[c]);
    b[c] = i_set(x.h1[c]);
  }
  add_halves<Bits6, NC>(a, b, w, x);
}
/** Nibbles are indexes of a table of values + 128. */
template <int NC>
LM_INLINE void dot_table(I *a, const u8 *w, const Block &x, const u8 *table) {
  for (int c = 0; c < NC; c++) a[c] = i_set(x.n128[c]);
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    I v = i_load(w + 64 * j);
    add_chunk<NC>(a, i_table(table, low_nibbles(v)), x.q + 4 * j);
    add_chunk<NC>(a, i_table(table, high_nibbles(v)), x.q + 4 * j + 16);
  }
}
/** a, b += the halves of a block of two bits each, with THIRD of three. */
template <int NC, int THIRD>
LM_INLINE void dot_q23(I *a, I *b, const u8 *w, const Block &x) {
  if constexpr (THIRD) add_halves<Bits3, NC>(a, b, w, x);
  else add_halves<Bits2, NC>(a, b, w, x);
}

}  // namespace LM_NS
