// Logits → tokens, wholly on the device. Order: bias and mask, penalties, temperature, top-k, top-p, min-p, draw. A block
// takes a row. Equal logits: the lower id goes first. The random number is a function of (seed, position) alone.
//
// Masses are whole numbers: e = exp((y - best) / temperature) in units of 2^-44. Whole numbers may be added in any order, so
// atomic adds and trees give the same sums to the bit; what is lighter than half a unit is never drawn.
//
// LM_RANKS, LM_OWNED 1: each of several GPUs draws the rows that it owns (ranks.h) and stores what came out on all. `meet` must follow.
// Block: 1,024 threads. Grid: rows of logits.
#include "ranks.h"
#ifndef LM_OWNED
#define LM_OWNED 0
#define LM_RANKS 1
#endif

#define THREADS 1024
#define MAX_TOP 20

struct LmSample {
  const float *logits;  // (rows, stride), stride a multiple of 4
  float *scratch;       // (rows, stride): logits with bias, mask and penalties
  // StepSampling, by the same names
  const float *temperature;
  const int *topK;
  const float *topP;
  const float *minP;
  const float *repetitionPenalty;
  const float *presencePenalty;
  const float *frequencyPenalty;
  const u32 *seed;
  const int *topLogprobs;
  const int *scoreToken;
  const int *historyStart;
  const int *historyTokens;
  const int *historyCounts;
  const int *biasStart;
  const int *biasTokens;
  const float *biasValues;
  const int *maskRow;
  const u32 *masks;
  const int *logitRows;  // index of the row's token in the step
  const int *positions;  // of the step's tokens
  const int *count;      // rows that are there; the others are padding
  // StepResult
  int *tokens;
  int *status;
  float *logprobs;
  float *scoreLogprobs;
  int *topTokens;
  float *topLogprobsOut;
  int vocab;
  int stride;
  // LM_OWNED only
  const i64 *results;    // (ranks) addresses of the results on each GPU
  int rank;
};

struct Best {
  float value;
  int id;
};
LM_DEVICE bool better(Best a, Best b) { return a.value > b.value || (a.value == b.value && a.id < b.id); }

/** Tokens that may still be drawn: a larger key, or this key and an id up to lastId. */
struct Filter {
  u32 key;
  int lastId;
};
/** Order-preserving bits. */
LM_DEVICE u32 sort_key(float x) {
  u32 b = __float_as_uint(x == 0.0f ? 0.0f : x);  // -0 equals 0
  return b & 0x80000000u ? ~b : b | 0x80000000u;
}
LM_DEVICE float key_value(u32 key) { return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key); }
LM_DEVICE bool kept(Filter f, float y, int id) {
  u32 key = sort_key(y);
  return key > f.key || (key == f.key && id <= f.lastId);
}

LM_DEVICE u64 mix64(u64 z) {  // SplitMix64's finaliser
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}
/** Uniform in [0, 1). */
LM_DEVICE double uniform(u32 low, u32 high, int position) {
  u64 key = mix64(((u64)high << 32 | low) + 0x9e3779b97f4a7c15ull);
  u64 z = mix64(key + 0x9e3779b97f4a7c15ull * (u64)(u32)(position + 1));
  return (double)(z >> 11) * 0x1.0p-53;
}

struct Shared {
  u64 histogram[2048];
  u64 warps[32];
  double sums[32];
  Best best[32];
  u64 found[2];
  Best top[MAX_TOP];
  int n;
};

