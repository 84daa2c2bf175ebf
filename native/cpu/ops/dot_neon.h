// Products of a block on 64-bit Arm, for dot.h. Four of the sixteen rows at a time: their 8 chunks, unpacked to signed bytes,
// stay in registers for all columns; sums are integers, exact in any order.
// A chunk by a lane of activations is one `sdot` (16 products); with LM_BUILD_I8MM, two rows by two columns over 8 inputs are one
// `smmla` (32 products).
namespace LM_NS {

/** What sums of products start from, in all rows: `products` reads it from the first quarter and writes all of them. */
LM_INLINE I i_set(i32 x) {
  I r;
  r.v[0] = vdupq_n_s32(x);
  return r;
}

typedef int8x16_t Q;
LM_INLINE uint8x16_t raw(const u8 *p) { return vld1q_u8(p); }
LM_INLINE Q as_signed(uint8x16_t x) { return vreinterpretq_s8_u8(x); }
LM_INLINE uint8x16_t low_nibbles(uint8x16_t x) { return vandq_u8(x, vdupq_n_u8(15)); }
LM_INLINE uint8x16_t high_nibbles(uint8x16_t x) { return vshrq_n_u8(x, 4); }
/** Bits of x from FROM on, as bits from TO on. */
template <int FROM, int TO>
LM_INLINE uint8x16_t move_bits(uint8x16_t x, int mask) {
  if constexpr (TO > FROM) x = vshlq_n_u8(x, TO - FROM);
  if constexpr (TO < FROM) x = vshrq_n_u8(x, FROM - TO);
  return vandq_u8(x, vdupq_n_u8((u8)mask));
}

#define LM_MEMBER inline __attribute__((always_inline))
// Each: chunks 0…7 of 4 rows, from the first of their bytes.
struct UnpackQ8 {
  LM_MEMBER void operator()(Q *u, const u8 *w) const {
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) u[j] = as_signed(veorq_u8(raw(w + 64 * j), vdupq_n_u8(0x80)));
  }
};
struct UnpackQ4 {
  LM_MEMBER void operator()(Q *u, const u8 *w) const {
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
      uint8x16_t v = raw(w + 64 * j);
      u[j] = as_signed(low_nibbles(v));
      u[j + 4] = as_signed(high_nibbles(v));
    }
  }
};
struct UnpackTable {
  Q table;
  LM_MEMBER void operator()(Q *u, const u8 *w) const {
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
      uint8x16_t v = raw(w + 64 * j);
      u[j] = vqtbl1q_s8(table, low_nibbles(v));
      u[j + 4] = vqtbl1q_s8(table, high_nibbles(v));
    }
  }
};
struct UnpackQ5 {
  template <int J>
  LM_MEMBER void chunks(Q *u, const u8 *w, uint8x16_t h) const {
    uint8x16_t v = raw(w + 64 * J);
    u[J] = as_signed(vorrq_u8(low_nibbles(v), move_bits<J, 4>(h, 16)));
    u[J + 4] = as_signed(vorrq_u8(high_nibbles(v), move_bits<J + 4, 4>(h, 16)));
    if constexpr (J < 3) chunks<J + 1>(u, w, h);
  }
  LM_MEMBER void operator()(Q *u, const u8 *w) const { chunks<0>(u, w, raw(w + 256)); }
};
struct UnpackQ6 {
  template <int J>
  LM_MEMBER void chunks(Q *u, const u8 *w, uint8x16_t h0, uint8x16_t h1) const {
    uint8x16_t v = raw(w + 64 * J);
    u[J] = as_signed(vorrq_u8(low_nibbles(v), move_bits<2 * J, 4>(h0, 48)));
    u[J + 4] = as_signed(vorrq_u8(high_nibbles(v), move_bits<2 * J, 4>(h1, 48)));
    if constexpr (J < 3) chunks<J + 1>(u, w, h0, h1);
  }
  LM_MEMBER void operator()(Q *u, const u8 *w) const { chunks<0>(u, w, raw(w + 256), raw(w + 320)); }
};
template <int THIRD>
struct UnpackQ23 {
  template <int J>
  LM_MEMBER void chunks(Q *u, uint8x16_t v0, uint8x16_t v1, uint8x16_t h) const {
    uint8x16_t a = move_bits<2 * J, 0>(v0, 3), b = move_bits<2 * J, 0>(v1, 3);
    if (THIRD) {
      a = vorrq_u8(a, move_bits<J, 2>(h, 4));
      b = vorrq_u8(b, move_bits<J + 4, 2>(h, 4));
    }
    u[J] = as_signed(a);
    u[J + 4] = as_signed(b);
    if constexpr (J < 3) chunks<J + 1>(u, v0, v1, h);
  }
  LM_MEMBER void operator()(Q *u, const u8 *w) const {
    uint8x16_t v0 = raw(w);
    chunks<0>(u, v0, raw(w + 64), THIRD ? raw(w + 128) : v0);
  }
};

