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
  u8 *out;            // activations in tiles (LM_SPLIT 0)
  float *partial;     // (tokens, heads, splits, LM_HD) sums (LM_SPLIT 1)
  float *weights;     // (tokens, heads, splits, 2) maximum, sum
  const int *tables;  // (slots, maxBlocks)
  const int4 *tasks;  // first token, tokens (0: nothing to do), slot, position of the first token
  int stride;
  int k64;            // tiles in a row of tiles of out
  int maxBlocks;
  int splits;         // that there is room for
  float scale;        // log2(e) / sqrt(LM_HD)
};

#define TILE_K (64 * LM_ROW_BYTES)
#define TILE (2 * TILE_K + 64 * LM_PARAM_BYTES)
#define PIECES (64 / LM_PIECE)
#define SPLIT_TILES (LM_SPLIT_LEN / 64)

/** The copying warp: tiles [from, to) of one head; positions `end` … are not there. */
LM_DEVICE void produce(const LmAttention &p, int slot, int kvHead, int from, int to, int end, u32 ring, u32 full, u32 empty, int lane) {
  const int *table = p.tables + (i64)slot * p.maxBlocks;
  const u8 *heads = p.kv + (i64)kvHead * LM_HEAD_BYTES;
  int blocks = 0, first = from * PIECES;
  for (int tile = from, i = 0; tile < to; tile++, i++) {
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
