// Products by tiles of bfloat16: 16 outputs and one panel's columns, two tiles of outputs (a pair) and two panels at a time. Sums are f32
// and stay in tiles over all inputs: nothing is scaled, which is what costs where bytes are multiplied.
//
// The instruction adds, for each output and column, the products of the even and of the odd inputs of a block apart, in order,
// each with one rounding, then both sums, then that to what there was. So a sum's bits depend on nothing but its own weights and inputs.
//
// Blocks of LM_PAIRS pairs are unpacked at a time, so that activations, which come from farther off, serve all of them. A run is LM_RUN
// blocks of a pair, which stay in the first cache, with the same blocks of many panels.
namespace LM_NS {

#define LM_PAIRS 8    // whose weights and sums are at hand
#define LM_PANELS 32  // whose sums are
#define LM_RUN 16     // blocks
#define LM_FEW 8      // blocks at a time where there is one panel
/** Bytes of unpacked weights: with sums and activations they stay in the second cache (2 MB where there are tiles). */
#define LM_UNPACKED (512 << 10)
/** Floats of sums of a panel and a pair. */
#define LM_PAIR_SUMS (2 * 16 * LM_COLUMNS)
/** Floats of scratch before the unpacked weights: sums, and a block of hidden. */
#define LM_TILE_SCRATCH (LM_PAIRS * LM_PANELS * LM_PAIR_SUMS + 32 * LM_COLUMNS)

static i32 tiles_at_once(const LmPanels *, i32 type) { return quant_bytes(type) ? 2 * LM_PAIRS : 0; }
static int64_t product_scratch(i32) { return LM_TILE_SCRATCH + (LM_UNPACKED + 64) / 4; }
LM_INLINE u8 *unpacked_at(float *scratch) { return (u8 *)(((uintptr_t)(scratch + LM_TILE_SCRATCH) + 63) & ~(uintptr_t)63); }

struct alignas(64) TileConfig {
  u8 palette, startRow, reserved[14];
  u16 rowBytes[16];
  u8 rows[16];
};
/** The calling thread's tiles: 0 to 3 sums, 4 and 5 activations of two panels, 6 and 7 weights. */
struct Tiles {
  int P = 0;
  void shape(int columns) {
    if (P == columns) return;
    P = columns;
    TileConfig c = {};
    c.palette = 1;
    for (int t = 0; t < 8; t++) {
      c.rowBytes[t] = 64;
      c.rows[t] = (u8)(t < 6 ? columns : 16);
    }
    LM_TILE_CONFIGURE(c);
  }
  /** Threads without live tiles are cheaper to switch. */
  ~Tiles() {
    if (P) LM_TILE_RELEASE();
  }
};

/** Blocks of a pair of tiles, and the same blocks of panels. */
struct Run {
  const u8 *w;  // unpacked: block by block, first the one tile's, then the other's
  const u8 *x;
  i32 blocks, panels, P;
  int64_t stride;  // bytes from panel to panel
  float *sums;     // [panel][tile][column][16 outputs]
  bool first;      // sums begin
};
/** Sums of one tile and panel. */
struct Sums {
  float of[16 * LM_COLUMNS];
};
static void run_panel(const Run &r, const u8 *x, float *sums) {
  float *second = sums + 16 * r.P;
  if (r.first) {
    LM_TILE_ZERO(0);
    LM_TILE_ZERO(1);
  } else {
    LM_TILE_LOAD(0, sums, 64);
    LM_TILE_LOAD(1, second, 64);
  }
  const u8 *w = r.w;
  for (i32 b = 0; b < r.blocks; b++, w += 2 * LM_BLOCK, x += 64 * r.P) {
    LM_TILE_LOAD(4, x, 64);
    LM_TILE_LOAD(6, w, 64);
    LM_TILE_DOT(0, 4, 6);
    LM_TILE_LOAD(7, w + LM_BLOCK, 64);
    LM_TILE_DOT(1, 4, 7);
  }
  LM_TILE_STORE(0, *(Sums *)sums);
  LM_TILE_STORE(1, *(Sums *)second);
}
static void run_panels(const Run &r, const u8 *x, float *sums) {
  float *second = sums + 16 * r.P, *third = second + 16 * r.P, *fourth = third + 16 * r.P;
  if (r.first) {
    LM_TILE_ZERO(0);
    LM_TILE_ZERO(1);
    LM_TILE_ZERO(2);
    LM_TILE_ZERO(3);
  } else {
    LM_TILE_LOAD(0, sums, 64);
    LM_TILE_LOAD(1, second, 64);
    LM_TILE_LOAD(2, third, 64);
    LM_TILE_LOAD(3, fourth, 64);
  }
  const u8 *w = r.w, *y = x + r.stride;
  for (i32 b = 0; b < r.blocks; b++, w += 2 * LM_BLOCK, x += 64 * r.P, y += 64 * r.P) {
    LM_TILE_LOAD(4, x, 64);
    LM_TILE_LOAD(6, w, 64);
    LM_TILE_DOT(0, 4, 6);
    LM_TILE_LOAD(7, w + LM_BLOCK, 64);
    LM_TILE_DOT(1, 4, 7);
    LM_TILE_LOAD(5, y, 64);
    LM_TILE_DOT(2, 5, 6);
    LM_TILE_DOT(3, 5, 7);
  }
  LM_TILE_STORE(0, *(Sums *)sums);
  LM_TILE_STORE(1, *(Sums *)second);
  LM_TILE_STORE(2, *(Sums *)third);
  LM_TILE_STORE(3, *(Sums *)fourth);
}
static void run(const Run &r) {
  for (i32 p = 0; p < r.panels; p += 2) {
    float *sums = r.sums + (int64_t)p * (2 * 16 * r.P);
    if (p + 1 < r.panels) run_panels(r, r.x + p * r.stride, sums);
    else run_panel(r, r.x + p * r.stride, sums);
  }
}

/** A tile of outputs and the one after it, if there are two: else it stands for both. */
struct Pair {
  const LmTensor *w;
  i32 tile, tiles;
  __attribute__((always_inline)) i32 second() const { return tile + tiles - 1; }
};

/** Panels [first, first + count), all columns of each, filled or not. */
struct Panels {
  const LmPanels *x;
  i32 first, count;
};
/** What the pairs' sums are in a scratch. */
LM_INLINE float *sums_of(float *scratch, i32 pair, i32 panel, i32 P) { return scratch + (int64_t)(pair * LM_PANELS + panel) * (2 * 16 * P); }

/** Unpacked blocks [from, to) of a pair times panels, LM_RUN blocks or fewer at a time. */
static void multiply_pair(const Pair &pair, const u8 *u, i32 from, i32 to, const Panels &p, float *sums) {
  const i32 nb = pair.w->in / 32, runs = (to - from + LM_RUN - 1) / LM_RUN, each = (to - from + runs - 1) / runs;
  const int64_t block = panel_block(p.x->P);
  for (i32 b = from; b < to; b += each) {
    const i32 blocks = to - b < each ? to - b : each;
    const u8 *x = p.x->q8 + (p.first * (int64_t)nb + b) * block;
    run({u + (int64_t)(b - from) * 2 * LM_BLOCK, x, blocks, p.count, p.x->P, nb * block, sums, b == 0});
  }
}
/** The same of weights that are floats. */
static void multiply_floats(const Pair &pair, const Panels &p, float *sums) {
  const LmTensor *w = pair.w;
  for (i32 panel = 0; panel < p.count; panel++)
    for (int k = 0; k < 2; k++) {
      const u8 *t = tile_at(w, k ? pair.second() : pair.tile);
      const float *x = p.x->f32 + (int64_t)(p.first + panel) * w->in * p.x->P;
      const int nc = panel_width(p.x, p.first + panel);
      float *out = sums + (2 * panel + k) * 16 * p.x->P;
      if (w->type == LM_F32) float_any<LM_F32, LM_COLUMNS>(t, w->in, x, p.x->P, nc, out);
      if (w->type == LM_F16) float_any<LM_F16, LM_COLUMNS>(t, w->in, x, p.x->P, nc, out);
      if (w->type == LM_BF16) float_any<LM_BF16, LM_COLUMNS>(t, w->in, x, p.x->P, nc, out);
    }
}
/** One panel: weights go through the first cache once, in the order in which they lie in memory; `next` is what is read after them. */
static void multiply_few(const LmTensor *w, i32 tile, const LmPanels *x, u8 *u, float *sums, const u8 *next) {
  const i32 nb = w->in / 32;
  const u8 *q = x->q8;
  LM_TILE_ZERO(0);
  for (i32 from = 0; from < nb; from += LM_FEW) {
    const i32 to = nb - from < LM_FEW ? nb : from + LM_FEW;
    unpack_tile(w, tile, from, to, u, LM_BLOCK, next);
    for (i32 b = from; b < to; b++, q += 64 * x->P) {
      LM_TILE_LOAD(4, q, 64);
      LM_TILE_LOAD(6, u + (b - from) * LM_BLOCK, 64);
      LM_TILE_DOT(0, 4, 6);
    }
  }
  LM_TILE_STORE(0, *(Sums *)sums);
}
static void multiply_pairs_few(const Pair *pairs, i32 count, const LmPanels *x, float *scratch, const u8 *after) {
  for (i32 i = 0; i < count; i++) {
    const Pair &pair = pairs[i];
    if (!quant_bytes(pair.w->type)) continue;
    for (i32 k = 0; k < pair.tiles; k++) {
      const bool last = k + 1 == pair.tiles;
      const u8 *next = !last ? tile_at(pair.w, pair.tile + 1) : i + 1 < count ? tile_at(pairs[i + 1].w, pairs[i + 1].tile) : after;
      multiply_few(pair.w, pair.tile + k, x, unpacked_at(scratch), sums_of(scratch, i, 0, x->P) + k * 16 * x->P, next);
    }
  }
}
/** All products of up to LM_PAIRS pairs with the same inputs → sums_of. Weights unpacked for the panels before are still there. */
static void multiply(Tiles *tiles, const Pair *pairs, i32 count, const Panels &p, float *scratch, const u8 *after) {
  tiles->shape(p.x->P);
  const bool few = p.x->n <= panel_tokens(p.x);
  if (few) multiply_pairs_few(pairs, count, p.x, scratch, after);
  const i32 nb = few ? 0 : pairs[0].w->in / 32, most = LM_UNPACKED / (2 * LM_BLOCK * count);
  for (i32 from = 0; from < nb; from += most) {
    const i32 to = nb - from < most ? nb : from + most;
    u8 *u = unpacked_at(scratch);
    for (i32 i = 0; i < count; i++, u += (to - from) * 2 * LM_BLOCK) {
      const Pair &pair = pairs[i];
      if (!quant_bytes(pair.w->type)) continue;
      if (p.first == 0 || most < nb) {
        unpack_tile(pair.w, pair.tile, from, to, u, 2 * LM_BLOCK, nullptr);
        unpack_tile(pair.w, pair.second(), from, to, u + LM_BLOCK, 2 * LM_BLOCK, nullptr);
      }
      multiply_pair(pair, u, from, to, p, sums_of(scratch, i, 0, p.x->P));
    }
  }
  for (i32 i = 0; i < count; i++)
    if (!quant_bytes(pairs[i].w->type)) multiply_floats(pairs[i], p, sums_of(scratch, i, 0, p.x->P));
}
/** Calls then(panels) for LM_PANELS at a time. */
template <class Then>
LM_INLINE void for_panels(const LmPanels *x, Then then) {
  const i32 all = (x->n + panel_tokens(x) - 1) / panel_tokens(x);
  for (i32 first = 0; first < all; first += LM_PANELS) then(Panels{x, first, all - first < LM_PANELS ? all - first : LM_PANELS});
}

/** Sums of gate and up → blocks of hidden. */
static void store_pairs(const LmLinear *l, const Pair *pairs, i32 count, const Panels &p, float *scratch) {
  const i32 P = l->x.P;
  float *h = scratch + LM_PAIRS * LM_PANELS * LM_PAIR_SUMS;
  for (i32 i = 0; i < count; i += 2)
    for (i32 panel = 0; panel < p.count; panel++) {
      const int nc = panel_width(&l->x, p.first + panel);
      const float *gate = sums_of(scratch, i, panel, P), *up = sums_of(scratch, i + 1, panel, P);
      activate_tile(l, 16 * pairs[i].tile, nc, gate, up, h);
      activate_tile(l, 16 * pairs[i].tile + 16, nc, gate + 16 * P, up + 16 * P, h);
      store_hidden(l, pairs[i].tile / 2, p.first + panel, nc, h);
    }
}
/** Blocks [from, to) of hidden: a pair of gate and one of up each. */
static void silu_by_tiles(Tiles *tiles, const LmLinear *l, i32 from, i32 to, float *scratch, const u8 *after) {
  while (from < to) {
    Pair pairs[LM_PAIRS];
    i32 count = 0;
    for (; count < LM_PAIRS && from < to; from++)
      for (int i = 0; i < 2; i++) pairs[count++] = {l->outs[i].w, 2 * from, 2};
    const u8 *next = from < to ? tile_at(l->outs[0].w, 2 * from) : after;
    for_panels(&l->x, [&](const Panels &p) {
      multiply(tiles, pairs, count, p, scratch, next);
      store_pairs(l, pairs, count, p, scratch);
    });
  }
}

/** Calls store(tile, panel, columns, products) for tiles [from, to) and all panels. */
template <class Store>
LM_INLINE void matrix_by_tiles(Tiles *tiles, const LmTensor *w, const LmPanels *x, i32 from, i32 to, float *scratch, const u8 *after, Store store) {
  while (from < to) {
    Pair pairs[LM_PAIRS];
    i32 count = 0;
    const i32 begin = from;
    for (; count < LM_PAIRS && from < to; from += 2) pairs[count++] = {w, from, to - from < 2 ? 1 : 2};
    const i32 end = from < to ? from : to;
    const u8 *next = from < to ? tile_at(w, from) : after;
    for_panels(x, [&](const Panels &p) {
      multiply(tiles, pairs, count, p, scratch, next);
      for (i32 panel = 0; panel < p.count; panel++)
        for (i32 t = begin; t < end; t++) {
          float *sums = sums_of(scratch, (t - begin) / 2, panel, x->P) + (t - begin) % 2 * 16 * x->P;
          store(t, p.first + panel, panel_width(x, p.first + panel), sums);
        }
    });
  }
}

static void linear_by_tiles(const LmLinear *l, i32 from, i32 to, float *scratch, const u8 *after) {
  Tiles tiles;
  if (l->silu) return silu_by_tiles(&tiles, l, from, to, scratch, after);
  const int tokens = panel_tokens(&l->x);
  i32 first = 0;
  for (int o = 0; o < l->outCount; o++) {
    const LmLinearOut *out = l->outs + o;
    const bool planes = l->x.planes == 2 && quant_bytes(out->w->type);
    const i32 a = from > first ? from - first : 0, b = to - first < out->w->tiles ? to - first : out->w->tiles;
    first += out->w->tiles;
    const u8 *next = to > first ? l->outs[o + 1].w->data : after;
    matrix_by_tiles(&tiles, out->w, &l->x, a, b, scratch, next, [=](i32 tile, i32 panel, int nc, float *acc) {
      if (planes) add_planes(acc, tokens, nc);
      store_tile(l, out, tile, panel * tokens, nc, acc);
    });
  }
}

static void expert_by_tiles(const LmExpertAdd *x, i32 from, i32 to, float *scratch, const u8 *after) {
  Tiles tiles;
  matrix_by_tiles(&tiles, x->w, &x->x, from, to, scratch, after,
                  [=](i32 tile, i32 panel, int nc, float *acc) { add_expert(x, tile, panel, nc, acc); });
}

/** Operations done in `n` rounds: four sums at a time, whole tiles. */
static double bench_tiles(i32 n) {
  u8 data[1024];
  memset(data, 3, sizeof(data));
  TileConfig c = {};
  c.palette = 1;
  for (int t = 0; t < 8; t++) {
    c.rowBytes[t] = 64;
    c.rows[t] = 16;
  }
  LM_TILE_CONFIGURE(c);
  LM_TILE_ZERO(0);
  LM_TILE_ZERO(1);
  LM_TILE_ZERO(2);
  LM_TILE_ZERO(3);
  LM_TILE_LOAD(4, data, 64);
  LM_TILE_LOAD(5, data, 64);
  for (i32 i = 0; i < n; i++) {
    LM_TILE_DOT(0, 4, 5);
    LM_TILE_DOT(1, 4, 5);
    LM_TILE_DOT(2, 4, 5);
    LM_TILE_DOT(3, 4, 5);
  }
  LM_TILE_RELEASE();
  return 4.0 * 16384 * n;
}

}  // namespace LM_NS
