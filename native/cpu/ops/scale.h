// A block of quantised activations, and what is done with its integer products: every family of kernels does the same, in the
// same order.
namespace LM_NS {

/** What a panel block holds for column c (see prepare.h). */
struct Block {
  const s8 *q;
  const float *d, *ds;
  const i32 *n128, *n8, *h0, *h1;  // h0, h1: -32·Σq of the halves
  LM_INLINE Block at(const u8 *p, int P) {
    const float *f = (const float *)(p + 32 * P);
    const i32 *n = (const i32 *)(f + 2 * P);
    return {(const s8 *)p, f, f + P, n, n + P, n + 2 * P, n + 3 * P};
  }
};

#if !defined(LM_BUILD_I8MM)  // else in dot_neon.h
/** acc += d · dx · dot, for each column. */
template <int NC>
LM_INLINE void add_scaled(V *f, const I *a, V d, const float *dx) {
  for (int c = 0; c < NC; c++) f[c] = v_fma(v_int(a[c]), v_mul(d, v_set(dx[c])), f[c]);
}
template <int NC>
LM_INLINE void add_minimum(V *f, V m, const float *ds) {
  for (int c = 0; c < NC; c++) f[c] = v_fma(m, v_set(ds[c]), f[c]);
}

/** acc -= d · dx · (m of the nibbles) · Σq of a half; h = -32·Σq. */
template <int NC>
LM_INLINE void add_half_minimum(V *f, V m, const float *dx, const i32 *h) {
  for (int c = 0; c < NC; c++) f[c] = v_fma(m, v_set(dx[c] * ((float)h[c] * (1.0f / 32))), f[c]);
}
template <int NC>
LM_INLINE void store_sums(float *out, const V *f) {
  for (int c = 0; c < NC; c++) v_store(out + 16 * c, f[c]);
}
#endif
}  // namespace LM_NS
