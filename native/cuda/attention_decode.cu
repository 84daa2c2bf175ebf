// Attention of few query rows over a long context (decode, verification of drafts): a block for each split of 512 positions,
// and the last one to finish joins them in ascending order. Tiles, splits, functions and their order are those of attention.cu
// and attention_wgmma.cu: the same bits.
//
// Four warps share a tile of 64 positions: each makes the scores of 16 positions, all exchange maxima and p through shared
// memory, and each multiplies all p with its share of V's dims. So a tile's latency is a quarter, and batch 1 gains most.
//
// A task has up to LM_ROWS = 16 rows for each part of a group: tokens · min(group, 16) ≤ 16.
// Geometry: kv.h. LM_STAGES. Block: 160 threads, the last warp copies.
// Grid: (tasks, KV heads · PARTS, splits) with PARTS = ceil(group / 16).
// Shared memory: LM_STAGES · 64 · (2 · row bytes + parameter bytes) + 16 · LM_STAGES + 2,048 + 256 + 16.
#include "attention.h"

#define WARPS 4
#define PART (LM_GROUP < 16 ? LM_GROUP : 16)        // heads of the group that a block takes
#define PARTS ((LM_GROUP + PART - 1) / PART)
#if LM_KV_BITS == 16
#define DIMS ((LM_HD + 63) / 64 * 16)               // of V that a warp takes
#else
#define DIMS ((LM_HD / LM_V_UNIT + 3) / 4 * LM_V_UNIT)
#endif
#define EIGHTS (DIMS / 8)

LM_DEVICE void warps_sync() { asm volatile("bar.sync 1, 128;" ::: "memory"); }

/** Scores of the warp's 16 positions. */
LM_DEVICE void scores(u32 tile, const u32 (*q)[4], float (*s)[4], int warp, int lane) {
#if LM_KV_BITS == 16
  int token = 16 * warp + (lane & 7) + ((lane >> 4) << 3);
#pragma unroll
  for (int k = 0; k < LM_HD / 16; k++) {
    u32 b[4];
    ldmatrix4(b, tile + kv_half_offset(token, 2 * k + ((lane >> 3) & 1)));
    mma_half(s[0], q[k], b[0], b[1]);
    mma_half(s[1], q[k], b[2], b[3]);
  }
#else
  const int GROUPS = LM_ATOM / 16;
  u32 scale[2], zero[2];
#pragma unroll
  for (int j = 0; j < 2; j++) {
    int token = 16 * warp + 8 * j + (lane >> 2);
    scale[j] = shared_u16(tile + 2 * TILE_K + param_offset(token, 0)) * 0x10001u;
    zero[j] = shared_u16(tile + 2 * TILE_K + param_offset(token, 1)) * 0x10001u;
  }
#pragma unroll
  for (int atom = 0; atom < LM_HD / LM_ATOM; atom++) {
    u32 w[2][4];
#pragma unroll
    for (int j = 0; j < 2; j++) load_k_words(w[j], tile, 16 * warp + 8 * j + (lane >> 2), atom, lane & 3);
#pragma unroll
    for (int k = 0; k < GROUPS; k++)
#pragma unroll
      for (int j = 0; j < 2; j++) {
        u32 x = k_bytes(w[j], k);
        mma_half(s[j], q[atom * GROUPS + k], hfma2(bytes_to_half(x, 0), scale[j], zero[j]), hfma2(bytes_to_half(x, 1), scale[j], zero[j]));
      }
  }
#endif
}

/** o (16 rows × the warp's dims) += p · V. */
LM_DEVICE void mix(u32 tile, const u32 (*p)[4], float (*o)[4], int groups, int warp, int lane) {
#pragma unroll
  for (int j = 0; j < 4; j++) {
    if (j >= groups) break;
#if LM_KV_BITS == 16
    int token = 16 * j + (lane & 7) + (lane & 8);
#pragma unroll
    for (int i = 0; i < EIGHTS; i += 2) {
      int eight = warp * EIGHTS + i;
      if (LM_HD % 64 != 0 && eight >= LM_HD / 8) break;
      u32 b[4];
      ldmatrix4_trans(b, tile + TILE_K + kv_half_offset(token, eight + (lane >> 4)));
      mma_half(o[i], p[j], b[0], b[1]);
      mma_half(o[i + 1], p[j], b[2], b[3]);
    }
#else
    const int PER = LM_V_UNIT / 8;
    int g = lane >> 2, t = lane & 3, token = 16 * j + 2 * t;
    u32 params = tile + 2 * TILE_K;
    u32 s0 = shared_u32(params + param_offset(token, 2)), z0 = shared_u32(params + param_offset(token, 3));
    u32 s1 = shared_u32(params + param_offset(token + 8, 2)), z1 = shared_u32(params + param_offset(token + 8, 3));
#pragma unroll
    for (int u = 0; u < DIMS / LM_V_UNIT; u++) {
      int unit = warp * (DIMS / LM_V_UNIT) + u;
      if (unit >= LM_HD / LM_V_UNIT) break;
      u32 w[4];
      load_v_words(w, tile + TILE_K, 16 * j, unit, g, t);
#pragma unroll
      for (int i = 0; i < PER; i++) {
        u32 x = four(w, i);
        mma_half(o[u * PER + i], p[j], hfma2(bytes_to_half(x, 0), s0, z0), hfma2(bytes_to_half(x, 1), s1, z1));
      }
    }
#endif
  }
}

