// The kernels of each instruction set that this program was linked with and this processor has: the same random work for all.
// They agree with the portable ones within what roundings explain; a column has the same bits in any company; and the bits of the
// others, which all fuse multiply-adds, are printed as a number, to be compared with one another and with other machines'.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../cpu/isa_arm.h"
#include "../cpu/kernels.h"

#define MAX_IN 512
#define MAX_OUT 96
#define MAX_COLUMNS 29

static uint64_t state;
static uint32_t next_bits() {
  state += 0x9e3779b97f4a7c15ull;
  uint64_t z = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ull;
  return (uint32_t)((z ^ (z >> 27)) * 0x94d049bb133111ebull >> 32);
}
static float uniform() { return (float)(next_bits() >> 8) * 0x1p-23f - 1.0f; }
static void fill(float *x, int n) {
  for (int i = 0; i < n; i++) x[i] = uniform();
}
static uint8_t *memory(size_t bytes) {
  void *p = nullptr;
  if (posix_memalign(&p, 64, bytes + 65536)) exit(2);
  memset(p, 0, bytes + 65536);
  return (uint8_t *)p;
}

static int failures = 0;
#define CHECK(condition, ...) \
  do { \
    if (!(condition)) { \
      failures++; \
      printf("  " __VA_ARGS__); \
      printf("\n"); \
    } \
  } while (0)

/** Everything that a family computed, in order. */
struct Log {
  float *values;
  int count, size;
  void add(const float *x, int n) {
    if (count + n > size) exit(3);
    memcpy(values + count, x, 4 * (size_t)n);
    count += n;
  }
  void add_bytes(const uint8_t *x, int n) {
    float f[256];
    for (int i = 0; i < n; i += 256) {
      int m = n - i < 256 ? n - i : 256;
      for (int j = 0; j < m; j++) f[j] = x[i + j];
      add(f, m);
    }
  }
};

/** Of a GGUF type: values and bytes of a block, where its f16 scales lie; an e8m0 scale if `power`. */
struct Format {
  int type, block, bytes, scales[2], power;
};
static const Format FORMATS[] = {
    {LM_Q8_0, 32, 34, {0, -1}, 0},    {LM_Q4_0, 32, 18, {0, -1}, 0},    {LM_Q4_1, 32, 20, {0, 2}, 0},
    {LM_Q5_0, 32, 22, {0, -1}, 0},    {LM_Q5_1, 32, 24, {0, 2}, 0},     {LM_Q2_K, 256, 84, {80, 82}, 0},
    {LM_Q3_K, 256, 110, {108, -1}, 0}, {LM_Q4_K, 256, 144, {0, 2}, 0},  {LM_Q5_K, 256, 176, {0, 2}, 0},
    {LM_Q6_K, 256, 210, {208, -1}, 0}, {LM_IQ4_NL, 32, 18, {0, -1}, 0}, {LM_IQ4_XS, 256, 136, {0, -1}, 0},
    {LM_MXFP4, 32, 17, {-1, -1}, 1},  {LM_F32, 1, 4, {-1, -1}, 0},      {LM_F16, 1, 2, {-1, -1}, 0},
    {LM_BF16, 1, 2, {-1, -1}, 0},
};