LM_INLINE int32x4_t four_chunks(int32x4_t s, const Q *u, Q q) {
  s = vdotq_laneq_s32(s, u[0], q, 0);
  s = vdotq_laneq_s32(s, u[1], q, 1);
  s = vdotq_laneq_s32(s, u[2], q, 2);
  return vdotq_laneq_s32(s, u[3], q, 3);
}
/** Quarter r: chunks 0…3 are added to a, the others to b, which may be a. The first quarter, where the start is, comes last. */
template <int NC, bool HALVES>
LM_INLINE void add_columns(I *a, I *b, const Q *u, const s8 *q, int r) {
#pragma GCC unroll 1
  for (int c = 0; c < NC; c++, q += 32) {
    int32x4_t s = four_chunks(a[c].v[0], u, vld1q_s8(q));
    Q high = vld1q_s8(q + 16);
    if (HALVES) b[c].v[r] = four_chunks(b[c].v[0], u + 4, high);
    else s = four_chunks(s, u + 4, high);
    a[c].v[r] = s;
  }
}

#if defined(LM_BUILD_I8MM)
// Sums of two columns lie together: f[c].v[r] holds rows 4r and 4r + 1 of columns c and c + 1, f[c + 1].v[r] rows 4r + 2 and
// 4r + 3, as smmla gives them. A last column without a neighbour lies as everywhere else.

