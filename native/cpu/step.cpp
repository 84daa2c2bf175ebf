// One step: its arrays are checked, then every member of the pool walks the same list of operations.
#include <math.h>
#include <string.h>

#include "exports.h"

// ---------------------------------------------------------------- checks

/** Notes what is at fault, for the message. */
static int fault(const StepArrays *s, int code, int32_t index, int32_t value) {
  s->out.header[LM_RESULT_FAULT_INDEX] = index;
  s->out.header[LM_RESULT_FAULT_VALUE] = value;
  return code;
}

/** A token id, or a reference to what a logit row of the step before drew. */
static int token_ok(const Device *d, int32_t token) {
  return token >= 0 ? token < d->sizes[LM_S_VOCAB] : -1 - token < d->drawnCount;
}

static int check_rows(const Device *d, const StepArrays *s) {
  const int32_t *z = d->sizes;
  int32_t next = 0;
  for (int32_t r = 0; r < s->rowCount; r++) {
    int32_t from = s->rowStart[r], to = s->rowStart[r + 1], slot = s->rowSlot[r];
    if (from != next || to <= from || to > s->tokenCount) return fault(s, LM_E_ROWS, r, from);
    next = to;
    if (s->rowAdapter[r] < -1 || s->rowAdapter[r] >= d->adapters.count) return fault(s, LM_E_ADAPTER, r, s->rowAdapter[r]);
    if (slot < 0 || slot >= z[LM_S_MAX_ROWS]) return fault(s, LM_E_SLOT, r, slot);
    int32_t first = s->positions[from];
    int64_t end = (int64_t)first + (to - from);
    if (first < 0 || end > (int64_t)z[LM_S_MAX_BLOCKS_PER_ROW] * z[LM_S_BLOCK_LEN])
      return fault(s, LM_E_POSITION, r, first);
    for (int32_t t = from; t < to; t++) {
      if (!token_ok(d, s->tokens[t])) return fault(s, LM_E_TOKEN, t, s->tokens[t]);
      if (s->positions[t] != first + (t - from)) return fault(s, LM_E_POSITION, r, s->positions[t]);
    }
    const int32_t *table = s->blockTables + (int64_t)slot * z[LM_S_MAX_BLOCKS_PER_ROW];
    for (int64_t b = 0; b * z[LM_S_BLOCK_LEN] < end; b++)
      if (table[b] < 0 || table[b] >= d->kvBlocks) return fault(s, LM_E_BLOCK, r, table[b]);
  }
  return next == s->tokenCount ? LM_OK : fault(s, LM_E_ROWS, s->rowCount, next);
}

static int check_range(const int32_t *start, int32_t n, int32_t capacity) {
  if (start[0] < 0) return 0;
  for (int32_t i = 0; i < n; i++)
    if (start[i + 1] < start[i]) return 0;
  return start[n] <= capacity;
}

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

static int check_sampling(const Device *d, const StepArrays *s) {
  const LmSampling *p = &s->sampling;
  int32_t n = s->logitCount, vocab = d->sizes[LM_S_VOCAB], words = (vocab + 31) / 32;
  if (!check_range(p->historyStart, n, least(s->historyTokensLength, s->historyCountsLength)))
    return fault(s, LM_E_HISTORY, 0, p->historyStart[n]);
  if (!check_range(p->biasStart, n, least(s->biasTokensLength, s->biasValuesLength)))
    return fault(s, LM_E_BIAS, 0, p->biasStart[n]);
  for (int32_t i = 0; i < n; i++) {
    if (!(p->temperature[i] >= 0) || p->topLogprobs[i] < -1 || p->topLogprobs[i] > LM_MAX_TOP ||
        p->scoreToken[i] < -1 || p->scoreToken[i] >= vocab || !(p->repetition[i] > 0) || !(p->topP[i] >= 0) ||
        !(p->minP[i] >= 0 && p->minP[i] <= 1))
      return fault(s, LM_E_SAMPLING, i, 0);
    if (p->maskRow[i] < -1 || (p->maskRow[i] >= 0 && (p->maskRow[i] + (int64_t)1) * words > s->masksLength))
      return fault(s, LM_E_MASK, i, p->maskRow[i]);
  }
  for (int32_t i = p->historyStart[0]; i < p->historyStart[n]; i++)
    if (p->historyTokens[i] < 0 || p->historyTokens[i] >= vocab) return fault(s, LM_E_HISTORY, i, p->historyTokens[i]);
  for (int32_t i = p->biasStart[0]; i < p->biasStart[n]; i++)
    if (p->biasTokens[i] < 0 || p->biasTokens[i] >= vocab) return fault(s, LM_E_BIAS, i, p->biasTokens[i]);
  return LM_OK;
}

