// Products by tiles of 16 outputs and one panel's columns.
namespace LM_NS {

/** Unpacked weights that all panels go through in turn: they should stay in the L2 cache (2 MB on processors with tiles). */
#define LM_UNPACKED (512 << 10)
/** Floats of scratch before the unpacked weights. */
#define LM_TILE_SCRATCH (64 * LM_COLUMNS)

/**
 * Rows of a step from which a type's products go by tiles. With fewer, weights come from memory no faster than VNNI multiplies
 * them: 16 rows take it about as long as 256 bytes of a block take to arrive (8 to 10 GB/s a core); unpacking would not pay.
 * By reckoning, not measured. 0: never.
 */
LM_INLINE i32 tiles_from(int type) {
  i32 rows = quant_bytes(type) / 16;
  return rows == 0 ? 0 : rows > LM_COLUMNS ? rows : LM_COLUMNS + 1;
}
/** Panels of more than one hold more than half of the columns; products of fewer are not compiled. */
LM_INLINE bool by_tiles(const LmPanels *x, int type) {
#if defined(LM_WIDE)  // emulated only: logit rows are not in planes of bytes
  if (x->planes == 2) return false;
#endif
  i32 rows = tiles_from(type);
  return rows && x->n >= rows && 2 * x->P > LM_COLUMNS;
}

static int64_t product_scratch(i32 inputs) {
  int64_t most = (int64_t)4 * (inputs / 32) * unpacked_block(HALVES | MINIMUM);
  return LM_TILE_SCRATCH + ((most > LM_UNPACKED ? most : LM_UNPACKED) + 64) / 4;
}
LM_INLINE u8 *unpacked_at(float *scratch) { return (u8 *)(((uintptr_t)(scratch + LM_TILE_SCRATCH) + 63) & ~(uintptr_t)63); }

struct alignas(64) TileConfig {
  u8 palette, startRow, reserved[14];
  u16 rowBytes[16];
  u8 rows[16];
};
/** The calling thread's tiles: 0 to 3 sums, 4 and 5 activations, 6 and 7 weights, of whole blocks or of halves. */
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
    for (int t = 0; t < 8; t++) {
      c.rowBytes[t] = (u16)(t == 4 || t == 5 ? inputs : 64);
      c.rows[t] = (u8)(t < 6 ? columns : inputs / 4);
    }
    LM_TILE_CONFIGURE(c);
  }
  /** Threads without live tiles are cheaper to switch. */
  ~Tiles() {
    if (P) LM_TILE_RELEASE();
  }
};

/** Sums of two blocks or of both halves of one, [column][16 outputs]. */
struct alignas(64) Sums {
  i32 of[2][16 * LM_COLUMNS];
};
struct Operands {
  const u8 *x[2], *w[2];
};
// the instructions' names of tiles are constants
#define LM_TILE_PAIR(first, second) \
  LM_INLINE void multiply_##first##second(const Operands &o) { \
    LM_TILE_ZERO(first); \
    LM_TILE_LOAD(4, o.x[0], 32); \
    LM_TILE_LOAD(6, o.w[0], 64); \
    LM_TILE_DOT(first, 4, 6); \
    LM_TILE_ZERO(second); \
    LM_TILE_LOAD(5, o.x[1], 32); \
    LM_TILE_LOAD(7, o.w[1], 64); \
    LM_TILE_DOT(second, 5, 7); \
  } \
  LM_INLINE void keep_##first##second(Sums *s) { \
    LM_TILE_STORE(first, s->of[0]); \
    LM_TILE_STORE(second, s->of[1]); \
  }
LM_TILE_PAIR(0, 1)
LM_TILE_PAIR(2, 3)
#undef LM_TILE_PAIR

