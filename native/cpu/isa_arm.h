// Which NEON kernels this 64-bit Arm processor runs, as bits of LmIsa; the operating system is asked.
#pragma once
#if defined(__aarch64__)
#include <stdint.h>

#include "abi.h"

#if defined(__APPLE__)
#include <sys/sysctl.h>
static bool arm_has(const char *feature) {
  int32_t value = 0;
  size_t size = sizeof(value);
  return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value != 0;
}
static bool arm_has_dotprod() { return arm_has("hw.optional.arm.FEAT_DotProd"); }
static bool arm_has_i8mm() { return arm_has("hw.optional.arm.FEAT_I8MM"); }
#elif defined(__linux__)
#include <sys/auxv.h>
static bool arm_has_dotprod() { return getauxval(AT_HWCAP) >> 20 & 1; }  // HWCAP_ASIMDDP
static bool arm_has_i8mm() { return getauxval(AT_HWCAP2) >> 13 & 1; }    // HWCAP2_I8MM
#else
static bool arm_has_dotprod() { return false; }
static bool arm_has_i8mm() { return false; }
#endif

static inline int32_t arm_isas() {
  if (!arm_has_dotprod()) return 0;
  return 1 << LM_DOTPROD | (arm_has_i8mm() ? 1 << LM_I8MM : 0);
}
#endif