/** Every array is as long as the counts say. */
static int check_lengths(const Device *d, const StepArrays *s) {
  const int32_t *z = d->sizes;
  const LmResult *o = &s->out;
  int32_t tokens = s->tokenCount, rows = s->rowCount, n = s->logitCount;
  const int32_t perLogit[] = {
      s->logitRowsLength, s->temperatureLength, s->topKLength, s->topPLength, s->minPLength, s->repetitionPenaltyLength,
      s->presencePenaltyLength, s->frequencyPenaltyLength, s->seedLength / 2, s->topLogprobsLength, s->scoreTokenLength,
      s->maskRowLength, s->historyStartLength - 1, s->biasStartLength - 1, o->tokensLength, o->statusLength,
      o->logprobsLength, o->scoreLogprobsLength, o->topTokensLength / LM_MAX_TOP, o->topLogprobsLength / LM_MAX_TOP};
  for (int32_t length : perLogit)
    if (length < n) return 0;
  return s->tokensLength >= tokens && s->positionsLength >= tokens && s->rowStartLength > rows && s->rowSlotLength >= rows &&
         s->rowAdapterLength >= rows &&
         s->copiesLength / 3 >= s->copyCount &&
         s->blockTablesLength >= (int64_t)z[LM_S_MAX_ROWS] * z[LM_S_MAX_BLOCKS_PER_ROW];
}

int step_check(const Device *d, const StepArrays *s) {
  const int32_t *z = d->sizes;
  int32_t tokens = s->tokenCount;
  if (s->rowCount < 0 || s->rowCount > z[LM_S_MAX_ROWS] || tokens < 0 || tokens > z[LM_S_MAX_TOKENS] ||
      s->logitCount < 0 || s->logitCount > z[LM_S_MAX_LOGITS] || s->copyCount < 0 || !check_lengths(d, s))
    return fault(s, LM_E_COUNTS, s->rowCount, tokens);
  int code = check_rows(d, s);
  if (code != LM_OK) return code;
  for (int32_t i = 0; i < s->logitCount; i++) {
    int32_t t = s->logitRows[i];
    if (t < 0 || t >= tokens || (i && t <= s->logitRows[i - 1])) return fault(s, LM_E_LOGIT_ROW, i, t);
  }
  for (int32_t i = 0; i < s->copyCount; i++) {
    const int32_t *p = s->copies + 3 * i;
    if (p[0] < 0 || p[0] >= d->kvBlocks || p[1] < 0 || p[1] >= d->kvBlocks || p[2] < 0 || p[2] > z[LM_S_BLOCK_LEN])
      return fault(s, LM_E_COPY, i, p[0]);
  }
  return check_sampling(d, s);
}

/** Token ids of the step. A row that drew nothing (its status says so) stands for token 0: nobody uses what follows it. */
static void resolve_tokens(Device *d, const StepArrays *s) {
  for (int32_t t = 0; t < s->tokenCount; t++) {
    int32_t token = s->tokens[t] < 0 ? d->drawn[-1 - s->tokens[t]] : s->tokens[t];
    d->tokens[t] = token < 0 ? 0 : token;
  }
}

// ---------------------------------------------------------------- what is computed once a step

/** Tasks of at most so many tokens; *units: the same with their whole spans counted one by one. */
static int64_t attention_entries(const StepArrays *s, int32_t most, int64_t *units) {
  int64_t entries = 0;
  *units = 0;
  for (int32_t r = 0; r < s->rowCount; r++) {
    int32_t n = (s->rowStart[r + 1] - s->rowStart[r] + most - 1) / most, spans = s->positions[s->rowStart[r]] / LM_SPAN;
    entries += n;
    *units += (int64_t)n * (spans > 1 ? spans : 1);
  }
  return entries;
}

