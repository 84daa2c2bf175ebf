// In the place of isa.cpp, in a library whose AVX-VNNI and AMX kernels run on emulated instructions (see emulated.h): these two
// families alone, on a processor that has AVX2. What AMX leaves to AVX-512 VNNI, AVX-VNNI does.
#include "../cpu/exports.h"
#include "../cpu/isa.h"
#include "emulated.h"

extern "C" const LmKernels *lm_kernels_portable(void) { return lm_kernels_avx2(); }
extern "C" const LmKernels *lm_kernels_avx512(void) {
  static LmKernels own;
  static const LmKernels *const made = lm_kernels_avxvnni(&own);
  return made;
}

int32_t isa_available() { return 1 << LM_AVXVNNI | 1 << LM_AMX; }
const LmKernels *isa_kernels(int32_t isa, LmKernels *own) { return isa == LM_AMX ? lm_kernels_amx(own) : lm_kernels_avxvnni(own); }
extern "C" int32_t lm_isa_available(void) { return isa_available(); }
/** Products of tiles so far. */
extern "C" __attribute__((visibility("default"))) int64_t lm_emulated_dots(void) { return __atomic_load_n(&emulated::dots, __ATOMIC_RELAXED); }
