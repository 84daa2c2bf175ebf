// Products by tiles of 16 outputs and one panel's columns, two tiles of outputs (a pair) at a time.
//
// What costs is not the tiles' product but to scale its sums, which leave the tiles through memory: three vector operations for a
// column's 32 inputs of 16 outputs. So everything else has to stay out of their way:
//   - Instructions of tiles stand between those that scale the sums of LM_LAG turns before.
//   - Both tiles of a pair share the load of the activations; their f32 sums are all that fits into registers.
//   - A run is LM_RUN blocks of a pair, which stay in the first cache, with the same blocks of many panels, as one stream: the
//     next panel's products begin before the last one's sums are scaled.
//   - The weights of LM_PAIRS pairs are unpacked at a time, so that activations, which come from farther off, serve all of them.
namespace LM_NS {

#define LM_PAIRS 4    // whose weights and sums are at hand
#define LM_PANELS 22  // whose sums are
#define LM_RUN 16     // blocks
#define LM_LAG 1      // turns, a power of two less one
/** Bytes of unpacked weights: with sums and a panel's activations they stay in the second cache (2 MB where there are tiles). */
#define LM_UNPACKED (320 << 10)
/** Floats of sums of a panel and a pair. */
#define LM_PAIR_SUMS (2 * 16 * LM_COLUMNS)
/** Floats of scratch before the unpacked weights: sums, and a block of hidden. */
#define LM_TILE_SCRATCH (LM_PAIRS * LM_PANELS * LM_PAIR_SUMS + 32 * LM_COLUMNS)

/** Rows from which products go by tiles; of fewer, unpacking costs more than tiles gain (measured: 0.96 times VNNI at 30, 1.13 at 60). */
#define LM_TILES_FROM (3 * LM_COLUMNS)
LM_INLINE bool by_tiles(const LmPanels *x, int type) {
#if defined(LM_WIDE)  // emulated only: logit rows are not in planes of bytes
  if (x->planes == 2) return false;
#endif
  return quant_bytes(type) && x->n >= LM_TILES_FROM && 4 * x->P > 3 * LM_COLUMNS;  // no narrower panel has so many rows
}

static i32 tiles_at_once(const LmPanels *x, i32 type) { return by_tiles(x, type) ? 2 * LM_PAIRS : 0; }
static int64_t product_scratch(i32) { return LM_TILE_SCRATCH + (LM_UNPACKED + 64) / 4; }
LM_INLINE u8 *unpacked_at(float *scratch) { return (u8 *)(((uintptr_t)(scratch + LM_TILE_SCRATCH) + 63) & ~(uintptr_t)63); }

struct alignas(64) TileConfig {
  u8 palette, startRow, reserved[14];
  u16 rowBytes[16];
  u8 rows[16];
};
/** The calling thread's tiles: 0 and 1 sums, 2 activations, 3 and 4 weights, of whole blocks or of halves. */
struct Tiles {
  int P = 0, scaling = 0;
  void shape(int columns, int by) {
    by &= HALVES;
    if (P == columns && scaling == by) return;
    P = columns;
    scaling = by;
    TileConfig c = {};
    c.palette = 1;
    const int inputs = by ? 16 : 32;
    for (int t = 0; t < 5; t++) {
      c.rowBytes[t] = (u16)(t == 2 ? inputs : 64);
      c.rows[t] = (u8)(t < 3 ? columns : inputs / 4);
    }
    LM_TILE_CONFIGURE(c);
  }
  /** Threads without live tiles are cheaper to switch. */
  ~Tiles() {
    if (P) LM_TILE_RELEASE();
  }
};

/** Sums of a turn: of both tiles, [column][16 outputs]. */
struct alignas(64) Sums {
  i32 of[2][16 * LM_COLUMNS];
};
// A turn's products; the processor renames tiles, so that the same ones serve every turn.
LM_INLINE void multiply_first(const u8 *x, const u8 *w) {
  LM_TILE_ZERO(0);
  LM_TILE_LOAD(2, x, 32);
  LM_TILE_LOAD(3, w, 64);
  LM_TILE_DOT(0, 2, 3);
}
LM_INLINE void multiply_second(const u8 *w) {
  LM_TILE_ZERO(1);
  LM_TILE_LOAD(4, w, 64);
  LM_TILE_DOT(1, 2, 4);
}

/** Blocks of a pair of tiles, and the same blocks of panels. */
struct Run {
  const u8 *w;  // unpacked: block by block, first the one tile's, then the other's
  const u8 *x;
  i32 blocks, panels;
  int64_t stride;  // bytes from panel to panel
  float *sums;     // [panel][tile][column][16 outputs]
  bool first;      // sums begin
};

// A turn multiplies a part of a pair with a part of a panel: a block, or a half of one.
template <int SCALING>
struct Parts {
  enum { OF_BLOCK = SCALING & HALVES ? 2 : 1 };
};
/** Which part of which panel is next. */
template <int SCALING, int NC>
struct Place {
  const u8 *w, *x;
  i32 part;
  LM_INLINE Place begin(const Run &r) { return {r.w, r.x, 0}; }
  __attribute__((always_inline)) const u8 *activations() const { return x + 16 * (part % Parts<SCALING>::OF_BLOCK); }
  __attribute__((always_inline)) const u8 *weights() const { return w + 256 * (part % Parts<SCALING>::OF_BLOCK); }
  __attribute__((always_inline)) void next(const Run &r) {
    part++;
    if (part % Parts<SCALING>::OF_BLOCK) return;
    w += 2 * unpacked_block(SCALING);
    x += panelBlockBytes(NC);
    if (part < r.blocks * Parts<SCALING>::OF_BLOCK) return;
    part = 0;
    w = r.w;
    x += r.stride - r.blocks * panelBlockBytes(NC);
  }
};

/** What v comes from stays before the next instruction of a tile, what uses it after. */
#if defined(LM_BUILD_AVX512)
LM_INLINE void v_pin(V &v) { __asm__ volatile("" : "+v"(v)); }
#else
LM_INLINE void v_pin(V &v) { __asm__ volatile("" : "+x"(v.a), "+x"(v.b)); }
#endif
// As in scale.h, of both tiles: column by column, so that what they share is in a register for a moment only. Columns FROM to TO.
template <int NC, int C, int TO>
LM_INLINE void add_scaled_pair(V *f, const Sums &s, V d, V d2, const float *dx) {
  const V x = v_set(dx[C]);
  f[C] = v_fma(v_int(i_load(s.of[0] + 16 * C)), v_mul(d, x), f[C]);
  f[NC + C] = v_fma(v_int(i_load(s.of[1] + 16 * C)), v_mul(d2, x), f[NC + C]);
  v_pin(f[C]);
  v_pin(f[NC + C]);
  if constexpr (C + 1 < TO) add_scaled_pair<NC, C + 1, TO>(f, s, d, d2, dx);
}
template <int NC>
LM_INLINE void add_minimum_pair(V *f, V m, V m2, const float *ds) {
  for (int c = 0; c < NC; c++) {
    const V x = v_set(ds[c]);
    f[c] = v_fma(m, x, f[c]);
    f[NC + c] = v_fma(m2, x, f[NC + c]);
  }
}
template <int NC>
LM_INLINE void add_half_minimum_pair(V *f, V m, V m2, const float *dx, const i32 *h) {
  for (int c = 0; c < NC; c++) {
    const V x = v_set(dx[c] * ((float)h[c] * (1.0f / 32)));
    f[c] = v_fma(m, x, f[c]);
    f[NC + c] = v_fma(m2, x, f[NC + c]);
  }
}
/** What of a turn is no product. */
template <int SCALING, int NC>
LM_INLINE void add_minima(V *f, const u8 *u, const Block &block, int half) {
  const float *w = (const float *)(u + 512), *w2 = (const float *)(u + unpacked_block(SCALING) + 512);
  if (SCALING == MINIMUM) add_minimum_pair<NC>(f, v_load(w + 16), v_load(w2 + 16), block.ds);
  if (SCALING == (HALVES | MINIMUM) && half) {
    add_half_minimum_pair<NC>(f, v_load(w + 32), v_load(w2 + 32), block.d, block.h0);
    add_half_minimum_pair<NC>(f, v_load(w + 48), v_load(w2 + 48), block.d, block.h1);
  }
}
// Not loops: g++ 12 keeps in registers only what every loop over it is unrolled early for, which it does inside of others alone.
template <int NC>
LM_INLINE void clear(V *f) {
  f[NC - 1] = v_zero();
  if constexpr (NC > 1) clear<NC - 1>(f);
}
template <int NC>
LM_INLINE void load_all(V *f, const float *from) {
  f[NC - 1] = v_load(from + 16 * (NC - 1));
  if constexpr (NC > 1) load_all<NC - 1>(f, from);
}
template <int NC>
LM_INLINE void store_all(float *out, const V *f) {
  v_store(out + 16 * (NC - 1), f[NC - 1]);
  if constexpr (NC > 1) store_all<NC - 1>(out, f);
}

/** Turn t of those before the first sums are scaled. */
template <int SCALING, int NC>
LM_INLINE void begin_turn(int t, int turns, const Run &r, Place<SCALING, NC> *product, Sums *kept) {
  if (t > 0 && t <= turns) {
    LM_TILE_STORE(0, kept[t - 1].of[0]);
    LM_TILE_STORE(1, kept[t - 1].of[1]);
  }
  if (t >= turns) return;
  multiply_first(product->activations(), product->weights());
  multiply_second(product->weights() + unpacked_block(SCALING));
  if (t + 1 < turns) product->next(r);
}
/**
 * Stores the sums of turn t - 1, multiplies for turn t (or once more for the last one, which nobody reads), and scales the sums of
 * turn t - 1 - LM_LAG in between: in one go each, instructions of tiles and vectors overlap less.
 */
template <int SCALING, int NC>
LM_INLINE void turn(int t, const Place<SCALING, NC> &product, const Place<SCALING, NC> &scaled, Sums *kept, V *f) {
  const int half = scaled.part % Parts<SCALING>::OF_BLOCK;
  const float *w = (const float *)(scaled.w + 512), *w2 = (const float *)(scaled.w + unpacked_block(SCALING) + 512);
  const V d = v_load(w + 16 * half), d2 = v_load(w2 + 16 * half);
  const Block block = Block::at(scaled.x, NC);
  const Sums &s = kept[t & LM_LAG];
  Sums *last = kept + ((t - 1) & LM_LAG);
  LM_TILE_STORE(0, last->of[0]);
  add_scaled_pair<NC, 0, NC / 4>(f, s, d, d2, block.d);
  multiply_first(product.activations(), product.weights());
  add_scaled_pair<NC, NC / 4, NC / 2>(f, s, d, d2, block.d);
  LM_TILE_STORE(1, last->of[1]);
  add_scaled_pair<NC, NC / 2, 3 * NC / 4>(f, s, d, d2, block.d);
  multiply_second(product.weights() + unpacked_block(SCALING));
  add_scaled_pair<NC, 3 * NC / 4, NC>(f, s, d, d2, block.d);
  add_minima<SCALING, NC>(f, scaled.w, block, half);
}
template <int SCALING, int NC>
__attribute__((noinline)) static void run_pair(const Run &run) {
  const Run r = run;
  const int parts = r.blocks * Parts<SCALING>::OF_BLOCK, turns = r.panels * parts;
  Place<SCALING, NC> product = Place<SCALING, NC>::begin(r), scaled = product;
  Sums kept[LM_LAG + 1];
  int t = 0;
  for (; t <= LM_LAG; t++) begin_turn(t, turns, r, &product, kept);
  float *out = r.sums;
  for (int panel = 0; panel < r.panels; panel++, out += 2 * 16 * NC) {
    V f[2 * NC];
    if (r.first) clear<2 * NC>(f);
    else load_all<2 * NC>(f, out);
    for (int part = 0; part < parts; part++) {
      turn<SCALING, NC>(t, product, scaled, kept, f);
      if (++t < turns) product.next(r);
      scaled.next(r);
    }
    store_all<2 * NC>(out, f);
  }
}
template <int SCALING, int NC = LM_COLUMNS>
LM_INLINE void run_any(const Run &r, int P) {
  if (P == NC) return run_pair<SCALING, NC>(r);
  if constexpr (4 * (NC - 1) > 3 * LM_COLUMNS) run_any<SCALING, NC - 1>(r, P);  // see by_tiles
}

/** A tile of outputs and the one after it; the last of an odd number stands for both. */
struct Pair {
  const LmTensor *w;
  i32 tile;
  __attribute__((always_inline)) i32 second() const { return tile + 1 < w->tiles ? tile + 1 : tile; }
  __attribute__((always_inline)) int block() const { return 2 * unpacked_block(scaling_of(w->type)); }
};
static void run(Tiles *tiles, const Pair &pair, const Run &r, i32 P) {
  const int scaling = scaling_of(pair.w->type);
  tiles->shape(P, scaling);
  switch (scaling) {
    case PLAIN: return run_any<PLAIN>(r, P);
    case HALVES: return run_any<HALVES>(r, P);
    case MINIMUM: return run_any<MINIMUM>(r, P);
    default: return run_any<HALVES | MINIMUM>(r, P);
  }
}

/** Panels [first, first + count), all columns of each, filled or not. */
struct Panels {
  const LmPanels *x;
  i32 first, count;
};
/** What the pairs' sums are in a scratch. */
LM_INLINE float *sums_of(float *scratch, i32 pair, i32 panel, i32 P) { return scratch + (int64_t)(pair * LM_PANELS + panel) * (2 * 16 * P); }

/** Unpacked blocks [from, to) of a pair times panels, LM_RUN blocks or fewer at a time. */
static void multiply_pair(Tiles *tiles, const Pair &pair, const u8 *u, i32 from, i32 to, const Panels &p, float *sums) {
  const i32 nb = pair.w->in / 32, runs = (to - from + LM_RUN - 1) / LM_RUN, each = (to - from + runs - 1) / runs;
  const int64_t block = panelBlockBytes(p.x->P);
  for (i32 b = from; b < to; b += each) {
    const i32 blocks = to - b < each ? to - b : each;
    const u8 *x = p.x->q8 + (p.first * (int64_t)nb + b) * block;
    run(tiles, pair, {u + (int64_t)(b - from) * pair.block(), x, blocks, p.count, nb * block, sums, b == 0}, p.x->P);
  }
}
/** All products of up to LM_PAIRS pairs with the same inputs → sums_of. Weights unpacked for the panels before are still there. */
static void multiply(Tiles *tiles, const Pair *pairs, i32 count, const Panels &p, float *scratch) {
  int bytes = 0;
  for (i32 i = 0; i < count; i++) bytes += pairs[i].block();
  const i32 nb = pairs[0].w->in / 32, most = LM_UNPACKED / bytes;
  for (i32 from = 0; from < nb; from += most) {
    const i32 to = nb - from < most ? nb : from + most;
    u8 *u = unpacked_at(scratch);
    for (i32 i = 0; i < count; i++) {
      const Pair &pair = pairs[i];
      if (p.first == 0 || most < nb) {
        unpack_tile(pair.w, pair.tile, from, to, u, pair.block());
        unpack_tile(pair.w, pair.second(), from, to, u + pair.block() / 2, pair.block());
      }
      multiply_pair(tiles, pair, u, from, to, p, sums_of(scratch, i, 0, p.x->P));
      u += (to - from) * pair.block();
    }
  }
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
static void silu_by_tiles(Tiles *tiles, const LmLinear *l, i32 from, i32 to, float *scratch) {
  while (from < to) {
    Pair pairs[LM_PAIRS];
    i32 count = 0;
    for (; count < LM_PAIRS && from < to; from++)
      for (int i = 0; i < 2; i++) pairs[count++] = {l->outs[i].w, 2 * from};
    for_panels(&l->x, [&](const Panels &p) {
      multiply(tiles, pairs, count, p, scratch);
      store_pairs(l, pairs, count, p, scratch);
    });
  }
}

/** Calls store(tile, panel, columns, products) for tiles [from, to) and all panels. */
template <class Store>
LM_INLINE void matrix_by_tiles(Tiles *tiles, const LmTensor *w, const LmPanels *x, i32 from, i32 to, float *scratch, Store store) {
  while (from < to) {
    Pair pairs[LM_PAIRS];
    i32 count = 0;
    const i32 begin = from;
    for (; count < LM_PAIRS && from < to; from += 2) pairs[count++] = {w, from};
    const i32 end = from < to ? from : to;
    for_panels(x, [&](const Panels &p) {
      multiply(tiles, pairs, count, p, scratch);
      for (i32 panel = 0; panel < p.count; panel++)
        for (i32 t = begin; t < end; t++) {
          float *sums = sums_of(scratch, (t - begin) / 2, panel, x->P) + (t - begin) % 2 * 16 * x->P;
          store(t, p.first + panel, panel_width(x, p.first + panel), sums);
        }
    });
  }
}

/** `after` is a hint for weights that stream from memory, which those of many columns do not. */
static void linear_by_tiles(const LmLinear *l, i32 from, i32 to, float *scratch, const u8 *after) {
  for (int o = 0; o < l->outCount; o++)
    if (!by_tiles(&l->x, l->outs[o].w->type)) return lm_kernels_avx512()->linear(l, from, to, scratch, after);
  Tiles tiles;
  if (l->silu) return silu_by_tiles(&tiles, l, from, to, scratch);
  const int tokens = panel_tokens(&l->x);
  i32 first = 0;
  for (int o = 0; o < l->outCount; o++) {
    const LmLinearOut *out = l->outs + o;
    const i32 a = from > first ? from - first : 0, b = to - first < out->w->tiles ? to - first : out->w->tiles;
    first += out->w->tiles;
    matrix_by_tiles(&tiles, out->w, &l->x, a, b, scratch, [=](i32 tile, i32 panel, int nc, float *acc) {
      if (l->x.planes == 2) add_planes(acc, tokens, nc);
      store_tile(l, out, tile, panel * tokens, nc, acc);
    });
  }
}

static void expert_by_tiles(const LmExpertAdd *x, i32 from, i32 to, float *scratch, const u8 *after) {
  if (!by_tiles(&x->x, x->w->type)) return lm_kernels_avx512()->expert_add(x, from, to, scratch, after);
  Tiles tiles;
  matrix_by_tiles(&tiles, x->w, &x->x, from, to, scratch,
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
  return 4.0 * 32768 * n;
}

}  // namespace LM_NS
