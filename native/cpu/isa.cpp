// Which instruction sets this processor has and this system lets us use. Asked of the processor itself: the compilers'
// __builtin_cpu_supports needs a runtime library that not every linker brings (with zig's it always answers no).
#include "exports.h"

#if defined(__x86_64__)
#include <cpuid.h>

static int32_t x64_sets() {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  const uint32_t FMA = 1u << 12, OSXSAVE = 1u << 27, AVX = 1u << 28, F16C = 1u << 29;
  const uint32_t first = FMA | OSXSAVE | AVX | F16C;
  if ((c & first) != first) return 0;
  // registers that the system saves and restores: 128 and 256 bits; masks, 512 bits and the upper sixteen
  uint32_t saved, high;
  __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  const uint32_t YMM = 0x06, ZMM = 0xe6;
  if ((saved & YMM) != YMM || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
  const uint32_t AVX2 = 1u << 5;
  if (!(b & AVX2)) return 0;
  int32_t sets = 1 << LM_AVX2;
  const uint32_t F = 1u << 16, DQ = 1u << 17, BW = 1u << 30, VL = 1u << 31, wide = F | DQ | BW | VL, VNNI = 1u << 11;
  if ((saved & ZMM) == ZMM && (b & wide) == wide && (c & VNNI)) sets |= 1 << LM_AVX512;
  return sets;
}
#else
static int32_t x64_sets() { return 0; }
#endif

extern "C" int32_t lm_isa_available(void) { return 1 << LM_PORTABLE | x64_sets(); }
