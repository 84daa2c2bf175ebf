// What memory comes next. Decoding is one long stream of weights and KV through a step's operations; the members prefetch
// over the seams: at the end of a product into what their lane reads next, and while they wait for each other.
// All of this is hints: a wrong address costs a prefetch, nothing else.
#include "device.h"

#define AHEAD_BYTES 16384  // prefetched by a member that waits
#define AHEAD_LINES 16     // between two looks at whether the phase is over

/** The weights that unit `unit` of a product begins with; past its end, the first. */
static const uint8_t *unit_at(const LmLinear *l, int64_t unit) {
  if (l->silu) unit *= 2;
  for (int i = 0; i < l->outCount; i++) {
    const LmTensor *w = l->outs[i].w;
    if (unit < w->tiles) return w->data + unit * w->tileBytes;
    if (l->silu) break;
    unit -= w->tiles;
  }
  return l->outs[0].w->data;
}

void ahead_prepare(Device *d) {
  int ops = d->sizes[LM_S_OPS], lanes = d->pool.lanes, first = -1;
  for (int i = 0; i < ops; i++) {
    int kind = d->ops[i].kind;
    if (first < 0 && (kind == LM_OP_LINEAR || kind == LM_OP_ATTENTION)) first = i;
    if (kind != LM_OP_LINEAR) continue;
    int64_t bytes, units = linear_units(d->linears + i, &bytes);
    for (int lane = 0; lane < lanes; lane++)
      d->streams[i * lanes + lane] = unit_at(d->linears + i, pool_lane(&d->pool, (int)units, lane));
  }
  // after the last one comes the next step
  for (int i = ops, next = first; i >= 0; i--) {
    d->nextStream[i] = next;
    if (i > 0 && (d->ops[i - 1].kind == LM_OP_LINEAR || d->ops[i - 1].kind == LM_OP_ATTENTION)) next = i - 1;
  }
  for (int lane = 0; lane < lanes; lane++) d->kvStart[lane] = d->kvShape.base;
  d->pool.idleContext = d;
  __atomic_store_n(&d->pool.idle, &ahead_idle, __ATOMIC_RELEASE);
}

void ahead_step(Device *d) {
  const LmKv *kv = &d->kvShape;
  int total = d->taskCount * kv->heads;
  for (int lane = 0; lane < d->pool.lanes; lane++) {
    const uint8_t *start = kv->base;
    int unit = pool_lane(&d->pool, total, lane);
    if (unit < total) {
      const LmAttentionTask *t = d->tasks + (d->taskCount - 1 - unit % d->taskCount);
      int32_t position = t->spanFrom * LM_SPAN, inBlock = position % kv->blockLen;
      start = kv->base + t->table[position / kv->blockLen] * kv->blockBytes + unit / d->taskCount * kv->headBytes +
              inBlock / 16 * kv->tileBytes;
    }
    __atomic_store_n(&d->kvStart[lane], start, __ATOMIC_RELAXED);
  }
}

const uint8_t *ahead_stream(const Device *d, int p, int lane) {
  int i = d->nextStream[p];
  if (i < 0) return (const uint8_t *)d;
  if (d->ops[i].kind == LM_OP_LINEAR) return d->streams[i * d->pool.lanes + lane];
  const uint8_t *start = __atomic_load_n(&d->kvStart[lane], __ATOMIC_RELAXED);
  return start + d->ops[i].layer * d->layerBytes;
}

int ahead_last(const Device *d, int total, int to, int member) {
  int lane = member % d->pool.lanes, end = pool_lane(&d->pool, total, lane + 1);
  return to > pool_lane(&d->pool, total, lane) && to < end ? to : to - 1;
}

const uint8_t *ahead_after(const Device *d, int i, int32_t to, int member) {
  const LmLinear *l = d->linears + i;
  int lane = member % d->pool.lanes;
  int64_t bytes, units = linear_units(l, &bytes);
  return ahead_last(d, (int)units, to, member) == to ? unit_at(l, to) : ahead_stream(d, i + 1, lane);
}

bool ahead_idle(void *device, int phase, int member, int k) {
  const Device *d = (const Device *)device;
  const uint8_t *at = ahead_stream(d, phase, member % d->pool.lanes) + (int64_t)k * AHEAD_LINES * 64;
  for (int i = 0; i < AHEAD_LINES; i++) __builtin_prefetch(at + 64 * i);
  return (k + 1) * AHEAD_LINES * 64 < AHEAD_BYTES;
}
