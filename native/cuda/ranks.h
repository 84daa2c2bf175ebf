// GPUs that compute one model together ("ranks"): how they tell each other that something lies ready, and wait for it.
//
// Each rank has flags, a word for every place of a step where all meet ("slot") and rank that comes there. What is told is the step's
// number, so nothing is reset: a flag only grows. A rank that tells has written what it has to say in kernels before this one; who
// has waited sees it.
//
// In steps of many rows each rank owns tiles of 64 rows, by turns: it alone adds their sums and makes their norms, and stores what came
// out on all ranks.
#pragma once
#include "common.h"

/** Row `i` of those that a rank owns. */
LM_DEVICE int owned_row(int i, int rank, int ranks) { return ((i >> 6) * ranks + rank) * 64 + (i & 63); }

/** No step takes so long: a GPU that is waited for has failed. Ends this one's work too, so that the host hears of it. */
#define LM_PATIENCE 20000000000ull  // ns

LM_DEVICE u64 nanoseconds() {
  u64 t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
  return t;
}
LM_DEVICE void tell(u32 *flag, u32 step) { asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(flag), "r"(step) : "memory"); }
LM_DEVICE u32 told(const u32 *flag) {
  u32 r;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(r) : "l"(flag) : "memory");
  return r;
}

/**
 * The first RANKS threads of a block: tells the others (if `speak`), and waits for each of them. Then __syncthreads(). `peers`: addresses
 * of all ranks' flags, `flags`: of this one's.
 */
template <int RANKS>
LM_DEVICE void meet_ranks(const i64 *peers, const u32 *flags, int slot, int rank, u32 step, bool speak) {
  int other = threadIdx.x;
  if (other >= RANKS || other == rank) return;
  if (speak) tell((u32 *)peers[other] + slot * RANKS + rank, step);
  const u32 *flag = flags + slot * RANKS + other;
  if ((int)(told(flag) - step) >= 0) return;
  u64 start = nanoseconds();
  while ((int)(told(flag) - step) < 0)
    if (nanoseconds() - start > LM_PATIENCE) asm volatile("trap;");
}