/** A matrix of random quants, repacked. `ends`: only the least and the greatest bytes. */
static LmTensor matrix(const LmKernels *k, const Format &f, int in, int out, int ends) {
  LmTensor t = {};
  t.type = f.type;
  t.in = in;
  t.out = out;
  t.tiles = (out + 15) / 16;
  t.tileBytes = k->tile_bytes(f.type, in);
  int64_t row = (int64_t)in / f.block * f.bytes;
  uint8_t *src = memory((size_t)(row * out)), *dst = memory((size_t)(t.tileBytes * t.tiles));
  for (int64_t at = 0; at < row * out; at += f.bytes) {
    uint8_t *p = src + at;
    for (int i = 0; i < f.bytes; i++) p[i] = (uint8_t)(ends ? (next_bits() & 1 ? 0xff : 0) : next_bits());
    for (int i = 0; i < 2; i++)
      if (f.scales[i] >= 0) {
        uint16_t half = (uint16_t)(0x2000 + next_bits() % 0x400 + (next_bits() & 1 ? 0x8000 : 0));  // about 0.01
        memcpy(p + f.scales[i], &half, 2);
      }
    if (f.power) p[0] = (uint8_t)(120 + next_bits() % 4);
    if (f.block == 1) {
      float x = uniform();
      uint32_t b;
      memcpy(&b, &x, 4);
      uint16_t h = (uint16_t)(f.type == LM_BF16 ? b >> 16 : 0x2c00 + next_bits() % 0x1000);
      memcpy(p, f.type == LM_F32 ? (void *)&x : (void *)&h, (size_t)f.bytes);
    }
  }
  k->repack(&t, dst, src, row, 0, t.tiles);
  t.data = dst;
  free(src);
  return t;
}

static LmPanels panels(int P, int width, int n) {
  LmPanels x = {};
  int count = (n + P - 1) / P, blocks = (width + 31) / 32;
  x.q8 = memory((size_t)(count * blocks * panelBlockBytes(P)));
  x.f32 = (float *)memory((size_t)(count * P * width) * 4);
  x.P = P;
  x.n = n;
  x.planes = 1;
  return x;
}
static void let_go(LmPanels *x) {
  free(x->q8);
  free(x->f32);
}
static LmPanels prepared(const LmKernels *k, const float *x, const float *norm, int width, int n, float *scratch) {
  LmPrepare p = {};
  p.x = x;
  p.stride = p.width = width;
  p.norm = norm;
  p.eps = 1e-5f;
  p.need = LM_NEED_F32 | (width % 32 ? 0 : LM_NEED_Q8);
  p.out = panels(k->columns, width, n);
  for (int t = 0; t < n; t++) k->prepare(&p, t, scratch);
  return p.out;
}
static LmLinear product(const LmPanels &x, const LmTensor *w, float *out) {
  LmLinear l = {};
  l.x = x;
  l.outCount = 1;
  l.outs[0].w = w;
  l.outs[0].out = out;
  l.outs[0].stride = w->out;
  l.scale = 1;
  return l;
}

/** Products of every type and the embedding; a column alone and in company. */
static void products(const LmKernels *k, Log *log, float *scratch) {
  static float x[MAX_IN * MAX_COLUMNS], bias[MAX_OUT], out[MAX_OUT * MAX_COLUMNS], less[MAX_OUT * MAX_COLUMNS], row[MAX_IN];
  for (const Format &f : FORMATS)
    for (int ends = 0; ends < (f.block > 1 ? 2 : 1); ends++) {
      const int in = f.block == 1 ? 37 : f.block == 256 ? 512 : 96, outs = 83;
      LmTensor w = matrix(k, f, in, outs, ends);
      fill(x, in * MAX_COLUMNS);
      if (ends)
        for (int i = 0; i < in * MAX_COLUMNS; i++) x[i] = x[i] < 0 ? -1.0f : 1.0f;
      fill(bias, outs);
      LmPanels p = prepared(k, x, nullptr, in, MAX_COLUMNS, scratch);
      LmLinear l = product(p, &w, out);
      l.outs[0].bias = bias;
      k->linear(&l, 0, w.tiles, scratch, w.data);
      log->add(out, outs * MAX_COLUMNS);
      for (int n = 1; n <= k->columns; n++) {  // the last n columns
        const float *from = x + in * (MAX_COLUMNS - n);
        LmPanels q = prepared(k, from, nullptr, in, n, scratch);
        l.x = q;
        l.outs[0].out = less;
        k->linear(&l, 0, w.tiles, scratch, w.data);
        let_go(&q);
        CHECK(!memcmp(less, out + outs * (MAX_COLUMNS - n), 4 * (size_t)(outs * n)), "type %d: other bits in company of %d", f.type, n - 1);
      }
      k->embed(&w, 82, row);
      log->add(row, in);
      let_go(&p);
      free((void *)w.data);
    }
}