/** One attention task, or one for each of its spans; the spans of *splits tokens are apart already. */
static void add_task(Device *d, LmAttentionTask task, bool split, int32_t *splits) {
  const int32_t kvHeads = d->sizes[LM_S_KV_HEADS];
  if (!split || task.spans < 2 || task.spans > d->maxSpans || *splits + task.count > d->maxSplit) {
    d->taskEntry[d->taskCount] = -1;
    d->tasks[d->taskCount++] = task;
    return;
  }
  task.partial = d->partials + *splits * d->partialFloats;
  for (int32_t h = 0; h < kvHeads; h++) d->remaining[*splits * kvHeads + h] = task.spans;
  for (int32_t i = 0; i < task.spans; i++) {
    task.spanFrom = i;
    task.spanTo = i + 1;
    d->taskEntry[d->taskCount] = *splits;
    d->tasks[d->taskCount++] = task;
  }
  *splits += task.count;
}

/** Splits the step's rows into attention tasks; the same list serves every layer. */
static void plan_attention(Device *d, const StepArrays *s) {
  const int32_t *z = d->sizes;
  int32_t kvHeads = z[LM_S_KV_HEADS], most = d->k->attention_tokens(z[LM_S_HEADS] / kvHeads);
  int64_t units, entries = attention_entries(s, most, &units);
  int32_t splits = 0;
  // a few rows of one sequence: every thread should have something to do
  while (most > 1 && units * kvHeads < 2 * d->pool.threads) {
    most = (most + 1) / 2;
    entries = attention_entries(s, most, &units);
  }
  bool few = entries * kvHeads < 8 * d->pool.threads && d->pool.threads > 1;
  d->taskCount = 0;
  for (int32_t r = 0; r < s->rowCount; r++) {
    const int32_t *table = s->blockTables + (int64_t)s->rowSlot[r] * z[LM_S_MAX_BLOCKS_PER_ROW];
    for (int32_t t = s->rowStart[r]; t < s->rowStart[r + 1]; t += most) {
      int32_t n = s->rowStart[r + 1] - t < most ? s->rowStart[r + 1] - t : most;
      int32_t spans = (s->positions[t] + n + LM_SPAN - 1) / LM_SPAN;
      add_task(d, {table, t, n, s->positions[t], 0, spans, spans, nullptr}, few, &splits);
    }
  }
}

/** Cos and sin for tokens part, part + parts … */
static void set_angles(Device *d, const StepArrays *s, int part, int parts) {
  for (int i = 0; i < d->sizes[LM_S_ROPES]; i++) {
    const Rope *r = d->ropes + i;
    for (int32_t t = part; t < s->tokenCount; t += parts) {
      float *out = r->angles + (int64_t)t * r->dims;
      for (int j = 0; j < r->dims / 2; j++) {
        double a = (double)s->positions[t] * (double)r->inverse[j];
        out[2 * j] = (float)(cos(a) * r->magnitude);
        out[2 * j + 1] = (float)(sin(a) * r->magnitude);
      }
    }
  }
}

/** Leading tokens of a block, by whole tiles of 16. Parts share out the heads, so that copies stay in order. */
static void copy_blocks(Device *d, const StepArrays *s, int part, int parts) {
  const LmKv *kv = &d->kvShape;
  int64_t heads = (int64_t)d->sizes[LM_S_LAYERS] * kv->heads, half = kv->headBytes / 2;
  for (int32_t i = 0; i < s->copyCount; i++) {
    const int32_t *c = s->copies + 3 * i;
    int64_t bytes = (c[2] + 15) / 16 * kv->tileBytes;
    if (c[0] == c[1] || !bytes) continue;
    for (int64_t h = part; h < heads; h += parts) {
      const uint8_t *from = kv->base + c[0] * kv->blockBytes + h * kv->headBytes;
      uint8_t *to = kv->base + c[1] * kv->blockBytes + h * kv->headBytes;
      memcpy(to, from, (size_t)bytes);
      memcpy(to + half, from + half, (size_t)bytes);
    }
  }
}

// ---------------------------------------------------------------- operations

