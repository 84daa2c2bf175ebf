// Logits → one token. Order: bias and mask, penalties, temperature, top-k, top-p, min-p, draw.
// Equal logits: the lower id goes first. The random number is a function of (seed, position) alone.
#include <math.h>

namespace LM_NS {

#define LM_CHUNK 256

LM_INLINE uint64_t mix64(uint64_t z) {  // SplitMix64's finaliser
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}
/** Uniform in [0, 1). */
static double uniform(u32 low, u32 high, i32 position) {
  uint64_t key = mix64(((uint64_t)high << 32 | low) + 0x9e3779b97f4a7c15ull);
  uint64_t z = mix64(key + 0x9e3779b97f4a7c15ull * (uint64_t)(u32)(position + 1));
  return (double)(z >> 11) * 0x1.0p-53;
}

/** Largest of n values; *nan is set if one is NaN. */
static float row_maximum(const float *x, i32 n, int *nan) {
  V low = v_set(-__builtin_inff()), m = low;
  int bad = 0;
  for (i32 i = 0; i < n; i += 16) {
    V v = n - i >= 16 ? v_load(x + i) : v_keep(v_load_n(x + i, n - i), n - i, low);
    bad |= v_any_nan(v);
    m = v_max(v, m);
  }
  *nan = bad;
  return v_maximum(m);
}

/** e = exp((x - top) · k) where wanted (e may be null); sums by chunks of 256; returns the total. */
static double exp_sums(const float *x, i32 n, float top, float k, float *e, double *chunks) {
  double total = 0;
  V t = v_set(top), kv = v_set(k);
  for (i32 c = 0; c < n; c += LM_CHUNK) {
    V s = v_zero();
    for (i32 i = c; i < n && i < c + LM_CHUNK; i += 16) {
      int rest = n - i;
      V v = rest >= 16 ? v_load(x + i) : v_load_n(x + i, rest);
      v = v_exp(v_mul(v_sub(v, t), kv));
      if (rest < 16) v = v_keep(v, rest, v_zero());
      if (e) v_store_n(e + i, v, rest);
      s = v_add(s, v);
    }
    double sum = v_sum(s);
    if (chunks) chunks[c / LM_CHUNK] = sum;
    total += sum;
  }
  return total;
}

/** The `count` largest of x, best first, into ids. */
static void top_tokens(const float *x, i32 n, int count, i32 *ids) {
  int have = 0;
  for (i32 c = 0; c < n; c += 64) {
    i32 end = c + 64 < n ? c + 64 : n;
    if (have == count && end == c + 64) {
      V m = v_max(v_max(v_load(x + c), v_load(x + c + 16)), v_max(v_load(x + c + 32), v_load(x + c + 48)));
      if (!(v_maximum(m) > x[ids[have - 1]])) continue;
    }
    for (i32 i = c; i < end; i++) {
      if (have == count && !(x[i] > x[ids[have - 1]])) continue;
      int at = have < count ? have++ : have - 1;
      while (at > 0 && x[i] > x[ids[at - 1]]) {
        ids[at] = ids[at - 1];
        at--;
      }
      ids[at] = i;
    }
  }
}

static i32 argmax(const float *x, i32 n, float top) {
  V t = v_set(top);
  for (i32 i = 0; i < n; i += 16) {
    if (n - i >= 16 && !v_mask_ge(v_load(x + i), t)) continue;
    for (i32 j = i; j < n && j < i + 16; j++)
      if (x[j] == top) return j;
  }
  return -1;
}

/** Order-preserving bits of a float. */
LM_INLINE u32 sort_key(float x) {
  u32 b = f32_bits(x);
  return b & 0x80000000u ? ~b : b | 0x80000000u;
}

struct Candidate {
  float e;
  i32 id;
};

/** Tokens with x ≥ threshold, by id, with their e. */
static i32 collect(const float *x, const float *e, i32 n, float threshold, Candidate *list) {
  i32 have = 0;
  V t = v_set(threshold);
  for (i32 i = 0; i < n; i += 16) {
    u32 m = n - i >= 16 ? v_mask_ge(v_load(x + i), t) : v_mask_ge(v_load_n(x + i, n - i), t) & ((1u << (n - i)) - 1);
    for (; m; m &= m - 1) {
      i32 id = i + __builtin_ctz(m);
      list[have++] = {e[id], id};
    }
  }
  return have;
}

/** The k-th largest of n keys, and how many that equal it belong to the k largest. */
static u32 kth_key(const u32 *keys, i32 n, i32 k, u32 *histogram, i32 *ties) {
  static const int shift[3] = {21, 10, 0}, width[3] = {11, 11, 10};
  u32 prefix = 0, mask = 0;
  for (int pass = 0; pass < 3; pass++) {
    u32 size = 1u << width[pass];
    memset(histogram, 0, 4 * size);
    for (i32 i = 0; i < n; i++)
      if ((keys[i] & mask) == prefix) histogram[(keys[i] >> shift[pass]) & (size - 1)]++;
    u32 b = size - 1;
    while (histogram[b] < (u32)k) k -= (i32)histogram[b--];
    prefix |= b << shift[pass];
    mask |= (size - 1) << shift[pass];
  }
  *ties = k;
  return prefix;
}

/** A value that at least k of y reach: the k-th largest of the maxima of pieces of 64. */
static float top_k_bound(const float *y, i32 n, i32 k, u32 *keys, u32 *histogram) {
  i32 pieces = 0, ties;
  for (i32 i = 0; i + 64 <= n; i += 64) {
    V m = v_max(v_max(v_load(y + i), v_load(y + i + 16)), v_max(v_load(y + i + 32), v_load(y + i + 48)));
    keys[pieces++] = sort_key(v_maximum(m));
  }
  if (pieces < k) return -__builtin_inff();
  u32 key = kth_key(keys, pieces, k, histogram, &ties);
  return bits_f32(key & 0x80000000u ? key & 0x7fffffff : ~key);
}

/** The k largest of y (equal ones: lower ids first), by id. `keys` holds n words. */
static i32 keep_top_k(const float *y, const float *e, i32 n, i32 k, u32 *keys, u32 *histogram, Candidate *list) {
  float bound = top_k_bound(y, n, k, keys, histogram);
  i32 have = collect(y, e, n, bound, list), kept = 0, ties;
  if (have <= k) return have;
  for (i32 i = 0; i < have; i++) keys[i] = sort_key(y[list[i].id]);
  u32 key = kth_key(keys, have, k, histogram, &ties);
  for (i32 i = 0; i < have; i++)
    if (keys[i] > key || (keys[i] == key && ties-- > 0)) list[kept++] = list[i];
  return kept;
}

LM_INLINE int before(Candidate a, Candidate b) { return a.e > b.e || (a.e == b.e && a.id < b.id); }
/** Heap sort, best first. */
static void sort_candidates(Candidate *c, i32 n) {
  for (i32 i = n / 2 - 1, end = n; end > 1;) {
    Candidate x;
    i32 root;
    if (i >= 0) {
      root = i--;
      x = c[root];
    } else {
      x = c[--end];
      c[end] = c[0];
      root = 0;
    }
    for (i32 child; (child = 2 * root + 1) < end; root = child) {
      if (child + 1 < end && before(c[child], c[child + 1])) child++;
      if (!before(x, c[child])) break;
      c[root] = c[child];
    }
    c[root] = x;
  }
}

static double list_mass(const Candidate *list, i32 n) {
  double sum = 0;
  for (i32 i = 0; i < n; i++) sum += list[i].e;
  return sum;
}

/**
 * Keeps the smallest set of most probable tokens whose mass reaches the target; the list stays in order of ids.
 * Tokens are counted in buckets of equal exponent and three bits of mantissa; only the bucket in which the target lies is
 * sorted. `spare` holds as many candidates as the list.
 */
static i32 keep_top_p(Candidate *list, i32 have, double target, double *mass, Candidate *spare) {
  if (!(target > 0)) target = 1e-300;  // at least the first
  memset(mass, 0, 2048 * sizeof(double));
  for (i32 i = 0; i < have; i++) mass[f32_bits(list[i].e) >> 20] += list[i].e;
  double cum = 0;
  i32 b = 2047, n = 0, kept = 0, first = 0;
  while (b > 0 && cum + mass[b] < target) cum += mass[b--];
  for (i32 i = 0; i < have; i++)
    if ((i32)(f32_bits(list[i].e) >> 20) == b) spare[n++] = list[i];
  sort_candidates(spare, n);
  while (first < n && cum < target) cum += spare[first++].e;
  Candidate last = first ? spare[first - 1] : Candidate{__builtin_inff(), -1};
  for (i32 i = 0; i < have; i++) {
    i32 bucket = (i32)(f32_bits(list[i].e) >> 20);
    if (bucket > b || (bucket == b && first && !before(last, list[i]))) list[kept++] = list[i];
  }
  return kept;
}

static i32 draw(const float *e, i32 n, const double *chunks, double target) {
  double cum = 0;
  i32 last = -1;
  for (i32 c = 0; c < n; c += LM_CHUNK) {
    double sum = chunks[c / LM_CHUNK];
    if (!(sum > 0)) continue;
    i32 end = c + LM_CHUNK < n ? c + LM_CHUNK : n;
    if (cum + sum <= target && end < n) {
      cum += sum;
      for (i32 i = end - 1; i >= c; i--)
        if (e[i] > 0.0f) {
          last = i;
          break;
        }
      continue;
    }
    double inside = cum;
    for (i32 i = c; i < end; i++) {
      if (!(e[i] > 0.0f)) continue;
      last = i;
      inside += e[i];
      if (inside > target) return i;
    }
    cum += sum;
  }
  return last;
}

static void log_probabilities(const LmSampling *s, const LmSampled *r, const float *x, i32 n, i32 i, double lse) {
  int count = s->topLogprobs[i];
  r->logprobs[i] = r->scoreLogprobs[i] = __builtin_nanf("");
  if (s->scoreToken[i] >= 0) r->scoreLogprobs[i] = (float)((double)x[s->scoreToken[i]] - lse);
  if (count < 0) return;
  if (r->status[i] == 0) r->logprobs[i] = (float)((double)x[r->tokens[i]] - lse);
  count = count < n ? count : n;
  i32 *ids = r->topTokens + (int64_t)i * LM_MAX_TOP;
  float *values = r->topLogprobs + (int64_t)i * LM_MAX_TOP;
  if (count > 0) top_tokens(x, n, count, ids);
  for (int k = 0; k < LM_MAX_TOP; k++) {
    if (k >= count) ids[k] = -1;
    values[k] = k < count ? (float)((double)x[ids[k]] - lse) : __builtin_nanf("");
  }
}

/** Bias, mask and penalties, in a copy. */
static const float *adjust(const LmSampling *s, const float *x, i32 n, i32 i, float *y) {
  i32 b0 = s->biasStart[i], b1 = s->biasStart[i + 1], h0 = s->historyStart[i], h1 = s->historyStart[i + 1];
  float rep = s->repetition[i], pres = s->presence[i], freq = s->frequency[i];
  int penalised = h1 > h0 && (rep != 1.0f || pres != 0.0f || freq != 0.0f);
  if (b1 <= b0 && s->maskRow[i] < 0 && !penalised) return x;
  memcpy(y, x, 4 * (size_t)n);
  for (i32 k = b0; k < b1; k++) y[s->biasTokens[k]] += s->biasValues[k];
  if (s->maskRow[i] >= 0) {
    const u32 *bits = (const u32 *)s->masks + (int64_t)s->maskRow[i] * ((n + 31) / 32);
    for (i32 t = 0; t < n; t++)
      if (!((bits[t / 32] >> (t % 32)) & 1)) y[t] = -__builtin_inff();
  }
  if (penalised)
    for (i32 k = h0; k < h1; k++) {
      float v = y[s->historyTokens[k]];
      v = v > 0.0f ? v / rep : v * rep;
      // a token that stands only in the prompt was seen, but not generated
      if (s->historyCounts[k] > 0) v = v - pres - freq * (float)s->historyCounts[k];
      y[s->historyTokens[k]] = v;
    }
  return y;
}

/** Pieces of the scratch of one row. */
struct SampleScratch {
  float *y, *e;
  double *mass, *chunks;
  u32 *keys;
  Candidate *list, *spare;
};
static SampleScratch carve_sample(float *p, i32 n) {
  i32 padded = (n + 15) & ~15;
  SampleScratch w;
  w.y = p;
  w.e = p + padded;
  w.mass = (double *)(w.e + padded);
  w.chunks = w.mass + 2048;
  w.keys = (u32 *)(w.chunks + n / LM_CHUNK + 1);
  w.list = (Candidate *)(w.keys + padded);
  w.spare = w.list + padded;
  return w;
}
/** Floats of scratch that `sample` needs. */
static int64_t sample_scratch(i32 n) { return 7 * (int64_t)((n + 15) & ~15) + 2 * (2048 + n / LM_CHUNK + 1) + 16; }

/** Top-p without a list: tokens above 2^-8, 2^-16 … of the best are enough as soon as their mass reaches the target. */
static i32 nucleus(const float *e, i32 n, double target, const SampleScratch *w) {
  for (int power = 8;; power += 8) {
    float cutoff = power <= 40 ? bits_f32((u32)(127 - power) << 23) : 0.0f;
    i32 have = collect(e, e, n, cutoff, w->list);
    if (cutoff > 0.0f && list_mass(w->list, have) < target * (1 + 1e-9)) continue;
    return keep_top_p(w->list, have, target, w->mass, w->spare);
  }
}

static i32 choose(const LmSampling *s, const float *y, i32 n, i32 i, i32 position, float top, const SampleScratch *w) {
  if (s->temperature[i] <= 0.0f) return argmax(y, n, top);
  double total = exp_sums(y, n, top, 1.0f / s->temperature[i], w->e, w->chunks);
  double u = uniform(s->seed[2 * i], s->seed[2 * i + 1], position);
  i32 have = -1;  // no list: all tokens
  if (s->topK[i] > 0 && s->topK[i] < n) {
    have = keep_top_k(y, w->e, n, s->topK[i], w->keys, (u32 *)w->mass, w->list);
    total = list_mass(w->list, have);
  }
  if (s->topP[i] < 1.0f) {
    double target = (double)s->topP[i] * total;
    have = have < 0 ? nucleus(w->e, n, target, w) : keep_top_p(w->list, have, target, w->mass, w->spare);
  }
  if (s->minP[i] > 0.0f) {
    if (have < 0) {
      have = collect(w->e, w->e, n, s->minP[i], w->list);
    } else {
      i32 kept = 0;
      for (i32 k = 0; k < have; k++)
        if (w->list[k].e >= s->minP[i]) w->list[kept++] = w->list[k];
      have = kept;
    }
  }
  if (have < 0) return draw(w->e, n, w->chunks, u * total);
  double target = u * list_mass(w->list, have), cum = 0;
  i32 last = -1;
  for (i32 k = 0; k < have; k++) {
    if (!(w->list[k].e > 0.0f)) continue;
    last = w->list[k].id;
    cum += w->list[k].e;
    if (cum > target) break;
  }
  return last;
}

static void sample(const LmSampling *s, const LmSampled *r, const float *x, i32 n, i32 i, i32 position, float *scratch) {
  int nan;
  float top = row_maximum(x, n, &nan);
  int bad = nan || !(top > -__builtin_inff() && top < __builtin_inff());
  SampleScratch w = carve_sample(scratch, n);
  r->tokens[i] = -1;
  r->status[i] = 1;
  if (!bad) {
    const float *a = adjust(s, x, n, i, w.y);
    float best = a == x ? top : row_maximum(a, n, &nan);
    if (!nan && best > -__builtin_inff() && best < __builtin_inff()) {
      r->tokens[i] = choose(s, a, n, i, position, best, &w);
      r->status[i] = r->tokens[i] < 0;
    }
  }
  double lse = __builtin_nan("");
  if (!bad && (s->topLogprobs[i] >= 0 || s->scoreToken[i] >= 0)) lse = top + log(exp_sums(x, n, top, 1.0f, 0, 0));
  log_probabilities(s, r, x, n, i, lse);
}

}  // namespace LM_NS