struct Row {
  int token, head, position;  // token of the step; position: its own
  bool there;
};
LM_DEVICE Row row_of(int row, int first, int count, int position, int kvHead, int part) {
  int head = part * PART + row % PART;
  return {first + row / PART, kvHead * LM_GROUP + head, position + row / PART, row / PART < count && head < LM_GROUP};
}

/** The last block of a task: all splits of its rows, ascending. */
LM_DEVICE void join(const LmAttention &p, int first, int count, int position, int kvHead, int part, int thread) {
  const int AHEAD = 4;
  for (int item = thread; item < 16 * (LM_HD / 2); item += 128) {
    Row r = row_of(item / (LM_HD / 2), first, count, position, kvHead, part);
    if (!r.there) continue;
    int d = item % (LM_HD / 2) * 2, splits = r.position / LM_SPLIT_LEN + 1;
    i64 at = ((i64)r.token * LM_HEADS + r.head) * p.splits;
    float M = 0, L = 0;
    float2 T = make_float2(0, 0);
    for (int base = 0; base < splits; base += AHEAD) {
      float2 o[AHEAD], w[AHEAD];
#pragma unroll
      for (int i = 0; i < AHEAD; i++) {
        int s = base + i < splits ? base + i : splits - 1;
        o[i] = load_f32x2(p.partial + (at + s) * LM_HD + d);
        w[i] = load_f32x2(p.weights + 2 * (at + s));
      }
#pragma unroll
      for (int i = 0; i < AHEAD; i++) {
        if (base + i >= splits) break;
        if (base + i == 0) {
          M = w[i].x, L = w[i].y, T = o[i];
        } else {
          float top, a, b;
          merge_weights(M, w[i].x, &top, &a, &b);
          M = top, L = merge_value(L, a, w[i].y, b);
          T = make_float2(merge_value(T.x, a, o[i].x, b), merge_value(T.y, a, o[i].y, b));
        }
      }
    }
    float k = 1.0f / L;
    *(u32 *)(p.out + tiled_offset(r.token, r.head * LM_HD + d, p.k64)) = pack_act(T.x * k, T.y * k);
  }
}

// blocks on an SM: as many as shared memory holds with 16 bits, with small heads and before sm_90; registers for four otherwise
LM_KERNEL __launch_bounds__(160, LM_KV_BITS == 16 || LM_HD < 128 || !LM_SM90 ? 3 : 4) attention(const __grid_constant__ LmAttention p) {
  extern __shared__ __align__(1024) u8 memory[];
  u32 ring = shared_address(memory), weights = ring + LM_STAGES * TILE, maxima = weights + 2048, flag = maxima + 256, full = flag + 16,
      empty = full + 8 * LM_STAGES;
  int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  if (threadIdx.x == 0) {
    for (int i = 0; i < LM_STAGES; i++) {
      barrier_init(full + 8 * i, full_count());
      barrier_init(empty + 8 * i, WARPS * LM_WARP_ARRIVALS);
    }
    barrier_fence_init();
  }
  __syncthreads();
  pdl_trigger();
  int kvHead = blockIdx.y / PARTS, part = blockIdx.y % PARTS, first, count, slot, position;
  {
    uint4 task = load_u128(p.tasks + blockIdx.x);
    first = (int)task.x, count = (int)task.y, slot = (int)task.z, position = (int)task.w;
  }
  int end = position + count, tiles = (end + 63) / 64, splits = (end + LM_SPLIT_LEN - 1) / LM_SPLIT_LEN, from = blockIdx.z * SPLIT_TILES;
  tiles = tiles < from + SPLIT_TILES ? tiles : from + SPLIT_TILES;
  if (warp == WARPS && count > 0 && from < tiles) {
    produce(p, slot, kvHead, from, tiles, end, position, ring, full, empty, lane);
    return;
  }
  pdl_wait();
  if (count <= 0 || from >= tiles) return;
  int g = lane >> 2, t = lane & 3;
  Row row[2] = {row_of(g, first, count, position, kvHead, part), row_of(g + 8, first, count, position, kvHead, part)};
  u32 q[LM_HD / 16][4];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const u16 *x = p.q + (i64)row[r].token * p.stride + row[r].head * LM_HD + 2 * t;
#pragma unroll
    for (int k = 0; k < LM_HD / 16; k++) {
      q[k][r] = row[r].there ? load_u32(x + 16 * k) : 0;
      q[k][2 + r] = row[r].there ? load_u32(x + 16 * k + 8) : 0;
    }
  }
  float o[EIGHTS][4];
