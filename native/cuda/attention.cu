// Causal attention over paged K and V with mma.sync, for prefill, chunks and recomputing: quantised K and V, and GPUs before
// sm_90. A task has up to 16 · LM_WARPS rows.
//
// Geometry: kv.h. LM_WARPS 1, 2, 4, 8; LM_STAGES.
// Block: 32 · (LM_WARPS + 1) threads, the last warp copies. Grid: (tasks, KV heads).
// Shared memory: LM_STAGES · 64 · (2 · row bytes + parameter bytes) + 16 · LM_STAGES + 64 · LM_WARPS · LM_HD.
#include "attention.h"

/** s (16 rows × 64 positions) = q · Kᵀ; eights of positions from `eights` on are left as they are. */
LM_DEVICE void scores(u32 tile, const u32 (*q)[4], float (*s)[4], int eights, int lane) {
#if LM_KV_BITS == 16
#pragma unroll
  for (int j = 0; j < 8; j += 2) {
    if (j >= eights) break;
    int token = 8 * j + (lane & 7) + ((lane >> 4) << 3);
#pragma unroll
    for (int k = 0; k < LM_HD / 16; k++) {
      u32 b[4];
      ldmatrix4(b, tile + kv_half_offset(token, 2 * k + ((lane >> 3) & 1)));
      mma_half(s[j], q[k], b[0], b[1]);
      mma_half(s[j + 1], q[k], b[2], b[3]);
    }
  }
#else
  const int GROUPS = LM_ATOM / 16;
#pragma unroll
  for (int j = 0; j < 8; j++) {
    if (j >= eights) break;
    int token = 8 * j + (lane >> 2);
    u32 scale = shared_u16(tile + 2 * TILE_K + param_offset(token, 0)) * 0x10001u;
    u32 zero = shared_u16(tile + 2 * TILE_K + param_offset(token, 1)) * 0x10001u;
#pragma unroll
    for (int atom = 0; atom < LM_HD / LM_ATOM; atom++) {
      u32 w[4];
      load_k_words(w, tile, token, atom, lane & 3);
#pragma unroll
      for (int k = 0; k < GROUPS; k++) {
        u32 x = k_bytes(w, k);
        mma_half(s[j], q[atom * GROUPS + k], hfma2(bytes_to_half(x, 0), scale, zero), hfma2(bytes_to_half(x, 1), scale, zero));
      }
    }
  }
#endif
}

/** o (16 rows × LM_HD) += p · V; groups of 16 positions from `groups` on have p = 0 and are left out. */
LM_DEVICE void mix(u32 tile, const u32 (*p)[4], float (*o)[4], int groups, int lane) {
#pragma unroll
  for (int j = 0; j < 4; j++) {
    if (j >= groups) break;
#if LM_KV_BITS == 16
    int token = 16 * j + (lane & 7) + (lane & 8);
#pragma unroll
    for (int i = 0; i < LM_O; i += 2) {
      u32 b[4];
      ldmatrix4_trans(b, tile + TILE_K + kv_half_offset(token, i + (lane >> 4)));
      mma_half(o[i], p[j], b[0], b[1]);
      mma_half(o[i + 1], p[j], b[2], b[3]);
    }
#else
    const int EIGHTS = LM_V_UNIT / 8;
    int g = lane >> 2, t = lane & 3, token = 16 * j + 2 * t;
    u32 params = tile + 2 * TILE_K;
    u32 s0 = shared_u32(params + param_offset(token, 2)), z0 = shared_u32(params + param_offset(token, 3));
    u32 s1 = shared_u32(params + param_offset(token + 8, 2)), z1 = shared_u32(params + param_offset(token + 8, 3));
#pragma unroll
    for (int unit = 0; unit < LM_HD / LM_V_UNIT; unit++) {
      u32 w[4];
      load_v_words(w, tile + TILE_K, 16 * j, unit, g, t);
#pragma unroll
      for (int i = 0; i < EIGHTS; i++) {
        u32 x = four(w, i);
        mma_half(o[unit * EIGHTS + i], p[j], hfma2(bytes_to_half(x, 0), s0, z0), hfma2(bytes_to_half(x, 1), s1, z1));
      }
    }
#endif
  }
}

