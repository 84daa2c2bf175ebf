// The C ABI between TypeScript (src/device/cpu/native.ts) and the CPU device. Plain data only: all of it, from numbers of
// operations to the layout of a step, is generated from src/device/cpu/layout.ts and src/device/step.ts when the library is
// compiled.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "abi.gen.h"
