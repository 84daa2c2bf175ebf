// What every kernel needs: types, conversions, tensor-core instructions, asynchronous copies. No toolkit header.
//
// LM_ACT: type of the inputs of matrix products (activations, and weights once dequantised): 0 = bf16, 1 = f16.
#pragma once

typedef unsigned char u8;
typedef signed char s8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#ifndef LM_ACT
#define LM_ACT 0
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define LM_SM90 1
#else
#define LM_SM90 0
#endif

#define LM_DEVICE static __device__ __forceinline__
#define LM_KERNEL extern "C" __global__ void
#define LM_INF __int_as_float(0x7f800000)
#define LM_NAN __int_as_float(0x7fc00000)

// ---------------------------------------------------------------- numbers

/** Not a builtin max: NaN stays NaN. */
LM_DEVICE float max_nan(float a, float b) {
  float r;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}
LM_DEVICE float min_nan(float a, float b) {
  float r;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}
LM_DEVICE float clamp_half(float x) { return max_nan(min_nan(x, 65504.0f), -65504.0f); }

/** Two f32 → two f16, `low` in the low half; saturating, NaN stays. */
LM_DEVICE u32 pack_half(float low, float high) {
  u32 r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(clamp_half(high)), "f"(clamp_half(low)));
  return r;
}
LM_DEVICE u32 pack_half_exact(float low, float high) {  // |x| ≤ 65504 known
  u32 r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
LM_DEVICE u32 pack_bf16(float low, float high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
LM_DEVICE u32 pack_act(float low, float high) {
#if LM_ACT
  return pack_half(low, high);
#else
  return pack_bf16(low, high);
#endif
}
LM_DEVICE float half_to_float(u32 h) {
  float r;
  asm("{ .reg .b16 t; cvt.u16.u32 t, %1; cvt.f32.f16 %0, t; }" : "=f"(r) : "r"(h));
  return r;
}
LM_DEVICE float2 half2_to_float2(u32 h) { return make_float2(half_to_float(h & 0xffffu), half_to_float(h >> 16)); }
LM_DEVICE float2 act2_to_float2(u32 h) {
#if LM_ACT
  return half2_to_float2(h);
#else
  return make_float2(__uint_as_float(h << 16), __uint_as_float(h & 0xffff0000u));
#endif
}
LM_DEVICE u32 float_to_half(float x) { return pack_half(x, 0.0f) & 0xffffu; }

LM_DEVICE u32 hfma2(u32 a, u32 b, u32 c) {
  u32 r;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}
LM_DEVICE u32 hmul2(u32 a, u32 b) {
  u32 r;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
LM_DEVICE u32 hsub2(u32 a, u32 b) {
  u32 r;
  asm("sub.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
/** The low (high) f16 of a pair twice: operands of the instruction that follows, not one more. */
LM_DEVICE u32 both_low(u32 a) {
  u32 r;
  asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {l, l}; }" : "=r"(r) : "r"(a));
  return r;
}
LM_DEVICE u32 both_high(u32 a) {
  u32 r;
  asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {h, h}; }" : "=r"(r) : "r"(a));
  return r;
}
LM_DEVICE float fma_(float a, float b, float c) {
  float r;
  asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(r) : "f"(a), "f"(b), "f"(c));
  return r;
}
/** 2^x; 2^0 = 1 and 2^-inf = 0 exactly. */
LM_DEVICE float exp2_(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
LM_DEVICE u32 prmt(u32 a, u32 b, u32 selector) {
  u32 r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
  return r;
}
/** (a & mask) | bits */
LM_DEVICE u32 and_or(u32 a, u32 mask, u32 bits) {
  u32 r;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(a), "r"(mask), "r"(bits));
  return r;
}

// ---------------------------------------------------------------- memory

/** What was written before, to memory of other GPUs too, is seen by whoever hears of it afterwards. */
LM_DEVICE void fence_system() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }

LM_DEVICE u32 shared_address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

// Data of earlier kernels of a chain with programmatic launch: read through L2, never from a stale L1 line.
LM_DEVICE u32 load_u32(const void *p) {
  u32 r;
  asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(r) : "l"(p) : "memory");
  return r;
}
LM_DEVICE int load_i32(const void *p) { return (int)load_u32(p); }
LM_DEVICE float load_f32(const void *p) { return __uint_as_float(load_u32(p)); }
LM_DEVICE float2 load_f32x2(const void *p) {
  float2 r;
  asm volatile("ld.global.cg.v2.f32 {%0, %1}, [%2];" : "=f"(r.x), "=f"(r.y) : "l"(p) : "memory");
  return r;
}
LM_DEVICE uint4 load_u128(const void *p) {
  uint4 r;
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "l"(p) : "memory");
  return r;
}
LM_DEVICE float4 load_f128(const void *p) {
  uint4 r = load_u128(p);
  return make_float4(__uint_as_float(r.x), __uint_as_float(r.y), __uint_as_float(r.z), __uint_as_float(r.w));
}
LM_DEVICE uint4 shared_u128(u32 a) {
  uint4 r;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w) : "r"(a) : "memory");
  return r;
}
LM_DEVICE uint2 shared_u64(u32 a) {
  uint2 r;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(r.x), "=r"(r.y) : "r"(a) : "memory");
  return r;
}
LM_DEVICE u32 shared_u32(u32 a) {
  u32 r;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(r) : "r"(a) : "memory");
  return r;
}
LM_DEVICE u32 shared_u16(u32 a) {
  u32 r;
  asm volatile("{ .reg .b16 t; ld.shared.b16 t, [%1]; cvt.u32.u16 %0, t; }" : "=r"(r) : "r"(a) : "memory");
  return r;
}
LM_DEVICE void shared_store_u128(u32 a, uint4 v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(a), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
LM_DEVICE void shared_store_f32(u32 a, float v) { asm volatile("st.shared.f32 [%0], %1;" ::"r"(a), "f"(v) : "memory"); }

// ---------------------------------------------------------------- programmatic dependent launch

/** Everything that earlier kernels wrote is visible after this. Before the first dependent read and the first write. */
LM_DEVICE void pdl_wait() {
#if LM_SM90
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/** The next kernel may start (and wait). */
LM_DEVICE void pdl_trigger() {
#if LM_SM90
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---------------------------------------------------------------- tensor cores

/** Four 8×8 matrices of 16-bit values; lane l gives the address of row l % 8 of matrix l / 8. */
LM_DEVICE void ldmatrix4(u32 *r, u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
LM_DEVICE void ldmatrix4_trans(u32 *r, u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
#define LM_MMA(TYPE)                                                                                                       \
  asm("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, " \
               "{%0, %1, %2, %3};"                                                                                         \
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                            \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
/** c (16, 8) += a (16, 16) · b (16, 8), f32 sums. */
LM_DEVICE void mma_half(float *c, const u32 *a, u32 b0, u32 b1) { LM_MMA("f16"); }
LM_DEVICE void mma_act(float *c, const u32 *a, u32 b0, u32 b1) {
#if LM_ACT
  LM_MMA("f16");
#else
  LM_MMA("bf16");
#endif
}

// ---------------------------------------------------------------- barriers and copies into shared memory

LM_DEVICE void barrier_init(u32 bar, u32 count) { asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory"); }
LM_DEVICE void barrier_arrive(u32 bar) {
  asm volatile("{ .reg .b64 t; mbarrier.arrive.shared.b64 t, [%0]; }" ::"r"(bar) : "memory");
}
LM_DEVICE int barrier_test(u32 bar, u32 parity) {
  u32 done;
#if LM_SM90
  asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
               : "=r"(done) : "r"(bar), "r"(parity) : "memory");
#else
  asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
               : "=r"(done) : "r"(bar), "r"(parity) : "memory");
#endif
  return (int)done;
}
/** Waits for the end of the phase of this parity. */
LM_DEVICE void barrier_wait(u32 bar, u32 parity) {
  while (!barrier_test(bar, parity)) {
  }
}
LM_DEVICE void barrier_fence_init() {
#if LM_SM90
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

// A full barrier counts one arrival and the bytes of its bulk copies (sm_90), or the arrivals of the 32 lanes of the
// warp that copies (before): `full_count` is what it is initialised with.
LM_DEVICE u32 full_count() { return LM_SM90 ? 1 : 32; }

/** The producing warp says how much will come (sm_90; one lane). */
LM_DEVICE void expect_bytes(u32 bar, u32 bytes) {
#if LM_SM90
  asm volatile("{ .reg .b64 t; mbarrier.arrive.expect_tx.shared.b64 t, [%0], %1; }" ::"r"(bar), "r"(bytes) : "memory");
#endif
}
LM_DEVICE u64 policy_evict_first() {
  u64 p;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(p));
  return p;
}
/**
 * Copies bytes (a multiple of 16) into shared memory; counts on `bar`. sm_90: called by one lane, the copy engine does the
 * work; before: called by all 32 lanes.
 */
LM_DEVICE void copy_in(u32 dst, const void *src, u32 bytes, u32 bar, int lane) {
#if LM_SM90
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(dst), "l"(src),
               "r"(bytes), "r"(bar) : "memory");
#else
  for (u32 i = 16 * lane; i < bytes; i += 512)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(dst + i), "l"((const u8 *)src + i) : "memory");
#endif
}
/** The same for data that is read once: it leaves the L2 cache first. */
LM_DEVICE void copy_in_once(u32 dst, const void *src, u32 bytes, u32 bar, int lane, u64 policy) {
#if LM_SM90
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(dst),
               "l"(src), "r"(bytes), "r"(bar), "l"(policy) : "memory");
#else
  copy_in(dst, src, bytes, bar, lane);
#endif
}
/** Each lane arrives when its copies of 16 bytes are done. */
LM_DEVICE void lanes_done(u32 bar) { asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(bar) : "memory"); }
/** After the copies of a stage: before sm_90 the lanes arrive when theirs are done. */
LM_DEVICE void copies_done(u32 bar) {
#if !LM_SM90
  lanes_done(bar);
#endif
}
/**
 * A warp has used a stage: its lanes meet, and one arrives for all. LM_ARRIVE_ALL 1, for the race checker, which does not see
 * that order: every lane arrives.
 */
#ifndef LM_ARRIVE_ALL
#define LM_ARRIVE_ALL 0
#endif
#define LM_WARP_ARRIVALS (LM_ARRIVE_ALL ? 32 : 1)
LM_DEVICE void release_stage(u32 bar, int lane) {
  __syncwarp();
  if (LM_ARRIVE_ALL || lane == 0) barrier_arrive(bar);
}
/** Before a warp leaves whose lanes have copied. */
LM_DEVICE void lanes_end() { asm volatile("cp.async.wait_all;" ::: "memory"); }
LM_DEVICE void copies_end() {
#if !LM_SM90
  lanes_end();
#endif
}
/** Lanes that must run the copying code: one on sm_90, all before. */
LM_DEVICE int copies_here(int lane) { return LM_SM90 ? lane == 0 : 1; }

// ---------------------------------------------------------------- layouts

/**
 * 16-bit matrices (weights: output features; activations: tokens) lie in tiles of 64 rows × 64 columns, 8 KiB; the tiles of
 * 64 rows are contiguous over all columns. In a tile a row is 128 bytes, its 16-byte chunk c stands at c ^ (row % 8): what
 * wgmma calls the 128-byte swizzle, and what keeps ldmatrix free of bank conflicts.
 */
#define LM_TILE_BYTES 8192
LM_DEVICE u32 tile_offset(u32 row, u32 column) { return row * 128 + ((((column >> 3) ^ row) & 7) << 4) + (column & 7) * 2; }
/** Byte offset of (row, column) in a tiled matrix of k64 tiles a row of tiles. */
LM_DEVICE i64 tiled_offset(int row, int column, int k64) {
  return ((i64)(row >> 6) * k64 + (column >> 6)) * LM_TILE_BYTES + tile_offset(row & 63, column & 63);
}
