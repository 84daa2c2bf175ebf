// What all matrix products share: parameters, the order of tiles, the epilogue.
//
// out (tokens, features) = in (tokens, K) · weights (features, K)ᵀ. The weights are the M side of the tensor cores' product
// and the tokens its N side, so that a single token wastes no more than 7 columns. Each output element is one accumulator
// over ascending groups of 16 inputs, in every kernel: M, tile, warps and stages change no bit. LM_PARTS cuts it.
//
// LM_EPI: what happens to the sums.
//   0 STORE     f16, row-major (saturating): q, k, v
//   1 RESIDUAL  out (f32, row-major) += sum
//   2 SILU      weights hold gate and up interleaved by 8 rows; silu(gate) · up in the activation type, tiled
//   3 LOGITS    f32, row-major; also a rank's share of sums that reduce.cu adds (LM_RANKS)
#pragma once
#include "norm.h"

#ifndef LM_EPI
#define LM_EPI 0
#endif
#ifndef LM_BN
#define LM_BN 0  // no tiles of tokens: silu_mul.cu
#endif

// LM_NORM  0, or inputs (a multiple of 64) with LM_BN 8: the block makes the RMS norm of its up to eight rows itself, with the
//          sums of norm.cu, and reads no tiles of activations: a kernel less between two products of a small model
#ifndef LM_NORM
#define LM_NORM 0
#endif

// LM_PARTS  K is cut into so many equal parts, of whole stages' units each, with LM_EPI 1: out = (out + first part's sums) + second
//           part's, what as many GPUs come to that have one part each
#ifndef LM_PARTS
#define LM_PARTS 1
#endif

// LM_RANKS  GPUs that all get the sums, with LM_EPI 3; LM_OWNED 1: a row's only the GPU that owns it (ranks.h)
#ifndef LM_RANKS
#define LM_RANKS 1
#endif
#ifndef LM_OWNED
#define LM_OWNED 0
#endif

#ifndef LM_TILE_GROUP
#define LM_TILE_GROUP 8
#endif

/**
 * Few tokens are fetched by all lanes of the copying warp, 16 bytes each: a bulk copy costs the lane that asks for it 0.1 µs, also one of
 * 128 bytes, and a stage has one for each 64 inputs.
 */
#ifndef LM_WGMMA
#define LM_WGMMA 0
#endif
#define LM_TOKENS_BY_LANES (LM_SM90 && LM_BN == 8 && !LM_NORM && !LM_WGMMA)

struct LmGemm {
  const u8 *weights;  // 16 bits: tiles (common.h); quantised: units (quant.h)
  const u8 *in;       // activations, tiles
  u8 *out;
  const float *bias;  // (features rounded up to 64) or null
  int rows;           // tokens
  int n;              // output features of the product (SILU: 2 × hidden)
  int k64;            // inputs / 64, rounded up; inputs beyond the true ones are zero on both sides
  int stride;         // values between rows of out, a multiple of 4; SILU: tiles in a row of tiles of out
  // LM_NORM only
  const float *x;     // f32 rows
  const float *norm;  // weights of the norm
  int xStride;
  float eps;
  const i64 *outs;    // LM_RANKS > 1: (ranks) addresses instead of out, one on each GPU
};
/** Arrivals at the barrier of a stage that is full. */
LM_DEVICE u32 full_arrivals() { return full_count() + (LM_TOKENS_BY_LANES ? 32 : 0); }
#if LM_TOKENS_BY_LANES
/** Tiles [k, k + kts) of inputs of up to eight rows, each 1,024 bytes at `dst`. */
LM_DEVICE void lanes_copy_tokens(const LmGemm &p, int first, int k, int kts, u32 dst, u32 full, int lane) {
  int rows = p.rows - first < 8 ? p.rows - first : 8, chunk = (lane & 7) * 16;
  const u8 *src = p.in + ((i64)(first >> 6) * p.k64 + k) * LM_TILE_BYTES + (first & 63) * 128 + chunk;
  for (int i = lane >> 3; i < kts; i += 4)
    for (int row = 0; row < rows; row++)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(dst + i * 1024 + row * 128 + chunk),
                   "l"(src + (i64)i * LM_TILE_BYTES + row * 128) : "memory");
  lanes_done(full);
}
#endif
/** Tiles (units) of a part of K, in what they are counted by. */
LM_DEVICE int part_of(int all) { return all / LM_PARTS; }

