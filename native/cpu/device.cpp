// Creation, configuration and the end of a device; KV address space.
#include <stdlib.h>
#include <string.h>

#include "exports.h"
#include "isa.h"
#include "numa.h"

extern "C" int32_t lm_abi(void) { return LM_ABI; }

extern "C" Device *lm_create(int32_t threads, int32_t isa) {
  if (threads < 1 || threads > LM_MAX_THREADS || isa < 0 || isa > LM_LAST_ISA) return nullptr;
  if (!(isa_available() >> isa & 1)) return nullptr;
  Device *d = (Device *)os_allocate(sizeof(Device));
  if (!d) return nullptr;
  d->k = isa_kernels(isa, &d->own);
  if (!pool_start(&d->pool, threads)) {
    os_free(d);
    return nullptr;
  }
  return d;
}

extern "C" void lm_destroy(Device *d) {
  if (!d) return;
  pool_stop(&d->pool);
  lm_close_file(d);
  if (d->weights) os_release(d->weights, d->weightBytes ? d->weightBytes : 1);
  if (d->kv) os_release(d->kv, d->kvReserved);
  if (d->workspace) os_release(d->workspace, d->workspaceBytes);
  adapters_close(&d->adapters);
  free(d->tensors);
  free(d->buffers);
  free(d->ops);
  free(d->ropes);
  free(d->ropeValues);
  os_free(d);
}

static int32_t sizes_check(const int32_t *s) {
  for (int i = 0; i < LM_S_COUNT; i++)
    if (s[i] < (i == LM_S_ROPES || i == LM_S_LAYERS || i == LM_S_ADAPTERS || i == LM_S_ADAPTER_PARTS ? 0 : 1)) return LM_E_ARGUMENT;
  if (s[LM_S_BLOCK_LEN] % 16 || s[LM_S_HEAD_DIM] % 16 || s[LM_S_HEAD_DIM] > 512) return LM_E_ARGUMENT;
  if (s[LM_S_HEADS] % s[LM_S_KV_HEADS]) return LM_E_ARGUMENT;
  int bits = s[LM_S_KV_BITS];
  if (bits != 16 && bits != 8 && bits != 4) return LM_E_ARGUMENT;
  if ((int64_t)s[LM_S_MAX_BLOCKS_PER_ROW] * s[LM_S_BLOCK_LEN] > (1 << 30)) return LM_E_ARGUMENT;
  return LM_OK;
}

static int64_t spans_of(const int32_t *s) {
  return ((int64_t)s[LM_S_CONTEXT] + LM_SPAN - 1) / LM_SPAN;
}

