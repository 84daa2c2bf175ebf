// Mixtures of experts. A router's scores choose a few experts for each token; the step's rows are then grouped by expert, so
// that an expert's weights are read once for all rows that use it. How many experts a step uses is known only when their
// group phase has run: it sets the total of the product that follows.
//
// The same bits in any company: which experts a row has, with what weights, depends on its own scores; its columns are summed
// as those of any product; and what they give is added to its stream by one thread, expert by expert in the order of their
// numbers, whatever other rows and experts the step has.
#include "experts.h"

#include <math.h>
#include <string.h>

/** Where a row's scores say nothing (NaN) the answer must not be a number either: such a score goes first. */
static float rank_of(float score) { return score == score ? score : INFINITY; }

void experts_route(const float *scores, int32_t count, int32_t used, bool normalise, float scale, float *choice) {
  for (int32_t k = 0; k < used; k++) {
    int32_t best = -1;
    for (int32_t e = 0; e < count; e++) {
      bool taken = false;
      for (int32_t j = 0; j < k; j++) taken |= (int32_t)choice[2 * j] == e;
      if (!taken && (best < 0 || rank_of(scores[e]) > rank_of(scores[best]))) best = e;
    }
    choice[2 * k] = (float)best;
  }
  const float top = scores[(int32_t)choice[0]];
  double sum = 0;
  for (int32_t k = 0; normalise && k < used; k++) sum += exp((double)scores[(int32_t)choice[2 * k]] - top);
  for (int32_t e = 0; !normalise && e < count; e++) sum += exp((double)scores[e] - top);
  for (int32_t k = 0; k < used; k++) choice[2 * k + 1] = (float)(exp((double)scores[(int32_t)choice[2 * k]] - top) / sum * scale);
}

void experts_place(Mixture *m, const LmOp *ops, int32_t count, int64_t tokens, int32_t columns, Bump *b) {
  int64_t experts = 0, used = 0, width[2] = {0, 0};
  for (int32_t i = 0; i < count; i++) {
    const LmOp *o = ops + i;
    if (o->kind == LM_OP_GROUP) {
      experts = o->experts > experts ? o->experts : experts;
      used = o->used > used ? o->used : used;
    }
    if (o->kind == LM_OP_EXPERT_PREPARE && o->width > width[0]) width[0] = o->width;
    if (o->kind == LM_OP_EXPERT_DOWN && o->width > width[1]) width[1] = o->width;
  }
  if (!experts) return;
  const int64_t rows = tokens * used;
  // an expert of n rows has ceil(n / columns) panels, which leave fewer columns empty than they are
  const int64_t all = rows + rows / columns + columns;
  m->of = (MixtureExpert *)b->take(experts * sizeof(MixtureExpert));
  m->active = (int32_t *)b->take(experts * 4);
  m->expert = (int32_t *)b->take(rows * 4);
  m->place = (int32_t *)b->take(rows * 4);
  m->row = (int32_t *)b->take(rows * 4);
  m->weight = (float *)b->take(rows * 4);
  for (int i = 0; i < 2; i++) {
    m->q8[i] = (uint8_t *)b->take(all * (width[i] / 32 + 1) * 64);
    m->f32[i] = (float *)b->take(all * width[i] * 4);
  }
}

/** A column of a block takes at most 64 bytes: see panelBlockBytes. */
static LmPanels panels_of(const Mixture *m, int set, int32_t e, int32_t width) {
  const MixtureExpert *x = m->of + e;
  return {m->q8[set] + x->column * (width / 32) * 64, m->f32[set] + x->column * width, x->P, x->rows, 1};
}