/** Calls f(value, id) for this thread's share of the row: quads 4 · thread, + 4,096, …, ids ascending. */
template <int AHEAD = 2, typename F>  // AHEAD: loads under way
LM_DEVICE void each(const float *y, int n, F f) {
  for (int base = 4 * threadIdx.x; base < n; base += 4 * THREADS * AHEAD) {
    float4 v[AHEAD];
#pragma unroll
    for (int j = 0; j < AHEAD; j++)
      if (base + 4 * THREADS * j < n) v[j] = load_f128(y + base + 4 * THREADS * j);
#pragma unroll
    for (int j = 0; j < AHEAD; j++) {
      int i = base + 4 * THREADS * j;
      if (i < n) f(v[j].x, i);
      if (i + 1 < n) f(v[j].y, i + 1);
      if (i + 2 < n) f(v[j].z, i + 2);
      if (i + 3 < n) f(v[j].w, i + 3);
    }
  }
}
LM_DEVICE Best block_best(Best b, Shared &s) {
  int lane = threadIdx.x & 31;
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) {
    Best o = {__shfl_xor_sync(~0u, b.value, d), __shfl_xor_sync(~0u, b.id, d)};
    if (better(o, b)) b = o;
  }
  __syncthreads();
  if (lane == 0) s.best[threadIdx.x >> 5] = b;
  __syncthreads();
  b = s.best[lane];
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) {
    Best o = {__shfl_xor_sync(~0u, b.value, d), __shfl_xor_sync(~0u, b.id, d)};
    if (better(o, b)) b = o;
  }
  return b;
}
LM_DEVICE u64 block_sum(u64 v, Shared &s) {
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(~0u, v, d);
  __syncthreads();
  if ((threadIdx.x & 31) == 0) s.warps[threadIdx.x >> 5] = v;
  __syncthreads();
  v = s.warps[threadIdx.x & 31];
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(~0u, v, d);
  return v;
}
LM_DEVICE double block_sum_double(double v, Shared &s) {
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(~0u, v, d);
  __syncthreads();
  if ((threadIdx.x & 31) == 0) s.sums[threadIdx.x >> 5] = v;
  __syncthreads();
  v = s.sums[threadIdx.x & 31];
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(~0u, v, d);
  return v;
}
LM_DEVICE u64 warp_scan(u64 v) {  // inclusive
  int lane = threadIdx.x & 31;
#pragma unroll
  for (int d = 1; d < 32; d <<= 1) {
    u64 o = __shfl_up_sync(~0u, v, d);
    if (lane >= d) v += o;
  }
  return v;
}
/** Exclusive sum over the threads before this one. */
LM_DEVICE u64 block_scan(u64 v, Shared &s) {
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  u64 inclusive = warp_scan(v);
  __syncthreads();
  if (lane == 31) s.warps[warp] = inclusive;
  __syncthreads();
  u64 w = lane < warp ? s.warps[lane] : 0;
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) w += __shfl_xor_sync(~0u, w, d);
  return inclusive - v + w;
}

/**
 * The key at which the weight of the tokens, from the largest key down, reaches `target` (≥ 1, ≤ all weight); *rest is what
 * is still wanted of that key. `visit` calls its argument with (key, weight) for each of this thread's tokens.
 */
template <typename Visit>
LM_DEVICE u32 radix_select(Visit visit, u64 target, u64 *rest, Shared &s) {
  u32 prefix = 0, mask = 0;
  for (int pass = 0; pass < 3; pass++) {
    int shift = pass == 0 ? 21 : pass == 1 ? 10 : 0, bins = pass == 2 ? 1024 : 2048;
    __syncthreads();
    for (int i = threadIdx.x; i < 2048; i += THREADS) s.histogram[i] = 0;
    __syncthreads();
    visit([&](u32 key, u64 weight) {
      if ((key & mask) == prefix && weight > 0) atomicAdd(&s.histogram[(key >> shift) & (bins - 1)], weight);
    });
    __syncthreads();
    // thread i has the bins 2i and 2i + 1 from the top
    int high = bins - 1 - 2 * (int)threadIdx.x;
    u64 a = high >= 0 ? s.histogram[high] : 0, b = high >= 1 ? s.histogram[high - 1] : 0;
    u64 before = block_scan(a + b, s);
    if (before < target && target <= before + a + b) {
      bool second = target > before + a;
      s.found[0] = (u64)(second ? high - 1 : high);
      s.found[1] = target - before - (second ? a : 0);
    }
    __syncthreads();
    prefix |= (u32)s.found[0] << shift;
    mask |= (u32)(bins - 1) << shift;
    target = s.found[1];
  }
  *rest = target;
  return prefix;
}

