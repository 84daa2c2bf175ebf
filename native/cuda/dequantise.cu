// Units of quantised weights → tiles of the activation type: for many tokens the 16-bit product reads these instead. The
// values are those of gemm_q.cu, so the sums are too.
//
// LM_TYPE. Block: 128 threads. Grid: (ceil(k64 / 4), strips of 16 rows, rounded up to 4).
#include "quant.h"

struct LmDequantise {
  const u8 *src;
  u8 *dst;
  int k64;
  int strips;
};

#define SEGMENTS (LM_QK / 64)
#define UNITS (4 / SEGMENTS)

LM_KERNEL __launch_bounds__(128) dequantise_tiles(const __grid_constant__ LmDequantise p) {
  __shared__ __align__(16) u8 units[UNITS * LM_UNIT];
  __shared__ __align__(16) u8 out[4 * 2048];
  int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, strip = blockIdx.y, first = blockIdx.x * 4;
  int perRow = p.k64 / SEGMENTS, unit = first / SEGMENTS, count = perRow - unit < UNITS ? perRow - unit : UNITS;
  pdl_trigger();
  const u8 *src = p.src + ((i64)strip * perRow + unit) * LM_UNIT;
  for (int i = threadIdx.x * 16; i < count * LM_UNIT; i += 128 * 16) *(uint4 *)(units + i) = *(const uint4 *)(src + i);
  __syncthreads();
  pdl_wait();
  if (first + warp >= p.k64) return;
  u32 at = shared_address(units) + warp / SEGMENTS * LM_UNIT;
  Segment q = load_segment(at, warp % SEGMENTS, lane);
  SegmentScales s = segment_scales(q.scales, unit_scales(at, lane >> 2));
  u8 *tile = out + warp * 2048;
#pragma unroll
  for (int j = 0; j < 4; j++) {
    u32 a[4];
    dequantise(q, s, j, a);
#pragma unroll
    for (int i = 0; i < 4; i++)
      *(u32 *)(tile + tile_offset((lane >> 2) + 8 * (i & 1), 16 * j + 8 * (i >> 1) + 2 * (lane & 3))) = a[i];
  }
  __syncwarp();
  u8 *dst = p.dst + ((i64)(strip >> 2) * p.k64 + first + warp) * LM_TILE_BYTES + (strip & 3) * 2048;
#pragma unroll
  for (int i = 0; i < 4; i++) *(uint4 *)(dst + 512 * i + 16 * lane) = *(const uint4 *)(tile + 512 * i + 16 * lane);
}
