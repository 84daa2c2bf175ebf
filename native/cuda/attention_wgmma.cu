// Causal attention over paged K and V with wgmma (sm_90a), for prefill: 64 query rows a warpgroup. The same tiles, splits
// and functions in the same order as attention.cu, and wgmma adds as mma.sync does: the same bits.
//
// Geometry: kv.h, with LM_KV_BITS 16 and LM_HD 64 or 128. LM_WGS warpgroups; LM_STAGES.
// While the product P · V of one tile runs, the scores of the next become its p.
// A task has up to 64 · LM_WGS rows. Block: 128 · (LM_WGS + 1) threads, the last warpgroup copies. Grid: (tasks, KV heads).
// Shared memory: LM_STAGES · 256 · LM_HD + LM_WGS · 256 · LM_HD + 16 · LM_STAGES; LM_STAGES ≥ 2.
#include "attention.h"
#include "wgmma.h"

#define GROUP_STRIDE (16 * LM_HD)  // from 8 rows to the next 8

LM_DEVICE void groups_sync() { asm volatile("bar.sync 1, %0;" ::"n"(128 * LM_WGS) : "memory"); }
/** What ordinary stores wrote to shared memory is seen by wgmma. */
LM_DEVICE void proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/** Rows of V that nobody stored count 0 · V: they must be numbers. All warpgroups come here once, with the last tile. */
LM_DEVICE void clear_rows(u32 tile, int valid) {
  for (int item = threadIdx.x; item < (64 - valid) * (LM_HD / 8); item += 128 * LM_WGS)
    shared_store_u128(tile + TILE_K + kv_half_offset(valid + item / (LM_HD / 8), item % (LM_HD / 8)), make_uint4(0, 0, 0, 0));
  proxy_fence();
  groups_sync();
}

/** s = q · Kᵀ, begun. */
LM_DEVICE void begin_scores(const u32 (*q)[4], float *s, u32 tile) {
#pragma unroll
  for (int j = 0; j < 32; j++) s[j] = 0.0f;
  u64 b = wgmma_descriptor(tile, GROUP_STRIDE, 16);
  wgmma_hold<32>(s);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < LM_HD / 16; k++) Wgmma<64>::half(s, q[k], b + ((k / 4 * 1024 + k % 4 * 32) >> 4));
  wgmma_commit();
}
/** o += p · V, begun. */
LM_DEVICE void begin_mix(const u32 (*p)[4], float *o, u32 tile) {
  u64 v = wgmma_descriptor(tile + TILE_K, GROUP_STRIDE, 1024);
  wgmma_hold<LM_HD / 2>(o);
  wgmma_fence();
#pragma unroll
  for (int j = 0; j < 4; j++) Wgmma<LM_HD>::half_transposed(o, p[j], v + (j * 2 * GROUP_STRIDE >> 4));
  wgmma_commit();
}

/** The split that ends is joined to those before: in `total` (a thread's values LM_WGS · 128 apart), or in o if it is the last. */
LM_DEVICE void join(float *o, const Rows &state, float *M, float *L, float *total, bool leading, bool final) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float l = row_sum(state.l[r]), top, a = 0, b = 0;
    if (leading) {
      M[r] = state.m[r], L[r] = l;
    } else {
      merge_weights(M[r], state.m[r], &top, &a, &b);
      M[r] = top, L[r] = merge_value(L[r], a, l, b);
    }
#pragma unroll
    for (int j = 0; j < LM_HD / 8; j++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        int i = 4 * j + 2 * r + e;
        float *T = total + i * 128 * LM_WGS;
        if (!leading) o[i] = merge_value(*T, a, o[i], b);
        if (!final) *T = o[i];
      }
  }
}

