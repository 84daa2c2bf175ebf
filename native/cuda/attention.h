// What the attention kernels share: parameters, and the warp that copies tiles of K and V into shared memory.
//
// A task is a few query rows, (token, head of the group), of one sequence and one KV head. Positions come in tiles of 64 at
// absolute places, ascending; splits of 512 positions are made alone and merged in ascending order by the same functions
// (kv.h): what a row gives depends on its own position alone.
#pragma once
#include "softmax.h"

struct LmAttention {
  const u8 *kv;       // pool, at this layer of block 0
  i64 blockBytes;
  const u16 *q;       // (tokens, stride) f16, rotated
  u8 *out;            // activations in tiles
  float *partial;     // decode: (tokens, heads, splits, LM_HD) sums
  float *weights;     // decode: (tokens, heads, splits, 2) maximum, sum
  int *arrived;       // decode: (tasks, KV heads · parts) zeros, and zeros again afterwards
  const int *tables;  // (slots, maxBlocks)
  const int4 *tasks;  // first token, tokens (0: nothing to do), slot, position of the first token
  int stride;
  int k64;            // tiles in a row of tiles of out
  int maxBlocks;
  int splits;         // decode: that there is room for
  float scale;        // log2(e) / sqrt(LM_HD)
};

#define TILE_K (64 * LM_ROW_BYTES)
#define TILE (2 * TILE_K + 64 * LM_PARAM_BYTES)
#define PIECES (64 / LM_PIECE)
#define SPLIT_TILES (LM_SPLIT_LEN / 64)

/**
 * The copying warp: tiles [from, to) of one head; positions `end` … are not there. Those below `stored` were stored by steps before, so the
 * first stages do not wait for the kernel before.
 */
LM_DEVICE void produce(const LmAttention &p, int slot, int kvHead, int from, int to, int end, int stored, u32 ring, u32 full, u32 empty,
                       int lane) {
  const int *table = p.tables + (i64)slot * p.maxBlocks;
  const u8 *heads = p.kv + (i64)kvHead * LM_HEAD_BYTES;
  int blocks = 0, first = from * PIECES;
  bool waits = true;
  for (int tile = from, i = 0; tile < to; tile++, i++) {
    if (waits && (i >= LM_STAGES || 64 * (tile + 1) > stored)) {
      pdl_wait();
      waits = false;
    }
    int stage = i % LM_STAGES, left = end - 64 * tile, count = left >= 64 ? PIECES : (left + LM_PIECE - 1) / LM_PIECE;
    u32 at = ring + stage * TILE, bar = full + 8 * stage;
    if ((tile - from) * PIECES % 32 == 0) {  // block numbers of the next 32 pieces, one a lane
      int position = (tile * PIECES + lane) * LM_PIECE;
      blocks = position < end ? load_i32(table + position / LM_BLOCK_LEN) : 0;
    }
    barrier_wait(empty + 8 * stage, ((i / LM_STAGES) & 1) ^ 1);
    if (lane == 0) expect_bytes(bar, count * LM_PIECE * (2 * LM_ROW_BYTES + LM_PARAM_BYTES));
    __syncwarp();
    for (int q = 0; q < count; q++) {
      int piece = tile * PIECES + q, block = __shfl_sync(~0u, blocks, (piece - first) & 31);
      int in = piece * LM_PIECE % LM_BLOCK_LEN;
      const u8 *src = heads + block * p.blockBytes;
      if (!copies_here(lane)) continue;
      if (LM_BLOCK_LEN == 64) {
        copy_in(at, src, TILE, bar, lane);
      } else {
        copy_in(at + q * LM_PIECE * LM_ROW_BYTES, src + in * LM_ROW_BYTES, LM_PIECE * LM_ROW_BYTES, bar, lane);
        copy_in(at + TILE_K + q * LM_PIECE * LM_ROW_BYTES, src + (LM_BLOCK_LEN + in) * LM_ROW_BYTES, LM_PIECE * LM_ROW_BYTES, bar, lane);
        if (LM_KV_BITS != 16)
          copy_in(at + 2 * TILE_K + q * LM_PIECE * LM_PARAM_BYTES, src + 2 * LM_BLOCK_LEN * LM_ROW_BYTES + in * LM_PARAM_BYTES,
                  LM_PIECE * LM_PARAM_BYTES, bar, lane);
      }
    }
    copies_done(bar);
  }
  copies_end();
}