static void place(Device *d, Bump *b, const int32_t *s, const int32_t *buffers, const LmOp *ops, const int32_t *ropes) {
  const LmKernels *k = d->k;
  int64_t tokens = s[LM_S_MAX_TOKENS], logits = s[LM_S_MAX_LOGITS];
  for (int i = 0; i < s[LM_S_BUFFERS]; i++) {
    float *p = (float *)b->take(((buffers[2 * i + 1] ? logits : tokens) * buffers[2 * i] + 16) * 4);
    if (d->buffers) d->buffers[i] = {p, buffers[2 * i], buffers[2 * i + 1]};
  }
  int64_t width[2] = {0, 0}, widest = 0, product = 0;
  for (int i = 0; i < s[LM_S_OPS]; i++) {
    const LmOp *o = ops + i;
    if (o->kind == LM_OP_NORM && o->width > widest) widest = o->width;
    const bool multiplies = o->kind == LM_OP_LINEAR || o->kind == LM_OP_EXPERT_UP || o->kind == LM_OP_EXPERT_DOWN;
    if (multiplies && k->product_scratch && k->product_scratch(o->width) > product) product = k->product_scratch(o->width);
    bool writes = o->kind == LM_OP_PREPARE || (o->kind == LM_OP_LINEAR && (o->flags & LM_SILU_MUL));
    if (!writes) continue;
    int set = o->kind == LM_OP_PREPARE ? o->panel : o->panelOut;
    int64_t w = o->kind == LM_OP_PREPARE ? o->width : (int64_t)o->outs[0].out;
    width[set] = w > width[set] ? w : width[set];
  }
  // logit rows take two columns each (LM_FINE)
  for (int i = 0; i < 2; i++) widest = width[i] > widest ? width[i] : widest;
  int64_t columns = (tokens > 2 * logits ? tokens : 2 * logits) + (k->columns > 2 * k->fineTokens ? k->columns : 2 * k->fineTokens);
  for (int i = 0; i < 2; i++) {
    // both kinds, whatever the weights are: pages that are never touched cost nothing, and the size is known beforehand
    d->panels[i].q8 = (uint8_t *)b->take(columns * (width[i] / 32 + 1) * 64);
    d->panels[i].f32 = (float *)b->take(columns * width[i] * 4);
  }
  adapters_place(&d->adapters, s, b);
  experts_place(&d->mixture, ops, s[LM_S_OPS], tokens, k->columns, b);
  for (int i = 0; i < s[LM_S_ROPES]; i++) {
    float *p = (float *)b->take(tokens * ropes[2 * i] * 4);
    if (d->ropes) d->ropes[i].angles = p;
  }
  int group = s[LM_S_HEADS] / s[LM_S_KV_HEADS];
  int64_t scratch = k->attention_scratch(group, s[LM_S_HEAD_DIM]), sample = k->sample_scratch(s[LM_S_VOCAB]);
  scratch = scratch > sample ? scratch : sample;
  scratch = scratch > widest + 64 ? scratch : widest + 64;
  scratch = scratch > 2048 ? scratch : 2048;
  scratch = scratch > product ? scratch : product;
  for (int i = 0; i < d->pool.threads; i++) d->scratch[i] = (float *)b->take(scratch * 4);
  d->tokens = (int32_t *)b->take(tokens * 4);
  d->drawn = (int32_t *)b->take(logits * 4);
  int64_t phases = s[LM_S_OPS] + 1 > LM_FEW_PHASES ? s[LM_S_OPS] + 1 : LM_FEW_PHASES;
  d->phases = (Phase *)b->take(phases * sizeof(Phase));
  d->totals = (int32_t *)b->take(phases * 4);
  d->pieces = (int32_t *)b->take(phases * 4);
  d->linears = (LmLinear *)b->take((int64_t)s[LM_S_OPS] * sizeof(LmLinear));
  d->streams = (const uint8_t **)b->take((int64_t)s[LM_S_OPS] * d->pool.lanes * sizeof(uint8_t *));
  d->nextStream = (int32_t *)b->take(((int64_t)s[LM_S_OPS] + 1) * 4);
  // Spans of one token are shared out only while there are fewer tasks than this, so few entries are ever split.
  d->maxSplit = 8 * d->pool.threads;
  d->maxSpans = (int32_t)spans_of(s);
  int64_t tasks = (int64_t)s[LM_S_MAX_ROWS] + tokens + d->maxSplit * spans_of(s);
  d->maxTasks = (int32_t)tasks;
  d->tasks = (LmAttentionTask *)b->take(tasks * sizeof(LmAttentionTask));
  d->taskEntry = (int32_t *)b->take(tasks * 4);
  d->partialFloats = s[LM_S_KV_HEADS] * spans_of(s) * group * (s[LM_S_HEAD_DIM] + 2);
  d->partials = (float *)b->take(d->maxSplit * d->partialFloats * 4);
  d->remaining = (int32_t *)b->take((int64_t)d->maxSplit * s[LM_S_KV_HEADS] * 4);
}

/**
 * The four operations of a mixture follow each other and agree: group, prepare, gate and up, down. `o` is one of them, not the
 * first.
 */
static bool follows(const LmOp *o, int32_t i, int32_t kind) {
  return i > 0 && o[-1].kind == kind && o[-1].experts == o->experts && o[-1].used == o->used;
}

static bool index_ok(int32_t i, int32_t count, bool optional) { return (optional && i == -1) || (i >= 0 && i < count); }

