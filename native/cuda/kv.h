// Where K and V lie, and the numbers of one attention geometry.
//
// LM_HD         values of a head, a multiple of 16
// LM_HEADS      query heads;  LM_KV_HEADS  heads of K and V
// LM_BLOCK_LEN  tokens of a block, a multiple of 16
// LM_KV_BITS    16 (f16), 8, 4 (scale and zero in f16 for each token, of K and of V)
//
// Block → layer → KV head → K (LM_BLOCK_LEN tokens), V, parameters. Groups of 8 tokens (K, and V of 16 bits) or 16 tokens
// (quantised V) are contiguous, so pieces of 16 tokens are, too. ATOM = 64 dims, or the largest power of two that divides a head.
//   K and V, 16 bits: [8 tokens][atoms][8 rows][2 · ATOM bytes], the 16-byte chunks of a row at c ^ (row % 8): with 64 dims
//     the 128-byte swizzle of wgmma
//   K, 8 bits: [8 tokens][atoms][8 rows][t = 0 … 3][groups of 16 dims][dims 2t, 2t + 1, 2t + 8, 2t + 9]
//   K, 4 bits: the same with two groups of 16 dims in a byte, the even one low; ATOM = 16: dims (2t, 2t + 1), (2t + 8, 2t + 9)
//   V, 8 bits: [16 tokens][units of UNIT = 32 or 16 dims][dim % 8][t][eights of dims][tokens 2t, 2t + 1, 2t + 8, 2t + 9]
//   V, 4 bits: the same with two eights of dims in a byte, the even one low
//   parameters: [16 tokens][K scale, K zero, V scale, V zero][16] f16
// These are the orders in which the lanes (g, t) of mma.sync read: 16 bytes at once, no bank conflicts.
#pragma once
#include "common.h"

#define LM_GROUP (LM_HEADS / LM_KV_HEADS)
#define LM_ATOM (LM_HD % 64 == 0 ? 64 : LM_HD % 32 == 0 ? 32 : 16)
#define LM_V_UNIT (LM_HD % 32 == 0 ? 32 : 16)
#define LM_ROW_BYTES (LM_HD * LM_KV_BITS / 8)
#define LM_PARAM_BYTES (LM_KV_BITS == 16 ? 0 : 8)
#define LM_HEAD_BYTES (LM_BLOCK_LEN * (2 * LM_ROW_BYTES + LM_PARAM_BYTES))
/** Tokens that are contiguous whatever the block length: tiles of attention are copied in such pieces. */
#define LM_PIECE (LM_BLOCK_LEN % 64 == 0 ? 64 : LM_BLOCK_LEN % 32 == 0 ? 32 : 16)
/** Positions whose sums are made alone and then merged in order. */
#ifndef LM_SPLIT_LEN
#define LM_SPLIT_LEN 512
#endif

/** Byte of 16-byte chunk `chunk` (8 dims) of a token's K or V row, 16 bits. */
LM_DEVICE u32 kv_half_offset(int token, int chunk) {
  const int CHUNKS = LM_ATOM / 8;
  int row = token & 7, atom = chunk / CHUNKS, c = chunk % CHUNKS;
  return (token >> 3) * (16 * LM_HD) + atom * (16 * LM_ATOM) + row * (2 * LM_ATOM) + ((c ^ (row & (CHUNKS - 1))) << 4);
}
/** Byte where lane t's values of a token's K begin in an atom, 8 or 4 bits: LM_ATOM / 16 words (half as many with 4 bits). */
LM_DEVICE u32 k_quant_offset(int token, int atom, int t) {
  const int ROW = LM_ATOM * LM_KV_BITS / 8;
  return (token >> 3) * (8 * LM_ROW_BYTES) + atom * (8 * ROW) + (token & 7) * ROW + t * (ROW / 4);
}
/** Byte where lane (g, t)'s values of a unit of V begin, for 16 tokens. */
LM_DEVICE u32 v_quant_offset(int token, int unit, int g, int t) {
  const int LANE = LM_V_UNIT / 8 * 4 * LM_KV_BITS / 8;
  return (token >> 4) * (16 * LM_ROW_BYTES) + unit * (32 * LANE) + (4 * g + t) * LANE;
}
/** Byte of a token's parameter `which`: K scale, K zero, V scale, V zero. */
LM_DEVICE u32 param_offset(int token, int which) { return (token >> 4) * 128 + which * 32 + (token & 15) * 2; }

// ---------------------------------------------------------------- softmax in powers of two; the same functions everywhere

/** Joins a later split (m, l, o) to (M, L, T). m = -inf: nothing changes, to the bit. */
LM_DEVICE void merge_weights(float M, float m, float *top, float *a, float *b) {
  *top = fmaxf(M, m);
  *a = exp2_(M - *top);
  *b = exp2_(m - *top);
}
LM_DEVICE float merge_value(float T, float a, float o, float b) { return fma_(T, a, o * b); }
