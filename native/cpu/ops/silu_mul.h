// out = silu(gate) · up
namespace LM_NS {

static void silu_mul(const float *gate, const float *up, float *out, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) v_store(out + i, v_mul(v_silu(v_load(gate + i)), v_load(up + i)));
  int rest = (int)(n - i);
  if (rest) v_store_n(out + i, v_mul(v_silu(v_load_n(gate + i, rest)), v_load_n(up + i, rest)), rest);
}

}  // namespace LM_NS
