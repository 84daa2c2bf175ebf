// Copies between KV blocks, before anything else of a step: (from, to, leading tokens). All layers and heads.
//
// Geometry: kv.h. Block: 256 threads. Grid: (layers · KV heads, copies).
#include "kv.h"

struct LmCopyBlocks {
  u8 *kv;  // pool
  i64 blockBytes;
  const int *copies;  // (copies, 3)
  const int *count;   // copies that are there
};

LM_DEVICE void copy_piece(const u8 *from, u8 *to, int bytes) {
  for (int i = 16 * threadIdx.x; i < bytes; i += 16 * 256) *(uint4 *)(to + i) = load_u128(from + i);
}

LM_KERNEL __launch_bounds__(256) copy_blocks(const __grid_constant__ LmCopyBlocks p) {
  pdl_trigger();
  pdl_wait();
  int copy = blockIdx.y;
  if (copy >= load_i32(p.count)) return;
  i64 from = load_i32(p.copies + 3 * copy), to = load_i32(p.copies + 3 * copy + 1);
  // whole groups of 16: what lies beyond the leading tokens is written again before it is read
  int tokens = (load_i32(p.copies + 3 * copy + 2) + 15) / 16 * 16;
  tokens = tokens < LM_BLOCK_LEN ? tokens : LM_BLOCK_LEN;
  const u8 *src = p.kv + from * p.blockBytes + (i64)blockIdx.x * LM_HEAD_BYTES;
  u8 *dst = p.kv + to * p.blockBytes + (i64)blockIdx.x * LM_HEAD_BYTES;
  copy_piece(src, dst, tokens * LM_ROW_BYTES);
  copy_piece(src + LM_BLOCK_LEN * LM_ROW_BYTES, dst + LM_BLOCK_LEN * LM_ROW_BYTES, tokens * LM_ROW_BYTES);
  if (LM_KV_BITS != 16) copy_piece(src + 2 * LM_BLOCK_LEN * LM_ROW_BYTES, dst + 2 * LM_BLOCK_LEN * LM_ROW_BYTES, tokens * LM_PARAM_BYTES);
}
