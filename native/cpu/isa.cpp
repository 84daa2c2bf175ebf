// Which families of kernels can run here, and the family of an instruction set. The processor itself is asked: the compilers'
// __builtin_cpu_supports needs a runtime library that not every linker brings (with zig's it always answers no).
#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include "exports.h"
#include "isa.h"
#include "isa_arm.h"

#if defined(__x86_64__)
/** Which registers the system keeps when it switches threads (XCR0). */
static uint32_t saved_registers() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
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

static int32_t native_isas() {
  uint32_t a, b, c, d, more = 0, unused;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  const uint32_t FMA = 1u << 12, OSXSAVE = 1u << 27, AVX = 1u << 28, F16C = 1u << 29, first = FMA | OSXSAVE | AVX | F16C;
  if ((c & first) != first) return 0;
  // registers that the system saves and restores: 128 and 256 bits; masks, 512 bits and the upper sixteen; tiles
  const uint32_t saved = saved_registers(), YMM = 0x06, ZMM = 0xe6, TILES = 0x60000;
  const uint32_t AVX2 = 1u << 5, AVXVNNI = 1u << 4;
  if ((saved & YMM) != YMM || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & AVX2)) return 0;
  LmKernels k;
  int32_t bits = 1 << LM_AVX2;
  if (a >= 1) __get_cpuid_count(7, 1, &more, &unused, &unused, &unused);  // a was the last subleaf
  if ((more & AVXVNNI) && lm_kernels_avxvnni(&k)) bits |= 1 << LM_AVXVNNI;
  const uint32_t F = 1u << 16, DQ = 1u << 17, BW = 1u << 30, VL = 1u << 31, wide = F | DQ | BW | VL, VNNI = 1u << 11;
  if ((saved & ZMM) != ZMM || (b & wide) != wide || !(c & VNNI)) return bits;
  bits |= 1 << LM_AVX512;
  const uint32_t TILE = 1u << 24, INT8 = 1u << 25, amx = TILE | INT8;
  if ((d & amx) == amx && (saved & TILES) == TILES && lm_kernels_amx(&k) && tiles_are_allowed()) bits |= 1 << LM_AMX;
  return bits;
}
#elif defined(__aarch64__)
static int32_t native_isas() { return arm_isas(); }
#else
static int32_t native_isas() { return 0; }
#endif

int32_t isa_available() { return 1 << LM_PORTABLE | native_isas(); }

const LmKernels *isa_kernels(int32_t isa, LmKernels *own) {
#if defined(__x86_64__)
  if (isa == LM_AVX2) return lm_kernels_avx2();
  if (isa == LM_AVXVNNI) return lm_kernels_avxvnni(own);
  if (isa == LM_AVX512) return lm_kernels_avx512();
  if (isa == LM_AMX) return lm_kernels_amx(own);
#elif defined(__aarch64__)
  (void)own;
  if (isa == LM_DOTPROD) return lm_kernels_dotprod();
  if (isa == LM_I8MM) return lm_kernels_i8mm();
#else
  (void)isa, (void)own;
#endif
  return lm_kernels_portable();
}

extern "C" int32_t lm_isa_available(void) { return isa_available(); }
