// Low-rank adapters. After a product that any adapter adds to come two phases: A times the input of each row that has an
// adapter (loraDown), then B times that, added to the product (loraUp). Work is shared out by row and by outputs; every value
// is summed by one thread in an order that is the row's own. A step whose rows have no adapter has no units in them.
#include <stdlib.h>
#include <string.h>

#include "exports.h"

#define OUTPUTS 256  // of one unit of loraUp

static int32_t up16(int32_t n) { return (n + 15) & ~15; }
static int64_t value_bytes(double type) { return type == LM_F32 ? 4 : type == LM_F16 || type == LM_BF16 ? 2 : 0; }

extern "C" int32_t lm_open_adapters(Device *d, int32_t adapters, int32_t count, const double *parts, double bytes) {
  Adapters *a = &d->adapters;
  if (a->all || d->configured || adapters < 0 || count < 0 || !(bytes >= 0 && bytes < 9e15)) return LM_E_STATE;
  const int64_t entries = (int64_t)adapters * count;
  a->all = (LmAdapterPart *)calloc((size_t)entries + 1, sizeof(LmAdapterPart));
  if (!a->all) return LM_E_MEMORY;
  memcpy(a->all, parts, (size_t)entries * sizeof(LmAdapterPart));
  a->count = adapters;
  a->parts = count;
  a->bytes = (int64_t)bytes;
  a->data = (uint8_t *)os_pages(a->bytes ? a->bytes : 1, false);
  return a->data ? LM_OK : LM_E_MEMORY;
}

extern "C" int32_t lm_load_adapter(Device *d, double offset, const uint8_t *from, double bytes) {
  const Adapters *a = &d->adapters;
  if (!a->data || !from || !(offset >= 0 && bytes >= 0 && offset + bytes <= (double)a->bytes)) return LM_E_ARGUMENT;
  memcpy(a->data + (int64_t)offset, from, (size_t)bytes);
  return LM_OK;
}

void adapters_close(Adapters *a) {
  if (a->data) os_release(a->data, a->bytes ? a->bytes : 1);
  free(a->all);
}

void adapters_place(Adapters *a, const int32_t *sizes, Bump *b) {
  const int32_t count = sizes[LM_S_ADAPTERS];
  if (!count) return;
  a->tokens = (int32_t *)b->take((int64_t)sizes[LM_S_MAX_TOKENS] * 4);
  a->of = (int32_t *)b->take((int64_t)sizes[LM_S_MAX_TOKENS] * 4);
  a->active = (int32_t *)b->take((int64_t)count * 4);
}

/** Does it lie in the data, at a multiple of 64? */
static bool within(const Adapters *a, double offset, double bytes) {
  return offset >= 0 && offset + bytes <= (double)a->bytes && (int64_t)offset % 64 == 0;
}

bool adapters_check(const Adapters *a, const LmOp *down, const LmOp *up, int32_t room) {
  for (int32_t j = 0; j < down->outCount; j++) {
    if (down->outs[j].weight < 0 || down->outs[j].weight >= a->parts) return false;
    if (down->outs[j].weight != up->outs[j].weight || down->outs[j].bias != up->outs[j].bias) return false;
  }
  for (int32_t i = 0; i < a->count; i++) {
    int64_t ranks = 0;
    for (int32_t j = 0; j < down->outCount; j++) {
      const LmAdapterPart *p = a->all + (int64_t)i * a->parts + down->outs[j].weight;
      if (p->rank == 0) continue;
      if (!(p->rank > 0 && p->rank <= room) || p->rank != (int32_t)p->rank) return false;
      const int32_t rank = (int32_t)p->rank;
      const double aBytes = (double)up16(rank) * down->width * value_bytes(p->aType);
      const double bBytes = (double)rank * up16(up->outs[j].bias) * value_bytes(p->bType);
      if (!(aBytes > 0 && bBytes > 0) || !within(a, p->aOffset, aBytes) || !within(a, p->bOffset, bBytes)) return false;
      ranks += up16(rank);
    }
    if (ranks > room) return false;
  }
  return true;
}

