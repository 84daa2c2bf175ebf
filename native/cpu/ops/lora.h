// Low-rank adapters: y += scale · B · (A · x), in f32, row by row, so that no row knows of another.
//
// A lies in tiles of 16 ranks (tile, input, 16), B by ranks (rank, outputs up to a multiple of 16). Ranks end with zeros.
namespace LM_NS {

template <int TYPE>
LM_INLINE V adapter_load(const u8 *p, int64_t i) {
  if (TYPE == LM_F32) return v_load((const float *)p + i);
  return TYPE == LM_F16 ? v_half((const u16 *)p + i) : v_bf16((const u16 *)p + i);
}

/** A tile of A · x; four sums, so that the processor need not wait for each. */
template <int TYPE>
static void down_of(const u8 *a, const float *x, int32_t in, float *h) {
  V sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
  int32_t k = 0;
  for (; k + 4 <= in; k += 4)
    for (int j = 0; j < 4; j++) sum[j] = v_fma(v_set(x[k + j]), adapter_load<TYPE>(a, 16 * (int64_t)(k + j)), sum[j]);
  for (; k < in; k++) sum[0] = v_fma(v_set(x[k]), adapter_load<TYPE>(a, 16 * (int64_t)k), sum[0]);
  v_store(h, v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3])));
}

static void lora_down(const u8 *a, int32_t type, const float *x, int32_t in, float *h) {
  if (type == LM_F32) down_of<LM_F32>(a, x, in, h);
  else if (type == LM_F16) down_of<LM_F16>(a, x, in, h);
  else down_of<LM_BF16>(a, x, in, h);
}

/** Outputs [from, to); from is a multiple of 16, and so is to unless it is `out`. */
template <int TYPE>
static void up_of(const LmLoraUp *l, const float *h, float *y, int32_t from, int32_t to) {
  const int64_t stride = (l->out + 15) / 16 * 16;
  const V scale = v_set(l->scale);
  for (int32_t o = from; o < to; o += 16) {
    V sum = v_zero();
    for (int32_t r = 0; r < l->rank; r++) sum = v_fma(v_set(h[r]), adapter_load<TYPE>(l->b, r * stride + o), sum);
    const int n = to - o < 16 ? to - o : 16;
    v_store_n(y + o, v_fma(scale, sum, v_load_n(y + o, n)), n);
  }
}

static void lora_up(const LmLoraUp *l, const float *h, float *y, int32_t from, int32_t to) {
  if (l->type == LM_F32) up_of<LM_F32>(l, h, y, from, to);
  else if (l->type == LM_F16) up_of<LM_F16>(l, h, y, from, to);
  else up_of<LM_BF16>(l, h, y, from, to);
}

}  // namespace LM_NS