/** The id at which the weight of the tokens, ids ascending, reaches `target` (≥ 1, ≤ all weight). Warps take ranges. */
template <typename Weight>
LM_DEVICE int find_in_order(const float *y, int n, Weight weight, u64 target, Shared &s) {
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  int range = ((n + 31) / 32 + 31) / 32 * 32, from = warp * range, to = from + range < n ? from + range : n;
  u64 mine = 0;
  for (int i = from + lane; i < to; i += 32) mine += weight(load_f32(y + i), i);
#pragma unroll
  for (int d = 16; d > 0; d >>= 1) mine += __shfl_xor_sync(~0u, mine, d);
  __syncthreads();
  if (lane == 0) s.warps[warp] = mine;
  __syncthreads();
  u64 before = 0;
  for (int w = 0; w < warp; w++) before += s.warps[w];
  if (before < target && target <= before + mine) {
    for (int base = from; base < to; base += 32) {
      int i = base + lane;
      u64 w = i < to ? weight(load_f32(y + i), i) : 0, upTo = before + warp_scan(w);
      u32 there = __ballot_sync(~0u, w > 0 && upTo >= target);
      if (there) {
        if (lane == 0) s.found[0] = (u64)(base + __ffs((int)there) - 1);
        break;
      }
      before = __shfl_sync(~0u, upTo, 31);
    }
  }
  __syncthreads();
  int id = (int)s.found[0];
  __syncthreads();
  return id;
}

/** A value that at least k tokens reach: the k-th largest of the threads' maxima. */
LM_DEVICE u32 bound_of(const float *y, int n, int k, Shared &s) {
  if (k > THREADS || n < 4 * THREADS) return 0;
  float top = -LM_INF;
  each(y, n, [&](float v, int) { top = fmaxf(top, v); });
  u64 rest;
  u32 key = sort_key(top);
  return radix_select([&](auto add) { add(key, 1ull); }, (u64)k, &rest, s);
}

/** The k largest of what a filter leaves (k < n). */
LM_DEVICE Filter keep_top_k(const float *y, int n, int k, Shared &s) {
  u32 bound = bound_of(y, n, k, s);
  u64 ties;
  u32 key = radix_select(
      [&](auto add) {
        each(y, n, [&](float v, int) {
          u32 key = sort_key(v);
          if (key >= bound) add(key, 1ull);
        });
      },
      (u64)k, &ties, s);
  return {key, find_in_order(y, n, [&](float v, int) { return (u64)(sort_key(v) == key); }, ties, s)};
}

/** Fixed-point mass. */
LM_DEVICE u64 mass_of(float y, float best, float k) { return (u64)(exp2f((y - best) * k) * 17592186044416.0f + 0.5f); }

/** The smallest set of most probable tokens whose mass reaches share · total; at least one. */
LM_DEVICE Filter keep_top_p(const float *y, int n, Filter f, float best, float k, float share, u64 total, Shared &s) {
  u64 target = (u64)((double)share * (double)total);
  if (target < 1) target = 1;
  if (target > total) target = total;
  // tokens above 2^-8, 2^-16 … of the best are enough as soon as their mass reaches the target: few are counted one by one
  u64 above[5] = {0, 0, 0, 0, 0};
  each(y, n, [&](float v, int id) {
    if (!kept(f, v, id)) return;
    u64 m = mass_of(v, best, k);
#pragma unroll
    for (int i = 0; i < 5; i++)
      if (m >= 1ull << (36 - 8 * i)) above[i] += m;
  });
  u64 cutoff = 1;
  bool found = false;
#pragma unroll
  for (int i = 0; i < 5; i++) {
    u64 all = block_sum(above[i], s);
    if (!found && all >= target) cutoff = 1ull << (36 - 8 * i), found = true;
  }
  u64 rest;
  u32 key = radix_select(
      [&](auto add) {
        each(y, n, [&](float v, int id) {
          if (!kept(f, v, id)) return;
          u64 m = mass_of(v, best, k);
          if (m >= cutoff) add(sort_key(v), m);
        });
      },
      target, &rest, s);
  u64 one = mass_of(key_value(key), best, k), ties = (rest + one - 1) / one;
  return {key, find_in_order(y, n, [&](float v, int id) { return (u64)(sort_key(v) == key && kept(f, v, id)); }, ties, s)};
}

