// AVX-VNNI (256 bit): the AVX2 kernels, but for the products of bytes, which take one instruction instead of two to four. All
// integers are exact and every f32 sum has the same order: the bits are those of AVX2.
#include "kernels.h"
#if !defined(LM_BUILD_ABSENT)
#include "simd.h"
#include "ops/transpose.h"
#include "ops/repack.h"
#include "ops/norm.h"
#include "ops/prepare.h"
#include "ops/scale.h"
#include "ops/bytes.h"
#include "ops/dot.h"
#include "ops/silu_mul.h"
#include "ops/store.h"
#include "ops/linear.h"
#include "ops/experts.h"

namespace LM_NS {
/** Operations (a multiply and an add are two) done in `n` rounds. */
static double bench_vnni(i32 n) {
  I a[5], x = i_set(0x03030303);
  s8 q[4] = {3, 3, 3, 3};
  for (int k = 0; k < 5; k++) a[k] = i_set(0);
  for (i32 i = 0; i < 10 * n; i++) {
#pragma GCC unroll 5
    for (int k = 0; k < 5; k++) {
      a[k] = i_dot(a[k], x, q);
      __asm__ volatile("" : "+x"(a[k].a), "+x"(a[k].b));
    }
  }
  return 50.0 * 128 * n;
}
}  // namespace LM_NS

extern "C" const LmKernels *lm_kernels_avxvnni(LmKernels *into) {
  *into = *lm_kernels_avx2();
  into->name = "avxvnni";
  into->columns = LM_COLUMNS;
  into->fineTokens = LM_FINE_TOKENS;
  into->linear = LM_NS::linear;
  into->expert_add = LM_NS::expert_add;
  into->bench_int8 = LM_NS::bench_vnni;
  return into;
}
#else
extern "C" const LmKernels *lm_kernels_avxvnni(LmKernels *) { return nullptr; }
#endif