/** Every index and width of the compiled program, so that no later access needs a check. */
static int32_t program_check(const Device *d, const int32_t *s, const int32_t *buffers, const LmOp *ops,
                             const int32_t *ropes, bool withTensors) {
  int32_t nb = s[LM_S_BUFFERS], hd = s[LM_S_HEAD_DIM];
#define NEED(x) \
  do { \
    if (!(x)) return LM_E_ARGUMENT - 100 - i; \
  } while (0)
  for (int i = 0; i < nb; i++) NEED(buffers[2 * i] > 0);
  for (int i = 0; i < s[LM_S_ROPES]; i++)
    NEED(ropes[2 * i] > 0 && ropes[2 * i] % 2 == 0 && ropes[2 * i] <= hd);
  for (int i = 0; i < s[LM_S_OPS]; i++) {
    const LmOp *o = ops + i;
    int per = (o->flags & LM_PER_LOGIT) ? 1 : 0;
#define BUFFER(x, w, p) \
  NEED(index_ok(x, nb, false) && buffers[2 * (x)] >= (w) && buffers[2 * (x) + 1] == (p))
#define VECTOR(x, w) \
  NEED(!withTensors || (index_ok(x, d->tensorCount, false) && d->tensors[x].isVector && d->tensors[x].t.in == (w)))
#define MATRIX(x) NEED(!withTensors || (index_ok(x, d->tensorCount, false) && !d->tensors[x].isVector))
#define EXPERTS(x, rows) \
  NEED(!withTensors || (d->tensors[x].t.in == o->width && d->tensors[x].t.out == (int64_t)(rows) * o->experts))
    NEED(o->width > 0);
    switch (o->kind) {
      case LM_OP_EMBED:
        BUFFER(o->out, o->width, 0);
        MATRIX(o->weight);
        NEED(!withTensors || (d->tensors[o->weight].t.in == o->width && d->tensors[o->weight].t.out >= s[LM_S_VOCAB]));
        break;
      case LM_OP_NORM:
        BUFFER(o->in, o->width, per);
        BUFFER(o->out, o->width, per);
        NEED(o->parts > 0 && o->width % o->parts == 0);
        VECTOR(o->weight, o->width / o->parts);
        if (o->residual != -1) BUFFER(o->residual, o->width, per);
        break;
      case LM_OP_SOFTCAP:
        BUFFER(o->in, o->width, per);
        NEED(o->cap > 0);
        break;
      case LM_OP_PREPARE:
        BUFFER(o->in, o->width, per);
        NEED(o->panel == 0 || o->panel == 1);
        if (o->flags & LM_FINE) NEED(o->flags & LM_PER_LOGIT);
        if (o->weight != -1) VECTOR(o->weight, o->width);
        break;
      case LM_OP_LINEAR:
        NEED((o->panel == 0 || o->panel == 1) && o->outCount > 0 && o->outCount <= LM_MAX_OUTS);
        if (o->flags & LM_FINE) NEED((o->flags & LM_PER_LOGIT) && !(o->flags & LM_SILU_MUL));
        if (o->flags & LM_SILU_MUL) NEED(o->scale == 1.0f);
        if (o->flags & LM_SILU_MUL) NEED((o->panelOut == 0 || o->panelOut == 1) && o->panelOut != o->panel && o->outCount == 2);
        for (int j = 0; j < o->outCount; j++) {
          MATRIX(o->outs[j].weight);
          if (!withTensors) continue;
          const LmTensor *t = &d->tensors[o->outs[j].weight].t;
          NEED(t->in == o->width);
          if (o->outs[j].bias != -1) VECTOR(o->outs[j].bias, t->out);
          if (o->flags & LM_SILU_MUL) {
            NEED(t->out % 32 == 0 && t->out == o->outs[j].out);
          } else {
            BUFFER(o->outs[j].out, t->out, per);
          }
        }
        if (o->residual != -1) {
          NEED(o->outCount == 1 && !(o->flags & LM_SILU_MUL));
          BUFFER(o->residual, 1, per);
          NEED(buffers[2 * o->residual] == buffers[2 * o->outs[0].out]);
        }
        break;
      case LM_OP_ROPE_STORE:
        BUFFER(o->in, s[LM_S_HEADS] * hd, 0);
        BUFFER(o->in2, s[LM_S_KV_HEADS] * hd, 0);
        BUFFER(o->out, s[LM_S_KV_HEADS] * hd, 0);
        NEED(index_ok(o->rope, s[LM_S_ROPES], true) && index_ok(o->layer, s[LM_S_LAYERS], false));
        break;
      case LM_OP_ATTENTION:
        BUFFER(o->in, s[LM_S_HEADS] * hd, 0);
        BUFFER(o->out, s[LM_S_HEADS] * hd, 0);
        NEED(index_ok(o->layer, s[LM_S_LAYERS], false) && buffers[2 * o->in] == buffers[2 * o->out]);
        NEED(o->window >= 0 && o->cap >= 0);
        break;
      case LM_OP_SILU_MUL:
        BUFFER(o->in, o->width, per);
        BUFFER(o->in2, o->width, per);
        BUFFER(o->out, o->width, per);
        NEED(buffers[2 * o->in] == o->width && buffers[2 * o->in2] == o->width && buffers[2 * o->out] == o->width);
        break;
      case LM_OP_ROUTE:
        BUFFER(o->in, o->experts, 0);
        BUFFER(o->out, 2 * o->used, 0);
        NEED(o->used > 0 && o->used <= o->experts && o->experts <= (1 << 20) && o->width == o->experts);
        break;
      case LM_OP_GROUP:
        NEED(o->used > 0 && o->used <= o->experts && o->experts <= (1 << 20));
        BUFFER(o->in, 2 * o->used, 0);
        break;
      case LM_OP_EXPERT_PREPARE:
        NEED(follows(o, i, LM_OP_GROUP));
        BUFFER(o->in, o->width, 0);
        break;
      case LM_OP_EXPERT_UP:
        NEED(follows(o, i, LM_OP_EXPERT_PREPARE) && o[-1].width == o->width && o->outCount == 2);
        NEED(o->outs[0].out == o->outs[1].out && o->outs[0].out > 0 && o->outs[0].out % 32 == 0);
        for (int j = 0; j < 2; j++) {
          MATRIX(o->outs[j].weight);
          EXPERTS(o->outs[j].weight, o->outs[j].out);
        }
        break;
      case LM_OP_EXPERT_DOWN:
        NEED(follows(o, i, LM_OP_EXPERT_UP) && o[-1].outs[0].out == o->width && o->outCount == 1 && o[-3].in == o->in);
        BUFFER(o->outs[0].out, 16, 0);
        NEED(buffers[2 * o->outs[0].out] % 16 == 0);
        MATRIX(o->outs[0].weight);
        EXPERTS(o->outs[0].weight, buffers[2 * o->outs[0].out]);
        break;
      case LM_OP_ADD_GATED:
        BUFFER(o->in, o->width, 0);
        BUFFER(o->in2, 1, 0);
        BUFFER(o->out, o->width, 0);
        break;
      case LM_OP_LORA_DOWN:
        NEED(o->outCount > 0 && o->outCount <= LM_MAX_OUTS && s[LM_S_ADAPTERS] > 0);
        BUFFER(o->in, o->width, 0);
        BUFFER(o->out, 16, 0);
        NEED(i + 1 < s[LM_S_OPS] && o[1].kind == LM_OP_LORA_UP);
        break;
      case LM_OP_LORA_UP:
        NEED(i > 0 && o[-1].kind == LM_OP_LORA_DOWN && o[-1].outCount == o->outCount && o[-1].out == o->in);
        for (int j = 0; j < o->outCount; j++) {
          NEED(o->outs[j].bias > 0);
          BUFFER(o->outs[j].out, o->outs[j].bias, 0);
        }
        NEED(!withTensors || adapters_check(&d->adapters, o - 1, o, buffers[2 * o->in]));
        break;
      case LM_OP_GATHER:
        BUFFER(o->in, o->width, 0);
        BUFFER(o->out, o->width, 1);
        break;
      case LM_OP_SAMPLE:
        BUFFER(o->in, s[LM_S_VOCAB], 1);
        NEED(i == s[LM_S_OPS] - 1);
        break;
      default:
        NEED(false);
    }
  }
  return LM_OK;
}