/** n tokens in as few panels as possible, all about equally wide. */
static void set_panels(const Device *d, LmPanels *x, int32_t n, int32_t flags) {
  x->planes = flags & LM_FINE ? 2 : 1;
  int32_t tokens = x->planes == 2 ? d->k->fineTokens : d->k->columns, panels = (n + tokens - 1) / tokens;
  x->n = n;
  x->P = x->planes * (panels ? (n + panels - 1) / panels : 1);
}

int64_t linear_units(const LmLinear *l, int64_t *bytes) {
  int64_t units = 0;
  *bytes = 0;
  for (int i = 0; i < l->outCount; i++) {
    units += l->outs[i].w->tiles;
    *bytes += l->outs[i].w->tiles * l->outs[i].w->tileBytes;
  }
  return l->silu ? units / 4 : units;
}

int32_t linear_piece(const LmKernels *k, const LmLinear *l, int64_t units, int64_t bytes, int threads) {
  if (l->x.n <= l->x.P / l->x.planes) return (int32_t)units;
  const int64_t atOnce = k->tiles_at_once ? k->tiles_at_once(&l->x, l->outs[0].w->type) / (l->silu ? 4 : 1) : 0;
  if (atOnce) {  // as few rounds as that allows, in which each thread does the same; whole pairs of tiles
    const int64_t rounds = (units + atOnce * threads - 1) / (atOnce * threads);
    const int64_t each = (units + rounds * threads - 1) / (rounds * threads);
    return (int32_t)(l->silu ? each : each + each % 2);
  }
  // with several panels the weights of a piece are read again for each: they should stay in the L2 cache
  const int64_t most = (384 << 10) / (bytes / units + 1);
  return (int32_t)(most < 1 ? 1 : most);
}

void step_prepare(Device *d) {
  for (int i = 0; i < d->sizes[LM_S_OPS]; i++) {
    const LmOp *o = d->ops + i;
    if (o->kind != LM_OP_LINEAR) continue;
    LmLinear *l = d->linears + i;
    memset(l, 0, sizeof(*l));
    l->x = d->panels[o->panel];
    l->outCount = o->outCount;
    l->silu = !(o->flags & LM_SILU_MUL) ? 0 : o->flags & LM_GELU ? 2 : 1;
    l->scale = o->scale;
    for (int j = 0; j < o->outCount; j++) {
      LmLinearOut *out = l->outs + j;
      out->w = &d->tensors[o->outs[j].weight].t;
      out->bias = o->outs[j].bias >= 0 ? d->tensors[o->outs[j].bias].t.vector : nullptr;
      if (l->silu) continue;
      out->out = d->buffers[o->outs[j].out].data;
      out->stride = d->buffers[o->outs[j].out].width;
    }
    if (l->silu) {
      l->hidden = d->panels[o->panelOut];
      l->hiddenNeed = o->flags & (LM_NEED_Q8 | LM_NEED_F32);
    }
    if (o->residual >= 0) l->residual = d->buffers[o->residual].data;
  }
}

static LmKv layer_kv(const Device *d, int layer) {
  LmKv kv = d->kvShape;
  kv.layerOffset = layer * d->layerBytes;
  return kv;
}

static void run_attention(Device *d, int op, int32_t from, int32_t to, int member) {
  const LmOp *o = d->ops + op;
  LmAttention a = {layer_kv(d, o->layer), d->buffers[o->in].data, d->buffers[o->out].data,
                   d->buffers[o->in].width, d->sizes[LM_S_HEADS], o->scale, o->cap, o->window};
  int32_t heads = a.kv.heads, last = ahead_last(d, heads * d->taskCount, to, member);
  const uint8_t *after = ahead_stream(d, op + 1, member % d->pool.lanes);
  for (int32_t u = from; u < to; u++) {
    int h = u / d->taskCount, i = d->taskCount - 1 - u % d->taskCount;  // long contexts first
    const LmAttentionTask *t = d->tasks + i;
    LmAttentionNext next = {nullptr, 0, after};
    if (u < last) next = {d->tasks + (d->taskCount - 1 - (u + 1) % d->taskCount), (u + 1) / d->taskCount, after};
    d->k->attention(&a, t, h, &next, d->scratch[member]);
    if (!t->partial) continue;
    int32_t *left = d->remaining + d->taskEntry[i] * heads + h;
    if (__atomic_sub_fetch(left, 1, __ATOMIC_ACQ_REL)) continue;
    *left = t->spans;  // for the next layer
    d->k->attention_merge(&a, t, h);
  }
}

