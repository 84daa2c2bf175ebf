// Weights: the GGUF file is mapped, repacked in parallel, and its pages are given back as they are done with.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device.h"
#include "exports.h"

static int64_t row_bytes(int type, int64_t in) {
  switch (type) {
    case LM_F32: return in * 4;
    case LM_F16: case LM_BF16: return in * 2;
    case LM_Q8_0: return in / 32 * 34;
    case LM_Q4_0: return in / 32 * 18;
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

// info: (count, 6) type, in, out, isVector, file offset, file bytes
extern "C" int32_t lm_open_weights(Device *d, const char *path, int32_t count, const double *info) {
  if (d->tensors || count < 0) return LM_E_STATE;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return LM_E_IO;
  struct stat st;
  if (fstat(fd, &st) || st.st_size <= 0) {
    close(fd);
    return LM_E_IO;
  }
  d->fileBytes = st.st_size;
  void *map = mmap(nullptr, (size_t)d->fileBytes, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (map == MAP_FAILED) return LM_E_MEMORY;
  d->file = (const uint8_t *)map;
  madvise(map, (size_t)d->fileBytes, MADV_SEQUENTIAL);
  d->tensors = (TensorInfo *)calloc((size_t)count + 1, sizeof(TensorInfo));
  if (!d->tensors) return LM_E_MEMORY;
  d->tensorCount = count;
  int64_t at = 0;
  for (int i = 0; i < count; i++) {
    const double *f = info + 6 * i;
    TensorInfo *t = d->tensors + i;
    t->t.type = (int32_t)f[0];
    t->t.in = (int32_t)f[1];
    t->t.out = (int32_t)f[2];
    t->isVector = (int32_t)f[3];
    t->fileOffset = (int64_t)f[4];
    t->fileBytes = (int64_t)f[5];
    t->bytes = (int64_t)lm_tensor_bytes(t->t.type, t->t.in, t->t.out, t->isVector);
    int64_t need = row_bytes(t->t.type, t->t.in) * t->t.out;
    if (t->bytes <= 0 || need <= 0 || t->fileOffset < 0 || t->fileBytes < need || t->fileBytes > d->fileBytes ||
        t->fileOffset > d->fileBytes - t->fileBytes)
      return LM_E_ARGUMENT;
    if (!t->isVector) {
      t->t.tileBytes = d->k->tile_bytes(t->t.type, t->t.in);
      t->t.tiles = (t->t.out + 15) / 16;
    }
    t->at = at;
    at += t->bytes;
  }
  d->weightBytes = at;
  // kernels prefetch a little past the end: prefetches of unmapped pages are harmless, loads never go there
  void *w = mmap(nullptr, (size_t)(at ? at : 1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (w == MAP_FAILED) return LM_E_MEMORY;
  d->weights = (uint8_t *)w;
  madvise(w, (size_t)at, MADV_HUGEPAGE);
  return LM_OK;
}

#define BATCH_BYTES (16 << 20)

struct RepackJob {
  Device *d;
  TensorInfo *t;
  int32_t first;
};

static void drop_pages(const uint8_t *from, const uint8_t *to) {
  uintptr_t a = ((uintptr_t)from + 4095) & ~(uintptr_t)4095, b = (uintptr_t)to & ~(uintptr_t)4095;
  if (b > a) madvise((void *)a, b - a, MADV_DONTNEED);
}

static void repack_tiles(void *context, int, int from, int to, int) {
  RepackJob *j = (RepackJob *)context;
  TensorInfo *t = j->t;
  const uint8_t *src = j->d->file + t->fileOffset;
  j->d->k->repack(&t->t, (uint8_t *)t->t.data, src, row_bytes(t->t.type, t->t.in), j->first + from, j->first + to);
}

extern "C" int32_t lm_load_tensor(Device *d, int32_t i) {
  if (!d->file || i < 0 || i >= d->tensorCount) return LM_E_STATE;
  TensorInfo *t = d->tensors + i;
  uint8_t *dst = d->weights + t->at;
  const uint8_t *src = d->file + t->fileOffset;
  if (t->isVector) {
    d->k->vector((float *)dst, src, t->t.type, t->t.in);
    t->t.vector = (const float *)dst;
    return LM_OK;
  }
  t->t.data = dst;
  int64_t row = row_bytes(t->t.type, t->t.in), tileRow = 16 * row;
  int32_t batch = (int32_t)(BATCH_BYTES / tileRow);
  batch = batch < 2 * d->pool.threads ? 2 * d->pool.threads : batch;
  for (int32_t from = 0; from < t->t.tiles; from += batch) {
    int32_t to = from + batch < t->t.tiles ? from + batch : t->t.tiles;
    RepackJob j = {d, t, from};
    int32_t total = to - from, piece = 64;
    pool_run(&d->pool, 0, 1, &total, &piece, {repack_tiles, &j, nullptr});
    int64_t end = to == t->t.tiles ? t->t.out * row : to * tileRow;
    drop_pages(src + from * tileRow, src + end);
  }
  return LM_OK;
}

extern "C" void lm_close_file(Device *d) {
  if (d->file) munmap((void *)d->file, (size_t)d->fileBytes);
  d->file = nullptr;
}
