// Which families of kernels can run here, and the family of an instruction set.
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "exports.h"
#include "isa.h"

#if defined(__x86_64__)
/** Bit `bit` of register `at` (eax … edx) of CPUID leaf 7; false where there is no such subleaf. */
static bool leaf7(uint32_t subleaf, int at, int bit) {
  uint32_t r[4] = {}, most = 0;
  if (!__get_cpuid_count(7, 0, &most, r + 1, r + 2, r + 3) || subleaf > most) return false;
  if (!__get_cpuid_count(7, subleaf, r, r + 1, r + 2, r + 3)) return false;
  return r[at] >> bit & 1;
}

/** Does the system keep tiles (their configuration and their data) when it switches threads? */
static bool tiles_are_kept() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low >> 17 & 3) == 3;
}

/** Asks for the 8 KB of tile data; holds for all threads of the process, those to come and those there are. */
static bool tiles_are_allowed() {
#if defined(__linux__)
  const long request = 0x1023, tileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request, tileData) == 0;
#else
  return false;
#endif
}
#endif

int32_t isa_available() {
  int32_t bits = 1 << LM_PORTABLE;
#if defined(__x86_64__)
  LmKernels k;
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    bits |= 1 << LM_AVX2;
    if (leaf7(1, 0, 4) && lm_kernels_avxvnni(&k)) bits |= 1 << LM_AVXVNNI;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni")) {
      bits |= 1 << LM_AVX512;
      const bool has = leaf7(0, 3, 24) && leaf7(0, 3, 25);  // AMX-TILE, AMX-INT8
      if (has && tiles_are_kept() && lm_kernels_amx(&k) && tiles_are_allowed()) bits |= 1 << LM_AMX;
    }
  }
#endif
  return bits;
}

const LmKernels *isa_kernels(int32_t isa, LmKernels *own) {
#if defined(__x86_64__)
  if (isa == LM_AVX2) return lm_kernels_avx2();
  if (isa == LM_AVXVNNI) return lm_kernels_avxvnni(own);
  if (isa == LM_AVX512) return lm_kernels_avx512();
  if (isa == LM_AMX) return lm_kernels_amx(own);
#endif
  return lm_kernels_portable();
}

extern "C" int32_t lm_isa_available(void) { return isa_available(); }