#pragma unroll
  for (int j = 0; j < EIGHTS; j++) o[j][0] = o[j][1] = o[j][2] = o[j][3] = 0.0f;
  Rows state = {{-LM_INF, -LM_INF}, {0.0f, 0.0f}};
  for (int tile = from, i = 0; tile < tiles; tile++, i++) {
    int stage = i % LM_STAGES, start = 64 * tile, seen = end - start < 64 ? end - start : 64;
    u32 at = ring + stage * TILE;
    barrier_wait(full + 8 * stage, (i / LM_STAGES) & 1);
    if (seen < 64) clear_tail(at, seen, warp, WARPS, lane);  // before the barriers below
    float s[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}}, alpha[2], base[2];
    if (16 * warp < seen) scores(at, q, s, warp, lane);
#pragma unroll
    for (int r = 0; r < 2; r++) {
      int limit = row[r].position + 1 - start;
      limit = limit < seen ? limit : seen;
      if (limit < 64) {
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
          for (int e = 0; e < 2; e++)
            if (16 * warp + 8 * j + 2 * t + e >= limit) s[j][2 * r + e] = -LM_INF;
      }
      float top = fmaxf(fmaxf(s[0][2 * r], s[0][2 * r + 1]), fmaxf(s[1][2 * r], s[1][2 * r + 1]));
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
      if (t == 0) shared_store_f32(maxima + (16 * warp + g + 8 * r) * 4, top);
    }
    warps_sync();
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float top = -LM_INF;
#pragma unroll
      for (int w = 0; w < WARPS; w++) top = fmaxf(top, __uint_as_float(shared_u32(maxima + (16 * w + g + 8 * r) * 4)));
      float m = fmaxf(state.m[r], top * p.scale);
      base[r] = m == -LM_INF ? 0.0f : m;
      alpha[r] = exp2_(state.m[r] - base[r]);
      state.m[r] = m;
#pragma unroll
      for (int j = 0; j < 2; j++) {
        u32 h = pack_half_exact(exp2_(fma_(s[j][2 * r], p.scale, -base[r])), exp2_(fma_(s[j][2 * r + 1], p.scale, -base[r])));
        int k = g + 8 * r;
        asm volatile("st.shared.u32 [%0], %1;" ::"r"(weights + k * 128 + (((2 * warp + j) ^ (k & 7)) << 4) + 4 * t), "r"(h) : "memory");
      }
    }
    warps_sync();
    u32 x[4][4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
      int k = (lane & 7) + (lane & 8);
      ldmatrix4(x[j], weights + k * 128 + (((2 * j + (lane >> 4)) ^ (k & 7)) << 4));
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float sum = 0.0f;
#pragma unroll
      for (int j = 0; j < 8; j++) {
        float2 f = half2_to_float2(x[j >> 1][2 * (j & 1) + r]);
        sum += f.x + f.y;
      }
      state.l[r] = fma_(state.l[r], alpha[r], sum);
    }
#pragma unroll
    for (int j = 0; j < EIGHTS; j++) {
      o[j][0] *= alpha[0], o[j][1] *= alpha[0];
      o[j][2] *= alpha[1], o[j][3] *= alpha[1];
    }
    mix(at, x, o, (seen + 15) / 16, warp, lane);
    release_stage(empty + 8 * stage, lane);
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float l = row_sum(state.l[r]);
    if (!row[r].there) continue;
    if (splits == 1) {
      float k = 1.0f / l;
#pragma unroll
      for (int j = 0; j < EIGHTS; j++) {
        int d = warp * DIMS + 8 * j + 2 * t;
        if (d < LM_HD) *(u32 *)(p.out + tiled_offset(row[r].token, row[r].head * LM_HD + d, p.k64)) = pack_act(o[j][2 * r] * k, o[j][2 * r + 1] * k);
      }
    } else {
      i64 to = ((i64)row[r].token * LM_HEADS + row[r].head) * p.splits + blockIdx.z;
      if (warp == 0 && t == 0) ((float2 *)p.weights)[to] = make_float2(state.m[r], l);
#pragma unroll
      for (int j = 0; j < EIGHTS; j++) {
        int d = warp * DIMS + 8 * j + 2 * t;
        if (d < LM_HD) *(float2 *)(p.partial + to * LM_HD + d) = make_float2(o[j][2 * r], o[j][2 * r + 1]);
      }
    }
  }
  if (splits == 1) return;
  __threadfence();
  warps_sync();
  if (threadIdx.x == 0) {
    int *arrived = p.arrived + (i64)blockIdx.x * gridDim.y + blockIdx.y;
    int before = atomicAdd(arrived, 1);
    if (before == splits - 1) *arrived = 0;  // for the next launch
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(flag), "r"((u32)(before == splits - 1)) : "memory");
  }
  warps_sync();
  if (!shared_u32(flag)) return;
  __threadfence();
  join(p, first, count, position, kvHead, part, threadIdx.x);
}
