// Threads of the device. The calling thread is member 0; members meet at barriers that spin 20 µs, then sleep.
#pragma once
#include <pthread.h>
#include <stdint.h>

#define LM_MAX_THREADS 256

struct Pool;
struct Member {
  Pool *pool;
  int number;
  pthread_t thread;
};
struct Pool {
  int threads;
  Member members[LM_MAX_THREADS];
  int started;
  void (*job)(void *context, int member);
  void *context;
  alignas(64) int jobs;      // futex: number of jobs begun
  alignas(64) int sleepers;  // members that may sleep on `jobs`
  alignas(64) int arrived;
  alignas(64) int generation;  // futex: barriers passed
  alignas(64) int waiting;     // members that may sleep on `generation`
  int quit;
};

/** Starts threads - 1 members. False if the system refuses. */
bool pool_start(Pool *p, int threads);
void pool_stop(Pool *p);
/** Runs job on every member; returns when all have finished. */
void pool_run(Pool *p, void (*job)(void *, int), void *context);
/** Every member calls it; `last`, if not null, is run by the last to arrive before the others go on. */
void pool_barrier(Pool *p, void (*last)(void *), void *context);

/** Work units handed out in shrinking pieces: big ones first for streaming, small ones last for balance. */
struct Counter {
  alignas(64) int next;
};
static inline bool take(Counter *c, int total, int threads, int cap, int *from, int *to) {
  int begin = __atomic_load_n(&c->next, __ATOMIC_RELAXED);
  for (;;) {
    if (begin >= total) return false;
    int size = (total - begin) / (2 * threads);
    size = size > cap ? cap : size;
    size = size < 1 ? 1 : size;
    if (__atomic_compare_exchange_n(&c->next, &begin, begin + size, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
      *from = begin;
      *to = begin + size;
      return true;
    }
  }
}
