// Activations for a matrix product: (norm,) then blocks of 32 as int8 with an f32 scale, or f32, in panels of P columns.
//
// A panel block: q[P][32] s8, then one f32 or i32 per column each: d (scale), ds (d · Σq), -128·Σq, -8·Σq, and -32·Σq of
// either half. The products with an offset start from these sums. Logit rows (planes = 2) take two columns each: two planes of
// int8, the second for what the first left, or one of int16 (LM_WIDE): q[P / 2][32], of each 4 inputs the even ones first, and
// the numbers of the first P / 2 columns.
namespace LM_NS {

/** Scale of values whose largest becomes `most`, and its inverse. */
LM_INLINE float block_scale(V a, V b, float most, V *inverse) {
  float amax = v_abs_maximum(a, b);
  float d = amax * (1.0f / most), k = amax > 0.0f ? most / amax : 0.0f;
  // a denormal maximum would make the inverse infinite: such a block is zero
  if (!(k < 3.0e38f)) {
    k = 0.0f;
    if (amax < 1.0f) d = 0.0f;
  }
  *inverse = v_set(k);
  return d;
}
/** Column c has this scale, and these sums of its halves. */
LM_INLINE void set_sums(u8 *block, int P, int c, float d, i32 h0, i32 h1) {
  i32 sum = h0 + h1;
  float *f = (float *)(block + 32 * P);
  i32 *n = (i32 *)(f + 2 * P);
  f[c] = d;
  f[P + c] = d * (float)sum;
  n[c] = -128 * sum;
  n[P + c] = -8 * sum;
  n[2 * P + c] = -32 * h0;
  n[3 * P + c] = -32 * h1;
}

LM_INLINE void quantise_block(V a, V b, u8 *block, int P, int c) {
  V k;
  float d = block_scale(a, b, 127.0f, &k);
  s8 *q = (s8 *)block + 32 * c;
  i32 h0 = v_to_s8(q, v_mul(a, k)), h1 = v_to_s8(q + 16, v_mul(b, k));
  set_sums(block, P, c, d, h0, h1);
}

/** Of a logit row. */
LM_INLINE void quantise_fine(V a, V b, u8 *block, int P, int c) {
#if defined(LM_WIDE)
  V k;
  float d = block_scale(a, b, 32767.0f, &k);
  u8 *q = block + 64 * c;
  i32 h0 = v_to_s16(q, v_mul(a, k)), h1 = v_to_s16(q + 32, v_mul(b, k));
  set_sums(block, P, c, d, h0, h1);
#else
  quantise_block(a, b, block, P, c);
  const s8 *q = (const s8 *)block + 32 * c;
  V d = v_set(-((const float *)(block + 32 * P))[c]);
  quantise_block(v_fma(d, v_s8(q), a), v_fma(d, v_s8(q + 16), b), block, P, c + P / 2);
#endif
}

/** Tokens that a full panel holds, and that panel `panel` holds. */
LM_INLINE int panel_tokens(const LmPanels *x) { return x->P / x->planes; }
LM_INLINE int panel_width(const LmPanels *x, int panel) {
  int tokens = panel_tokens(x), rest = x->n - panel * tokens;
  return rest < tokens ? rest : tokens;
}

static void prepare(const LmPrepare *p, i32 token, float *scratch) {
  const float *x = p->x + token * p->stride;
  if (p->norm) {
    rms_norm(x, p->norm, p->eps, p->width, scratch);
    x = scratch;
  }
  int P = p->out.P, tokens = panel_tokens(&p->out), panel = token / tokens, c = token % tokens;
  if (p->need & LM_NEED_Q8) {
    int nb = p->width / 32;
    int64_t bytes = panelBlockBytes(P);
    u8 *block = p->out.q8 + (int64_t)panel * nb * bytes;
    for (int b = 0; b < nb; b++, block += bytes) {
      V low = v_load(x + 32 * b), high = v_load(x + 32 * b + 16);
      if (p->out.planes == 2) quantise_fine(low, high, block, P, c);
      else quantise_block(low, high, block, P, c);
    }
  }
  if (p->need & LM_NEED_F32) {
    float *out = p->out.f32 + (int64_t)panel * p->width * P + c;
    for (int k = 0; k < p->width; k++) out[(int64_t)k * P] = x[k];
  }
}

}  // namespace LM_NS
