#include "pool.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SPIN_NS 20000

static void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/** Returns when *word is no longer `seen`: spins, then sleeps. */
static void await_change(int *word, int seen, int *sleepers) {
  int64_t end = 0;
  for (;;) {
    for (int i = 0; i < 64; i++) {
      if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != seen) return;
      relax();
    }
    int64_t t = now_ns();
    if (!end) end = t + SPIN_NS;
    if (t > end) break;
  }
  __atomic_fetch_add(sleepers, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == seen) syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, 0, 0, 0);
  __atomic_fetch_sub(sleepers, 1, __ATOMIC_SEQ_CST);
}

static void announce(int *word, int value, int *sleepers) {
  __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(sleepers, __ATOMIC_SEQ_CST)) syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, LM_MAX_THREADS, 0, 0, 0);
}

void pool_barrier(Pool *p, void (*last)(void *), void *context) {
  int g = __atomic_load_n(&p->generation, __ATOMIC_RELAXED);
  if (__atomic_add_fetch(&p->arrived, 1, __ATOMIC_ACQ_REL) == p->threads) {
    __atomic_store_n(&p->arrived, 0, __ATOMIC_RELAXED);
    if (last) last(context);
    announce(&p->generation, g + 1, &p->waiting);
  } else {
    await_change(&p->generation, g, &p->waiting);
  }
}

static void *member_main(void *argument) {
  Member *m = (Member *)argument;
  Pool *p = m->pool;
  for (int seen = 0;; seen++) {
    await_change(&p->jobs, seen, &p->sleepers);
    if (__atomic_load_n(&p->quit, __ATOMIC_ACQUIRE)) return nullptr;
    p->job(p->context, m->number);
    pool_barrier(p, nullptr, nullptr);
  }
}

bool pool_start(Pool *p, int threads) {
  p->threads = threads;
  for (p->started = 1; p->started < threads; p->started++) {
    Member *m = p->members + p->started;
    *m = {p, p->started, 0};
    if (pthread_create(&m->thread, nullptr, member_main, m)) {
      pool_stop(p);
      return false;
    }
  }
  return true;
}

void pool_stop(Pool *p) {
  __atomic_store_n(&p->quit, 1, __ATOMIC_RELEASE);
  announce(&p->jobs, p->jobs + 1, &p->sleepers);
  for (int i = 1; i < p->started; i++) pthread_join(p->members[i].thread, nullptr);
  p->started = 0;
}

void pool_run(Pool *p, void (*job)(void *, int), void *context) {
  p->job = job;
  p->context = context;
  announce(&p->jobs, p->jobs + 1, &p->sleepers);
  job(context, 0);
  pool_barrier(p, nullptr, nullptr);
}