#if LM_NORM
/** The multiplying warps: rows → tiles of eight rows at `to`. Waits for the kernel before. */
template <int WARPS_>
LM_DEVICE void make_inputs(const LmGemm &p, u8 *to, int warp, int lane) {
  WarpNorm<LM_NORM> norm;
  norm.fetch(p.norm, lane);
  pdl_wait();
  for (int row = warp; row < p.rows; row += WARPS_) norm.row(p.x + (i64)row * p.xStride, p.eps, to, row, lane);
  asm volatile("bar.sync 1, %0;" ::"n"(32 * WARPS_) : "memory");
}
#endif

/** Bytes that the epilogue of one warp needs in shared memory: 32 tokens × (16 + 4) f32. */
#define LM_STAGING 2560

LM_DEVICE float silu_mul(float gate, float up) {
  float e = exp2_(gate * -1.44269504088896341f), r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(1.0f + e));
  return gate * r * up;
}

LM_DEVICE float4 add_four(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }

/** One token's four features (LM_EPI 2: of the hidden vector) from f32 to where they belong; `before`: what is there. */
LM_DEVICE void store_four(const LmGemm &p, u8 *out, int token, int feature, float4 v, float4 before) {
#if LM_EPI == 0
  *(uint2 *)((u16 *)out + (i64)token * p.stride + feature) = make_uint2(pack_half(v.x, v.y), pack_half(v.z, v.w));
#elif LM_EPI == 1
  *(float4 *)((float *)out + (i64)token * p.stride + feature) = add_four(before, v);
#elif LM_EPI == 2
  *(uint2 *)(out + tiled_offset(token, feature, p.stride)) = make_uint2(pack_act(v.x, v.y), pack_act(v.z, v.w));
#else
  *(float4 *)((float *)out + (i64)token * p.stride + feature) = v;
#endif
}

/** Slices whose residuals may wait in registers. */
#ifndef LM_WAITING
#define LM_WAITING (LM_PARTS > 1 ? 4 : 2)
#endif

/** How a warp's 16 features × 8 · NT tokens are stored: slices of up to 32 tokens, 4 features a lane and turn. */
template <int NT>
struct Shape {
  static const int SLICE = NT < 4 ? NT : 4;                         // eights of tokens
  static const int QUADS = LM_EPI == 2 ? 2 : 4;                     // lanes for a token
  static const int TURNS = (SLICE * 8 * QUADS + 31) / 32;           // of 32 lanes for a slice
  static const int SLICES = NT / SLICE;
  static const int WIDTH = LM_EPI == 2 ? 12 : 20;                   // f32 of a token in shared memory: no bank conflicts
  static const int ALL = SLICES <= LM_WAITING;                      // residuals of all slices have registers
  static const int FETCHED = LM_EPI == 1 ? (ALL ? SLICES : 2) * TURNS : 1;
};
/**
 * Residuals, fetched before they are needed: all of them before the sums are made where there is room, otherwise slice by slice. Where K
 * is cut it pays to make room for more: they wait for the last part, and are stored once.
 */
template <int NT>
struct Residual {
  float4 v[Shape<NT>::FETCHED];
  u8 *outs[LM_RANKS];
};

/** The lane's token and first feature in a turn; false if there is none. */
template <int NT>
LM_DEVICE bool place(const LmGemm &p, int feature, int token, int slice, int turn, int lane, int *row, int *quad) {
  typedef Shape<NT> S;
  int item = 32 * turn + lane;
  *row = item / S::QUADS, *quad = item % S::QUADS;
  int to = token + 8 * S::SLICE * slice + *row, f = (LM_EPI == 2 ? feature / 2 : feature) + 4 * *quad;
  return *row < 8 * S::SLICE && to < p.rows && f < (LM_EPI == 2 ? p.n / 2 : p.n);
}
template <int NT>
LM_DEVICE void fetch_slice(const LmGemm &p, Residual<NT> &r, int feature, int token, int slice, int lane) {
  typedef Shape<NT> S;
#pragma unroll
  for (int i = 0; i < S::TURNS && LM_EPI == 1; i++) {
    int row, quad;
    float4 v = make_float4(0, 0, 0, 0);
    if (place<NT>(p, feature, token, slice, i, lane, &row, &quad))
      v = load_f128((const float *)p.out + (i64)(token + 8 * S::SLICE * slice + row) * p.stride + feature + 4 * quad);
    r.v[(S::ALL ? slice : slice & 1) * S::TURNS + i] = v;
  }
}
/** To be called before the sums are made. */
template <int NT>
LM_DEVICE void fetch(const LmGemm &p, Residual<NT> &r, int feature, int token, int lane) {
#pragma unroll
  for (int i = 0; i < LM_RANKS; i++) r.outs[i] = LM_RANKS == 1 ? p.out : (u8 *)p.outs[i];
  if (!Shape<NT>::ALL) return;
#pragma unroll
  for (int slice = 0; slice < Shape<NT>::SLICES; slice++) fetch_slice<NT>(p, r, feature, token, slice, lane);
}