void adapters_step(Device *d) {
  Adapters *a = &d->adapters;
  const StepArrays *s = &d->step;
  a->tokenCount = a->activeCount = 0;
  for (int32_t i = 0; i < a->count; i++) {
    const int32_t before = a->tokenCount;
    for (int32_t r = 0; r < s->rowCount; r++) {
      if (s->rowAdapter[r] != i) continue;
      for (int32_t t = s->rowStart[r]; t < s->rowStart[r + 1]; t++) {
        a->of[a->tokenCount] = i;
        a->tokens[a->tokenCount++] = t;
      }
    }
    if (a->tokenCount > before) a->active[a->activeCount++] = i;
  }
}

static const LmAdapterPart *part_of(const Adapters *a, int32_t adapter, const LmOp *o, int32_t j) {
  return a->all + (int64_t)adapter * a->parts + o->outs[j].weight;
}

/** Tiles of 16 ranks, of all outputs that the adapter adds to. */
static int32_t rank_tiles(const Adapters *a, int32_t adapter, const LmOp *o) {
  int32_t tiles = 0;
  for (int32_t j = 0; j < o->outCount; j++) tiles += up16((int32_t)part_of(a, adapter, o, j)->rank) / 16;
  return tiles;
}

static int32_t output_blocks(const LmOp *o, int32_t j) { return (o->outs[j].bias + OUTPUTS - 1) / OUTPUTS; }

int32_t adapters_units(const Adapters *a, const LmOp *o) {
  int32_t most = 0;
  for (int32_t i = 0; o->kind == LM_OP_LORA_DOWN && i < a->activeCount; i++) {
    const int32_t tiles = rank_tiles(a, a->active[i], o);
    most = tiles > most ? tiles : most;
  }
  for (int32_t j = 0; o->kind == LM_OP_LORA_UP && j < o->outCount; j++) most += output_blocks(o, j);
  return most * a->tokenCount;
}

static void down(const Device *d, const LmOp *o, int32_t tile, int32_t at) {
  const Adapters *a = &d->adapters;
  const Buffer *in = d->buffers + o->in, *out = d->buffers + o->out;
  const int64_t token = a->tokens[at];
  int32_t first = 0;
  for (int32_t j = 0; j < o->outCount; j++) {
    const LmAdapterPart *p = part_of(a, a->of[at], o, j);
    const int32_t tiles = up16((int32_t)p->rank) / 16, type = (int32_t)p->aType;
    if (tile < first + tiles) {
      const uint8_t *from = a->data + (int64_t)p->aOffset + (int64_t)(tile - first) * 16 * o->width * value_bytes(type);
      return d->k->lora_down(from, type, in->data + token * in->width, o->width, out->data + token * out->width + 16 * tile);
    }
    first += tiles;
  }
}

static void up(const Device *d, const LmOp *o, int32_t block, int32_t at) {
  const Adapters *a = &d->adapters;
  const Buffer *in = d->buffers + o->in;
  const int64_t token = a->tokens[at];
  int32_t ranks = 0;
  for (int32_t j = 0; j < o->outCount; j++) {
    const LmAdapterPart *p = part_of(a, a->of[at], o, j);
    const int32_t blocks = output_blocks(o, j);
    if (block < blocks) {
      if (p->rank == 0) return;
      const int32_t from = block * OUTPUTS, to = from + OUTPUTS < o->outs[j].bias ? from + OUTPUTS : o->outs[j].bias;
      const Buffer *out = d->buffers + o->outs[j].out;
      const LmLoraUp l = {a->data + (int64_t)p->bOffset, (int32_t)p->bType, (int32_t)p->rank, o->outs[j].bias, (float)p->scale * o->scale};
      return d->k->lora_up(&l, in->data + token * in->width + ranks, out->data + token * out->width, from, to);
    }
    block -= blocks;
    ranks += up16((int32_t)p->rank);
  }
}

/** Unit u is a piece of outputs and a token: neighbours have the same weights. */
void adapters_run(const Device *d, const LmOp *o, int32_t from, int32_t to) {
  const int32_t n = d->adapters.tokenCount;
  for (int32_t u = from; u < to; u++) o->kind == LM_OP_LORA_DOWN ? down(d, o, u / n, u % n) : up(d, o, u / n, u % n);
}