/** Two columns side by side: 8 inputs of each in a vector. */
LM_INLINE void pair_columns(s8 *pairs, const s8 *q, int columns) {
#pragma GCC unroll 1
  for (int c = 0; c < columns; c += 2, q += 64, pairs += 64)
    for (int i = 0; i < 32; i += 16) {
      int64x2_t x = vreinterpretq_s64_s8(vld1q_s8(q + i)), y = vreinterpretq_s64_s8(vld1q_s8(q + 32 + i));
      vst1q_s64((int64_t *)(pairs + 2 * i), vzip1q_s64(x, y));
      vst1q_s64((int64_t *)(pairs + 2 * i + 16), vzip2q_s64(x, y));
    }
}
/** Chunks 2g and 2g + 1 as 8 inputs of rows 0 and 1 in u[2g], of rows 2 and 3 in u[2g + 1]. */
LM_INLINE void pair_rows(Q *u) {
#pragma GCC unroll 4
  for (int g = 0; g < 8; g += 2) {
    int32x4_t x = vreinterpretq_s32_s8(u[g]), y = vreinterpretq_s32_s8(u[g + 1]);
    u[g] = vreinterpretq_s8_s32(vzip1q_s32(x, y));
    u[g + 1] = vreinterpretq_s8_s32(vzip2q_s32(x, y));
  }
}
struct PairSums {
  int32x4_t low, high;
  /** Adds 16 inputs. */
  LM_MEMBER void add(const Q *u, const s8 *pairs) {
    Q x = vld1q_s8(pairs), y = vld1q_s8(pairs + 16);
    low = vmmlaq_s32(vmmlaq_s32(low, x, u[0]), y, u[2]);
    high = vmmlaq_s32(vmmlaq_s32(high, x, u[1]), y, u[3]);
  }
};
/** As add_columns, where the start of two columns lies in the first of them. */
template <bool HALVES>
LM_INLINE void add_pairs(I *a, I *b, const Q *u, const s8 *pairs, int columns, int r) {
#pragma GCC unroll 1
  for (int c = 0; c < columns; c += 2, pairs += 64) {
    PairSums s = {a[c].v[0], a[c].v[0]};
    s.add(u, pairs);
    if (HALVES) {
      a[c].v[r] = s.low;
      a[c + 1].v[r] = s.high;
      s = {b[c].v[0], b[c].v[0]};
    }
    s.add(u + 4, pairs + 32);
    b[c].v[r] = s.low;
    b[c + 1].v[r] = s.high;
  }
}
LM_INLINE void pair_start(I *a) {
  a[0].v[0] = vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a[0].v[0]), vreinterpretq_s64_s32(a[1].v[0])));
}
/** The sums of the halves are added to a and to b, which may be a. */
template <int NC, bool HALVES, class Unpack>
LM_INLINE void products(I *a, I *b, const u8 *w, const s8 *q, const Unpack &unpack) {
  enum { PAIRED = NC & ~1, LAST = NC - 1 };
  alignas(16) s8 pairs[32 * (PAIRED + 1)];
  pair_columns(pairs, q, PAIRED);
#pragma GCC unroll 1
  for (int c = 0; c < PAIRED; c += 2) {
    pair_start(a + c);
    if (HALVES) pair_start(b + c);
  }
#pragma GCC unroll 1
  for (int r = 3; r >= 0; r--) {
    Q u[8];
    unpack(u, w + 16 * r);
    if (NC & 1) add_columns<1, HALVES>(a + LAST, b + LAST, u, q + 32 * LAST, r);
    if (PAIRED > 0) {
      pair_rows(u);
      add_pairs<HALVES>(a, b, u, pairs, PAIRED, r);
    }
  }
}

