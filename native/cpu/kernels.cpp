// All operations for one instruction set: compiled once with each of LM_BUILD_AVX512, LM_BUILD_AVX2, LM_BUILD_NEON (and
// LM_BUILD_I8MM with it), and none.
#include "kernels.h"
#include "simd.h"
// one file per operation
#include "ops/transpose.h"
#include "ops/repack.h"
#include "ops/quantise.h"
#include "ops/packed.h"
#include "ops/norm.h"
#include "ops/prepare.h"
#include "ops/scale.h"
#include "ops/bytes.h"
#include "ops/dot.h"
#include "ops/silu_mul.h"
#include "ops/store.h"
#include "ops/linear.h"
#include "ops/experts.h"
#include "ops/lora.h"
#include "ops/rope_store.h"
#include "ops/attention.h"
#include "ops/sample.h"
#include "ops/bench.h"

namespace LM_NS {
static const LmKernels table = {
#if defined(LM_BUILD_AVX512)
    "avx512vnni",
#elif defined(LM_BUILD_AVX2)
    "avx2",
#elif defined(LM_BUILD_I8MM)
    "neon-i8mm",
#elif defined(LM_BUILD_NEON)
    "neon-dot",
#else
    "portable",
#endif
    LM_COLUMNS, LM_FINE_TOKENS, tile_bytes, repack, convert, unpack_rows, to_vector, embed,
    rms_norm,         prepare,    linear,     expert_add, add_gated, silu_mul, softcap,
    lora_down,        lora_up,    rope_store,
    attention_scratch, attention_tokens, attention, attention_merge, sample_scratch, sample,
    bench_read, bench_int8, bench_f32, nullptr, nullptr,
};
}  // namespace LM_NS

#if defined(LM_BUILD_AVX512)
extern "C" const LmKernels *lm_kernels_avx512(void) { return &LM_NS::table; }
#elif defined(LM_BUILD_AVX2)
extern "C" const LmKernels *lm_kernels_avx2(void) { return &LM_NS::table; }
#elif defined(LM_BUILD_I8MM)
extern "C" const LmKernels *lm_kernels_i8mm(void) { return &LM_NS::table; }
#elif defined(LM_BUILD_NEON)
extern "C" const LmKernels *lm_kernels_dotprod(void) { return &LM_NS::table; }
#else
extern "C" const LmKernels *lm_kernels_portable(void) { return &LM_NS::table; }
#endif