extern "C" double lm_workspace(Device *d, const int32_t *sizes, const int32_t *buffers, const int32_t *ops,
                               const int32_t *ropes) {
  int32_t code = sizes_check(sizes);
  if (code == LM_OK) code = program_check(d, sizes, buffers, (const LmOp *)ops, ropes, false);
  if (code != LM_OK) return code;
  // measuring must not touch a device that is in use
  Device *probe = (Device *)calloc(1, sizeof(Device));
  if (!probe) return LM_E_MEMORY;
  probe->k = d->k;
  probe->pool.threads = d->pool.threads;
  probe->pool.lanes = d->pool.lanes;
  Bump b = {nullptr, 0};
  place(probe, &b, sizes, buffers, (const LmOp *)ops, ropes);
  free(probe);
  return (double)b.used;
}

static void *copy(const void *from, int64_t bytes) {
  void *p = malloc((size_t)(bytes ? bytes : 1));
  if (p) memcpy(p, from, (size_t)bytes);
  return p;
}

extern "C" int32_t lm_configure(Device *d, const int32_t *sizes, const int32_t *buffers, const int32_t *ops,
                                const int32_t *ropes, const float *ropeValues) {
  if (d->configured || !d->tensors) return LM_E_STATE;
  int32_t code = sizes_check(sizes);
  if (code == LM_OK) code = program_check(d, sizes, buffers, (const LmOp *)ops, ropes, true);
  if (code != LM_OK) return code;
  const int32_t *s = sizes;
  if (s[LM_S_ADAPTERS] != d->adapters.count || s[LM_S_ADAPTER_PARTS] != d->adapters.parts) return LM_E_STATE;
  memcpy(d->sizes, s, sizeof(d->sizes));
  d->ops = (LmOp *)copy(ops, (int64_t)s[LM_S_OPS] * sizeof(LmOp));
  d->buffers = (Buffer *)calloc((size_t)s[LM_S_BUFFERS], sizeof(Buffer));
  d->ropes = (Rope *)calloc((size_t)s[LM_S_ROPES] + 1, sizeof(Rope));
  int64_t values = 0;
  for (int i = 0; i < s[LM_S_ROPES]; i++) values += 1 + ropes[2 * i] / 2;
  d->ropeValues = (float *)copy(ropeValues, values * 4);
  if (!d->ops || !d->buffers || !d->ropes || !d->ropeValues) return LM_E_MEMORY;
  const float *v = d->ropeValues;
  for (int i = 0; i < s[LM_S_ROPES]; i++) {
    d->ropes[i] = {ropes[2 * i], ropes[2 * i + 1], v[0], v + 1, nullptr};
    v += 1 + ropes[2 * i] / 2;
  }
  Bump b = {nullptr, 0};
  place(d, &b, s, buffers, d->ops, ropes);
  d->workspaceBytes = b.used;
  d->workspace = (uint8_t *)os_pages(b.used, false);
  if (!d->workspace) return LM_E_MEMORY;
  b = {d->workspace, 0};
  place(d, &b, s, buffers, d->ops, ropes);

  LmKv *kv = &d->kvShape;
  kv->blockLen = s[LM_S_BLOCK_LEN];
  kv->heads = s[LM_S_KV_HEADS];
  kv->headDim = s[LM_S_HEAD_DIM];
  kv->bits = s[LM_S_KV_BITS];
  kv->tileBytes = (int64_t)16 * kv->headDim * kv->bits / 8 + (kv->bits == 16 ? 0 : 64);
  kv->headBytes = 2 * (kv->blockLen / 16) * kv->tileBytes;
  d->layerBytes = kv->heads * kv->headBytes;
  kv->blockBytes = s[LM_S_LAYERS] * d->layerBytes;
  d->kvReserved = kv->blockBytes * s[LM_S_MAX_BLOCKS];
  if (d->kvReserved > 0) {
    d->kv = (uint8_t *)os_reserve(d->kvReserved);
    if (!d->kv) return LM_E_MEMORY;
    numa_interleave(d->kv, d->kvReserved);
    kv->base = d->kv;
  }
  d->logitsBuffer = -1;
  for (int i = 0; i < s[LM_S_OPS]; i++)
    if (d->ops[i].kind == LM_OP_SAMPLE) d->logitsBuffer = d->ops[i].in;
  pool_set_phases(&d->pool, d->phases);
  step_prepare(d);
  ahead_prepare(d);
  d->configured = true;
  return LM_OK;
}

