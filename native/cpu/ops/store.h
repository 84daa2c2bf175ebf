// What becomes of a tile's products, out[column][16 outputs].
namespace LM_NS {

LM_INLINE const u8 *tile_at(const LmTensor *w, i32 tile) { return w->data + tile * w->tileBytes; }

/** activation(gate) · up of 16 features, the first one `feature` → their half of h[column][32]. */
LM_INLINE void activate_tile(const LmLinear *l, int feature, int nc, const float *gate, const float *up, float *h) {
  for (int c = 0; c < nc; c++) {
    V g = v_load(gate + 16 * c), p = v_load(up + 16 * c);
    if (l->outs[0].bias) g = v_add(g, v_load(l->outs[0].bias + feature));
    if (l->outs[1].bias) p = v_add(p, v_load(l->outs[1].bias + feature));
    v_store(h + 32 * c + feature % 32, v_mul(activate(g, l->silu == 2), p));
  }
}

/** h[column][32] → block u of hidden, for the next product. */
static void store_hidden(const LmLinear *l, i32 u, i32 panel, int nc, const float *h) {
  const LmPanels *o = &l->hidden;
  int width = l->outs[0].w->out;
  if (l->hiddenNeed & LM_NEED_Q8) {
    u8 *block = o->q8 + ((int64_t)panel * (width / 32) + u) * panelBlockBytes(o->P);
    for (int c = 0; c < nc; c++) quantise_block(v_load(h + 32 * c), v_load(h + 32 * c + 16), block, o->P, c);
  }
  if (l->hiddenNeed & LM_NEED_F32) {
    float *f = o->f32 + ((int64_t)panel * width + 32 * u) * o->P;
    for (int k = 0; k < 32; k++)
      for (int c = 0; c < nc; c++) f[(int64_t)k * o->P + c] = h[32 * c + k];
  }
}

/** Both planes of nc tokens become their sum; the second begins at column `tokens`. */
LM_INLINE void add_planes(float *acc, int tokens, int nc) {
  for (int c = 0; c < nc; c++) v_store(acc + 16 * c, v_add(v_load(acc + 16 * c), v_load(acc + 16 * (tokens + c))));
}

static void store_tile(const LmLinear *l, const LmLinearOut *o, i32 tile, i32 token, int nc, const float *acc) {
  int first = 16 * tile, n = o->w->out - first < 16 ? o->w->out - first : 16;
  for (int c = 0; c < nc; c++) {
    V v = v_load(acc + 16 * c);
    int64_t at = (int64_t)(token + c) * o->stride + first;
    if (o->bias) v = v_add(v, v_load_n(o->bias + first, n));
    if (l->scale != 1.0f) v = v_mul(v, v_set(l->scale));
    if (l->residual) v = v_add(v, v_load_n(l->residual + at, n));
    v_store_n(o->out + at, v, n);
  }
}

/** stream[row] += weight · the row's products. */
static void add_expert(const LmExpertAdd *x, i32 tile, i32 panel, int nc, const float *acc) {
  for (int c = 0; c < nc; c++) {
    i32 i = panel * x->x.P + c;
    float *out = x->stream + x->rows[i] * x->stride + 16 * tile;
    v_store(out, v_add(v_load(out), v_mul(v_load(acc + 16 * c), v_set(x->weights[i]))));
  }
}

}  // namespace LM_NS
