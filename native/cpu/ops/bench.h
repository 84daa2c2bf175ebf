// The machine's own speed with this instruction set: reading memory, and integer dot products in registers.
namespace LM_NS {

static void bench_read(const u8 *p, int64_t bytes) {
  V s[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
  for (int64_t i = 0; i + 256 <= bytes; i += 256) {
    __builtin_prefetch(p + i + 4096);
    __builtin_prefetch(p + i + 4160);
    __builtin_prefetch(p + i + 4224);
    __builtin_prefetch(p + i + 4288);
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
  I a[12], x = i_load(w), y = i_load(w + 64);
  for (int c = 0; c < 12; c++) a[c] = i_set(0);
  for (i32 i = 0; i < n; i++)
    for (int k = 0; k < 8; k++)
      for (int c = 0; c < 12; c++) {
        a[c] = _mm512_dpbusd_epi32(a[c], x, y);
        __asm__ volatile("" : "+v"(a[c]));
      }
  for (int c = 0; c < 12; c++) v_store(f + 16 * c, v_int(a[c]));
  volatile float sink = f[0] + f[16];
  (void)sink;
  return 12.0 * 8 * 128 * n;
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

}  // namespace LM_NS