/** Where the memory of so many blocks ends: at the end of a huge page, so that none is broken up between two growths. */
static int64_t kv_end(const Device *d, int32_t blocks) {
  if (blocks == 0) return 0;
  const int64_t huge = (int64_t)2 << 20;
  const int64_t base = (int64_t)(intptr_t)d->kv;
  const int64_t end = ((base + d->kvShape.blockBytes * blocks + huge - 1) & ~(huge - 1)) - base;
  const int64_t all = (d->kvReserved + 4095) & ~(int64_t)4095;
  return end < all ? end : all;
}

extern "C" int32_t lm_grow(Device *d, int32_t blocks) {
  if (!d->configured) return LM_E_STATE;
  if (blocks > d->sizes[LM_S_MAX_BLOCKS]) return LM_E_MEMORY;
  if (blocks <= d->kvBlocks) return LM_OK;
  if (d->kv) {
    const int64_t from = kv_end(d, d->kvBlocks), to = kv_end(d, blocks);
    if (to > from && !os_take(d->kv + from, to - from)) return LM_E_MEMORY;
  }
  d->kvBlocks = blocks;
  return LM_OK;
}

/** Where the block lies, or null. */
static uint8_t *block_at(const Device *d, int32_t block, int64_t bytes) {
  if (!d->configured || block < 0 || block >= d->kvBlocks || bytes != d->kvShape.blockBytes) return nullptr;
  return d->kv + block * d->kvShape.blockBytes;
}

