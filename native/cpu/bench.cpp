// Limits of the machine and the time of single products, for bench/kernels.ts.
#include <stdlib.h>
#include <string.h>

#include "exports.h"

static double now_s() {
  return 1e-9 * (double)os_now_ns();
}

struct ReadJob {
  const uint8_t *data;
  const LmKernels *k;
};

#define READ_BYTES (1 << 20)
static void read_parts(void *context, int, int from, int to, int) {
  ReadJob *j = (ReadJob *)context;
  for (int i = from; i < to; i++) j->k->bench_read(j->data + (int64_t)i * READ_BYTES, READ_BYTES);
}

/** Runs the same phase again and again. */
static void repeat(Device *d, int32_t total, int32_t piece, int32_t repeats, void (*run)(void *, int, int, int, int), void *context) {
  int32_t totals[LM_FEW_PHASES], pieces[LM_FEW_PHASES];
  for (int i = 0; i < LM_FEW_PHASES; i++) {
    totals[i] = total;
    pieces[i] = piece;
  }
  for (; repeats > 0; repeats -= LM_FEW_PHASES)
    pool_run(&d->pool, 0, repeats < LM_FEW_PHASES ? repeats : LM_FEW_PHASES, totals, pieces, {run, context, nullptr});
}

extern "C" double lm_bench_read(Device *d, double bytes, int32_t repeats) {
  int64_t n = (int64_t)bytes / READ_BYTES * READ_BYTES;
  void *p = os_pages(n, true);
  if (!p) return LM_E_MEMORY;
  memset(p, 1, (size_t)n);
  ReadJob j = {(const uint8_t *)p, d->k};
  double t = now_s();
  repeat(d, (int32_t)(n / READ_BYTES), 16, repeats, read_parts, &j);
  t = now_s() - t;
  os_release(p, n);
  return (double)n * repeats / t;
}

static void peak_int8(void *context, int, int from, int to, int) {
  for (int i = from; i < to; i++) ((const LmKernels *)context)->bench_int8(1000);
}
static void peak_f32(void *context, int, int from, int to, int) {
  for (int i = from; i < to; i++) ((const LmKernels *)context)->bench_f32(1000);
}

extern "C" double lm_bench_peak(Device *d, int32_t f32, double milliseconds) {
  double per = f32 ? d->k->bench_f32(1000) : d->k->bench_int8(1000), t = now_s(), rounds = 0;
  do {
    repeat(d, 64, 4, 1, f32 ? peak_f32 : peak_int8, (void *)d->k);
    rounds += 64;
  } while (now_s() - t < milliseconds / 1e3);
  return rounds * per / (now_s() - t);
}

struct LinearJob {
  Device *d;
  LmLinear l;
};

static void linear_units(void *context, int, int from, int to, int member) {
  LinearJob *j = (LinearJob *)context;
  j->d->k->linear(&j->l, from, to, j->d->scratch[member], j->l.outs[0].w->data);
}

extern "C" double lm_bench_linear(Device *d, int32_t tensor, int32_t n, int32_t repeats) {
  if (!d->configured || tensor < 0 || tensor >= d->tensorCount || d->tensors[tensor].isVector || n < 1 || repeats < 1) return LM_E_ARGUMENT;
  const LmTensor *t = &d->tensors[tensor].t;
  int32_t columns = d->k->columns, panels = (n + columns - 1) / columns, P = (n + panels - 1) / panels;
  int64_t q8 = panels * ((int64_t)t->in / 32 + 1) * panelBlockBytes(P), f32 = (int64_t)panels * P * t->in * 4;
  int64_t out = ((int64_t)n * t->out + 16) * 4;
  int64_t x = (int64_t)t->in * 4;
  const int64_t bytes = q8 + f32 + out + x + 4096;
  uint8_t *m = (uint8_t *)os_pages(bytes, false);
  if (!m) return LM_E_MEMORY;
  uint8_t *at = m;
  LmPanels p = {at, (float *)(at + q8), P, n, 1};
  LinearJob j;
  memset(&j, 0, sizeof(j));
  float *rows = (float *)(at + q8 + f32 + out);
  for (int i = 0; i < t->in; i++) rows[i] = (float)(i * 37 % 101) / 50.0f - 1.0f;
  LmPrepare prepare = {rows, 0, t->in, nullptr, 0, LM_NEED_Q8 | LM_NEED_F32, p};
  if (t->in % 32) prepare.need = LM_NEED_F32;
  for (int i = 0; i < n; i++) d->k->prepare(&prepare, i, d->scratch[0]);
  j.d = d;
  j.l.x = p;
  j.l.outCount = 1;
  j.l.scale = 1;
  j.l.outs[0] = {t, nullptr, (float *)(at + q8 + f32), t->out};
  const int32_t piece = linear_piece(d->k, &j.l, t->tiles, t->tiles * t->tileBytes, d->pool.threads);
  double s = now_s();
  repeat(d, t->tiles, piece, repeats, linear_units, &j);
  s = (now_s() - s) / repeats;
  os_release(m, bytes);
  return s;
}