static void run_rope_store(Device *d, const StepArrays *s, const LmOp *o, int32_t from, int32_t to) {
  static const Rope none = {0, 0, 1, nullptr, nullptr};
  const Rope *rope = o->rope >= 0 ? d->ropes + o->rope : &none;
  LmRopeStore r = {layer_kv(d, o->layer), d->buffers[o->in].data, d->buffers[o->in2].data, d->buffers[o->out].data,
                   d->buffers[o->in].width, d->buffers[o->in2].width, d->buffers[o->out].width,
                   d->sizes[LM_S_HEADS], rope->dims, rope->neox, rope->angles};
  int32_t row = 0;
  for (int32_t t = from; t < to; t++) {
    while (s->rowStart[row + 1] <= t) row++;
    d->k->rope_store(&r, s->blockTables + (int64_t)s->rowSlot[row] * d->sizes[LM_S_MAX_BLOCKS_PER_ROW], t, s->positions[t]);
  }
}

/** One row, in equal pieces; what it is added to may be the buffer that it goes to. */
static void run_norm(const Device *d, const LmOp *o, const float *weight, int32_t row, float *scratch) {
  const Buffer *in = d->buffers + o->in, *out = d->buffers + o->out;
  const float *x = in->data + (int64_t)row * in->width;
  float *y = out->data + (int64_t)row * out->width, *normed = o->residual >= 0 ? scratch : y;
  int32_t width = o->width / o->parts;
  for (int32_t i = 0; i < o->width; i += width) d->k->norm(x + i, weight, o->eps, width, normed + i);
  if (o->residual < 0) return;
  const Buffer *residual = d->buffers + o->residual;
  const float *r = residual->data + (int64_t)row * residual->width;
  for (int32_t i = 0; i < o->width; i++) y[i] = r[i] + normed[i];
}

static void run_rows(Device *d, const StepArrays *s, const LmOp *o, int32_t n, int32_t from, int32_t to, int member) {
  Buffer *in = o->in >= 0 ? d->buffers + o->in : nullptr, *in2 = o->in2 >= 0 ? d->buffers + o->in2 : nullptr;
  Buffer *out = o->out >= 0 ? d->buffers + o->out : nullptr;
  const TensorInfo *w = o->weight >= 0 ? d->tensors + o->weight : nullptr;
  switch (o->kind) {
    case LM_OP_EMBED:
      for (int32_t t = from; t < to; t++) {
        float *x = out->data + (int64_t)t * out->width;
        d->k->embed(&w->t, d->tokens[t], x);
        for (int32_t i = 0; o->scale != 1.0f && i < o->width; i++) x[i] *= o->scale;
      }
      break;
    case LM_OP_NORM:
      for (int32_t t = from; t < to; t++) run_norm(d, o, w->t.vector, t, d->scratch[member]);
      break;
    case LM_OP_ROUTE:
      for (int32_t t = from; t < to; t++)
        experts_route(in->data + (int64_t)t * in->width, o->experts, o->used, (o->flags & LM_NORMALISE) != 0, o->scale,
                      out->data + (int64_t)t * out->width);
      break;
    case LM_OP_EXPERT_PREPARE:
      for (int32_t i = from; i < to; i++) experts_prepare(&d->mixture, d->k, o, in->data, in->width, i, d->scratch[member]);
      break;
    case LM_OP_ADD_GATED:
      for (int32_t t = from; t < to; t++)
        d->k->add_gated(out->data + (int64_t)t * out->width, in->data + (int64_t)t * in->width, in2->data[(int64_t)t * in2->width], o->width);
      break;
    case LM_OP_SOFTCAP:
      for (int32_t t = from; t < to; t++) d->k->softcap(in->data + (int64_t)t * in->width, o->cap, o->width);
      break;
    case LM_OP_PREPARE: {
      LmPrepare p = {in->data, in->width, o->width, w ? w->t.vector : nullptr, o->eps,
                     o->flags & (LM_NEED_Q8 | LM_NEED_F32), d->panels[o->panel]};
      set_panels(d, &p.out, n, o->flags);
      for (int32_t t = from; t < to; t++) d->k->prepare(&p, t, d->scratch[member]);
      break;
    }
    case LM_OP_ROPE_STORE: run_rope_store(d, s, o, from, to); break;
    case LM_OP_SILU_MUL: {
      int64_t at = (int64_t)from * o->width;
      d->k->silu_mul(in->data + at, in2->data + at, out->data + at, (int64_t)(to - from) * o->width,
                     (o->flags & LM_GELU) != 0);
      break;
    }
    case LM_OP_GATHER:
      for (int32_t i = from; i < to; i++)
        memcpy(out->data + (int64_t)i * out->width, in->data + (int64_t)s->logitRows[i] * in->width, 4 * (size_t)o->width);
      break;
    case LM_OP_SAMPLE:
      for (int32_t i = from; i < to; i++)
        d->k->sample(&s->sampling, &s->result, in->data + (int64_t)i * in->width, d->sizes[LM_S_VOCAB], i,
                     s->positions[s->logitRows[i]] + 1, d->scratch[member]);
      break;
  }
}

