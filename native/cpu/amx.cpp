// Products of many columns by tiles (AMX). One instruction adds up a block of 32 inputs of 16 outputs and a panel's columns in
// 32 bits; the sums are scaled as those of VNNI are. The integers are exact and every f32 sum has the same order, so the bits are
// those of AVX-512 VNNI, which does everything else: products of few columns (see `by_tiles`), of floats, attention.
//
// A tensor's tiles are unpacked to signed bytes first, once for all columns of a step: a block is 8 chunks of 64 bytes, just as the
// instruction wants them, then its scales as vectors of f32.
#include "kernels.h"
#if !defined(LM_BUILD_ABSENT)
#include "simd.h"
#include "ops/transpose.h"
#include "ops/repack.h"
#include "ops/norm.h"
#include "ops/prepare.h"
#include "ops/scale.h"
#include "ops/bytes.h"
#include "ops/silu_mul.h"
#include "ops/store.h"
#include "ops/unpack.h"
#include "ops/tile_ops.h"
#include "ops/tiles.h"

extern "C" const LmKernels *lm_kernels_amx(LmKernels *into) {
  *into = *lm_kernels_avx512();
  into->name = "amx";
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
