// Rows of 16-bit weights → (input, 16 rows), the order of a tile.
namespace LM_NS {

#if defined(LM_BUILD_AVX512) || defined(LM_BUILD_AVX2)
/**
 * 8 inputs of 16 rows; rows r and r + 8 are the halves of a vector. Written past the caches: what is loaded is not used soon,
 * and a line that is written as a whole need not be read before.
 */
LM_INLINE void transpose_8x16(u8 *dst, const u8 *src, int64_t rowBytes) {
  __m256i a[8], b[8];
  for (int r = 0; r < 8; r++)
    a[r] = _mm256_loadu2_m128i((const __m128i *)(src + (r + 8) * rowBytes), (const __m128i *)(src + r * rowBytes));
  for (int r = 0; r < 8; r += 2) {
    b[r] = _mm256_unpacklo_epi16(a[r], a[r + 1]);
    b[r + 1] = _mm256_unpackhi_epi16(a[r], a[r + 1]);
  }
  for (int r = 0; r < 8; r += 4)
    for (int h = 0; h < 2; h++) {
      a[r + 2 * h] = _mm256_unpacklo_epi32(b[r + h], b[r + 2 + h]);
      a[r + 2 * h + 1] = _mm256_unpackhi_epi32(b[r + h], b[r + 2 + h]);
    }
  for (int k = 0; k < 4; k++) {
    _mm256_stream_si256((__m256i *)(dst + 64 * k), _mm256_unpacklo_epi64(a[k], a[4 + k]));
    _mm256_stream_si256((__m256i *)(dst + 64 * k + 32), _mm256_unpackhi_epi64(a[k], a[4 + k]));
  }
}
#endif

/** `rows` (at most 16) rows of n values; `dst` begins at a multiple of 32 bytes. */
static void transpose_halves(u8 *dst, const u8 *src, int64_t rowBytes, int rows, i32 n) {
  i32 done = 0;
#if defined(LM_BUILD_AVX512) || defined(LM_BUILD_AVX2)
  for (; rows == 16 && done + 8 <= n; done += 8)
    transpose_8x16(dst + 32 * (int64_t)done, src + 2 * (int64_t)done, rowBytes);
  _mm_sfence();
#endif
  for (i32 k = done; k < n; k++)
    for (int r = 0; r < rows; r++) memcpy(dst + 32 * (int64_t)k + 2 * r, src + r * rowBytes + 2 * (int64_t)k, 2);
}

}  // namespace LM_NS
