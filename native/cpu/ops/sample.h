// Logits → one token. Order: bias and mask, penalties, temperature, top-k, top-p, min-p, draw.
// Equal logits: the lower id goes first. The random number is a function of (seed, position) alone.
#include <math.h>

namespace LM_NS {

#define LM_CHUNK 256

/** Floats of scratch that `sample` needs. */
static int64_t sample_scratch(i32 vocab) { return 2 * ((vocab + 15) & ~15) + 2 * (2048 + vocab / LM_CHUNK + 1) + 2 * (int64_t)vocab + 16; }

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
  for (i32 i = 0; i < n; i++)
    if (x[i] == top) return i;
  return -1;
}

/** Order-preserving bits of a float. */
LM_INLINE u32 sort_key(float x) {
  u32 b = f32_bits(x);
  return b & 0x80000000u ? ~b : b | 0x80000000u;
}

/** The k-th largest key of x, and how many tokens with exactly this key belong to the k largest. */
static u32 kth_key(const float *x, i32 n, i32 k, u32 *histogram, i32 *ties) {
  static const int shift[3] = {21, 10, 0}, width[3] = {11, 11, 10};
  u32 prefix = 0, mask = 0;
  for (int pass = 0; pass < 3; pass++) {
    u32 size = 1u << width[pass];
    memset(histogram, 0, 4 * size);
    for (i32 i = 0; i < n; i++) {
      u32 key = sort_key(x[i]);
      if ((key & mask) == prefix) histogram[(key >> shift[pass]) & (size - 1)]++;
    }
    u32 b = size - 1;
    while (histogram[b] < (u32)k) k -= (i32)histogram[b--];
    prefix |= b << shift[pass];
    mask |= (size - 1) << shift[pass];
  }
  *ties = k;
  return prefix;
}

/** Sets e to 0 outside the k largest of y. */
static void keep_top_k(const float *y, float *e, i32 n, i32 k, u32 *histogram) {
  i32 ties;
  u32 key = kth_key(y, n, k, histogram, &ties);
  for (i32 i = 0; i < n; i++) {
    u32 x = sort_key(y[i]);
    if (x < key || (x == key && ties-- <= 0)) e[i] = 0.0f;
  }
}

struct Candidate {
  float e;
  i32 id;
};
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

/** Keeps the smallest set of most probable tokens whose mass reaches p · total. */
static void keep_top_p(float *e, i32 n, double target, double *mass, Candidate *list) {
  memset(mass, 0, 2048 * sizeof(double));
  for (i32 i = 0; i < n; i++)
    if (e[i] > 0.0f) mass[f32_bits(e[i]) >> 20] += e[i];
  double cum = 0;
  i32 b = 2047;
  if (!(target > 0)) target = 1e-300;  // at least the first
  while (b > 0 && cum + mass[b] < target) cum += mass[b--];
  i32 have = 0;
  for (i32 i = 0; i < n; i++) {
    i32 bucket = (i32)(f32_bits(e[i]) >> 20);
    if (bucket == b && e[i] > 0.0f) list[have++] = {e[i], i};
    if (bucket < b) e[i] = 0.0f;
  }
  sort_candidates(list, have);
  i32 kept = 0;
  while (kept < have && cum < target) cum += list[kept++].e;
  for (i32 i = kept; i < have; i++) e[list[i].id] = 0.0f;
}

static double chunk_sums(const float *e, i32 n, double *chunks) {
  double total = 0;
  for (i32 c = 0; c < n; c += LM_CHUNK) {
    V s = v_zero();
    for (i32 i = c; i < n && i < c + LM_CHUNK; i += 16) s = v_add(s, n - i >= 16 ? v_load(e + i) : v_load_n(e + i, n - i));
    chunks[c / LM_CHUNK] = v_sum(s);
    total += chunks[c / LM_CHUNK];
  }
  return total;
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
      y[s->historyTokens[k]] = v - pres - freq * (float)s->historyCounts[k];
    }
  return y;
}

/** scratch: y (vocab), e (vocab), then 2048 doubles, chunks and candidates; see sample_scratch. */
static i32 choose(const LmSampling *s, const float *y, i32 n, i32 i, i32 position, float top, float *e, double *work,
                  double *chunks, Candidate *list) {
  if (s->temperature[i] <= 0.0f) return argmax(y, n, top);
  double total = exp_sums(y, n, top, 1.0f / s->temperature[i], e, chunks);
  int changed = 0;
  if (s->topK[i] > 0 && s->topK[i] < n) {
    keep_top_k(y, e, n, s->topK[i], (u32 *)work);
    changed = 1;
  }
  if (s->topP[i] < 1.0f) {
    if (changed) total = chunk_sums(e, n, chunks);
    keep_top_p(e, n, (double)s->topP[i] * total, work, list);
    changed = 1;
  }
  if (s->minP[i] > 0.0f) {
    for (i32 t = 0; t < n; t++)
      if (e[t] < s->minP[i]) e[t] = 0.0f;
    changed = 1;
  }
  if (changed) total = chunk_sums(e, n, chunks);
  return draw(e, n, chunks, uniform(s->seed[2 * i], s->seed[2 * i + 1], position) * total);
}

static void sample(const LmSampling *s, const LmSampled *r, const float *x, i32 n, i32 i, i32 position, float *scratch) {
  int nan;
  float top = row_maximum(x, n, &nan);
  int bad = nan || !(top > -__builtin_inff() && top < __builtin_inff());
  float *y = scratch, *e = y + ((n + 15) & ~15);
  double *work = (double *)(e + ((n + 15) & ~15));
  double *chunks = work + 2048;
  Candidate *list = (Candidate *)(chunks + n / LM_CHUNK + 1);
  r->tokens[i] = -1;
  r->status[i] = 1;
  if (!bad) {
    const float *a = adjust(s, x, n, i, y);
    float best = a == x ? top : row_maximum(a, n, &nan);
    if (!nan && best > -__builtin_inff() && best < __builtin_inff()) {
      r->tokens[i] = choose(s, a, n, i, position, best, e, work, chunks, list);
      r->status[i] = r->tokens[i] < 0;
    }
  }
  double lse = __builtin_nan("");
  if (!bad && (s->topLogprobs[i] >= 0 || s->scoreToken[i] >= 0)) lse = top + log(exp_sums(x, n, top, 1.0f, 0, 0));
  log_probabilities(s, r, x, n, i, lse);
}

}  // namespace LM_NS