/** The token drawn from y. */
LM_DEVICE int choose(const LmSample &p, const float *y, int row, Best best, Shared &s) {
  float temperature = p.temperature[row];
  if (!(temperature > 0.0f)) return best.id;
  int n = p.vocab, topK = p.topK[row];
  float k = 1.44269504088896341f / temperature, topP = p.topP[row], minP = p.minP[row];
  Filter f = {0, 0x7fffffff};
  if (topK > 0 && topK < n) f = keep_top_k(y, n, topK, s);
  auto total_of = [&](u64 least) {
    u64 sum = 0;
    each(y, n, [&](float v, int id) {
      u64 m = mass_of(v, best.value, k);
      if (m >= least && kept(f, v, id)) sum += m;
    });
    return block_sum(sum, s);
  };
  u64 total = total_of(0);
  if (topP < 1.0f) {
    f = keep_top_p(y, n, f, best.value, k, topP, total, s);
    total = total_of(0);
  }
  u64 least = 0;
  if (minP > 0.0f) {
    least = (u64)((minP < 1.0f ? minP : 1.0f) * 17592186044416.0f);
    total = total_of(least);
  }
  int position = load_i32(p.positions + load_i32(p.logitRows + row)) + 1;
  u64 target = (u64)(uniform(p.seed[2 * row], p.seed[2 * row + 1], position) * (double)total) + 1;
  if (target > total) target = total;
  return find_in_order(
      y, n,
      [&](float v, int id) {
        u64 m = mass_of(v, best.value, k);
        return m >= least && kept(f, v, id) ? m : 0ull;
      },
      target, s);
}

/** Bias, mask and penalties in a copy; x itself if there are none. */
LM_DEVICE const float *adjust(const LmSample &p, const float *x, int row) {
  int b0 = p.biasStart[row], b1 = p.biasStart[row + 1], h0 = p.historyStart[row], h1 = p.historyStart[row + 1], maskRow = p.maskRow[row];
  float rep = p.repetitionPenalty[row], pres = p.presencePenalty[row], freq = p.frequencyPenalty[row];
  bool penalised = h1 > h0 && (rep != 1.0f || pres != 0.0f || freq != 0.0f);
  if (b1 <= b0 && maskRow < 0 && !penalised) return x;
  float *y = p.scratch + (i64)row * p.stride;
  for (int i = 4 * threadIdx.x; i < p.vocab; i += 4 * THREADS) *(float4 *)(y + i) = load_f128(x + i);
  __syncthreads();
  for (int k = b0 + threadIdx.x; k < b1; k += THREADS) {
    int t = p.biasTokens[k];
    if (t >= 0 && t < p.vocab) y[t] = load_f32(y + t) + p.biasValues[k];
  }
  __syncthreads();
  if (maskRow >= 0) {
    const u32 *bits = p.masks + (i64)maskRow * ((p.vocab + 31) / 32);
    for (int i = threadIdx.x; i < p.vocab; i += THREADS)
      if (!((bits[i >> 5] >> (i & 31)) & 1)) y[i] = -LM_INF;
    __syncthreads();
  }
  if (penalised) {
    for (int k = h0 + threadIdx.x; k < h1; k += THREADS) {
      int t = p.historyTokens[k], count = p.historyCounts[k];
      if (t < 0 || t >= p.vocab) continue;
      float v = load_f32(y + t);
      v = v > 0.0f ? v / rep : v * rep;
      y[t] = v - (count > 0 ? pres : 0.0f) - freq * (float)count;
    }
    __syncthreads();
  }
  return y;
}