/** Norm, gate and up with an activation, a scale and a residual. */
static void layers(const LmKernels *k, Log *log, float *scratch) {
  static float x[MAX_IN * 13], norm[MAX_IN], out[MAX_IN * 13], residual[MAX_IN * 13];
  const int n = 13, in = 96, width = 64;
  fill(x, in * n);
  fill(norm, in);
  fill(residual, in * n);
  LmTensor gate = matrix(k, FORMATS[1], in, width, 0), up = matrix(k, FORMATS[0], in, width, 0), down = matrix(k, FORMATS[0], width, in, 0);
  for (int gelu = 0; gelu < 2; gelu++) {
    LmPanels p = prepared(k, x, norm, in, n, scratch), hidden = panels(k->columns, width, n);
    LmLinear l = product(p, &gate, nullptr);
    l.outCount = 2;
    l.outs[1].w = &up;
    l.silu = 1 + gelu;
    l.hidden = hidden;
    l.hiddenNeed = LM_NEED_Q8 | LM_NEED_F32;
    k->linear(&l, 0, width / 32, scratch, gate.data);
    LmLinear d = product(hidden, &down, out);
    d.scale = 0.75f;
    d.residual = residual;
    k->linear(&d, 0, down.tiles, scratch, down.data);
    log->add(out, in * n);
    let_go(&p);
    let_go(&hidden);
  }
  for (int w = 1; w < 70; w += 4) {  // odd widths
    k->norm(x, norm, 1e-6f, w, out);
    log->add(out, w);
    k->silu_mul(x, residual, out, w, w & 4);
    log->add(out, w);
    memcpy(out, x, 4 * (size_t)w);
    k->softcap(out, 0.5f, w);
    log->add(out, w);
  }
}

/** KV of each kind written and read: 40 tokens behind 280 others, with and without a window; and spans apart. */
static void attention(const LmKernels *k, Log *log) {
  const int heads = 6, kvHeads = 2, hd = 48, group = heads / kvHeads, tokens = 320, blockLen = 32;
  static float q[320 * 6 * 48], key[320 * 2 * 48], value[320 * 2 * 48], angles[320 * 48], out[320 * 6 * 48];
  static int32_t table[10] = {3, 0, 7, 1, 9, 5, 2, 8, 4, 6};
  for (int bits = 16; bits >= 4; bits /= 2) {
    fill(q, tokens * heads * hd);
    fill(key, tokens * kvHeads * hd);
    fill(value, tokens * kvHeads * hd);
    fill(angles, tokens * hd);
    LmKv kv = {};
    kv.blockLen = blockLen;
    kv.heads = kvHeads;
    kv.headDim = hd;
    kv.bits = bits;
    kv.tileBytes = 16 * hd * bits / 8 + (bits == 16 ? 0 : 64);
    kv.headBytes = 2 * (blockLen / 16) * kv.tileBytes;
    kv.blockBytes = kvHeads * kv.headBytes;
    kv.base = memory((size_t)kv.blockBytes * 10);
    LmRopeStore r = {kv, q, key, value, heads * hd, kvHeads * hd, kvHeads * hd, heads, hd, bits == 8, angles};
    for (int t = 0; t < tokens; t++) k->rope_store(&r, table, t, t);
    if (bits == 16) log->add_bytes(kv.base, (int)kv.blockBytes * 10);
    float *scratch = (float *)memory(4 * (size_t)k->attention_scratch(group, hd));
    float *partial = (float *)memory(4 * (size_t)(kvHeads * 2 * 2 * group * (hd + 2)));
    for (int kind = 0; kind < 3; kind++) {
      LmAttention a = {kv, q, out, heads * hd, heads, 0.3f, kind == 1 ? 2.0f : 0.0f, kind == 2 ? 37 : 0};
      LmAttentionNext next = {nullptr, 0, kv.base};
      const int from = 280, step = k->attention_tokens(group);
      for (int h = 0; h < kvHeads; h++)
        for (int t = from; t < tokens; t += step) {
          int count = tokens - t < step ? tokens - t : step;
          LmAttentionTask task = {table, t, count, t, 0, (t + count - 1) / LM_SPAN + 1, 2, nullptr};
          k->attention(&a, &task, h, &next, scratch);
        }
      log->add(out + from * heads * hd, (tokens - from) * heads * hd);
      // the last two tokens, each span by itself
      const int last = tokens - 2, values = 2 * heads * hd;
      float whole[2 * 6 * 48];
      memcpy(whole, out + last * heads * hd, sizeof(whole));
      for (int h = 0; h < kvHeads; h++) {
        LmAttentionTask task = {table, last, 2, last, 0, 1, 2, partial};
        for (; task.spanFrom < 2; task.spanFrom++, task.spanTo++) k->attention(&a, &task, h, &next, scratch);
        k->attention_merge(&a, &task, h);
      }
      CHECK(!memcmp(whole, out + last * heads * hd, 4 * (size_t)values), "attention: other bits when spans are apart");
    }
    free(kv.base);
    free(scratch);
    free(partial);
  }
}