static int32_t rows_of(const StepArrays *s, const LmOp *o) {
  bool perLogit = (o->flags & LM_PER_LOGIT) || o->kind == LM_OP_GATHER || o->kind == LM_OP_SAMPLE;
  return perLogit ? s->logitCount : s->tokenCount;
}

/** Units and piece of a mixture's products: of gate and up they are known when the step's rows are grouped. */
static void plan_experts(const Device *d, const LmOp *o, int32_t n, int32_t *total, int32_t *piece) {
  const LmTensor *w = &d->tensors[o->outs[0].weight].t;
  const bool up = o->kind == LM_OP_EXPERT_UP;
  const int64_t bytes = up ? 4 * w->tileBytes : w->tileBytes;
  // rows of an expert that fill more than a panel read its weights again: they should stay in the L2 cache
  const int64_t most = n * o->used > o->experts * d->k->columns ? (384 << 10) / (bytes + 1) : 1 << 20;
  const int32_t tiles = w->out / o->experts / 16;
  *total = n == 0 ? 0 : up ? d->mixture.activeCount * (int32_t)experts_up_units(o) : tiles;
  *piece = (int32_t)(most < 1 ? 1 : most);
}

/** Groups the step's rows by the experts of operation i; now the product after next knows what it has to do. */
static void run_group(Device *d, int i) {
  const LmOp *o = d->ops + i;
  const Buffer *choice = d->buffers + o->in;
  experts_group(&d->mixture, o, choice->data, choice->width, d->step.tokenCount, d->k->columns);
  int32_t total, piece;
  plan_experts(d, o + 2, d->step.tokenCount, &total, &piece);
  pool_set_total(&d->pool, i + 3, total, piece);
}

static void run_experts(Device *d, const LmOp *o, int32_t from, int32_t to, int member) {
  const LmTensor *w = &d->tensors[o->outs[0].weight].t;
  if (o->kind == LM_OP_EXPERT_UP)
    return experts_up(&d->mixture, d->k, o, w, &d->tensors[o->outs[1].weight].t, from, to, d->scratch[member]);
  const Buffer *stream = d->buffers + o->outs[0].out;
  experts_down(&d->mixture, d->k, o, w, stream->data, stream->width, from, to, d->scratch[member]);
}

/** Units and piece of operation i, and what of it depends on the step. */
static void plan_operation(Device *d, int i, int32_t *total, int32_t *piece) {
  const LmOp *o = d->ops + i;
  int32_t n = rows_of(&d->step, o);
  *total = n;
  *piece = o->kind == LM_OP_SAMPLE ? 1 : 64;
  if (o->kind == LM_OP_ATTENTION) {
    *total = n ? d->taskCount * d->sizes[LM_S_KV_HEADS] : 0;
    *piece = 1;
  }
  if (o->kind == LM_OP_GROUP) *total = n ? 1 : 0;
  if (o->kind == LM_OP_LORA_DOWN || o->kind == LM_OP_LORA_UP) *total = adapters_units(&d->adapters, o);
  if (o->kind == LM_OP_EXPERT_PREPARE) *total = n * o->used;
  if (o->kind == LM_OP_EXPERT_UP || o->kind == LM_OP_EXPERT_DOWN) plan_experts(d, o, n, total, piece);
  if (o->kind == LM_OP_LINEAR && n) {
    LmLinear *l = d->linears + i;
    int64_t bytes, units = linear_units(l, &bytes);
    set_panels(d, &l->x, n, o->flags);
    if (l->silu) set_panels(d, &l->hidden, n, 0);
    *total = (int32_t)units;
    *piece = linear_piece(d->k, l, units, bytes, d->pool.threads);
  }
}

