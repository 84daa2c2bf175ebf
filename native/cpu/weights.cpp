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

/** How far ahead of what is being packed the file is read. */
#define AHEAD_BYTES (32 << 20)
/** What a thread packs before it gives the file's pages back. */
#define UNIT_BYTES (4 << 20)

struct RepackJob {
  Device *d;
  TensorInfo *t;
  LmTensor part;  // the rows being loaded, as a tensor of their own
  uint8_t *dst;
  const uint8_t *src;
  int32_t failed;  // a code
  const LmPacked *packed;
  int32_t sourceRow;
};

/** Starts reading `bytes` bytes from `offset` on, as far as they are in the file; waits for nothing. */
static void read_ahead(const Device *d, int64_t offset, int64_t bytes) {
  const int64_t to = offset + bytes < d->fileBytes ? offset + bytes : d->fileBytes;
  if (offset < to) os_read_ahead(d->file + offset, d->file + to);
}

/** Tiles whose rows become another type on their way. */
static void convert_tiles(RepackJob *j, int32_t from, int32_t to) {
  const LmTensor *p = &j->part;
  int64_t row = row_bytes(p->type, p->in), source = row_bytes(j->t->source, p->in);
  uint8_t *rows = (uint8_t *)malloc((size_t)(16 * row));
  if (!rows) {
    __atomic_store_n(&j->failed, LM_E_MEMORY, __ATOMIC_RELAXED);
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

/** Tiles from a quantised checkpoint. */
static void unpack_tiles(RepackJob *j, int32_t from, int32_t to) {
  const LmTensor *p = &j->part;
  int64_t row = row_bytes(p->type, p->in), floats = 4 * (int64_t)p->in;
  uint8_t *rows = (uint8_t *)malloc((size_t)(16 * row + 16 * (int64_t)p->in + floats + 64));
  int32_t failed = rows ? 0 : LM_E_MEMORY;
  for (int32_t tile = from; tile < to && !failed; tile++) {
    LmTensor one = *p;
    one.out = p->out - 16 * tile < 16 ? p->out - 16 * tile : 16;
    float *x = (float *)(((uintptr_t)rows + (uintptr_t)(16 * row) + 63) & ~(uintptr_t)63);
    int32_t broken = j->d->k->unpack(j->packed, rows, row, p->type, j->sourceRow + 16 * tile, one.out,
                                     (uint8_t *)(x + p->in), x);
    if (broken) failed = LM_E_ZEROS;
    j->d->k->repack(&one, j->dst + tile * p->tileBytes, rows, row, 0, 1);
  }
  free(rows);
  if (failed) __atomic_store_n(&j->failed, failed, __ATOMIC_RELAXED);
}

static void repack_tiles(void *context, int, int from, int to, int) {
  RepackJob *j = (RepackJob *)context;
  if (j->packed) return unpack_tiles(j, from, to);
  int64_t row = row_bytes(j->t->source, j->part.in);
  const uint8_t *begin = j->src + from * 16 * row, *end = j->src + (to == j->part.tiles ? j->part.out : 16 * (int64_t)to) * row;
  read_ahead(j->d, begin - j->d->file + AHEAD_BYTES, end - begin);
  if (j->t->source != j->part.type) convert_tiles(j, from, to);
  else j->d->k->repack(&j->part, j->dst, j->src, row, from, to);
  os_drop(begin, end);
}

/** Packs the rows of a job in parallel. */
static int32_t pack(RepackJob *j, int32_t piece) {
  j->part.tiles = (j->part.out + 15) / 16;
  pool_run(&j->d->pool, 0, 1, &j->part.tiles, &piece, {repack_tiles, j, nullptr});
  if (!j->failed) j->t->loaded += j->part.out;
  return j->failed;
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
  RepackJob j = {d, t, t->t, d->weights + t->at + first / 16 * t->t.tileBytes, src, 0, nullptr, 0};
  j.part.out = rows;
  int64_t piece = UNIT_BYTES / (16 * row);
  return pack(&j, piece < 1 ? 1 : (int32_t)piece);
}

/** What the description says must fit what is there, to the byte. */
static int32_t check_packed(LmPacked *p, const int32_t *f, double bytes, double scaleBytes, double zeroBytes,
                            int32_t orderCount) {
  p->in = f[LM_P_IN], p->rows = f[LM_P_ROWS], p->layout = f[LM_P_LAYOUT], p->bits = f[LM_P_BITS], p->code = f[LM_P_CODE];
  p->groupSize = f[LM_P_GROUP_SIZE], p->groupRows = f[LM_P_GROUP_ROWS], p->scaleType = f[LM_P_SCALE_TYPE];
  p->scalesByGroup = f[LM_P_SCALES_BY_GROUP], p->zeroKind = f[LM_P_ZERO_KIND], p->zeroAdd = f[LM_P_ZERO_ADD];
  p->exact = f[LM_P_EXACT];
  if (p->in < 1 || p->rows < 1 || (p->bits != 4 && p->bits != 8) || p->groupSize < 1 || p->groupRows < 1) return LM_E_ARGUMENT;
  if (p->exact && (p->in % 32 || (p->groupSize % 32 && p->groupSize < p->in))) return LM_E_ARGUMENT;
  int32_t each = 32 / p->bits;
  bool alongRows = p->layout == LM_PACKED_AWQ || p->zeroKind == LM_ZERO_GPTQ || p->zeroKind == LM_ZERO_AWQ;
  if ((alongRows && p->rows % each) || (p->layout == LM_PACKED_GPTQ && p->in % each)) return LM_E_ARGUMENT;
  if ((p->layout == LM_PACKED_AWQ || p->zeroKind == LM_ZERO_AWQ) && p->bits != 4) return LM_E_ARGUMENT;
  p->groups = (int32_t)(((int64_t)p->in + p->groupSize - 1) / p->groupSize);
  p->scaleRows = (int32_t)(((int64_t)p->rows + p->groupRows - 1) / p->groupRows);
  p->rowBytes = p->layout == LM_PACKED_ROWS ? (int64_t)(bytes / p->rows) : 0;
  double codes = (double)p->rows * p->in * p->bits / 8;
  if (p->layout == LM_PACKED_ROWS ? (double)p->rowBytes * 8 < (double)p->in * p->bits : bytes != codes) return LM_E_ARGUMENT;
  int32_t size = p->scaleType == LM_F32 ? 4 : p->scaleType == LM_F16 || p->scaleType == LM_BF16 ? 2 : p->scaleType == LM_PACKED_E8M0;
  if (!size || scaleBytes != (double)size * p->scaleRows * p->groups) return LM_E_ARGUMENT;
  double zeros = (double)p->groups * p->rows;
  if (p->zeroKind == LM_ZERO_GPTQ || p->zeroKind == LM_ZERO_AWQ) zeros = zeros * p->bits / 8;
  if (p->zeroKind == LM_ZERO_ROWS) zeros = 4.0 * p->groups * ((p->rows + each - 1) / each);
  if (p->zeroKind && (p->zeroKind < 0 || p->zeroKind > LM_ZERO_INT8 || zeroBytes != zeros)) return LM_E_ARGUMENT;
  if (orderCount && orderCount != p->in) return LM_E_ORDER;
  for (int32_t i = 0; i < orderCount; i++) {
    if (p->order[i] < 0 || p->order[i] >= p->groups) return LM_E_ORDER;
    if (p->exact && p->order[i] != i / p->groupSize) return LM_E_ORDER;
  }
  p->zeroSame = p->zeroAdd;
  if (p->zeroKind == LM_ZERO_GPTQ) p->zeroSame = 1 << (p->bits - 1);
  return LM_OK;
}

extern "C" int32_t lm_load_packed(Device *d, int32_t i, double offset, double bytes, const int32_t *spec,
                                  const uint8_t *scales, double scaleBytes, const uint8_t *zeros, double zeroBytes,
                                  const int32_t *order, int32_t orderCount, int32_t first, int32_t rows,
                                  int32_t sourceRow) {
  if (!d->file || !d->tensors || i < 0 || i >= d->tensorCount || !spec || !scales) return LM_E_STATE;
  TensorInfo *t = d->tensors + i;
  if (t->isVector || first < 0 || rows < 1 || first % 16 || first > t->t.out - rows || (rows % 16 && first + rows != t->t.out))
    return LM_E_ARGUMENT;
  if (!(offset >= 0 && bytes >= 0 && offset + bytes <= (double)d->fileBytes)) return LM_E_ARGUMENT;
  LmPacked p = {};
  p.codes = d->file + (int64_t)offset, p.scales = scales, p.zeros = zeros, p.order = orderCount ? order : nullptr;
  if (int32_t code = check_packed(&p, spec, bytes, scaleBytes, zeros ? zeroBytes : 0, order ? orderCount : 0)) return code;
  if (t->t.type == LM_MXFP4 && (p.code != LM_CODE_E2M1 || p.scaleType != LM_PACKED_E8M0 || !p.exact)) return LM_E_ARGUMENT;
  if (p.in != t->t.in || sourceRow < 0 || sourceRow > p.rows - rows) return LM_E_ARGUMENT;
  t->t.data = d->weights + t->at;
  RepackJob j = {d, t, t->t, d->weights + t->at + first / 16 * t->t.tileBytes, p.codes, 0, &p, sourceRow};
  j.part.out = rows;
  read_ahead(d, (int64_t)offset, (int64_t)bytes);
  int32_t code = pack(&j, 16);
  os_drop(p.codes, p.codes + (int64_t)bytes);
  return code;
}

extern "C" void lm_close_file(Device *d) {
  if (d->file) os_unmap_file(d->file, d->fileBytes);
  d->file = nullptr;
}
