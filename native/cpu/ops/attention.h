// Causal attention over paged KV, grouped-query heads.
//
// The context is cut into spans of 256 tokens at absolute positions. In a span, for each query: exact maximum, then
// p = 2^(s - max), Σp and Σp·v, token after token. Spans are merged in order. Nothing of this depends on the block
// length, on which queries share a task, or on whether spans were computed by one task or by several.
// Rows of a task: (token, head of the group). Masked lanes are selected away, never multiplied.
namespace LM_NS {

#if defined(LM_BUILD_AVX512)
#define LM_QUERY_ROWS 24
#define LM_PV_ROWS 6
#define LM_PV_VECTORS 4
#else
#define LM_QUERY_ROWS 12
#define LM_PV_ROWS 2
#define LM_PV_VECTORS 2
#endif

static i32 attention_tokens(i32 group) { return group >= LM_QUERY_ROWS ? 1 : LM_QUERY_ROWS / group; }
LM_INLINE int rows_of(i32 group) { return attention_tokens(group) * group; }

struct AttentionScratch {
  float *q, *s, *o, *total, *k, *v, *m, *l, *M, *L;
};
static int64_t attention_scratch(i32 group, i32 hd) {
  return (int64_t)rows_of(group) * (3 * hd + LM_SPAN + 4) + (int64_t)16 * hd * 2 + (int64_t)LM_SPAN * hd + 64;
}
LM_INLINE AttentionScratch carve(float *p, int rows, int hd) {
  AttentionScratch a;
  a.q = p;
  a.s = a.q + rows * hd;
  a.o = a.s + rows * LM_SPAN;
  a.total = a.o + rows * hd;
  a.k = a.total + rows * hd;
  a.v = a.k + 16 * hd * 2;
  a.m = a.v + LM_SPAN * hd;
  a.l = a.m + rows;
  a.M = a.l + rows;
  a.L = a.M + rows;
  return a;
}

/** A tile of quantised K → (dim, 16) f32. */
static void widen_k(float *out, const u8 *tile, int hd, int bits) {
  const u8 *p = tile + 16 * hd * bits / 8;
  V scale = v_half(p), zero = v_half(p + 32);
  if (bits == 8)
    for (int d = 0; d < hd; d++) v_store(out + 16 * d, v_fma(v_u8(tile + 16 * d), scale, zero));
  else
    for (int d = 0; d < hd; d++) v_store(out + 16 * d, v_fma(v_u4(tile + 16 * (d / 2), d & 1), scale, zero));
}
/** The first n tokens of a tile of quantised V → (tokens, dim) f32. */
static void widen_v(float *out, const u8 *tile, int n, int hd, int bits) {
  const u8 *p = tile + 16 * hd * bits / 8;
  for (int t = 0; t < n; t++) {
    V scale = v_set(half_at(p + 2 * t)), zero = v_set(half_at(p + 32 + 2 * t));
    const u8 *row = tile + t * hd * bits / 8;
    float *o = out + t * hd;
    if (bits == 8)
      for (int d = 0; d < hd; d += 16) v_store(o + d, v_fma(v_u8(row + d), scale, zero));
    else
      for (int d = 0; d < hd; d += 16) v_store(o + d, v_fma(v_u4_pairs(row + d / 2), scale, zero));
  }
}

// K and V of a span are one stream of tiles, K first, and after them comes the next span's or the next task's K. A tile is
// prefetched while the one LM_TILES_AHEAD before it is used, so that memory works while scores and sums are computed.
#define LM_SPAN_TILES (LM_SPAN / 16)
#define LM_TILES_AHEAD 8

struct Tiles {
  const u8 *at[2 * LM_SPAN_TILES + LM_TILES_AHEAD];  // K, V, what comes next
  const u8 *nextV[LM_TILES_AHEAD];                    // for quantised KV, whose V is read along with K
};
LM_INLINE void prefetch_tile(const u8 *p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
}
LM_INLINE void find_tiles(const LmKv *kv, const i32 *table, i32 head, int from, int n, const u8 **k, const u8 **v) {
  int64_t half = kv->headBytes / 2;
  for (int j = 0; j < n; j++) {
    k[j] = kv_tile(kv, table, head, from + 16 * j, 0);
    v[j] = k[j] + half;
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
    find_tiles(&a->kv, t->table, kvHead, from + LM_SPAN, ahead, rest, w->nextV);
  } else if (next->task) {
    int first = next->task->spanFrom * LM_SPAN;
    ahead = tiles_from(next->task, first);
    ahead = ahead < LM_TILES_AHEAD ? ahead : LM_TILES_AHEAD;
    find_tiles(&a->kv, next->task->table, next->kvHead, first, ahead, rest, w->nextV);
  }
  for (int j = ahead; j < LM_TILES_AHEAD; j++) rest[j] = w->nextV[j] = next->after + j * a->kv.tileBytes;
}

template <int WIDE>
LM_INLINE V kv_load(const u8 *p, int i) {  // 16 values from index i
  return WIDE ? v_load((const float *)p + i) : v_half(p + 2 * i);
}

/** s[r][16·t …] = q[r] · K for NR rows and NT tiles; q is (dim, NR). `ahead`: tiles to prefetch, unless WIDE. */
template <int NR, int NT, int WIDE>
LM_INLINE void scores(float *s, const float *q, const u8 *const *k, const u8 *const *ahead, int hd) {
  V a[NR][NT];
  for (int r = 0; r < NR; r++)
    for (int t = 0; t < NT; t++) a[r][t] = v_zero();
  for (int d = 0; d < hd; d++, q += NR) {
    V kd[NT];
    for (int t = 0; t < NT; t++) kd[t] = kv_load<WIDE>(k[t], 16 * d);
    if (!WIDE && !(d & 1))
      for (int t = 0; t < NT; t++) __builtin_prefetch(ahead[t] + 32 * d);
    for (int r = 0; r < NR; r++)
      for (int t = 0; t < NT; t++) a[r][t] = v_fma(v_set(q[r]), kd[t], a[r][t]);
  }
  for (int r = 0; r < NR; r++)
    for (int t = 0; t < NT; t++) v_store(s + r * LM_SPAN + 16 * t, a[r][t]);
}
template <int NT, int WIDE>
static void scores_rows(float *s, const float *q, const u8 *const *k, const u8 *const *ahead, int hd, int rows) {
  while (rows > 0) {
    int n;
#define LM_ROWS(N) (scores<N, NT, WIDE>(s, q, k, ahead, hd), N)
#if defined(LM_BUILD_AVX512)
    if (rows >= 12) n = LM_ROWS(12);
    else if (rows >= 8) n = LM_ROWS(8);
    else if (rows >= 6) n = LM_ROWS(6);
    else
#endif
    if (rows >= 4) n = LM_ROWS(4);
    else if (rows == 3) n = LM_ROWS(3);
    else if (rows == 2) n = LM_ROWS(2);
    else n = LM_ROWS(1);
#undef LM_ROWS
    s += n * LM_SPAN;
    q += n * hd;
    rows -= n;
  }
}
/** Rows that scores_rows takes next: how q is packed. */
LM_INLINE int next_rows(int rows) {
#if defined(LM_BUILD_AVX512)
  if (rows >= 12) return 12;
  if (rows >= 8) return 8;
  if (rows >= 6) return 6;
#endif
  return rows >= 4 ? 4 : rows;
}

/** s → p in place for one row with `valid` of `n` tokens; returns the maximum, *sum = Σp. Lanes valid… become 0. */
LM_INLINE float softmax_row(float *s, int valid, int n, float *sum) {
  V low = v_set(-__builtin_inff()), mx = low;
  for (int t = 0; t < valid; t += 16) mx = v_max(mx, v_keep(v_load(s + t), valid - t, low));
  float m = v_maximum(mx);
  V total = v_zero(), mv = v_set(m);
  for (int t = 0; t < n; t += 16) {
    V p = v_zero();
    if (t < valid) p = v_keep(v_exp2(v_sub(v_load(s + t), mv)), valid - t, v_zero());
    total = v_add(total, p);
    v_store(s + t, p);
  }
  *sum = v_sum(total);
  return m;
}

/** o[r][16·NV values] = Σ p[r][t] · v[t], t in order. Unless WIDE, v goes on with tiles to prefetch. */
template <int NR, int NV, int WIDE>
LM_INLINE void mix(float *o, const float *p, const u8 *const *v, int n, int hd, int d) {
  V a[NR][NV];
  for (int r = 0; r < NR; r++)
    for (int i = 0; i < NV; i++) a[r][i] = v_zero();
  for (int t = 0; t < n; t++) {
    V x[NV];
    for (int i = 0; i < NV; i++) x[i] = kv_load<WIDE>(v[t / 16], (t % 16) * hd + d + 16 * i);
    if (!WIDE)
      for (int i = 0; i < NV; i += 2) __builtin_prefetch(v[t / 16 + LM_TILES_AHEAD] + 2 * ((t % 16) * hd + d + 16 * i));
    for (int r = 0; r < NR; r++) {
      V w = v_set(p[r * LM_SPAN + t]);
      for (int i = 0; i < NV; i++) a[r][i] = v_fma(w, x[i], a[r][i]);
    }
  }
  for (int r = 0; r < NR; r++)
    for (int i = 0; i < NV; i++) v_store(o + r * hd + d + 16 * i, a[r][i]);
}
template <int NR, int WIDE>
__attribute__((noinline)) static void mix_dims(float *o, const float *p, const u8 *const *v, int n, int hd) {
  int d = 0;
  for (; d + 16 * LM_PV_VECTORS <= hd; d += 16 * LM_PV_VECTORS) mix<NR, LM_PV_VECTORS, WIDE>(o, p, v, n, hd, d);
  for (; d < hd; d += 16) mix<NR, 1, WIDE>(o, p, v, n, hd, d);
}
template <int WIDE>
static void mix_rows(float *o, const float *p, const u8 *const *v, int n, int hd, int rows) {
#if defined(LM_BUILD_AVX512)
  if (rows >= 6) return mix_dims<6, WIDE>(o, p, v, n, hd);
  if (rows == 5) return mix_dims<5, WIDE>(o, p, v, n, hd);
  if (rows == 4) return mix_dims<4, WIDE>(o, p, v, n, hd);
  if (rows == 3) return mix_dims<3, WIDE>(o, p, v, n, hd);
#endif
  if (rows >= 2) return mix_dims<2, WIDE>(o, p, v, n, hd);
  mix_dims<1, WIDE>(o, p, v, n, hd);
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

/** Scores of a span with quantised KV; widens K and V to f32. */
static void wide_scores(const LmAttention *a, const Tiles *tiles, int count, int n, int rows, const AttentionScratch &w) {
  int hd = a->kv.headDim, bits = a->kv.bits;
  for (int j = 0; j < count; j += 2) {
    const u8 *k[2];
    int nt = count - j < 2 ? 1 : 2;
    for (int i = j; i < j + nt; i++) {
      int to = i + LM_TILES_AHEAD - count;
      prefetch_tile(to < 0 ? tiles->at[i + LM_TILES_AHEAD] : tiles->at[2 * count + (to < LM_TILES_AHEAD ? to : 0)], a->kv.tileBytes);
      prefetch_tile(to < 0 ? tiles->at[count + i + LM_TILES_AHEAD] : tiles->nextV[to < LM_TILES_AHEAD ? to : 0], a->kv.tileBytes);
      k[i - j] = (const u8 *)(w.k + (i - j) * 16 * hd);
      widen_k(w.k + (i - j) * 16 * hd, tiles->at[i], hd, bits);
      widen_v(w.v + i * 16 * hd, tiles->at[count + i], n - 16 * i < 16 ? n - 16 * i : 16, hd, bits);
    }
    if (nt == 2) scores_rows<2, 1>(w.s + 16 * j, w.q, k, k, hd, rows);
    else scores_rows<1, 1>(w.s + 16 * j, w.q, k, k, hd, rows);
  }
}

/** One span: s = p, o, m, l for all rows. Returns nothing for rows whose limit lies before the span. */
static void span(const LmAttention *a, const LmAttentionTask *t, const Tiles *tiles, int from, int rows, const AttentionScratch &w) {
  int hd = a->kv.headDim, group = a->heads / a->kv.heads, wide = a->kv.bits != 16;
  int n = t->position + t->count - from, count = tiles_from(t, from);
  n = n < LM_SPAN ? n : LM_SPAN;
  const u8 *v[LM_SPAN_TILES];
  if (wide) {
    wide_scores(a, tiles, count, n, rows, w);
    for (int j = 0; j < count; j++) v[j] = (const u8 *)(w.v + j * 16 * hd);
  } else {
    for (int j = 0; j + 2 <= count; j += 2)
      scores_rows<2, 0>(w.s + 16 * j, w.q, tiles->at + j, tiles->at + j + LM_TILES_AHEAD, hd, rows);
    if (count & 1)
      scores_rows<1, 0>(w.s + 16 * (count - 1), w.q, tiles->at + count - 1, tiles->at + count - 1 + LM_TILES_AHEAD, hd, rows);
  }
  for (int r = 0; r < rows; r++) {
    int valid = t->position + r / group + 1 - from;
    if (valid <= 0) memset(w.s + r * LM_SPAN, 0, 64 * (size_t)count);
    else w.m[r] = softmax_row(w.s + r * LM_SPAN, valid < n ? valid : n, n, w.l + r);
  }
  for (int r = 0; r < rows; r += LM_PV_ROWS) {
    int c = rows - r < LM_PV_ROWS ? rows - r : LM_PV_ROWS;
    int valid = t->position + (r + c - 1) / group + 1 - from;  // of the last row: the farthest
    if (valid <= 0) continue;
    valid = valid < n ? valid : n;
    if (wide) mix_rows<1>(w.o + r * hd, w.s + r * LM_SPAN, v, valid, hd, c);
    else mix_rows<0>(w.o + r * hd, w.s + r * LM_SPAN, tiles->at + count, valid, hd, c);
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
      for (int d = 0; d < hd; d++) p[d * n] = q[d] * scale;
    }
    r += n;
  }
  for (int s = t->spanFrom; s < t->spanTo; s++) {
    int from = s * LM_SPAN;
    Tiles tiles;
    list_tiles(&tiles, a, t, kvHead, from, next);
    span(a, t, &tiles, from, rows, w);
    for (int r = 0; r < rows; r++) {
      if (t->position + r / group + 1 <= from) continue;
      if (t->partial) {
        float *p = t->partial + ((int64_t)(kvHead * t->spans + s) * group + r) * (hd + 2);
        memcpy(p, w.o + r * hd, 4 * (size_t)hd);
        p[hd] = w.m[r];
        p[hd + 1] = w.l[r];
      } else {
        merge(w.M + r, w.L + r, w.total + r * hd, w.m[r], w.l[r], w.o + r * hd, hd, s == 0);
      }
    }
  }
  if (t->partial) return;
  for (int r = 0; r < rows; r++)
    finish(a->out + (t->token + r / group) * a->stride + (int64_t)(kvHead * group + r % group) * hd, w.total + r * hd, w.L[r], hd);
}

/** Joins the spans of one token that were computed apart: the same operations in the same order. */
static void attention_merge(const LmAttention *a, const float *partial, i32 spans, i32 token, i32 kvHead) {
  int hd = a->kv.headDim, group = a->heads / a->kv.heads;
  for (int g = 0; g < group; g++) {
    float M = 0, L = 0;
    float *out = a->out + token * a->stride + (int64_t)(kvHead * group + g) * hd;
    for (int s = 0; s < spans; s++) {
      const float *p = partial + ((int64_t)(kvHead * spans + s) * group + g) * (hd + 2);
      merge(&M, &L, out, p[hd], p[hd + 1], p, hd, s == 0);
    }
    finish(out, out, L, hd);
  }
}

}  // namespace LM_NS