void experts_group(Mixture *m, const LmOp *o, const float *choice, int64_t stride, int32_t n, int32_t columns) {
  for (int32_t e = 0; e < o->experts; e++) m->of[e] = {0, 0, 0, 1};
  const int32_t rows = n * o->used;
  for (int32_t i = 0; i < rows; i++) {
    const float e = choice[i / o->used * stride + 2 * (i % o->used)];
    m->expert[i] = e >= 0 && e < (float)o->experts ? (int32_t)e : 0;
    m->place[i] = m->of[m->expert[i]].rows++;
  }
  int32_t first = 0;
  int64_t column = 0;
  m->activeCount = 0;
  for (int32_t e = 0; e < o->experts; e++) {
    MixtureExpert *x = m->of + e;
    if (!x->rows) continue;
    const int32_t panels = (x->rows + columns - 1) / columns;
    x->P = (x->rows + panels - 1) / panels;
    x->first = first;
    x->column = column;
    first += x->rows;
    column += (int64_t)panels * x->P;
    m->active[m->activeCount++] = e;
  }
  for (int32_t i = 0; i < rows; i++) {
    const int32_t at = m->of[m->expert[i]].first + m->place[i];
    m->row[at] = i / o->used;
    m->weight[at] = choice[i / o->used * stride + 2 * (i % o->used) + 1];
  }
}

void experts_prepare(const Mixture *m, const LmKernels *k, const LmOp *o, const float *in, int64_t stride, int32_t i, float *scratch) {
  LmPrepare p = {in + i / o->used * stride, 0, o->width, nullptr, 0, o->flags & (LM_NEED_Q8 | LM_NEED_F32),
                 panels_of(m, 0, m->expert[i], o->width)};
  k->prepare(&p, m->place[i], scratch);
}

/** One expert of a tensor that holds all of them; its tiles are whole. */
static LmTensor expert_of(const LmTensor *all, int32_t experts, int32_t e) {
  LmTensor t = *all;
  t.out /= experts;
  t.tiles = t.out / 16;
  t.data += (int64_t)e * t.tiles * t.tileBytes;
  return t;
}

int64_t experts_up_units(const LmOp *o) { return o->outs[0].out / 32; }

void experts_up(const Mixture *m, const LmKernels *k, const LmOp *o, const LmTensor *gate, const LmTensor *up, int32_t from,
                int32_t to, float *scratch) {
  const int32_t each = (int32_t)experts_up_units(o);
  while (from < to) {
    const int32_t at = from / each, lo = from % each, hi = to - from < each - lo ? lo + to - from : each, e = m->active[at];
    const LmTensor g = expert_of(gate, o->experts, e), u = expert_of(up, o->experts, e);
    LmLinear l = {};
    l.x = panels_of(m, 0, e, o->width);
    l.outCount = 2;
    l.silu = o->flags & LM_GELU ? 2 : 1;
    l.outs[0] = {&g, nullptr, nullptr, 0};
    l.outs[1] = {&u, nullptr, nullptr, 0};
    l.scale = 1;
    l.hidden = panels_of(m, 1, e, o->outs[0].out);
    l.hiddenNeed = o->flags & (LM_NEED_Q8 | LM_NEED_F32);
    const int32_t next = at + 1 < m->activeCount ? m->active[at + 1] : e;
    k->linear(&l, lo, hi, scratch, gate->data + (int64_t)next * g.tiles * g.tileBytes);
    from += hi - lo;
  }
}

void experts_down(const Mixture *m, const LmKernels *k, const LmOp *o, const LmTensor *down, float *stream, int64_t stride,
                  int32_t from, int32_t to, float *scratch) {
  for (int32_t a = 0; a < m->activeCount; a++) {
    const int32_t e = m->active[a], next = m->active[a + 1 < m->activeCount ? a + 1 : 0];
    const LmTensor t = expert_of(down, o->experts, e);
    LmExpertAdd x = {panels_of(m, 1, e, o->width), &t, m->row + m->of[e].first, m->weight + m->of[e].first, stream, stride};
    k->expert_add(&x, from, to, scratch, down->data + ((int64_t)next * t.tiles + from) * t.tileBytes);
  }
}