/** q's rows as the a operand; rows that the task does not have are 0. */
LM_DEVICE void load_q(const LmAttention &p, int first, int rows, int kvHead, int row, int t, u32 (*q)[4]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    int at = row + 8 * r;
    bool there = at < rows;
    const u16 *x = p.q + (i64)(first + at / LM_GROUP) * p.stride + (kvHead * LM_GROUP + at % LM_GROUP) * LM_HD + 2 * t;
#pragma unroll
    for (int k = 0; k < LM_HD / 16; k++) {
      q[k][r] = there ? load_u32(x + 16 * k) : 0;
      q[k][2 + r] = there ? load_u32(x + 16 * k + 8) : 0;
    }
  }
}

/** Rows of V that nobody stored count 0 · V: they must be numbers. The warps share the work; a barrier must follow. */
LM_DEVICE void clear_tail(u32 tile, int valid, int warp, int warps, int lane) {
  int end = (valid + 15) & ~15;
  for (int token = valid + warp; token < end; token += warps) {
    if (LM_KV_BITS == 16) {
      for (int c = lane; c < LM_HD / 8; c += 32) shared_store_u128(tile + TILE_K + kv_half_offset(token, c), make_uint4(0, 0, 0, 0));
    } else if (lane < 2) {
      asm volatile("st.shared.b16 [%0], %1;" ::"r"(tile + 2 * TILE_K + param_offset(token, 2 + lane)), "h"((u16)0) : "memory");
    }
  }
}

#if LM_KV_BITS != 16
/** Words of one lane, wide loads. */
template <int BYTES>
LM_DEVICE void load_words(u32 *w, u32 at) {
  if (BYTES == 16) {
    uint4 v = shared_u128(at);
    w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
  } else if (BYTES == 8) {
    uint2 v = shared_u64(at);
    w[0] = v.x, w[1] = v.y;
  } else if (BYTES == 4) {
    w[0] = shared_u32(at);
  } else {
    w[0] = shared_u16(at);
  }
}
/** Pair `half` (bytes 0, 1 or 2, 3) of four unsigned bytes → f16, exact. */
LM_DEVICE u32 bytes_to_half(u32 w, int half) { return hsub2(prmt(w, 0x64646464, half ? 0x4342 : 0x4140), 0x64006400); }
/** The four values of item i among the words of a lane. */
LM_DEVICE u32 four(const u32 *w, int i) {
#if LM_KV_BITS == 8
  return w[i];
#else
  return (i & 1 ? w[i >> 1] >> 4 : w[i >> 1]) & 0x0f0f0f0f;
#endif
}
/** Lane t's values of a token's K in an atom, and those of its group k of 16 dims: 2t, 2t + 1, 2t + 8, 2t + 9. */
LM_DEVICE void load_k_words(u32 *w, u32 tile, int token, int atom, int t) {
  load_words<LM_ATOM * LM_KV_BITS / 32>(w, tile + k_quant_offset(token, atom, t));
#if LM_KV_BITS == 4 && LM_ATOM == 16
  w[0] = (w[0] & 15) | (w[0] & 0xf0) << 4 | (w[0] & 0xf00) << 8 | (w[0] & 0xf000) << 12;
#endif
}
LM_DEVICE u32 k_bytes(const u32 *w, int k) { return LM_KV_BITS == 4 && LM_ATOM == 16 ? w[0] : four(w, k); }
/** Lane (g, t)'s values of a unit of V for 16 tokens. */
LM_DEVICE void load_v_words(u32 *w, u32 values, int token, int unit, int g, int t) {
  load_words<LM_V_UNIT / 8 * LM_KV_BITS / 2>(w, values + v_quant_offset(token, unit, g, t));
}
#endif
