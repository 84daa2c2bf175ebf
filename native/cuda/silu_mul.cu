// silu(gate) · up where the two products could not share one kernel (different types): f16 rows → activations in tiles.
//
// Block: 256 threads. Grid: (ceil(width / 1,024), rows). width is a multiple of 4, or padded with zeros to one.
#define LM_EPI 2
#include "gemm.h"

struct LmSiluMul {
  const u16 *gate, *up;
  u8 *out;
  int rows;
  int width;
  int stride;  // f16 values between rows
  int k64;
};

LM_KERNEL __launch_bounds__(256) silu_mul_rows(const __grid_constant__ LmSiluMul p) {
  int row = blockIdx.y, k = 4 * (blockIdx.x * 256 + threadIdx.x);
  pdl_trigger();
  pdl_wait();
  if (row >= p.rows || k >= p.width) return;
  i64 at = (i64)row * p.stride + k;
  float2 g0 = half2_to_float2(load_u32(p.gate + at)), g1 = half2_to_float2(load_u32(p.gate + at + 2));
  float2 u0 = half2_to_float2(load_u32(p.up + at)), u1 = half2_to_float2(load_u32(p.up + at + 2));
  *(uint2 *)(p.out + tiled_offset(row, k, p.k64)) =
      make_uint2(pack_act(silu_mul(g0.x, u0.x), silu_mul(g0.y, u0.y)), pack_act(silu_mul(g1.x, u1.x), silu_mul(g1.y, u1.y)));
}