/** f32 rows as stored types; vectors. */
static void conversions(const LmKernels *k, Log *log) {
  float x[96], y[96];
  uint8_t bytes[384];
  fill(x, 96);
  const int to[] = {LM_Q8_0, LM_Q4_0, LM_BF16}, size[] = {102, 54, 192};
  for (int i = 0; i < 3; i++) {
    k->convert(bytes, to[i], (const uint8_t *)x, LM_F32, 96);
    log->add_bytes(bytes, size[i]);
  }
  uint16_t half[96];
  for (uint16_t &h : half) h = (uint16_t)(next_bits() & 0xbfff);  // finite, subnormal ones among them
  k->vector(y, half, LM_F16, 96);
  log->add(y, 96);
}

static Log all(const LmKernels *k) {
  Log log = {(float *)memory((size_t)4 << 20), 0, 1 << 20};
  float *scratch = (float *)memory(1 << 20);
  state = 42;
  products(k, &log, scratch);
  layers(k, &log, scratch);
  attention(k, &log);
  conversions(k, &log);
  free(scratch);
  return log;
}

static uint64_t fingerprint(const Log &log) {
  uint64_t h = 0xcbf29ce484222325ull;
  const uint8_t *p = (const uint8_t *)log.values;
  for (int64_t i = 0; i < 4 * (int64_t)log.count; i++) h = (h ^ p[i]) * 0x100000001b3ull;
  return h;
}

/** |a - b| over |b| of all together, and the farthest value. */
static void compare(const Log &a, const Log &b) {
  CHECK(a.count == b.count, "%d values instead of %d", a.count, b.count);
  double difference = 0, size = 0, worst = 0;
  for (int i = 0; i < a.count && i < b.count; i++) {
    double d = fabs((double)a.values[i] - b.values[i]), v = fabs((double)b.values[i]);
    difference += d * d;
    size += v * v;
    if (d / (v + 1) > worst || d != d) worst = d / (v + 1);
  }
  CHECK(sqrt(difference / size) < 1e-5 && worst < 0.02, "far from portable: %g relative, one value %g", sqrt(difference / size), worst);
}

/** Argument `families`: only which there are. */
int main(int argc, char **argv) {
  const bool names = argc > 1 && !strcmp(argv[1], "families");
  const LmKernels *families[4] = {lm_kernels_portable()};
  int n = 1;
#if defined(__aarch64__)
  if (arm_isas() >> LM_DOTPROD & 1) families[n++] = lm_kernels_dotprod();
  if (arm_isas() >> LM_I8MM & 1) families[n++] = lm_kernels_i8mm();
#elif defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) families[n++] = lm_kernels_avx2();
#endif
  Log first = {};
  for (int i = 0; names && i < n; i++) printf("%s: 0 values, bits 0\n", families[i]->name);
  for (int i = 0; !names && i < n; i++) {
    Log log = all(families[i]);
    if (i == 0) first = log;
    else compare(log, first);
    printf("%s: %d values, bits %016llx\n", families[i]->name, log.count, (unsigned long long)fingerprint(log));
  }
  return failures ? 1 : 0;
}
