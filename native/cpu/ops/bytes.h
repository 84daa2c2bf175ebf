// 64 bytes as integers: a chunk of weights (4 inputs of 16 rows), or 16 sums of 32 bits.
namespace LM_NS {

#if defined(LM_BUILD_AVX512)
LM_INLINE I i_set(i32 x) { return _mm512_set1_epi32(x); }
LM_INLINE I i_load(const void *p) { return _mm512_loadu_si512(p); }
LM_INLINE void i_store(void *p, I v) { _mm512_storeu_si512(p, v); }
LM_INLINE I i_and(I a, int m) { return _mm512_and_si512(a, _mm512_set1_epi8((char)m)); }
LM_INLINE I i_or(I a, I b) { return _mm512_or_si512(a, b); }
/** Bytes minus m, modulo 256. */
LM_INLINE I i_less(I a, int m) { return _mm512_sub_epi8(a, _mm512_set1_epi8((char)m)); }
template <int N>
LM_INLINE I i_shift(I a) {  // left for N > 0; of pairs of bytes: what crosses over is to be masked
  if constexpr (N > 0) return _mm512_slli_epi16(a, N);
  if constexpr (N < 0) return _mm512_srli_epi16(a, -N);
  return a;
}
/** Bytes below 16 as indexes of a table. */
LM_INLINE I i_table(const u8 *table, I index) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)table)), index);
}
#elif defined(LM_BUILD_AVX2)
typedef __m256i H;
LM_INLINE I i_set(i32 x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
LM_INLINE I i_load(const void *p) { return {_mm256_loadu_si256((const H *)p), _mm256_loadu_si256((const H *)p + 1)}; }
LM_INLINE void i_store(void *p, I v) {
  _mm256_storeu_si256((H *)p, v.a);
  _mm256_storeu_si256((H *)p + 1, v.b);
}
LM_INLINE I i_and(I a, int m) {
  H k = _mm256_set1_epi8((char)m);
  return {_mm256_and_si256(a.a, k), _mm256_and_si256(a.b, k)};
}
LM_INLINE I i_or(I a, I b) { return {_mm256_or_si256(a.a, b.a), _mm256_or_si256(a.b, b.b)}; }
/** Bytes minus m, modulo 256. */
LM_INLINE I i_less(I a, int m) {
  H k = _mm256_set1_epi8((char)m);
  return {_mm256_sub_epi8(a.a, k), _mm256_sub_epi8(a.b, k)};
}
template <int N>
LM_INLINE I i_shift(I a) {  // left for N > 0; of pairs of bytes: what crosses over is to be masked
  if constexpr (N > 0) return {_mm256_slli_epi16(a.a, N), _mm256_slli_epi16(a.b, N)};
  if constexpr (N < 0) return {_mm256_srli_epi16(a.a, -N), _mm256_srli_epi16(a.b, -N)};
  return a;
}
/** Bytes below 16 as indexes of a table. */
LM_INLINE I i_table(const u8 *table, I index) {
  H t = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)table));
  return {_mm256_shuffle_epi8(t, index.a), _mm256_shuffle_epi8(t, index.b)};
}
#endif

#if defined(LM_BUILD_AVX512) || defined(LM_BUILD_AVX2)
LM_INLINE I low_nibbles(I v) { return i_and(v, 15); }
LM_INLINE I high_nibbles(I v) { return i_and(i_shift<-4>(v), 15); }

// Chunk J (0…7: inputs 4J to 4J + 3) of a block's quants, unsigned, from how a repacked tile has them.
struct Bits8 {
  template <int J>
  LM_INLINE I at(const u8 *w) { return i_load(w + 64 * J); }
};
struct Bits4 {
  template <int J>
  LM_INLINE I at(const u8 *w) {
    I v = i_load(w + 64 * (J & 3));
    return J < 4 ? low_nibbles(v) : high_nibbles(v);
  }
};
struct Bits5 {
  template <int J>
  LM_INLINE I at(const u8 *w) { return i_or(Bits4::at<J>(w), i_and(i_shift<4 - J>(i_load(w + 256)), 16)); }
};
struct Bits6 {
  template <int J>
  LM_INLINE I at(const u8 *w) {
    return i_or(Bits4::at<J>(w), i_and(i_shift<4 - 2 * (J & 3)>(i_load(w + 256 + 64 * (J / 4))), 48));
  }
};
struct Bits2 {
  template <int J>
  LM_INLINE I at(const u8 *w) { return i_and(i_shift<-2 * (J & 3)>(i_load(w + 64 * (J / 4))), 3); }
};
struct Bits3 {
  template <int J>
  LM_INLINE I at(const u8 *w) { return i_or(Bits2::at<J>(w), i_and(i_shift<2 - J>(i_load(w + 128)), 4)); }
};
/** Nibbles are indexes of a table of values + 128. */
struct TableIq4 {
  template <int J>
  LM_INLINE I at(const u8 *w) { return i_table(IQ4_TABLE, Bits4::at<J>(w)); }
};
struct TableFp4 {
  template <int J>
  LM_INLINE I at(const u8 *w) { return i_table(FP4_TABLE, Bits4::at<J>(w)); }
};
template <class Bits, int J = 7>
LM_INLINE void unpack(u8 *u, const u8 *w) {
  i_store(u + 64 * J, Bits::template at<J>(w));
  if constexpr (J > 0) unpack<Bits, J - 1>(u, w);
}
#endif

}  // namespace LM_NS
