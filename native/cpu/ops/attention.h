// Causal attention over paged KV, grouped-query heads.
//
// The context is cut into spans of 256 tokens at absolute positions. In a span, for each query: exact maximum, then
// p = 2^(s - max), Σp and Σp·v, token after token. Spans are merged in order. Nothing of this depends on the block
// length, on which queries share a task, or on whether spans were computed by one task or by several.
// Rows of a task: (token, head of the group). Masked lanes are selected away, never multiplied.
// Tokens before a row's window have weight 0: their scores are -Infinity, and spans that hold no other are skipped.
namespace LM_NS {

#if defined(LM_BUILD_AVX512)
#define LM_QUERY_ROWS 24
#define LM_PV_ROWS 6
#else
#define LM_QUERY_ROWS 12
#define LM_PV_ROWS 6
#endif

// As many sums at a time as registers hold: (tiles of K, vectors of V) for so many query rows.
#if defined(LM_BUILD_AVX512)
constexpr int score_tiles(int) { return 2; }
constexpr int value_vectors(int) { return 4; }
#else
constexpr int score_tiles(int rows) { return rows <= 2 ? 2 : 1; }
constexpr int value_vectors(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }
#endif

static i32 attention_tokens(i32 group) { return group >= LM_QUERY_ROWS ? 1 : LM_QUERY_ROWS / group; }
LM_INLINE int rows_of(i32 group) { return attention_tokens(group) * group; }

struct AttentionScratch {
  float *q, *s, *o, *total, *m, *l, *M, *L, *qsum, *zeros, *scale, *zero;
};
static int64_t attention_scratch(i32 group, i32 hd) { return (int64_t)rows_of(group) * (3 * hd + LM_SPAN + 6) + 2 * LM_SPAN + 64; }
LM_INLINE AttentionScratch carve(float *p, int rows, int hd) {
  AttentionScratch a;
  a.q = p;
  a.s = a.q + rows * hd;
  a.o = a.s + rows * LM_SPAN;
  a.total = a.o + rows * hd;
  a.m = a.total + rows * hd;
  a.l = a.m + rows;
  a.M = a.l + rows;
  a.L = a.M + rows;
  a.qsum = a.L + rows;
  a.zeros = a.qsum + rows;
  a.scale = a.zeros + rows;
  a.zero = a.scale + LM_SPAN;
  return a;
}

// Quantised K and V are whole numbers u in the loops, and x = u · scale + zero of each token is applied outside of them:
// q·K = (q·u) · scale + Σq · zero, and Σp·V = Σ(p · scale) · u + Σp · zero. So they cost what f16 costs to convert.

// K and V of a span are one stream of tiles, K first, and after them comes the next span's or the next task's K. A tile is
// prefetched while the one LM_TILES_AHEAD before it is used, so that memory works while scores and sums are computed.
#define LM_SPAN_TILES (LM_SPAN / 16)
#define LM_TILES_AHEAD 8

struct Tiles {
  const u8 *at[2 * LM_SPAN_TILES + LM_TILES_AHEAD];  // K, V, what comes next
};
/** The first n tiles of K from token `from` on, then those of V, if `v` is there. */
LM_INLINE void find_tiles(const LmKv *kv, const i32 *table, i32 head, int from, int n, const u8 **k, const u8 **v) {
  int64_t half = kv->headBytes / 2;
  for (int j = 0; j < n; j++) {
    k[j] = kv_tile(kv, table, head, from + 16 * j, 0);
    if (v) v[j] = k[j] + half;
  }
}
LM_INLINE int tiles_from(const LmAttentionTask *t, int from) {
  int n = (t->position + t->count - from + 15) / 16;
  return n < LM_SPAN_TILES ? n : LM_SPAN_TILES;
}
/** All tiles that a span reads; `from` is its first token. */
static void list_tiles(Tiles *w, const LmAttention *a, const LmAttentionTask *t, i32 kvHead, int from, const LmAttentionNext *next) {
  int n = tiles_from(t, from), ahead = 0;
  find_tiles(&a->kv, t->table, kvHead, from, n, w->at, w->at + n);
  const u8 **rest = w->at + 2 * n;
  if (from + LM_SPAN < t->spanTo * LM_SPAN) {
    ahead = tiles_from(t, from + LM_SPAN);
    ahead = ahead < LM_TILES_AHEAD ? ahead : LM_TILES_AHEAD;
    find_tiles(&a->kv, t->table, kvHead, from + LM_SPAN, ahead, rest, nullptr);
  } else if (next->task) {
    int first = next->task->spanFrom * LM_SPAN;
    ahead = tiles_from(next->task, first);
    ahead = ahead < LM_TILES_AHEAD ? ahead : LM_TILES_AHEAD;
    find_tiles(&a->kv, next->task->table, next->kvHead, first, ahead, rest, nullptr);
  }
  for (int j = ahead; j < LM_TILES_AHEAD; j++) rest[j] = next->after + j * a->kv.tileBytes;
}

/** Dim d of the 16 tokens of a tile of K. */
template <int BITS>
LM_INLINE V load_k(const u8 *k, int d) {
  return BITS == 16 ? v_half(k + 32 * d) : BITS == 8 ? v_u8(k + 16 * d) : v_u4(k + 16 * (d / 2), d & 1);
}
/** Dims d … d + 15 of token t of a tile of V. */
template <int BITS>
LM_INLINE V load_v(const u8 *v, int t, int hd, int d) {
  int i = t * hd + d;
  return BITS == 16 ? v_half(v + 2 * i) : BITS == 8 ? v_u8(v + i) : v_u4_pairs(v + i / 2);
}
/** Scales of the 16 tokens of a quantised tile in f16; the zeros follow. */
LM_INLINE const u8 *tile_scales(const u8 *tile, int hd, int bits) { return tile + 16 * hd * bits / 8; }

/** Once for each line of 64 bytes, as dim d of K (2 · BITS bytes) or a token's dims d … d + 16 · NV of V are read. */
template <int BITS>
LM_INLINE void prefetch_k(const u8 *ahead, int d, int hd) {
  if (d % (32 / BITS) == 0) __builtin_prefetch(ahead + 2 * BITS * d);
  if (BITS != 16 && d == 0) __builtin_prefetch(ahead + 2 * BITS * hd);  // its scales
}
template <int BITS, int NV>
LM_INLINE void prefetch_v(const u8 *ahead, int t, int hd, int d) {
  for (int i = 0; i < NV; i += 32 / BITS) __builtin_prefetch(ahead + (t * hd + d + 16 * i) * BITS / 8);
  if (BITS != 16 && t == 0 && d == 0) __builtin_prefetch(ahead + 2 * BITS * hd);
}

/**
 * s[r][16·t …] = q[r] · K for NR rows and NT tiles; q is (dim, NR), qsum its sums over dim. `ahead`: tiles to prefetch.
 */
template <int NR, int NT, int BITS>
LM_INLINE void scores(float *s, const float *q, const float *qsum, const u8 *const *k, const u8 *const *ahead, int hd) {
  V a[NR][NT];
  for (int r = 0; r < NR; r++)
    for (int t = 0; t < NT; t++) a[r][t] = v_zero();
  for (int d = 0; d < hd; d += 2)
    for (int e = 0; e < 2; e++, q += NR) {  // two dims share the bytes of 4 bits
      V kd[NT];
      for (int t = 0; t < NT; t++) {
        kd[t] = load_k<BITS>(k[t], d + e);
        prefetch_k<BITS>(ahead[t], d + e, hd);
      }
      for (int r = 0; r < NR; r++)
        for (int t = 0; t < NT; t++) a[r][t] = v_fma(v_set(q[r]), kd[t], a[r][t]);
    }
  for (int t = 0; t < NT && BITS != 16; t++) {
    const u8 *p = tile_scales(k[t], hd, BITS);
    V scale = v_half(p), zero = v_half(p + 32);
    for (int r = 0; r < NR; r++) a[r][t] = v_fma(a[r][t], scale, v_mul(v_set(qsum[r]), zero));
  }
  for (int r = 0; r < NR; r++)
    for (int t = 0; t < NT; t++) v_store(s + r * LM_SPAN + 16 * t, a[r][t]);
}
/** Of so many query rows that are left, how many are taken next. */
LM_INLINE int next_rows(int rows) {
#if defined(LM_BUILD_AVX512)
  if (rows >= 12) return 12;
  if (rows >= 8) return 8;
#else
  if (rows == 7 || rows == 8) return 4;
#endif
  if (rows >= 6) return 6;
#if defined(LM_BUILD_AVX512)
  if (rows == 5) return 4;
#endif
  return rows;
}
template <int NR, int NT, int BITS>
LM_INLINE void scores_tiles(float *s, const float *q, const float *qsum, const u8 *const *k, const u8 *const *ahead, int hd) {
  enum { N = NT < score_tiles(NR) ? NT : score_tiles(NR) };
  for (int t = 0; t < NT; t += N) scores<NR, N, BITS>(s + 16 * t, q, qsum, k + t, ahead + t, hd);
}
template <int NT, int BITS>
static void scores_rows(float *s, const float *q, const float *qsum, const u8 *const *k, const u8 *const *ahead, int hd, int rows) {
  while (rows > 0) {
    int n = next_rows(rows);
    switch (n) {
#define LM_ROWS(N) \
  case N: scores_tiles<N, NT, BITS>(s, q, qsum, k, ahead, hd); break;
#if defined(LM_BUILD_AVX512)
      LM_ROWS(12) LM_ROWS(8)
#endif
      LM_ROWS(6) LM_ROWS(5) LM_ROWS(4) LM_ROWS(3) LM_ROWS(2) LM_ROWS(1)
#undef LM_ROWS
    }
    s += n * LM_SPAN;
    q += n * hd;
    qsum += n;
    rows -= n;
  }
}

/** Scales of a span's n tokens of V, and their zeros, in f32. */
static void v_parameters(float *scale, float *zero, const u8 *const *v, int n, int hd, int bits) {
  for (int t = 0; t < n; t += 16) {
    const u8 *p = tile_scales(v[t / 16], hd, bits);
    v_store(scale + t, v_half(p));
    v_store(zero + t, v_half(p + 32));
  }
}

/** p → p · scale of V, if it is quantised; *zeros += p · zero. Lanes valid… give 0, whatever scale and zero hold there. */
template <int BITS>
LM_INLINE V weigh(V p, V *zeros, const float *scale, const float *zero, int valid) {
  if (BITS == 16) return p;
  V s = v_load(scale), z = v_load(zero);
  if (valid < 16) s = v_keep(s, valid, v_zero()), z = v_keep(z, valid, v_zero());
  *zeros = v_fma(p, z, *zeros);
  return v_mul(p, s);
}

/**
 * s → p (· scale of V) in place for one row with `valid` of `n` tokens; returns the maximum, *sum = Σp, *zeros = Σp · zero
 * of V. Lanes valid… become 0.
 */
template <int BITS>
LM_INLINE float softmax_row(float *s, int valid, int n, float *sum, const float *scale, const float *zero, float *zeros) {
  int whole = valid & ~15;
  V mx = v_set(-__builtin_inff());
  for (int t = 0; t < whole; t += 16) mx = v_max(mx, v_load(s + t));
  if (whole < valid) mx = v_max(mx, v_keep(v_load(s + whole), valid - whole, mx));
  float m = v_maximum(mx);
  V total = v_zero(), z = v_zero(), mv = v_set(m);
  for (int t = 0; t < whole; t += 16) {
    V p = v_exp2(v_sub(v_load(s + t), mv));
    total = v_add(total, p);
    v_store(s + t, weigh<BITS>(p, &z, scale + t, zero + t, 16));
  }
  if (whole < valid) {
    V p = v_keep(v_exp2(v_sub(v_load(s + whole), mv)), valid - whole, v_zero());
    total = v_add(total, p);
    v_store(s + whole, weigh<BITS>(p, &z, scale + whole, zero + whole, valid - whole));
  }
  for (int t = (valid + 15) & ~15; t < n; t += 16) v_store(s + t, v_zero());
  *sum = v_sum(total);
  *zeros = BITS == 16 ? 0 : v_sum(z);
  return m;
}

/** o[r][16·NV values] = zero[r] + Σ p[r][t] · v[t], t in order. After its tiles, v goes on with those to prefetch. */
template <int NR, int NV, int BITS>
LM_INLINE void mix(float *o, const float *p, const float *zero, const u8 *const *v, int n, int hd, int d) {
  V a[NR][NV];
  for (int r = 0; r < NR; r++)
    for (int i = 0; i < NV; i++) a[r][i] = BITS == 16 ? v_zero() : v_set(zero[r]);
  for (int t = 0; t < n; t++) {
    V x[NV];
    for (int i = 0; i < NV; i++) x[i] = load_v<BITS>(v[t / 16], t % 16, hd, d + 16 * i);
    prefetch_v<BITS, NV>(v[t / 16 + LM_TILES_AHEAD], t % 16, hd, d);
    for (int r = 0; r < NR; r++) {
      V w = v_set(p[r * LM_SPAN + t]);
      for (int i = 0; i < NV; i++) a[r][i] = v_fma(w, x[i], a[r][i]);
    }
  }
  for (int r = 0; r < NR; r++)
    for (int i = 0; i < NV; i++) v_store(o + r * hd + d + 16 * i, a[r][i]);
}
template <int NR, int BITS>
__attribute__((noinline)) static void mix_dims(float *o, const float *p, const float *zero, const u8 *const *v, int n, int hd) {
  enum { NV = value_vectors(NR) };
  int d = 0;
  for (; d + 16 * NV <= hd; d += 16 * NV) mix<NR, NV, BITS>(o, p, zero, v, n, hd, d);
  for (; d < hd; d += 16) mix<NR, 1, BITS>(o, p, zero, v, n, hd, d);
}
template <int BITS>
static void mix_rows(float *o, const float *p, const float *zero, const u8 *const *v, int n, int hd, int rows) {
  if (rows >= 6) return mix_dims<6, BITS>(o, p, zero, v, n, hd);
  if (rows == 5) return mix_dims<5, BITS>(o, p, zero, v, n, hd);
  if (rows == 4) return mix_dims<4, BITS>(o, p, zero, v, n, hd);
  if (rows == 3) return mix_dims<3, BITS>(o, p, zero, v, n, hd);
  if (rows >= 2) return mix_dims<2, BITS>(o, p, zero, v, n, hd);
  mix_dims<1, BITS>(o, p, zero, v, n, hd);
}

/** Adds span (m, l, o) to (M, L, T). */
LM_INLINE void merge(float *M, float *L, float *T, float m, float l, const float *o, int hd, int isFirst) {
  if (isFirst) {
    *M = m;
    *L = l;
    memcpy(T, o, 4 * (size_t)hd);
    return;
  }
  float top = *M > m ? *M : m, w[16];
  V a = v_exp2(v_set(*M - top)), b = v_exp2(v_set(m - top));
  v_store(w, v_fma(v_set(*L), a, v_mul(v_set(l), b)));
  *L = w[0];
  *M = top;
  for (int d = 0; d < hd; d += 16) v_store(T + d, v_fma(v_load(T + d), a, v_mul(v_load(o + d), b)));
}
LM_INLINE void finish(float *out, const float *T, float L, int hd) {
  V k = v_set(1.0f / L);
  for (int d = 0; d < hd; d += 16) v_store(out + d, v_mul(v_load(T + d), k));
}

/** First position that row r sees. */
LM_INLINE int window_start(const LmAttention *a, int position) {
  return a->window > 0 && position >= a->window ? position + 1 - a->window : 0;
}

/** One span: s = p, o, m, l for all rows. Returns nothing for rows that see nothing of the span. */
template <int BITS>
static void span(const LmAttention *a, const LmAttentionTask *t, const Tiles *tiles, int from, int rows, const AttentionScratch &w) {
  int hd = a->kv.headDim, group = a->heads / a->kv.heads;
  int n = t->position + t->count - from, count = tiles_from(t, from);
  n = n < LM_SPAN ? n : LM_SPAN;
  const u8 *const *k = tiles->at, *const *v = tiles->at + count;
  for (int j = 0; j + 2 <= count; j += 2)
    scores_rows<2, BITS>(w.s + 16 * j, w.q, w.qsum, k + j, k + j + LM_TILES_AHEAD, hd, rows);
  if (count & 1)
    scores_rows<1, BITS>(w.s + 16 * (count - 1), w.q, w.qsum, k + count - 1, k + count - 1 + LM_TILES_AHEAD, hd, rows);
  if (BITS != 16) v_parameters(w.scale, w.zero, v, n, hd, BITS);
  for (int r = 0; r < rows; r++) {
    int valid = t->position + r / group + 1 - from;
    int low = window_start(a, t->position + r / group) - from;
    float *p = w.s + r * LM_SPAN;
    if (valid > 0 && low < n) {
      if (a->cap > 0)
        for (int i = 0; i < 16 * count; i += 16) v_store(p + i, v_softcap(v_load(p + i), a->cap * 1.44269504088896341f));
      for (int i = 0; i < low; i++) p[i] = -__builtin_inff();
      w.m[r] = softmax_row<BITS>(p, valid < n ? valid : n, n, w.l + r, w.scale, w.zero, w.zeros + r);
    } else {
      memset(p, 0, 64 * (size_t)count);
      w.zeros[r] = 0;
    }
  }
  for (int r = 0; r < rows; r += LM_PV_ROWS) {
    int c = rows - r < LM_PV_ROWS ? rows - r : LM_PV_ROWS;
    int valid = t->position + (r + c - 1) / group + 1 - from;  // of the last row: the farthest
    if (valid <= 0) continue;
    mix_rows<BITS>(w.o + r * hd, w.s + r * LM_SPAN, w.zeros + r, v, valid < n ? valid : n, hd, c);
  }
}

static void attention(const LmAttention *a, const LmAttentionTask *t, i32 kvHead, const LmAttentionNext *next, float *scratch) {
  int hd = a->kv.headDim, group = a->heads / a->kv.heads, rows = t->count * group;
  AttentionScratch w = carve(scratch, rows_of(group), hd);
  float scale = a->scale * 1.44269504088896341f;  // scores in powers of two
  for (int r = 0; r < rows;) {
    int n = next_rows(rows - r);
    for (int i = 0; i < n; i++) {
      const float *q = a->q + (t->token + (r + i) / group) * a->stride + (int64_t)(kvHead * group + (r + i) % group) * hd;
      float *p = w.q + r * hd + i;
      float sum = 0;
      for (int d = 0; d < hd; d++) sum += p[d * n] = q[d] * scale;
      w.qsum[r + i] = sum;
    }
    r += n;
  }
  int first = window_start(a, t->position) / LM_SPAN;  // of the row that sees farthest back
  for (int s = t->spanFrom > first ? t->spanFrom : first; s < t->spanTo; s++) {
    int from = s * LM_SPAN;
    Tiles tiles;
    list_tiles(&tiles, a, t, kvHead, from, next);
    if (a->kv.bits == 16) span<16>(a, t, &tiles, from, rows, w);
    else if (a->kv.bits == 8) span<8>(a, t, &tiles, from, rows, w);
    else span<4>(a, t, &tiles, from, rows, w);
    for (int r = 0; r < rows; r++) {
      int start = window_start(a, t->position + r / group);
      if (t->position + r / group + 1 <= from || start >= from + LM_SPAN) continue;
      if (t->partial) {
        float *p = t->partial + ((int64_t)(kvHead * t->spans + s) * rows + r) * (hd + 2);
        memcpy(p, w.o + r * hd, 4 * (size_t)hd);
        p[hd] = w.m[r];
        p[hd + 1] = w.l[r];
      } else {
        merge(w.M + r, w.L + r, w.total + r * hd, w.m[r], w.l[r], w.o + r * hd, hd, s == start / LM_SPAN);
      }
    }
  }
  if (t->partial) return;
  for (int r = 0; r < rows; r++)
    finish(a->out + (t->token + r / group) * a->stride + (int64_t)(kvHead * group + r % group) * hd, w.total + r * hd, w.L[r], hd);
}

/** Joins the spans of a task's rows that were computed apart: the same operations in the same order. */
static void attention_merge(const LmAttention *a, const LmAttentionTask *t, i32 kvHead) {
  int hd = a->kv.headDim, group = a->heads / a->kv.heads, rows = t->count * group;
  for (int r = 0; r < rows; r++) {
    float M = 0, L = 0;
    int position = t->position + r / group, first = window_start(a, position) / LM_SPAN;
    float *out = a->out + (t->token + r / group) * a->stride + (int64_t)(kvHead * group + r % group) * hd;
    for (int s = first; s <= position / LM_SPAN; s++) {
      const float *p = t->partial + ((int64_t)(kvHead * t->spans + s) * rows + r) * (hd + 2);
      merge(&M, &L, out, p[hd], p[hd + 1], p, hd, s == first);
    }
    finish(out, out, L, hd);
  }
}

}  // namespace LM_NS