LM_KERNEL __launch_bounds__(32 * (LM_WARPS + 1), 1) attention(const __grid_constant__ LmAttention p) {
  extern __shared__ __align__(1024) u8 memory[];
  u32 ring = shared_address(memory), full = ring + LM_STAGES * TILE, empty = full + 8 * LM_STAGES;
  int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  if (threadIdx.x == 0) {
    for (int i = 0; i < LM_STAGES; i++) {
      barrier_init(full + 8 * i, full_count());
      barrier_init(empty + 8 * i, LM_WARPS * LM_WARP_ARRIVALS);
    }
    barrier_fence_init();
  }
  __syncthreads();
  pdl_trigger();
  pdl_wait();
  int kvHead = blockIdx.y, first, count, slot, position;
  {
    uint4 task = load_u128(p.tasks + blockIdx.x);
    first = (int)task.x, count = (int)task.y, slot = (int)task.z, position = (int)task.w;
  }
  int end = position + count, tiles = (end + 63) / 64, rows = count * LM_GROUP;
  if (count <= 0) return;
  if (warp == LM_WARPS) {
    produce(p, slot, kvHead, 0, tiles, end, 0, ring, full, empty, lane);
    return;
  }
  int row = warp * 16 + (lane >> 2), t = lane & 3, last = warp * 16 + 15;
  last = last < rows ? last : rows - 1;
  int mine = warp * 16 < rows ? position + last / LM_GROUP + 1 : 0;  // positions that the warp's last row sees
  u32 q[LM_HD / 16][4];
  load_q(p, first, rows, kvHead, row, t, q);
  float o[LM_O][4], M[2] = {0, 0}, L[2] = {0, 0};
  Rows state;
  float *total = (float *)(memory + LM_STAGES * TILE + 16 * LM_STAGES) + threadIdx.x;  // 32 · LM_WARPS values apart
  bool merged = false;
  for (int tile = 0; tile < tiles; tile++) {
    int stage = tile % LM_STAGES, start = 64 * tile;
    u32 at = ring + stage * TILE;
    if (tile % SPLIT_TILES == 0 && mine > start) {
#pragma unroll
      for (int j = 0; j < LM_O; j++) o[j][0] = o[j][1] = o[j][2] = o[j][3] = 0.0f;
      state.m[0] = state.m[1] = -LM_INF;
      state.l[0] = state.l[1] = 0.0f;
    }
    barrier_wait(full + 8 * stage, (tile / LM_STAGES) & 1);
    int seen = mine - start;
    if (end - start < 64) {  // the last tile: all warps are here
      clear_tail(at, end - start, warp, LM_WARPS, lane);
      asm volatile("bar.sync 1, %0;" ::"n"(32 * LM_WARPS) : "memory");
    }
    if (seen > 0) {
      seen = seen < 64 ? seen : 64;
      float s[8][4], alpha[2];
      u32 x[4][4];
#pragma unroll
      for (int j = 0; j < 8; j++) s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0.0f;
      scores(at, q, s, (seen + 7) / 8, lane);
      int limit[2] = {position + row / LM_GROUP + 1 - start, position + (row + 8) / LM_GROUP + 1 - start};
      limit[0] = limit[0] < seen ? limit[0] : seen;  // rows that the task does not have, too
      limit[1] = limit[1] < seen ? limit[1] : seen;
      softmax(s, state, limit, p.scale, t, alpha);
      pack_p(s, x);
      if (__any_sync(~0u, alpha[0] != 1.0f || alpha[1] != 1.0f)) {
#pragma unroll
        for (int j = 0; j < LM_O; j++) {
          o[j][0] *= alpha[0], o[j][1] *= alpha[0];
          o[j][2] *= alpha[1], o[j][3] *= alpha[1];
        }
      }
      mix(at, x, o, (seen + 15) / 16, lane);
    }
    release_stage(empty + 8 * stage, lane);
    if ((tile % SPLIT_TILES == SPLIT_TILES - 1 || tile == tiles - 1) && seen + 64 * (tile % SPLIT_TILES) > 0) {
      // the end of a split of which the warp saw something: join it to those before
      bool leading = tile < SPLIT_TILES, final = tile == tiles - 1 || mine <= start + 64;
#pragma unroll
      for (int r = 0; r < 2; r++) {
        float l = row_sum(state.l[r]), top, a, b;
        if (leading) {
          M[r] = state.m[r], L[r] = l;
        } else {
          merge_weights(M[r], state.m[r], &top, &a, &b);
          M[r] = top, L[r] = merge_value(L[r], a, l, b);
        }
#pragma unroll
        for (int j = 0; j < LM_O; j++)
#pragma unroll
          for (int e = 0; e < 2; e++) {
            float *T = total + (4 * j + 2 * r + e) * 32 * LM_WARPS;
            if (!leading) o[j][2 * r + e] = merge_value(*T, a, o[j][2 * r + e], b);
            if (!final) *T = o[j][2 * r + e];
          }
      }
      merged = true;
    }
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    int at = row + 8 * r, token = first + at / LM_GROUP, head = kvHead * LM_GROUP + at % LM_GROUP;
    if (at < rows && merged) {
      float k = 1.0f / L[r];
#pragma unroll
      for (int j = 0; j < LM_O; j++)
        *(u32 *)(p.out + tiled_offset(token, head * LM_HD + 8 * j + 2 * t, p.k64)) = pack_act(o[j][2 * r] * k, o[j][2 * r + 1] * k);
    }
  }
}
