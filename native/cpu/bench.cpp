// Limits of the machine and the time of single products, for bench/kernels.ts.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "exports.h"

static double now_s() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct ReadJob {
  const uint8_t *data;
  int64_t bytes;
  int threads, repeats;
  const LmKernels *k;
};

static void read_member(void *context, int member) {
  ReadJob *j = (ReadJob *)context;
  int64_t part = j->bytes / j->threads & ~(int64_t)4095;
  for (int i = 0; i < j->repeats; i++) j->k->bench_read(j->data + member * part, part);
}

extern "C" double lm_bench_read(Device *d, double bytes, int32_t repeats) {
  int64_t n = (int64_t)bytes;
  void *p = mmap(nullptr, (size_t)n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return LM_E_MEMORY;
  madvise(p, (size_t)n, MADV_HUGEPAGE);
  memset(p, 1, (size_t)n);
  ReadJob j = {(const uint8_t *)p, n, d->pool.threads, repeats, d->k};
  double t = now_s();
  pool_run(&d->pool, read_member, &j);
  t = now_s() - t;
  munmap(p, (size_t)n);
  return (double)n * repeats / t;
}

struct PeakJob {
  const LmKernels *k;
  double seconds;
  double operations[LM_MAX_THREADS];
};

static void peak_member(void *context, int member) {
  PeakJob *j = (PeakJob *)context;
  double end = now_s() + j->seconds, done = 0;
  while (now_s() < end) done += j->k->bench_int8(1000);
  j->operations[member] = done;
}

extern "C" double lm_bench_int8(Device *d, double milliseconds) {
  static PeakJob j;
  j.k = d->k;
  j.seconds = milliseconds / 1e3;
  double t = now_s(), sum = 0;
  pool_run(&d->pool, peak_member, &j);
  t = now_s() - t;
  for (int i = 0; i < d->pool.threads; i++) sum += j.operations[i];
  return sum / t;
}

struct LinearJob {
  Device *d;
  LmLinear l;
  int64_t cap;
  int32_t units, repeats;
  Counter *counters;
};

static void linear_member(void *context, int member) {
  LinearJob *j = (LinearJob *)context;
  int from, to;
  for (int i = 0; i < j->repeats; i++) {
    while (take(j->counters + i, j->units, j->d->pool.threads, (int)j->cap, &from, &to))
      j->d->k->linear(&j->l, from, to, j->d->scratch[member]);
    pool_barrier(&j->d->pool, nullptr, nullptr);
  }
}

extern "C" double lm_bench_linear(Device *d, int32_t tensor, int32_t n, int32_t repeats) {
  if (!d->configured || tensor < 0 || tensor >= d->tensorCount || d->tensors[tensor].isVector || n < 1 || repeats < 1) return LM_E_ARGUMENT;
  const LmTensor *t = &d->tensors[tensor].t;
  int32_t columns = d->k->columns, panels = (n + columns - 1) / columns, P = (n + panels - 1) / panels;
  int64_t q8 = panels * ((int64_t)t->in / 32 + 1) * panelBlockBytes(P), f32 = (int64_t)panels * P * t->in * 4;
  int64_t out = ((int64_t)n * t->out + 16) * 4, counters = repeats * (int64_t)sizeof(Counter);
  int64_t x = (int64_t)t->in * 4;
  uint8_t *m = (uint8_t *)mmap(nullptr, (size_t)(q8 + f32 + out + counters + x + 4096), PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (m == MAP_FAILED) return LM_E_MEMORY;
  uint8_t *at = m;
  LmPanels p = {at, (float *)(at + q8), P, n};
  LinearJob j;
  memset(&j, 0, sizeof(j));
  float *rows = (float *)(at + q8 + f32 + out);
  j.counters = (Counter *)(((uintptr_t)(at + q8 + f32 + out + x) + 63) & ~(uintptr_t)63);
  for (int i = 0; i < t->in; i++) rows[i] = (float)(i * 37 % 101) / 50.0f - 1.0f;
  LmPrepare prepare = {rows, 0, t->in, nullptr, 0, LM_NEED_Q8 | LM_NEED_F32, p};
  if (t->in % 32) prepare.need = LM_NEED_F32;
  for (int i = 0; i < n; i++) d->k->prepare(&prepare, i, d->scratch[0]);
  j.d = d;
  j.l.x = p;
  j.l.outCount = 1;
  j.l.outs[0] = {t, nullptr, (float *)(at + q8 + f32), t->out};
  j.units = t->tiles;
  j.cap = panels > 1 ? (384 << 10) / (t->tileBytes + 1) : t->tiles;
  if (j.cap < 1) j.cap = 1;
  j.repeats = repeats;
  double s = now_s();
  pool_run(&d->pool, linear_member, &j);
  s = (now_s() - s) / repeats;
  munmap(m, (size_t)(q8 + f32 + out + counters + x + 4096));
  return s;
}
