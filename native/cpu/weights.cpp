// Weights: a file is mapped, repacked in parallel, and its pages are given back as they are done with.
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "exports.h"
#include "numa.h"

static int64_t row_bytes(int type, int64_t in) {
  switch (type) {
    case LM_F32: return in * 4;
    case LM_F16: case LM_BF16: return in * 2;
    case LM_Q8_0: return in / 32 * 34;
    case LM_Q4_0: case LM_IQ4_NL: return in / 32 * 18;
    case LM_Q5_0: return in / 32 * 22;
    case LM_Q5_1: return in / 32 * 24;
    case LM_MXFP4: return in / 32 * 17;
    case LM_Q2_K: return in / 256 * 84;
    case LM_Q3_K: return in / 256 * 110;
    case LM_IQ4_XS: return in / 256 * 136;
    case LM_Q4_1: return in / 32 * 20;
    case LM_Q4_K: return in / 256 * 144;
    case LM_Q5_K: return in / 256 * 176;
    case LM_Q6_K: return in / 256 * 210;
  }
  return 0;
}

static int64_t page_up(int64_t n) { return (n + 4095) & ~(int64_t)4095; }

extern "C" double lm_tensor_bytes(int32_t type, int32_t in, int32_t out, int32_t isVector) {
  if (in <= 0 || out <= 0) return 0;
  if (isVector) return type == LM_F32 || type == LM_F16 || type == LM_BF16 ? (double)page_up((int64_t)in * 4 + 64) : 0;
  int64_t tile = lm_kernels_portable()->tile_bytes(type, in);
  return (double)page_up(tile * ((out + 15) / 16));
}

static bool is_float(int type) { return type == LM_F32 || type == LM_F16 || type == LM_BF16; }

/** Floats may become another type while they are loaded. */
static bool can_load(const TensorInfo *t) {
  if (t->isVector) return is_float(t->source);
  if (t->source == t->t.type) return true;
  bool to = t->t.type == LM_F32 || t->t.type == LM_BF16 || t->t.type == LM_Q8_0 || t->t.type == LM_Q4_0;
  return is_float(t->source) && to;
}

extern "C" int32_t lm_open_weights(Device *d, int32_t count, const double *info) {
  if (d->tensors || count < 0) return LM_E_STATE;
  d->tensors = (TensorInfo *)calloc((size_t)count + 1, sizeof(TensorInfo));
  if (!d->tensors) return LM_E_MEMORY;
  d->tensorCount = count;
  int64_t at = 0;
  for (int i = 0; i < count; i++) {
    const double *f = info + 5 * i;
    TensorInfo *t = d->tensors + i;
    t->t.type = (int32_t)f[0];
    t->t.in = (int32_t)f[1];
    t->t.out = (int32_t)f[2];
    t->isVector = (int32_t)f[3];
    t->source = (int32_t)f[4];
    t->bytes = (int64_t)lm_tensor_bytes(t->t.type, t->t.in, t->t.out, t->isVector);
    if (t->bytes <= 0 || row_bytes(t->source, t->t.in) <= 0 || !can_load(t)) return LM_E_ARGUMENT;
    if (!t->isVector) {
      t->t.tileBytes = d->k->tile_bytes(t->t.type, t->t.in);
      t->t.tiles = (t->t.out + 15) / 16;
    }
    t->at = at;
    at += t->bytes;
  }
  d->weightBytes = at;
  // kernels prefetch a little past the end: prefetches of unmapped pages are harmless, loads never go there
  d->weights = (uint8_t *)os_pages(at ? at : 1, true);
  if (!d->weights) return LM_E_MEMORY;
  numa_interleave(d->weights, at);
  return LM_OK;
}

extern "C" int32_t lm_open_file(Device *d, const char *path) {
  lm_close_file(d);
  return os_map_file(path, &d->file, &d->fileBytes);
}

#define BATCH_BYTES (16 << 20)