static void run_phase(void *context, int p, int from, int to, int member) {
  Device *d = (Device *)context;
  const StepArrays *s = &d->step;
  if (p == 0) {
    for (int part = from; part < to; part++) {
      set_angles(d, s, part, d->pool.threads);
      copy_blocks(d, s, part, d->pool.threads);
    }
    return;
  }
  const LmOp *o = d->ops + p - 1;
  if (o->kind == LM_OP_LINEAR)
    return d->k->linear(d->linears + p - 1, from, to, d->scratch[member], ahead_after(d, p - 1, to, member));
  if (o->kind == LM_OP_LORA_DOWN || o->kind == LM_OP_LORA_UP) return adapters_run(d, o, from, to);
  if (o->kind == LM_OP_GROUP) return run_group(d, p - 1);
  if (o->kind == LM_OP_EXPERT_UP || o->kind == LM_OP_EXPERT_DOWN) return run_experts(d, o, from, to, member);
  if (o->kind == LM_OP_ATTENTION) return run_attention(d, p - 1, from, to, member);
  run_rows(d, s, o, rows_of(s, o), from, to, member);
}

int step_run(Device *d, int from, int to) {
  int first = from == 0 ? 0 : from + 1;
  if (from == 0) {
    resolve_tokens(d, &d->step);
    plan_attention(d, &d->step);
    adapters_step(d);
    ahead_step(d);
    d->totals[0] = d->pool.threads;
    d->pieces[0] = 1;
  }
  for (int i = from; i < to; i++) plan_operation(d, i, d->totals + i + 1, d->pieces + i + 1);
  bool done = pool_run(&d->pool, first, to + 1, d->totals + first, d->pieces + first, {run_phase, d, d->step.cancel}, true);
  return done ? LM_OK : LM_CANCELLED;
}

/** What a later step may refer to. */
static void keep_drawn(Device *d) {
  if (d->logitsBuffer < 0) return;
  d->drawnCount = d->step.logitCount;
  memcpy(d->drawn, d->step.result.tokens, 4 * (size_t)d->drawnCount);
}

extern "C" int32_t lm_step(Device *d, int32_t from, int32_t to, const void *step, int64_t stepBytes, void *result,
                           int64_t resultBytes, const int32_t *cancel) {
  StepArrays s;
  if (!d->configured) return LM_E_STATE;
  if (!lm_read_step(step, stepBytes, &s) || !lm_read_result(result, resultBytes, &s.out)) return LM_E_LAYOUT;
  s.sampling = {s.temperature, s.topK, s.topP, s.minP, s.repetitionPenalty, s.presencePenalty, s.frequencyPenalty, s.seed,
                s.topLogprobs, s.scoreToken, s.historyStart, s.historyTokens, s.historyCounts, s.biasStart, s.biasTokens,
                s.biasValues, s.maskRow, s.masks};
  s.result = {s.out.tokens, s.out.status, s.out.logprobs, s.out.scoreLogprobs, s.out.topTokens, s.out.topLogprobs};
  s.cancel = cancel;
  for (int i = 0; i < d->tensorCount; i++)
    if (d->tensors[i].loaded < d->tensors[i].t.out) return LM_E_STATE;
  if (from < 0 || to > d->sizes[LM_S_OPS] || from > to) return LM_E_ARGUMENT;
  int code = step_check(d, &s);
  if (code != LM_OK) return code;
  d->lastLogits = s.logitCount;
  d->step = s;
  code = step_run(d, from, to);
  if (code != LM_OK) d->drawnCount = 0;
  else if (to == d->sizes[LM_S_OPS]) keep_drawn(d);
  return code;
}