/** A number for each row, twice: as the sums of two columns lie. */
struct PairedRows {
  float32x4_t low[4], high[4];
  LM_INLINE PairedRows of(V d) {
    PairedRows p;
    LM_QUARTERS {
      float64x2_t x = vreinterpretq_f64_f32(d.v[i]);
      p.low[i] = vreinterpretq_f32_f64(vzip1q_f64(x, x));
      p.high[i] = vreinterpretq_f32_f64(vzip2q_f64(x, x));
    }
    return p;
  }
};
/** A number for each of two columns. */
LM_INLINE float32x4_t two_columns(float x, float y) {
  float32x2_t both = {x, y};
  return vcombine_f32(vdup_lane_f32(both, 0), vdup_lane_f32(both, 1));
}
template <int NC>
LM_INLINE void add_scaled(V *f, const I *a, V d, const float *dx) {
  PairedRows p = PairedRows::of(d);
#pragma GCC unroll 1
  for (int c = 0; c + 1 < NC; c += 2) {
    float32x4_t x = two_columns(dx[c], dx[c + 1]);
    LM_QUARTERS {
      f[c].v[i] = vfmaq_f32(f[c].v[i], vcvtq_f32_s32(a[c].v[i]), vmulq_f32(p.low[i], x));
      f[c + 1].v[i] = vfmaq_f32(f[c + 1].v[i], vcvtq_f32_s32(a[c + 1].v[i]), vmulq_f32(p.high[i], x));
    }
  }
  if (NC & 1) f[NC - 1] = v_fma(v_int(a[NC - 1]), v_mul(d, v_set(dx[NC - 1])), f[NC - 1]);
}
template <int NC>
LM_INLINE void add_minimum(V *f, V m, const float *ds) {
  PairedRows p = PairedRows::of(m);
#pragma GCC unroll 1
  for (int c = 0; c + 1 < NC; c += 2) {
    float32x4_t x = two_columns(ds[c], ds[c + 1]);
    LM_QUARTERS {
      f[c].v[i] = vfmaq_f32(f[c].v[i], p.low[i], x);
      f[c + 1].v[i] = vfmaq_f32(f[c + 1].v[i], p.high[i], x);
    }
  }
  if (NC & 1) f[NC - 1] = v_fma(m, v_set(ds[NC - 1]), f[NC - 1]);
}
template <int NC>
LM_INLINE void add_half_minimum(V *f, V m, const float *dx, const i32 *h) {
  float k[NC];
  for (int c = 0; c < NC; c++) k[c] = dx[c] * ((float)h[c] * (1.0f / 32));
  add_minimum<NC>(f, m, k);
}
template <int NC>
LM_INLINE void store_sums(float *out, const V *f) {
  for (int c = 0; c + 1 < NC; c += 2)
    LM_QUARTERS {
      float64x2_t x = vreinterpretq_f64_f32(f[c].v[i]), y = vreinterpretq_f64_f32(f[c + 1].v[i]);
      vst1q_f32(out + 16 * c + 4 * i, vreinterpretq_f32_f64(vzip1q_f64(x, y)));
      vst1q_f32(out + 16 * c + 16 + 4 * i, vreinterpretq_f32_f64(vzip2q_f64(x, y)));
    }
  if (NC & 1) v_store(out + 16 * (NC - 1), f[NC - 1]);
}
#else
/** The sums of the halves are added to a and to b, which may be a. */
template <int NC, bool HALVES, class Unpack>
LM_INLINE void products(I *a, I *b, const u8 *w, const s8 *q, const Unpack &unpack) {
#pragma GCC unroll 1
  for (int r = 3; r >= 0; r--) {
    Q u[8];
    unpack(u, w + 16 * r);
    add_columns<NC, HALVES>(a, b, u, q, r);
  }
}
#endif
#undef LM_MEMBER

template <int NC>
LM_INLINE void dot_q8(I *a, const u8 *w, const Block &x) {
  for (int c = 0; c < NC; c++) a[c] = i_set(0);
  products<NC, false>(a, a, w, x.q, UnpackQ8{});
}
template <int NC>
LM_INLINE void dot_q4(I *a, const u8 *w, const Block &x) {
  products<NC, false>(a, a, w, x.q, UnpackQ4{});
}
template <int NC>
LM_INLINE void dot_q5(I *a, const u8 *w, const Block &x) {
  products<NC, false>(a, a, w, x.q, UnpackQ5{});
}
template <int NC>
LM_INLINE void dot_q6(I *a, I *b, const u8 *w, const Block &x) {
  for (int c = 0; c < NC; c++) {
    a[c] = i_set(x.h0[c]);
    b[c] = i_set(x.h1[c]);
  }
  products<NC, true>(a, b, w, x.q, UnpackQ6{});
}
/** Nibbles are indexes of a table of values + 128. */
template <int NC>
LM_INLINE void dot_table(I *a, const u8 *w, const Block &x, const u8 *table) {
  for (int c = 0; c < NC; c++) a[c] = i_set(0);
  products<NC, false>(a, a, w, x.q, UnpackTable{as_signed(veorq_u8(raw(table), vdupq_n_u8(0x80)))});
}
/** a, b += the halves of a block of two bits each, with THIRD of three. */
template <int NC, int THIRD>
LM_INLINE void dot_q23(I *a, I *b, const u8 *w, const Block &x) {
  products<NC, true>(a, b, w, x.q, UnpackQ23<THIRD>{});
}

}  // namespace LM_NS