/**
 * One warp's sums: features [feature, + 16) × tokens [token, + 8 · NT), in the tensor cores' order: lane (g, t) = (lane / 4,
 * lane % 4) holds features g (0, 1) and g + 8 (2, 3) of tokens 2t, 2t + 1 of each eight. They are turned in shared memory. Sums
 * of all parts but the last join the residuals, where these wait in registers.
 */
template <int NT>
LM_DEVICE void epilogue(const LmGemm &p, float (*sum)[4], Residual<NT> &residual, int feature, int token, u32 staging, int lane,
                        int part = 0) {
  typedef Shape<NT> S;
  int g = lane >> 2, t = lane & 3;
  if (feature >= p.n) return;
  bool biased = p.bias && part == 0;
  float bias0 = biased ? p.bias[feature + g] : 0.0f, bias1 = biased ? p.bias[feature + g + 8] : 0.0f;
  if (!S::ALL) fetch_slice<NT>(p, residual, feature, token, 0, lane);
#pragma unroll
  for (int slice = 0; slice < S::SLICES; slice++) {
#pragma unroll
    for (int j = 0; j < S::SLICE; j++) {
      float *s = sum[slice * S::SLICE + j];
#pragma unroll
      for (int e = 0; e < 2; e++) {
        u32 at = staging + ((8 * j + 2 * t + e) * S::WIDTH + g) * 4;
        float a = s[e], b = s[2 + e];
        if (biased) a += bias0, b += bias1;
        if (LM_EPI == 2) {
          shared_store_f32(at, silu_mul(a, b));
        } else {
          shared_store_f32(at, a);
          shared_store_f32(at + 32, b);
        }
      }
    }
    __syncwarp();
    if (!S::ALL && slice + 1 < S::SLICES) fetch_slice<NT>(p, residual, feature, token, slice + 1, lane);
#pragma unroll
    for (int i = 0; i < S::TURNS; i++) {
      int row, quad;
      if (place<NT>(p, feature, token, slice, i, lane, &row, &quad)) {
        uint4 u = shared_u128(staging + row * S::WIDTH * 4 + quad * 16);
        float4 v = make_float4(__uint_as_float(u.x), __uint_as_float(u.y), __uint_as_float(u.z), __uint_as_float(u.w));
        float4 &before = residual.v[LM_EPI == 1 ? (S::ALL ? slice : slice & 1) * S::TURNS + i : 0];
        if (LM_PARTS > 1 && S::ALL && part + 1 < LM_PARTS) {
          before = add_four(before, v);
          continue;
        }
        int to = token + 8 * S::SLICE * slice + row, column = (LM_EPI == 2 ? feature / 2 : feature) + 4 * quad;
#if LM_OWNED
        u64 owner = (u64)residual.outs[0];
#pragma unroll
        for (int r = 1; r < LM_RANKS; r++)  // not by an index: the addresses would leave the registers
          asm("{ .reg .pred p; setp.eq.s32 p, %1, %2; @p mov.b64 %0, %3; }" : "+l"(owner) : "r"((to >> 6) % LM_RANKS), "r"(r), "l"(residual.outs[r]));
        store_four(p, (u8 *)owner, to, column, v, before);
#else
#pragma unroll
        for (int r = 0; r < LM_RANKS; r++) store_four(p, residual.outs[r], to, column, v, before);
#endif
      }
    }
    __syncwarp();
  }
}

/** After the last tile: what went to other GPUs is there before the next kernel says so (ranks.h). */
LM_DEVICE void pushed() {
  if (LM_RANKS > 1) fence_system();
}

/** Tile number → (weight tile, token tile): groups of token tiles, so that what is read together stays in the L2 cache. */
LM_DEVICE void tile_of(int tile, int weightTiles, int tokenTiles, int *weight, int *token) {
  const int GROUP = LM_TILE_GROUP;
  int group = tile / (GROUP * weightTiles), first = group * GROUP;
  int size = tokenTiles - first < GROUP ? tokenTiles - first : GROUP, rest = tile - group * GROUP * weightTiles;
  *token = first + rest % size;
  *weight = rest / size;
}
LM_DEVICE int ceil_div(int a, int b) { return (a + b - 1) / b; }