extern "C" int32_t lm_read_block(Device *d, int32_t block, uint8_t *out, int64_t bytes) {
  const uint8_t *p = block_at(d, block, bytes);
  if (!p || !out) return LM_E_ARGUMENT;
  memcpy(out, p, (size_t)bytes);
  return LM_OK;
}

extern "C" int32_t lm_write_block(Device *d, int32_t block, const uint8_t *in, int64_t bytes) {
  uint8_t *p = block_at(d, block, bytes);
  if (!p || !in) return LM_E_ARGUMENT;
  memcpy(p, in, (size_t)bytes);
  return LM_OK;
}

extern "C" int32_t lm_flip_kv(Device *d, double byte, int32_t bit) {
  if (!d->configured || !(byte >= 0 && byte < (double)d->kvShape.blockBytes * d->kvBlocks) || bit < 0 || bit > 7) return LM_E_ARGUMENT;
  d->kv[(int64_t)byte] ^= (uint8_t)(1 << bit);
  return LM_OK;
}

extern "C" int32_t lm_logits(Device *d, int32_t i, float *out, int32_t count) {
  if (!d->configured || d->logitsBuffer < 0 || i < 0 || i >= d->lastLogits) return LM_E_ARGUMENT;
  const Buffer *b = d->buffers + d->logitsBuffer;
  if (count > b->width) return LM_E_ARGUMENT;
  memcpy(out, b->data + (int64_t)i * b->width, 4 * (size_t)count);
  return LM_OK;
}

extern "C" int32_t lm_row(Device *d, int32_t buffer, int32_t i, float *out, int32_t count) {
  if (!d->configured || !out || buffer < 0 || buffer >= d->sizes[LM_S_BUFFERS] || i < 0 || i >= d->lastLogits) return LM_E_ARGUMENT;
  const Buffer *b = d->buffers + buffer;
  if (!b->perLogit || count > b->width) return LM_E_ARGUMENT;
  memcpy(out, b->data + (int64_t)i * b->width, 4 * (size_t)count);
  return LM_OK;
}
