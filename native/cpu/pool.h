// Threads of the device. The calling thread is member 0.
//
// A step is a list of phases, each a number of work units. A phase is over when its units are done, not when every
// member has come by: on a busy machine a member that the system has put aside holds up nothing but the unit it has
// taken. So a member may be left behind by whole steps; what it takes is guarded by the step's number (epoch).
// A phase's units are shared out in lanes, one for each member (or for several): a member works on its own lane first,
// so that it knows what memory it will read next, and then on what is left of the others'.
// A phase of one unit is run by the member that ends the phase before it; nobody is told. It may set the totals of later
// ones.
// Waiting members look ahead (Pool::idle), spin 20 µs, then sleep.
#pragma once
#include <stdint.h>

#include "platform.h"

#define LM_MAX_THREADS 256
#define LM_FEW_PHASES 16
#define LM_LANES 8

struct Pool;
struct Member {
  Pool *pool;
  int number;
  Thread thread;
};

/** `next`: epoch in the high half, units taken in the low half. */
struct Lane {
  alignas(64) int64_t next;
};

/** Units of one phase. */
struct Phase {
  Lane lanes[LM_LANES];
  alignas(64) int32_t total;
  int32_t piece;  // most units taken at once
  alignas(64) int32_t done;
};

/** What members work on: the same function for all phases of all steps. */
struct Work {
  /** Units [from, to) of phase p. */
  void (*run)(void *context, int p, int from, int to, int member);
  void *context;
  const int32_t *cancel;  // read between phases; may be null
};

struct Pool {
  int threads;
  int lanes;
  /** If set: called by a member that waits in phase p of a step run with `ahead`, with k = 0, 1, … until it returns false
   *  or the phase is over. It may come late, so it must do with whatever it finds. */
  bool (*idle)(void *context, int p, int member, int k);
  void *idleContext;
  Member members[LM_MAX_THREADS];
  int started;
  Work work;
  Phase few[LM_FEW_PHASES];
  Phase *phases;
  int last;   // phases of the running step end here
  int ahead;  // the running step's phases are those that `idle` knows
  alignas(64) int64_t at;   // epoch in the high half, phase being worked on in the low half
  alignas(64) int32_t progress;  // slept on: changes whenever `at` does and somebody may sleep
  int32_t waiting;
  alignas(64) int32_t epoch;
  int32_t stop;
  alignas(64) int32_t jobs;  // slept on: steps begun
  int32_t sleepers;
  int32_t quit;
};

/** Starts threads - 1 members. False if the system refuses. */
bool pool_start(Pool *p, int threads);
void pool_stop(Pool *p);
/** Room for more phases: zeroed memory that lives as long as the pool. Never fewer than before: a member that was left
 *  behind may still look at its old phase. */
void pool_set_phases(Pool *p, Phase *phases);
/**
 * Runs phases [from, to), one after another, with these totals and pieces (indexed from 0 = phase `from`).
 * Returns false if the cancel flag ended it early.
 */
bool pool_run(Pool *p, int from, int to, const int32_t *totals, const int32_t *pieces, Work work, bool ahead = false);
/** Total and piece of a later phase of the running step: for a phase of one unit, whose end lets nobody in before. */
void pool_set_total(Pool *p, int phase, int32_t total, int32_t piece);
/** First unit of a lane; lanes = the end. */
static inline int pool_lane(const Pool *p, int total, int lane) { return (int)((int64_t)total * lane / p->lanes); }
