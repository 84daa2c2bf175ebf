// stream[row] += weight · (W · hidden) for the rows of one expert; and x += sigmoid(gate) · y
namespace LM_NS {

static void expert_add(const LmExpertAdd *x, i32 from, i32 to, float *scratch, const u8 *after) {
  i32 panels = (x->x.n + x->x.P - 1) / x->x.P;
  for (i32 panel = 0; panel < panels; panel++) {
    int nc = panel_width(&x->x, panel);
    for (i32 tile = from; tile < to; tile++) {
      tile_product(x->w, tile, &x->x, panel, nc, scratch, tile + 1 < to ? tile_at(x->w, tile + 1) : after);
      add_expert(x, tile, panel, nc, scratch);
    }
  }
}

static void add_gated(float *x, const float *y, float gate, int64_t n) {
  V k = v_set(1.0f / (1.0f + __builtin_expf(-gate)));
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) v_store(x + i, v_add(v_load(x + i), v_mul(v_load(y + i), k)));
  int rest = (int)(n - i);
  if (rest) v_store_n(x + i, v_add(v_load_n(x + i, rest), v_mul(v_load_n(y + i, rest), k)), rest);
}

}  // namespace LM_NS
