// The machine's instruction sets (LmIsa).
#pragma once
#include "kernels.h"

/** Bit i: instruction set i can run here, and the system allows it. */
int32_t isa_available();
/** Kernels of an available instruction set; `own` holds them where they are another family's with some replaced. */
const LmKernels *isa_kernels(int32_t isa, LmKernels *own);
