// Rows of f32 by index: the last tokens' residual stream before the output matrix (rms_norm can do it on its own, too).
//
// Block: 256 threads. Grid: (ceil(width / 1,024), rows). Strides are multiples of 4.
#include "common.h"

struct LmGather {
  const float *in;
  float *out;
  const int *index;
  int rows;
  int width;
  int inStride, outStride;
};

LM_KERNEL __launch_bounds__(256) gather(const __grid_constant__ LmGather p) {
  int row = blockIdx.y, k = 4 * (blockIdx.x * 256 + threadIdx.x);
  pdl_trigger();
  pdl_wait();
  if (row >= p.rows || k >= p.width) return;
  *(float4 *)(p.out + (i64)row * p.outStride + k) = load_f128(p.in + (i64)load_i32(p.index + row) * p.inStride + k);
}
