// Weights and activations as bfloat16, for tiles of bfloat16: rounded to nearest, ties away from zero.
namespace LM_NS {

#if defined(LM_BUILD_AVX512)
/** Sixteen values as bfloat16; NaN stays. */
LM_INLINE void v_to_bf16(void *p, V v) {
  I r = _mm512_add_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(0x8000));
  r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc00000));
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
}
/** What v_to_bf16 makes of v, as floats. */
LM_INLINE V v_round_bf16(V v) {
  I r = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(0x8000)), _mm512_set1_epi32((i32)0xffff0000));
  return _mm512_castsi512_ps(r);
}
/** Two such as pairs, the even one first. */
LM_INLINE I v_pairs(V even, V odd) {
  const I half = _mm512_set1_epi32(0x8000);
  const I low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(even), half), 16);
  const I high = _mm512_add_epi32(_mm512_castps_si512(odd), half);
  return _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi32((i32)0xffff0000), 0xf8);  // low | (high & mask)
}
/** 32,768 + byte K of each four. */
template <int K>
LM_INLINE V v_byte(I chunk) {
  const I from = _mm512_broadcast_i32x4(_mm_setr_epi8(0, K, 0, 0, 0, 4 + K, 0, 0, 0, 8 + K, 0, 0, 0, 12 + K, 0, 0));
  return _mm512_castsi512_ps(_mm512_mask_shuffle_epi8(_mm512_set1_epi32(0x47000000), 0x2222222222222222, chunk, from));
}
#elif defined(LM_BUILD_AVX2)  // for emulated tiles
LM_INLINE H half_rounded(__m256 v) { return _mm256_add_epi32(_mm256_castps_si256(v), _mm256_set1_epi32(0x8000)); }
LM_INLINE H half_bf16(__m256 v) {
  const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000));
  const __m256 r = _mm256_blendv_ps(_mm256_castsi256_ps(half_rounded(v)), nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_castps_si256(r), 16);
}
LM_INLINE void v_to_bf16(void *p, V v) {
  _mm256_storeu_si256((H *)p, _mm256_permute4x64_epi64(_mm256_packus_epi32(half_bf16(v.a), half_bf16(v.b)), 0xd8));
}
LM_INLINE V v_round_bf16(V v) {
  const H mask = _mm256_set1_epi32((i32)0xffff0000);
  return {_mm256_castsi256_ps(_mm256_and_si256(half_rounded(v.a), mask)), _mm256_castsi256_ps(_mm256_and_si256(half_rounded(v.b), mask))};
}
LM_INLINE H half_pairs(__m256 even, __m256 odd) {
  return _mm256_blend_epi16(_mm256_srli_epi32(half_rounded(even), 16), half_rounded(odd), 0xaa);
}
LM_INLINE I v_pairs(V even, V odd) { return {half_pairs(even.a, odd.a), half_pairs(even.b, odd.b)}; }
template <int K>
LM_INLINE __m256 half_byte(H chunk) {
  const H shifted = K == 0 ? _mm256_slli_epi32(chunk, 8) : _mm256_srli_epi32(chunk, K == 0 ? 0 : 8 * K - 8);
  return _mm256_castsi256_ps(_mm256_or_si256(_mm256_and_si256(shifted, _mm256_set1_epi32(0xff00)), _mm256_set1_epi32(0x47000000)));
}
template <int K>
LM_INLINE V v_byte(I chunk) { return {half_byte<K>(chunk.a), half_byte<K>(chunk.b)}; }
#endif

}  // namespace LM_NS
