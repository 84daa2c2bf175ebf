// out = (W · x (+ bias)) · scale (+ residual), or hidden = activation(Wgate · x) · (Wup · x) quantised at once for the next product.
// Work is split by tiles of outputs only: every output element is summed by one thread in one order.
namespace LM_NS {

/** `columns` of the panel's int8 columns (or, for float weights, nc) → out[column][16]; `next` is read after this tile. */
static void tile_product(const LmTensor *w, i32 tile, const LmPanels *x, i32 panel, int columns, int nc, float *out, const u8 *next) {
  const u8 *t = w->data + tile * w->tileBytes;
  int nb = w->in / 32, P = x->P;
  const u8 *q = x->q8 + (int64_t)panel * nb * panelBlockBytes(P);
  const float *f = x->f32 + (int64_t)panel * w->in * P;
  switch (w->type) {
    case LM_Q8_0: tile_any<Q8_0, LM_COLUMNS>(t, nb, q, P, columns, out, next); break;
    case LM_Q4_0: tile_any<Q4_0, LM_COLUMNS>(t, nb, q, P, columns, out, next); break;
    case LM_Q4_1: tile_any<Q4_1, LM_COLUMNS>(t, nb, q, P, columns, out, next); break;
    case LM_Q4_K: tile_any<Q4_K, LM_COLUMNS>(t, nb, q, P, columns, out, next); break;
    case LM_Q5_K: tile_any<Q5_K, LM_COLUMNS>(t, nb, q, P, columns, out, next); break;
    case LM_Q6_K: tile_any<Q6_K, LM_COLUMNS>(t, nb, q, P, columns, out, next); break;
    case LM_Q5_0: tile_any<Q5_0, LM_COLUMNS>(t, nb, q, P, columns, out, next); break;
    case LM_Q5_1: tile_any<Q5_1, LM_COLUMNS>(t, nb, q, P, columns, out, next); break;
    case LM_Q2_K: tile_any<Q2_K, LM_COLUMNS>(t, nb, q, P, columns, out, next); break;
    case LM_Q3_K: tile_any<Q3_K, LM_COLUMNS>(t, nb, q, P, columns, out, next); break;
    case LM_IQ4_NL: tile_any<IQ4_NL, LM_COLUMNS>(t, nb, q, P, columns, out, next); break;
    case LM_IQ4_XS: tile_any<IQ4_XS, LM_COLUMNS>(t, nb, q, P, columns, out, next); break;
    case LM_MXFP4: tile_any<MXFP4, LM_COLUMNS>(t, nb, q, P, columns, out, next); break;
    case LM_F32: float_any<LM_F32, LM_COLUMNS>(t, w->in, f, P, nc, out); break;
    case LM_F16: float_any<LM_F16, LM_COLUMNS>(t, w->in, f, P, nc, out); break;
    case LM_BF16: float_any<LM_BF16, LM_COLUMNS>(t, w->in, f, P, nc, out); break;
  }
}

LM_INLINE const u8 *tile_at(const LmTensor *w, i32 tile) { return w->data + tile * w->tileBytes; }

/** gate and up tiles 2u and 2u+1 → block u of hidden. */
static void silu_block(const LmLinear *l, i32 u, i32 panel, int nc, float *scratch, const u8 *next) {
  const LmTensor *wg = l->outs[0].w, *wu = l->outs[1].w;
  float *gate = scratch, *up = scratch + 16 * LM_COLUMNS, *h = up + 16 * LM_COLUMNS;
  for (int half = 0; half < 2; half++) {
    i32 t = 2 * u + half;
    tile_product(wg, t, &l->x, panel, nc, nc, gate, tile_at(wu, t));
    tile_product(wu, t, &l->x, panel, nc, nc, up, half ? next : tile_at(wg, t + 1));
    for (int c = 0; c < nc; c++) {
      V g = v_load(gate + 16 * c), p = v_load(up + 16 * c);
      int f = 32 * u + 16 * half;
      if (l->outs[0].bias) g = v_add(g, v_load(l->outs[0].bias + f));
      if (l->outs[1].bias) p = v_add(p, v_load(l->outs[1].bias + f));
      v_store(h + 32 * c + 16 * half, v_mul(activate(g, l->silu == 2), p));
    }
  }
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

/** Units [from, to) of one panel that has nc tokens. */
static void linear_panel(const LmLinear *l, i32 from, i32 to, i32 panel, int nc, float *scratch, const u8 *after) {
  if (l->silu) {
    for (i32 u = from; u < to; u++)
      silu_block(l, u, panel, nc, scratch, u + 1 < to ? tile_at(l->outs[0].w, 2 * u + 2) : after);
    return;
  }
  int tokens = panel_tokens(&l->x);
  i32 first = 0;
  for (int o = 0; o < l->outCount; o++) {
    const LmLinearOut *out = l->outs + o;
    const LmTensor *w = out->w;
    int fine = l->x.planes == 2 && quant_bytes(w->type);
    i32 a = from > first ? from - first : 0, b = to - first < w->tiles ? to - first : w->tiles;
    first += w->tiles;
    for (i32 t = a; t < b; t++) {
      const u8 *next = t + 1 < b ? tile_at(w, t + 1) : to > first ? l->outs[o + 1].w->data : after;
      // the columns between the two planes of an unfilled panel are computed, and left
      tile_product(w, t, &l->x, panel, fine ? tokens + nc : nc, nc, scratch, next);
      for (int c = 0; fine && c < nc; c++)
        v_store(scratch + 16 * c, v_add(v_load(scratch + 16 * c), v_load(scratch + 16 * (tokens + c))));
      store_tile(l, out, t, panel * tokens, nc, scratch);
    }
  }
}

static void linear(const LmLinear *l, i32 from, i32 to, float *scratch, const u8 *after) {
  i32 panels = (l->x.n + panel_tokens(&l->x) - 1) / panel_tokens(&l->x);
  for (i32 panel = 0; panel < panels; panel++) linear_panel(l, from, to, panel, panel_width(&l->x, panel), scratch, after);
}

}  // namespace LM_NS