// One tile's product with a panel of NC columns, in parts: blocks, or halves of blocks.
template <int SCALING>
struct Parts {
  enum { OF_BLOCK = SCALING & HALVES ? 2 : 1 };
};
template <int SCALING, int NC>
LM_INLINE const u8 *panel_part(const u8 *x, int part) {
  return x + part / Parts<SCALING>::OF_BLOCK * panelBlockBytes(NC) + 16 * (part % Parts<SCALING>::OF_BLOCK);
}
template <int SCALING>
LM_INLINE const u8 *weight_part(const u8 *u, int part) {
  return u + (int64_t)(part / Parts<SCALING>::OF_BLOCK) * unpacked_block(SCALING) + 256 * (part % Parts<SCALING>::OF_BLOCK);
}
/** Two parts from `part` on; the last of an odd number twice. */
template <int SCALING, int NC>
LM_INLINE Operands operands(const u8 *u, const u8 *x, int part, int parts) {
  const int other = part + 1 < parts ? part + 1 : part;
  return {{panel_part<SCALING, NC>(x, part), panel_part<SCALING, NC>(x, other)},
          {weight_part<SCALING>(u, part), weight_part<SCALING>(u, other)}};
}
template <int SCALING, int NC>
LM_INLINE void scale_part(V *f, const u8 *u, const u8 *x, int part, const i32 *sums) {
  int b = part / Parts<SCALING>::OF_BLOCK, half = part % Parts<SCALING>::OF_BLOCK;
  const float *w = (const float *)(u + (int64_t)b * unpacked_block(SCALING) + 512);
  Block block = Block::at(x + b * panelBlockBytes(NC), NC);
  I a[NC];
  for (int c = 0; c < NC; c++) a[c] = i_load(sums + 16 * c);
  add_scaled<NC>(f, a, v_load(w + 16 * half), block.d);
  if (SCALING == MINIMUM) add_minimum<NC>(f, v_load(w + 16), block.ds);
  if (SCALING == (HALVES | MINIMUM) && half) {
    add_half_minimum<NC>(f, v_load(w + 32), block.d, block.h0);
    add_half_minimum<NC>(f, v_load(w + 48), block.d, block.h1);
  }
}
template <int SCALING, int NC>
LM_INLINE void scale_parts(V *f, const u8 *u, const u8 *x, int part, int parts, const Sums &s) {
  scale_part<SCALING, NC>(f, u, x, part, s.of[0]);
  if (part + 1 < parts) scale_part<SCALING, NC>(f, u, x, part + 1, s.of[1]);
}
// Not loops: g++ 12 keeps in registers only what every loop over it is unrolled early for, which it does inside of others alone.
template <int NC>
LM_INLINE void clear(V *f) {
  f[NC - 1] = v_zero();
  if constexpr (NC > 1) clear<NC - 1>(f);
}
template <int NC>
LM_INLINE void store_all(float *out, const V *f) {
  v_store(out + 16 * (NC - 1), f[NC - 1]);
  if constexpr (NC > 1) store_all<NC - 1>(out, f);
}
/** Unpacked weights u → out[NC][16]. Two parts are multiplied while the sums of the two before are scaled. */
template <int SCALING, int NC>
__attribute__((noinline)) static void tile_product(const u8 *u, int nb, const u8 *x, float *out) {
  const int parts = nb * Parts<SCALING>::OF_BLOCK;
  Sums even, odd;
  V f[NC];
  clear<NC>(f);
  multiply_01(operands<SCALING, NC>(u, x, 0, parts));
  keep_01(&even);
  for (int i = 0;; i += 4) {
    if (i + 2 < parts) multiply_23(operands<SCALING, NC>(u, x, i + 2, parts));
    scale_parts<SCALING, NC>(f, u, x, i, parts, even);
    if (i + 2 >= parts) break;
    keep_23(&odd);
    if (i + 4 < parts) multiply_01(operands<SCALING, NC>(u, x, i + 4, parts));
    scale_parts<SCALING, NC>(f, u, x, i + 2, parts, odd);
    if (i + 4 >= parts) break;
    keep_01(&even);
  }
  store_all<NC>(out, f);
}
template <int SCALING, int NC = LM_COLUMNS>
LM_INLINE void product_any(const u8 *u, int nb, const u8 *x, int P, float *out) {
  if (P == NC) return tile_product<SCALING, NC>(u, nb, x, out);
  if constexpr (2 * (NC - 1) > LM_COLUMNS) product_any<SCALING, NC - 1>(u, nb, x, P, out);
}

