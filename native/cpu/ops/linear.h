// out = (W · x (+ bias)) · scale (+ residual), or hidden = activation(Wgate · x) · (Wup · x) quantised at once for the next product.
// Work is split by tiles of outputs only: every output element is summed by one thread in one order.
namespace LM_NS {

/** NC: the most columns; X: what a panel block is. */
template <class X, int NC>
LM_INLINE void tile_quants(i32 type, const u8 *t, int nb, const u8 *q, int P, int nc, float *out, const u8 *next) {
  switch (type) {
    case LM_Q8_0: return tile_any<Q8_0, X, NC>(t, nb, q, P, nc, out, next);
    case LM_Q4_0: return tile_any<Q4_0, X, NC>(t, nb, q, P, nc, out, next);
    case LM_Q4_1: return tile_any<Q4_1, X, NC>(t, nb, q, P, nc, out, next);
    case LM_Q4_K: return tile_any<Q4_K, X, NC>(t, nb, q, P, nc, out, next);
    case LM_Q5_K: return tile_any<Q5_K, X, NC>(t, nb, q, P, nc, out, next);
    case LM_Q6_K: return tile_any<Q6_K, X, NC>(t, nb, q, P, nc, out, next);
    case LM_Q5_0: return tile_any<Q5_0, X, NC>(t, nb, q, P, nc, out, next);
    case LM_Q5_1: return tile_any<Q5_1, X, NC>(t, nb, q, P, nc, out, next);
    case LM_Q2_K: return tile_any<Q2_K, X, NC>(t, nb, q, P, nc, out, next);
    case LM_Q3_K: return tile_any<Q3_K, X, NC>(t, nb, q, P, nc, out, next);
    case LM_IQ4_NL: return tile_any<IQ4_NL, X, NC>(t, nb, q, P, nc, out, next);
    case LM_IQ4_XS: return tile_any<IQ4_XS, X, NC>(t, nb, q, P, nc, out, next);
    case LM_MXFP4: return tile_any<MXFP4, X, NC>(t, nb, q, P, nc, out, next);
  }
}

/** The panel's nc columns → out[column][16]; `next` is read after this tile. */
static void tile_product(const LmTensor *w, i32 tile, const LmPanels *x, i32 panel, int nc, float *out, const u8 *next) {
  const u8 *t = w->data + tile * w->tileBytes;
  int nb = w->in / 32, P = x->P;
  const float *f = x->f32 + (int64_t)panel * w->in * P;
  switch (w->type) {
    case LM_F32: return float_any<LM_F32, LM_COLUMNS>(t, w->in, f, P, nc, out);
    case LM_F16: return float_any<LM_F16, LM_COLUMNS>(t, w->in, f, P, nc, out);
    case LM_BF16: return float_any<LM_BF16, LM_COLUMNS>(t, w->in, f, P, nc, out);
  }
  tile_quants<Block, LM_COLUMNS>(w->type, t, nb, x->q8 + (int64_t)panel * nb * panelBlockBytes(P), P, nc, out, next);
}

/** The same for nc logit rows of quantised weights. */
static void tile_fine(const LmTensor *w, i32 tile, const LmPanels *x, i32 panel, int nc, float *out, const u8 *next) {
#if defined(LM_WIDE)
  const u8 *t = w->data + tile * w->tileBytes;
  int nb = w->in / 32, P = x->P;
  tile_quants<Wide, LM_FINE_TOKENS>(w->type, t, nb, x->q8 + (int64_t)panel * nb * panelBlockBytes(P), P, nc, out, next);
#else
  int tokens = panel_tokens(x);
  // the columns between the two planes of an unfilled panel are computed, and left
  tile_product(w, tile, x, panel, tokens + nc, out, next);
  add_planes(out, tokens, nc);
#endif
}

/** gate and up tiles 2u and 2u+1 → block u of hidden. */
static void silu_block(const LmLinear *l, i32 u, i32 panel, int nc, float *scratch, const u8 *next) {
  const LmTensor *wg = l->outs[0].w, *wu = l->outs[1].w;
  float *gate = scratch, *up = scratch + 16 * LM_COLUMNS, *h = up + 16 * LM_COLUMNS;
  for (int half = 0; half < 2; half++) {
    i32 t = 2 * u + half;
    tile_product(wg, t, &l->x, panel, nc, gate, tile_at(wu, t));
    tile_product(wu, t, &l->x, panel, nc, up, half ? next : tile_at(wg, t + 1));
    activate_tile(l, 32 * u + 16 * half, nc, gate, up, h);
  }
  store_hidden(l, u, panel, nc, h);
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
      if (fine) tile_fine(w, t, &l->x, panel, nc, scratch, next);
      else tile_product(w, t, &l->x, panel, nc, scratch, next);
      store_tile(l, out, t, panel * tokens, nc, scratch);
    }
  }
}

static void linear(const LmLinear *l, i32 from, i32 to, float *scratch, const u8 *after) {
  i32 panels = (l->x.n + panel_tokens(&l->x) - 1) / panel_tokens(&l->x);
  for (i32 panel = 0; panel < panels; panel++) linear_panel(l, from, to, panel, panel_width(&l->x, panel), scratch, after);
}

}  // namespace LM_NS
