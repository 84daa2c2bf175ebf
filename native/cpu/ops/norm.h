// RMS norm. Four accumulators, summed in one order that depends on the width alone.
namespace LM_NS {

static void rms_norm(const float *x, const float *w, float eps, i32 n, float *out) {
  V s[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
  i32 i = 0;
  for (; i + 64 <= n; i += 64)
    for (int j = 0; j < 4; j++) {
      V a = v_load(x + i + 16 * j);
      s[j] = v_fma(a, a, s[j]);
    }
  for (; i < n; i += 16) {
    V a = v_load_n(x + i, n - i);
    s[0] = v_fma(a, a, s[0]);
  }
  float sum = v_sum(v_add(v_add(s[0], s[2]), v_add(s[1], s[3])));
  float mean = sum / (float)n + eps;
  float inverse = 1.0f / __builtin_sqrtf(mean);
  V k = v_set(inverse);
  for (i = 0; i + 16 <= n; i += 16) v_store(out + i, v_mul(v_mul(v_load(x + i), k), v_load(w + i)));
  if (i < n) v_store_n(out + i, v_mul(v_mul(v_load_n(x + i, n - i), k), v_load_n(w + i, n - i)), n - i);
}

}  // namespace LM_NS
