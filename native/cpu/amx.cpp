// All products by tiles of bfloat16 (AMX), of one row as of many: weights are unpacked to bfloat16 as they are needed, once for all
// columns of a step, activations are rounded to it, sums are f32. Floats are multiplied as AVX-512 does it; everything that is no product
// (attention, norms, sampling) is AVX-512's.
#include "kernels.h"
#if !defined(LM_BUILD_ABSENT)
#include "simd.h"
#include "ops/transpose.h"
#include "ops/repack.h"
#include "ops/norm.h"
#include "ops/bytes.h"
#include "ops/bf16.h"
#include "ops/prepare.h"
#include "ops/scale.h"
#include "ops/dot.h"
#include "ops/silu_mul.h"
#include "ops/store.h"
#include "ops/unpack.h"
#include "ops/tile_ops.h"
#include "ops/tiles.h"

extern "C" const LmKernels *lm_kernels_amx(LmKernels *into) {
  *into = *lm_kernels_avx512();
  into->name = "amx";
  into->columns = LM_COLUMNS;
  into->fineTokens = LM_FINE_TOKENS;
  into->prepare = LM_NS::prepare;
  into->linear = LM_NS::linear_by_tiles;
  into->expert_add = LM_NS::expert_by_tiles;
  into->product_scratch = LM_NS::product_scratch;
  into->tiles_at_once = LM_NS::tiles_at_once;
  into->bench_int8 = LM_NS::bench_tiles;
  return into;
}
#else
extern "C" const LmKernels *lm_kernels_amx(LmKernels *) { return nullptr; }
#endif