/** All columns of a panel, filled or not → out[column][16]. */
static void multiply(Tiles *tiles, const LmTensor *w, const u8 *u, const LmPanels *x, i32 panel, float *out) {
  const int nb = w->in / 32, scaling = scaling_of(w->type);
  const u8 *q = x->q8 + (int64_t)panel * nb * panelBlockBytes(x->P);
  tiles->shape(x->P, scaling);
  switch (scaling) {
    case PLAIN: return product_any<PLAIN>(u, nb, q, x->P, out);
    case HALVES: return product_any<HALVES>(u, nb, q, x->P, out);
    case MINIMUM: return product_any<MINIMUM>(u, nb, q, x->P, out);
    default: return product_any<HALVES | MINIMUM>(u, nb, q, x->P, out);
  }
}

LM_INLINE i32 panels_of(const LmPanels *x) { return (x->n + panel_tokens(x) - 1) / panel_tokens(x); }
/** How many units of so many bytes are unpacked at a time. */
LM_INLINE i32 group_of(int64_t bytes) { return bytes < LM_UNPACKED ? (i32)(LM_UNPACKED / bytes) : 1; }

/** Blocks [from, to) of hidden: two tiles of gate and two of up each. */
static void silu_by_tiles(Tiles *tiles, const LmLinear *l, i32 from, i32 to, float *scratch) {
  const LmTensor *w[2] = {l->outs[0].w, l->outs[1].w};
  const int64_t bytes[2] = {unpacked_bytes(w[0]), unpacked_bytes(w[1])}, each = 2 * (bytes[0] + bytes[1]);
  float *acc[2] = {scratch, scratch + 16 * LM_COLUMNS}, *h = scratch + 32 * LM_COLUMNS;
  u8 *u = unpacked_at(scratch);
  for (i32 end; from < to; from = end) {
    end = to - from < group_of(each) ? to : from + group_of(each);
    for (i32 t = 2 * from; t < 2 * end; t++) {
      u8 *at = u + (t - 2 * from) * (bytes[0] + bytes[1]);
      unpack_tile(w[0], t, at);
      unpack_tile(w[1], t, at + bytes[0]);
    }
    for (i32 panel = 0; panel < panels_of(&l->x); panel++) {
      int nc = panel_width(&l->x, panel);
      for (i32 t = 2 * from; t < 2 * end; t++) {
        const u8 *at = u + (t - 2 * from) * (bytes[0] + bytes[1]);
        multiply(tiles, w[0], at, &l->x, panel, acc[0]);
        multiply(tiles, w[1], at + bytes[0], &l->x, panel, acc[1]);
        activate_tile(l, 16 * t, nc, acc[0], acc[1], h);
        if (t & 1) store_hidden(l, t / 2, panel, nc, h);
      }
    }
  }
}

/** Calls store(tile, panel, columns, products) for tiles [from, to) and all panels. */
template <class Store>
LM_INLINE void matrix_by_tiles(Tiles *tiles, const LmTensor *w, const LmPanels *x, i32 from, i32 to, float *scratch, Store store) {
  const int64_t bytes = unpacked_bytes(w);
  u8 *u = unpacked_at(scratch);
  for (i32 end; from < to; from = end) {
    end = to - from < group_of(bytes) ? to : from + group_of(bytes);
    for (i32 t = from; t < end; t++) unpack_tile(w, t, u + (t - from) * bytes);
    for (i32 panel = 0; panel < panels_of(x); panel++)
      for (i32 t = from; t < end; t++) {
        multiply(tiles, w, u + (t - from) * bytes, x, panel, scratch);
        store(t, panel, panel_width(x, panel), scratch);
      }
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