struct RepackJob {
  Device *d;
  TensorInfo *t;
  LmTensor part;  // the rows being loaded, as a tensor of their own
  uint8_t *dst;
  const uint8_t *src;
  int32_t first;
  int32_t failed;
};

/** Tiles whose rows become another type on their way. */
static void convert_tiles(RepackJob *j, int32_t from, int32_t to) {
  const LmTensor *p = &j->part;
  int64_t row = row_bytes(p->type, p->in), source = row_bytes(j->t->source, p->in);
  uint8_t *rows = (uint8_t *)malloc((size_t)(16 * row));
  if (!rows) {
    __atomic_store_n(&j->failed, 1, __ATOMIC_RELAXED);
    return;
  }
  for (int32_t tile = from; tile < to; tile++) {
    LmTensor one = *p;
    one.out = p->out - 16 * tile < 16 ? p->out - 16 * tile : 16;
    for (int32_t r = 0; r < one.out; r++)
      j->d->k->convert(rows + r * row, p->type, j->src + (16 * (int64_t)tile + r) * source, j->t->source, p->in);
    j->d->k->repack(&one, j->dst + tile * p->tileBytes, rows, row, 0, 1);
  }
  free(rows);
}

static void repack_tiles(void *context, int, int from, int to, int) {
  RepackJob *j = (RepackJob *)context;
  if (j->t->source != j->part.type) return convert_tiles(j, j->first + from, j->first + to);
  j->d->k->repack(&j->part, j->dst, j->src, row_bytes(j->part.type, j->part.in), j->first + from, j->first + to);
}

static void load_vector(Device *d, TensorInfo *t, const uint8_t *src, float add) {
  float *dst = (float *)(d->weights + t->at);
  d->k->vector(dst, src, t->source, t->t.in);
  for (int32_t i = 0; add != 0 && i < t->t.in; i++) dst[i] += add;
  t->t.vector = dst;
  t->loaded = 1;
}

extern "C" int32_t lm_load_rows(Device *d, int32_t i, double offset, double bytes, int32_t first, int32_t rows,
                                double add) {
  if (!d->file || !d->tensors || i < 0 || i >= d->tensorCount) return LM_E_STATE;
  TensorInfo *t = d->tensors + i;
  int64_t row = row_bytes(t->source, t->t.in);
  if (first < 0 || rows < 1 || first % 16 || first > t->t.out - rows || (rows % 16 && first + rows != t->t.out)) return LM_E_ARGUMENT;
  if (!(offset >= 0 && offset <= (double)d->fileBytes) || rows > (d->fileBytes - (int64_t)offset) / row ||
      !(bytes >= (double)row * rows))
    return LM_E_ARGUMENT;
  const uint8_t *src = d->file + (int64_t)offset;
  if (t->isVector) {
    load_vector(d, t, src, (float)add);
    return LM_OK;
  }
  t->t.data = d->weights + t->at;
  RepackJob j = {d, t, t->t, d->weights + t->at + first / 16 * t->t.tileBytes, src, 0, 0};
  j.part.out = rows;
  j.part.tiles = (rows + 15) / 16;
  int64_t tileRow = 16 * row;
  int32_t batch = (int32_t)(BATCH_BYTES / tileRow);
  batch = batch < 2 * d->pool.threads ? 2 * d->pool.threads : batch;
  for (int32_t from = 0; from < j.part.tiles; from += batch) {
    int32_t to = from + batch < j.part.tiles ? from + batch : j.part.tiles;
    j.first = from;
    int32_t total = to - from, piece = 64;
    pool_run(&d->pool, 0, 1, &total, &piece, {repack_tiles, &j, nullptr});
    int64_t end = to == j.part.tiles ? rows * row : to * tileRow;
    os_drop(src + from * tileRow, src + end);
  }
  if (j.failed) return LM_E_MEMORY;
  t->loaded += rows;
  return LM_OK;
}

extern "C" void lm_close_file(Device *d) {
  if (d->file) os_unmap_file(d->file, d->fileBytes);
  d->file = nullptr;
}
