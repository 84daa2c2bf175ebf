// A block's products with activations of 16 bits, for logit rows: even and odd weights of a chunk as 16 bits are two products,
// where two planes of 8 bits would take two to four (AVX2) and their own sums. AVX2 and AVX-VNNI. Included by dot.h.
namespace LM_NS {

struct Wide : Block {
  LM_INLINE Wide at(const u8 *p, int P) { return {Block::at(p, P)}; }
};
/** a += the sums of pairs of 16 bits · 16 bits */
LM_INLINE H h_madd(H a, H w, H x) {
#if defined(LM_BUILD_VNNI)
  return _mm256_dpwssd_avx_epi32(a, w, x);
#else
  return _mm256_add_epi32(a, _mm256_madd_epi16(w, x));
#endif
}
/** a += weights of 16 bits · q, pairs of them. */
template <int NC>
LM_INLINE void add_madd(I *a, I w, const s8 *q) {
#pragma GCC unroll 8
  for (int c = 0; c < NC; c++) {
    H x = _mm256_set1_epi32(load_i32(q + 64 * c));
    a[c] = {h_madd(a[c].a, w.a, x), h_madd(a[c].b, w.b, x)};
    __asm__("" : "+x"(a[c].a), "+x"(a[c].b));  // see i_pin
  }
}
/** a += chunks [FROM, TO) of unsigned weights · q, of 4 inputs of 16 bits, the even ones first. */
template <int NC, int FROM, int TO>
LM_INLINE void add_wide(I *a, const u8 *u, const s8 *q) {
  H low = _mm256_set1_epi16(255);
#pragma GCC unroll 8
  for (int j = FROM; j < TO; j++) {
    I v = i_load(u + 64 * j);
    add_madd<NC>(a, {_mm256_and_si256(v.a, low), _mm256_and_si256(v.b, low)}, q + 8 * j);
    add_madd<NC>(a, i_shift<-8>(v), q + 8 * j + 4);
  }
}
/** One function for the types that output matrices seldom have: 12% slower, and less to compile. */
template <int NC, int FROM, int TO>
__attribute__((noinline)) static void add_wide_once(I *sums, const u8 *u, const s8 *q) {
  I a[NC];
#pragma GCC unroll 8
  for (int c = 0; c < NC; c++) a[c] = sums[c];
  add_wide<NC, FROM, TO>(a, u, q);
#pragma GCC unroll 8
  for (int c = 0; c < NC; c++) sums[c] = a[c];
}

template <int NC>
LM_INLINE void dot_q8(I *a, const u8 *w, const Wide &x) {
  for (int c = 0; c < NC; c++) a[c] = i_set(x.n128[c]);
  add_wide<NC, 0, 8>(a, w, x.q);
}
template <int NC>
LM_INLINE void dot_q4(I *a, const u8 *w, const Wide &x) {
  alignas(32) u8 u[512];
  unpack<Bits4>(u, w);
  add_wide_once<NC, 0, 8>(a, u, x.q);
}
template <int NC>
LM_INLINE void dot_table(I *a, const u8 *w, const Wide &x, const u8 *table) {
  alignas(32) u8 u[512];
  unpack<Bits4>(u, w);
  for (int i = 0; i < 512; i += 64) i_store(u + i, i_table(table, i_load(u + i)));
  for (int c = 0; c < NC; c++) a[c] = i_set(x.n128[c]);
  add_wide_once<NC, 0, 8>(a, u, x.q);
}
template <int NC>
LM_INLINE void dot_q5(I *a, const u8 *w, const Wide &x) {
  alignas(32) u8 u[512];
  unpack<Bits5>(u, w);
  add_wide_once<NC, 0, 8>(a, u, x.q);
}
template <int NC>
LM_INLINE void dot_q6(I *a, I *b, const u8 *w, const Wide &x) {
  alignas(32) u8 u[512];
  unpack<Bits6>(u, w);
  for (int c = 0; c < NC; c++) {
    a[c] = i_set(x.h0[c]);
    b[c] = i_set(x.h1[c]);
  }
  add_wide<NC, 0, 4>(a, u, x.q);
  add_wide<NC, 4, 8>(b, u, x.q);
}
template <int NC, int THIRD>
LM_INLINE void dot_q23(I *a, I *b, const u8 *w, const Wide &x) {
  alignas(32) u8 u[512];
  if constexpr (THIRD) unpack<Bits3>(u, w);
  else unpack<Bits2>(u, w);
  add_wide_once<NC, 0, 4>(a, u, x.q);
  add_wide_once<NC, 4, 8>(b, u, x.q);
}

}  // namespace LM_NS
