// out = activation(gate) · up; and the bound of logits
namespace LM_NS {

LM_INLINE V activate(V x, int gelu) { return gelu ? v_gelu(x) : v_silu(x); }

static void silu_mul(const float *gate, const float *up, float *out, int64_t n, i32 gelu) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) v_store(out + i, v_mul(activate(v_load(gate + i), gelu), v_load(up + i)));
  int rest = (int)(n - i);
  if (rest) v_store_n(out + i, v_mul(activate(v_load_n(gate + i, rest), gelu), v_load_n(up + i, rest)), rest);
}

static void softcap(float *x, float cap, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) v_store(x + i, v_softcap(v_load(x + i), cap));
  int rest = (int)(n - i);
  if (rest) v_store_n(x + i, v_softcap(v_load_n(x + i, rest), cap), rest);
}

}  // namespace LM_NS