LM_KERNEL __launch_bounds__(128 * (LM_WGS + 1), 1) attention(const __grid_constant__ LmAttention p) {
  extern __shared__ __align__(1024) u8 memory[];
  u32 ring = shared_address(memory), full = ring + LM_STAGES * TILE, empty = full + 8 * LM_STAGES;
  int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), lane = threadIdx.x & 31, group = warp >> 2;
  if (threadIdx.x == 0) {
    for (int i = 0; i < LM_STAGES; i++) {
      barrier_init(full + 8 * i, 1);
      barrier_init(empty + 8 * i, 4 * LM_WGS * LM_WARP_ARRIVALS);
    }
    barrier_fence_init();
  }
  __syncthreads();
  pdl_trigger();
  pdl_wait();
  int kvHead = blockIdx.y, first, count, slot, position;
  {
    // the longest contexts first
    uint4 task = load_u128(p.tasks + (gridDim.x - 1 - blockIdx.x));
    first = (int)task.x, count = (int)task.y, slot = (int)task.z, position = (int)task.w;
  }
  int end = position + count, tiles = (end + 63) / 64, rows = count * LM_GROUP;
  if (count <= 0) return;
  if (group == LM_WGS) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 56;");
    if (warp == 4 * LM_WGS) produce(p, slot, kvHead, 0, tiles, end, 0, ring, full, empty, lane);
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
  int row = warp * 16 + (lane >> 2), t = lane & 3, last = 64 * group + 63;
  last = last < rows ? last : rows - 1;
  int mine = 64 * group < rows ? position + last / LM_GROUP + 1 : 0;  // positions that the group's last row sees
  int sees[2] = {position + row / LM_GROUP + 1, position + (row + 8) / LM_GROUP + 1}, own = (mine + 63) / 64;
  u32 q[LM_HD / 16][4];
  load_q(p, first, rows, kvHead, row, t, q);
  float o[LM_HD / 2], s[32], M[2] = {0, 0}, L[2] = {0, 0}, alpha[2];
  u32 x[4][4];
  Rows state = {{-LM_INF, -LM_INF}, {0.0f, 0.0f}};
  float *total = (float *)(memory + LM_STAGES * TILE + 16 * LM_STAGES) + threadIdx.x;
#pragma unroll
  for (int j = 0; j < LM_HD / 2; j++) o[j] = 0.0f;
  auto to_p = [&](int tile) {
    int limit[2], start = 64 * tile, seen = mine - start < 64 ? mine - start : 64;
    limit[0] = sees[0] - start < seen ? sees[0] - start : seen;
    limit[1] = sees[1] - start < seen ? sees[1] - start : seen;
    softmax((float(*)[4])s, state, limit, p.scale, t, alpha);
  };
  auto free_stage = [&](int tile) {
    release_stage(empty + 8 * (tile % LM_STAGES), lane);
  };
  if (own > 0) {
    barrier_wait(full, 0);
    begin_scores(q, s, ring);
    wgmma_wait<0>();
    wgmma_hold<32>(s);
    to_p(0);
    pack_p((float(*)[4])s, x);
  }
  for (int tile = 0; tile < own - 1; tile++) {
    u32 at = ring + tile % LM_STAGES * TILE;
    barrier_wait(full + 8 * ((tile + 1) % LM_STAGES), ((tile + 1) / LM_STAGES) & 1);
    begin_scores(q, s, ring + (tile + 1) % LM_STAGES * TILE);
    begin_mix(x, o, at);
    wgmma_wait<1>();
    wgmma_hold<32>(s);
    bool ends = tile % SPLIT_TILES == SPLIT_TILES - 1;
    Rows ended = state;
    if (ends) {
      state.m[0] = state.m[1] = -LM_INF;
      state.l[0] = state.l[1] = 0.0f;
    }
    to_p(tile + 1);
    wgmma_wait<0>();
    wgmma_hold<LM_HD / 2>(o);
    free_stage(tile);
    if (ends) {
      join(o, ended, M, L, total, tile < SPLIT_TILES, false);
#pragma unroll
      for (int j = 0; j < LM_HD / 2; j++) o[j] = 0.0f;
    } else {
#pragma unroll
      for (int j = 0; j < LM_HD / 8; j++) {
        o[4 * j] *= alpha[0], o[4 * j + 1] *= alpha[0];
        o[4 * j + 2] *= alpha[1], o[4 * j + 3] *= alpha[1];
      }
    }
    wgmma_hold<32>(s);  // p is rounded only now: until here the product read the registers of the p before
    pack_p((float(*)[4])s, x);
  }
  if (own > 0) {
    int tile = own - 1;
    u32 at = ring + tile % LM_STAGES * TILE;
    if (end - 64 * tile < 64) clear_rows(at, end - 64 * tile);
    begin_mix(x, o, at);
    wgmma_wait<0>();
    wgmma_hold<LM_HD / 2>(o);
    free_stage(tile);
    join(o, state, M, L, total, tile < SPLIT_TILES, true);
  }
  for (int tile = own; tile < tiles; tile++) {  // tiles of the other groups
    barrier_wait(full + 8 * (tile % LM_STAGES), (tile / LM_STAGES) & 1);
    if (end - 64 * tile < 64) clear_rows(ring + tile % LM_STAGES * TILE, end - 64 * tile);
    free_stage(tile);
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    int at = row + 8 * r, token = first + at / LM_GROUP, head = kvHead * LM_GROUP + at % LM_GROUP;
    if (at >= rows) continue;
    float k = 1.0f / L[r];
#pragma unroll
    for (int j = 0; j < LM_HD / 8; j++)
      *(u32 *)(p.out + tiled_offset(token, head * LM_HD + 8 * j + 2 * t, p.k64)) = pack_act(o[4 * j + 2 * r] * k, o[4 * j + 2 * r + 1] * k);
  }
}