/** Raw log-probabilities: of the drawn token, of a given one, and the best. */
LM_DEVICE void log_probabilities(const LmSample &p, const float *x, int row, Best best, int token, bool bad, Shared &s) {
  int count = p.topLogprobs[row], score = p.scoreToken[row], n = p.vocab;
  float *values = p.topLogprobsOut + (i64)row * MAX_TOP;
  int *ids = p.topTokens + (i64)row * MAX_TOP;
  bool asked = count >= 0 || score >= 0;
  double lse = 0;
  if (asked && !bad) {
    float sum = 0;
    each(x, n, [&](float v, int) { sum += exp2f((v - best.value) * 1.44269504088896341f); });
    lse = (double)best.value + log(block_sum_double((double)sum, s));
  }
  auto of = [&](int id) { return bad ? LM_NAN : (float)((double)load_f32(x + id) - lse); };
  if (threadIdx.x == 0) {
    p.logprobs[row] = count >= 0 && token >= 0 ? of(token) : LM_NAN;
    p.scoreLogprobs[row] = score >= 0 && score < n ? of(score) : LM_NAN;
  }
  if (count > n) count = n;
  if (threadIdx.x < MAX_TOP) {
    ids[threadIdx.x] = -1;
    values[threadIdx.x] = LM_NAN;
  }
  if (count <= 0 || bad) return;
  if (count > MAX_TOP) count = MAX_TOP;
  Filter f = {0, 0x7fffffff};
  if (count < n) f = keep_top_k(x, n, count, s);
  if (threadIdx.x == 0) s.n = 0;
  __syncthreads();
  each(x, n, [&](float v, int id) {
    if (kept(f, v, id)) {
      int at = atomicAdd(&s.n, 1);
      if (at < MAX_TOP) s.top[at] = {v, id};
    }
  });
  __syncthreads();
  if (threadIdx.x < count) {
    Best mine = s.top[threadIdx.x];
    int rank = 0;
    for (int i = 0; i < count; i++) rank += better(s.top[i], mine);
    ids[rank] = mine.id;
    values[rank] = of(mine.id);
  }
}

#if LM_OWNED
/** A row's results, as they are here, to the other GPUs. */
LM_DEVICE void hand_on(const LmSample &p) {
  __syncthreads();
  int thread = threadIdx.x, block = blockIdx.x;
  asm volatile("" : "+r"(thread), "+r"(block));  // made here, not kept in registers all along
  int row = block, rank = thread / MAX_TOP, i = thread % MAX_TOP;
  if (rank >= LM_RANKS || rank == p.rank) return;
  i64 far = p.results[rank] - p.results[p.rank];
  auto store = [&](const void *at) { *(u32 *)((u8 *)at + far) = load_u32(at); };
  store(p.topTokens + (i64)row * MAX_TOP + i);
  store(p.topLogprobsOut + (i64)row * MAX_TOP + i);
  if (i == 0) {
    store(p.tokens + row);
    store(p.status + row);
    store(p.logprobs + row);
    store(p.scoreLogprobs + row);
  }
  fence_system();
}
#endif

LM_KERNEL __launch_bounds__(THREADS) sample(const __grid_constant__ LmSample p) {
  __shared__ Shared s;
  int row = blockIdx.x;
  pdl_trigger();
  pdl_wait();
  if (row >= load_i32(p.count) || (LM_OWNED && (row >> 6) % LM_RANKS != p.rank)) return;
  const float *x = p.logits + (i64)row * p.stride;
  bool nan = false;
  Best best = {-LM_INF, 0x7fffffff};
  auto look = [&](float v, int id) {
    nan |= v != v;
    if (v > best.value) best = {v, id};
  };
  each<8>(x, p.vocab, look);
  Best top = block_best(best, s);
  bool bad = __syncthreads_or(nan) || !(top.value > -LM_INF && top.value < LM_INF);
  int token = -1;
  if (!bad) {
    const float *y = adjust(p, x, row);
    Best most = top;
    if (y != x) {
      best = {-LM_INF, 0x7fffffff};
      nan = false;
      each(y, p.vocab, look);
      most = block_best(best, s);
    }
    bool wrong = __syncthreads_or(nan);
    if (!wrong && most.value > -LM_INF && most.value < LM_INF) token = choose(p, y, row, most, s);
  }
  if (threadIdx.x == 0) {
    p.tokens[row] = token;
    p.status[row] = token < 0;
  }
  log_probabilities(p, x, row, top, token, bad, s);
#if LM_OWNED
  hand_on(p);
#endif
}
