// Waits until what all ranks have for this one lies in its memory: shares of the logits, norms of the rows that they own.
//
// LM_RANKS. Block: 32 threads. Grid: 1.
#include "ranks.h"

struct LmMeet {
  const i64 *peers;    // (ranks) addresses of the flags of each
  const u32 *flags;    // of this one
  const int *step;     // its number, in the step's header
  int slot;
  int rank;
};

LM_KERNEL __launch_bounds__(32) meet(const __grid_constant__ LmMeet p) {
  u32 step = load_u32(p.step);
  pdl_trigger();
  pdl_wait();
  meet_ranks<LM_RANKS>(p.peers, p.flags, p.slot, p.rank, step, true);
#if LM_SM90
  // the copy engine reads what has come
  asm volatile("fence.proxy.async.global;" ::: "memory");
#endif
}
