// The machine's own speed with this instruction set: reading memory, and integer dot products in registers.
namespace LM_NS {

static void bench_read(const u8 *p, int64_t bytes) {
  V s[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
  // plain: software prefetching made it slower wherever it was tried
  for (int64_t i = 0; i + 256 <= bytes; i += 256) {
    for (int j = 0; j < 4; j++) s[j] = v_max(s[j], v_load((const float *)(p + i + 64 * j)));
  }
  volatile float sink = v_sum(v_add(v_add(s[0], s[1]), v_add(s[2], s[3])));
  (void)sink;
}

/** Operations (a multiply and an add are two) done in `n` rounds. */
static double bench_int8(i32 n) {
  u8 w[512];
  float f[16 * 16];
  memset(w, 3, sizeof(w));
#if defined(LM_BUILD_AVX512)
  I a0 = i_set(0), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0, a8 = a0, a9 = a0, x = i_load(w);
  for (i32 i = 0; i < 10 * n; i++) {
#define LM_STEP(a) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(a) : "v"(x));
    LM_STEP(a0) LM_STEP(a1) LM_STEP(a2) LM_STEP(a3) LM_STEP(a4)
    LM_STEP(a5) LM_STEP(a6) LM_STEP(a7) LM_STEP(a8) LM_STEP(a9)
#undef LM_STEP
  }
  I sum = _mm512_add_epi32(_mm512_add_epi32(_mm512_add_epi32(a0, a1), _mm512_add_epi32(a2, a3)),
                           _mm512_add_epi32(_mm512_add_epi32(_mm512_add_epi32(a4, a5), _mm512_add_epi32(a6, a7)), _mm512_add_epi32(a8, a9)));
  v_store(f, v_int(sum));
  volatile float sink = f[0];
  (void)sink;
  return 100.0 * 128 * n;
#elif defined(LM_BUILD_AVX2)
  // pairs of products, added in 16 bits: what 4-bit weights take
  __m256i x = _mm256_loadu_si256((const __m256i *)w), p;
  I a0 = i_set(0), a1 = a0, a2 = a0, a3 = a0, a4 = a0;
  for (i32 i = 0; i < 10 * n; i++) {
#define LM_HALF(a) __asm__ volatile("vpmaddubsw %2, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(a), "=&x"(p) : "x"(x));
#define LM_STEP(v) LM_HALF(v.a) LM_HALF(v.b)
    LM_STEP(a0) LM_STEP(a1) LM_STEP(a2) LM_STEP(a3) LM_STEP(a4)
#undef LM_STEP
#undef LM_HALF
  }
  v_store(f, v_add(v_add(v_int(a0), v_int(a1)), v_add(v_add(v_int(a2), v_int(a3)), v_int(a4))));
  volatile float sink = f[0];
  (void)sink;
  return 100.0 * 64 * n;
#else
  u8 panel[64];
  memset(panel, 1, sizeof(panel));
  Block b = Block::at(panel, 1);
  I a[1] = {i_set(0)};
  for (i32 i = 0; i < n; i++) dot_q4<1>(a, w, b);
  v_store(f, v_int(a[0]));
  volatile float sink = f[0];
  (void)sink;
  return 1024.0 * n;
#endif
}

/** The same for f32 fused multiply-adds (multiply, then add, where there is none). */
static double bench_f32(i32 n) {
  V x = v_set(0.5f), y = v_set(0.25f);
  V a0 = x, a1 = x, a2 = x, a3 = x, a4 = x, a5 = x, a6 = x, a7 = x, a8 = x, a9 = x;
#if defined(LM_BUILD_AVX512)
#define LM_STEP(a) __asm__ volatile("vfmadd213ps %2, %1, %0" : "+v"(a) : "v"(x), "v"(y));
#elif defined(LM_BUILD_AVX2)
#define LM_STEP(v) \
  __asm__ volatile("vfmadd213ps %2, %1, %0" : "+x"(v.a) : "x"(x.a), "x"(y.a)); \
  __asm__ volatile("vfmadd213ps %2, %1, %0" : "+x"(v.b) : "x"(x.b), "x"(y.b));
#else
#define LM_STEP(v) \
  v = v_fma(v, x, y); \
  __asm__ volatile("" : "+m"(v));
#endif
  for (i32 i = 0; i < 10 * n; i++) {
    LM_STEP(a0)
    LM_STEP(a1)
    LM_STEP(a2)
    LM_STEP(a3)
    LM_STEP(a4)
    LM_STEP(a5)
    LM_STEP(a6)
    LM_STEP(a7)
    LM_STEP(a8)
    LM_STEP(a9)
  }
#undef LM_STEP
  volatile float sink = v_sum(v_add(v_add(v_add(a0, a1), v_add(a2, a3)), v_add(v_add(a4, a5), v_add(v_add(a6, a7), v_add(a8, a9)))));
  (void)sink;
  return 100.0 * 32 * n;
}

}  // namespace LM_NS
