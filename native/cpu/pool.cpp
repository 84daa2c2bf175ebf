#include "pool.h"

#define SPIN_NS 20000

static void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/** Returns when *word is no longer `seen`: spins, then sleeps on `bell`, which is rung after every change. */
template <class T>
static T await_change(T *word, T seen, int32_t *bell, int32_t *sleepers) {
  int64_t end = 0;
  for (;;) {
    for (int i = 0; i < 32; i++) {
      T now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
      if (now != seen) return now;
      relax();
    }
    int64_t t = os_now_ns();
    if (!end) end = t + SPIN_NS;
    if (t > end) break;
  }
  __atomic_fetch_add(sleepers, 1, __ATOMIC_SEQ_CST);
  T now;
  for (;;) {
    int32_t rung = __atomic_load_n(bell, __ATOMIC_SEQ_CST);
    now = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    if (now != seen) break;
    os_sleep_on(bell, rung);
  }
  __atomic_fetch_sub(sleepers, 1, __ATOMIC_SEQ_CST);
  return now;
}

/** A member left in an earlier step may read these while the next one sets them; what it takes is guarded by the epoch. */
static int32_t load(const int32_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static void store(int32_t *word, int32_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }

static int64_t pack(int32_t epoch, int32_t low) { return (int64_t)epoch << 32 | (uint32_t)low; }
static int32_t low(int64_t v) { return (int32_t)(uint32_t)v; }
static int32_t high(int64_t v) { return (int32_t)(v >> 32); }

/** Runs phases of one unit, publishes the next one that has more, or the end. Only one member at a time is here. */
static void advance(Pool *p, int32_t epoch, int next, int member) {
  for (; next < p->last; next++) {
    if (p->work.cancel && __atomic_load_n(p->work.cancel, __ATOMIC_RELAXED)) {
      p->stop = 1;
      next = p->last;
      break;
    }
    int total = load(&p->phases[next].total);
    if (total > 1) break;
    if (total == 1) p->work.run(p->work.context, next, 0, 1, member);
  }
  __atomic_store_n(&p->at, pack(epoch, next), __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&p->waiting, __ATOMIC_SEQ_CST)) {
    __atomic_fetch_add(&p->progress, 1, __ATOMIC_SEQ_CST);
    os_wake(&p->progress);
  }
}

/** Takes a piece of a lane: big pieces first for streaming, small ones last for balance. */
static bool take_lane(Pool *p, Phase *phase, int32_t epoch, int lane, int *from, int *to) {
  int64_t *next = &phase->lanes[lane].next, seen = __atomic_load_n(next, __ATOMIC_ACQUIRE);
  for (;;) {
    if (high(seen) != epoch) return false;
    int total = load(&phase->total), begin = pool_lane(p, total, lane) + low(seen), rest = pool_lane(p, total, lane + 1) - begin;
    if (rest <= 0) return false;
    int size = rest * p->lanes / (2 * p->threads);
    int piece = load(&phase->piece);
    size = size > piece ? piece : size;
    size = size < 1 ? 1 : size;
    if (!__atomic_compare_exchange_n(next, &seen, pack(epoch, low(seen) + size), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
      continue;
    *from = begin;
    *to = begin + size;
    return true;
  }
}

/** Takes a piece of the phase, of the member's own lane if there is one left. */
static bool take(Pool *p, Phase *phase, int32_t epoch, int member, int *from, int *to) {
  for (int i = 0; i < p->lanes; i++)
    if (take_lane(p, phase, epoch, (member + i) % p->lanes, from, to)) return true;
  return false;
}

static void look_ahead(Pool *p, int64_t at, int member) {
  auto idle = __atomic_load_n(&p->idle, __ATOMIC_ACQUIRE);
  if (!idle || !__atomic_load_n(&p->ahead, __ATOMIC_RELAXED)) return;
  for (int k = 0; __atomic_load_n(&p->at, __ATOMIC_ACQUIRE) == at; k++)
    if (!idle(p->idleContext, low(at), member, k)) return;
}

/** Works on the step `epoch` until it is over, or until another one has begun. */
static void join_step(Pool *p, int32_t epoch, int member) {
  int64_t at = __atomic_load_n(&p->at, __ATOMIC_ACQUIRE);
  while (high(at) == epoch) {
    int i = low(at), from, to;
    if (i >= __atomic_load_n(&p->last, __ATOMIC_ACQUIRE)) return;
    Phase *phase = p->phases + i;
    // after the first success the step cannot end before we are done, so p->work is ours to read
    while (take(p, phase, epoch, member, &from, &to)) {
      p->work.run(p->work.context, i, from, to, member);
      if (__atomic_add_fetch(&phase->done, to - from, __ATOMIC_ACQ_REL) == load(&phase->total)) advance(p, epoch, i + 1, member);
    }
    look_ahead(p, at, member);
    at = await_change(&p->at, at, &p->progress, &p->waiting);
  }
}

static void member_main(void *argument) {
  Member *m = (Member *)argument;
  Pool *p = m->pool;
  for (int32_t seen = 0;;) {
    seen = await_change(&p->jobs, seen, &p->jobs, &p->sleepers);
    if (__atomic_load_n(&p->quit, __ATOMIC_ACQUIRE)) return;
    join_step(p, __atomic_load_n(&p->epoch, __ATOMIC_ACQUIRE), m->number);
  }
}

bool pool_start(Pool *p, int threads) {
  p->threads = threads;
  p->lanes = threads < LM_LANES ? threads : LM_LANES;
  p->phases = p->few;
  for (p->started = 1; p->started < threads; p->started++) {
    Member *m = p->members + p->started;
    *m = {p, p->started, nullptr};
    if (!os_start_thread(&m->thread, member_main, m)) {
      pool_stop(p);
      return false;
    }
  }
  return true;
}

static void ring(Pool *p) {
  __atomic_fetch_add(&p->jobs, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&p->sleepers, __ATOMIC_SEQ_CST)) os_wake(&p->jobs);
}

void pool_stop(Pool *p) {
  __atomic_store_n(&p->quit, 1, __ATOMIC_RELEASE);
  ring(p);
  for (int i = 1; i < p->started; i++) os_join_thread(p->members[i].thread);
  p->started = 0;
}

void pool_set_phases(Pool *p, Phase *phases) { __atomic_store_n(&p->phases, phases, __ATOMIC_RELEASE); }

void pool_set_total(Pool *p, int phase, int32_t total, int32_t piece) {
  store(&p->phases[phase].total, total);
  store(&p->phases[phase].piece, piece);
}

bool pool_run(Pool *p, int from, int to, const int32_t *totals, const int32_t *pieces, Work work, bool ahead) {
  int32_t epoch = (int32_t)((uint32_t)p->epoch + 1);
  Phase *phases = p->phases;
  // First the counters get the new epoch: from here on a member left in an earlier step can take nothing.
  for (int i = from; i < to; i++)
    for (int j = 0; j < p->lanes; j++) __atomic_store_n(&phases[i].lanes[j].next, pack(epoch, 0), __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  for (int i = from; i < to; i++) {
    store(&phases[i].done, 0);
    store(&phases[i].total, totals[i - from]);
    store(&phases[i].piece, pieces[i - from]);
  }
  p->work = work;
  p->stop = 0;
  __atomic_store_n(&p->ahead, ahead, __ATOMIC_RELAXED);
  __atomic_store_n(&p->last, to, __ATOMIC_RELEASE);
  __atomic_store_n(&p->epoch, epoch, __ATOMIC_RELEASE);
  advance(p, epoch, from, 0);
  ring(p);
  join_step(p, epoch, 0);
  return !p->stop;
}
