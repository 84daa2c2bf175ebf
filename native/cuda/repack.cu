// Weights: from GGUF rows to the tiles (16 bits, common.h) or units (quantised, quant.h) that the products read.
//
// LM_TYPE  GGML's number: F32 0, F16 1, BF16 30 → tiles of the activation type; Q4_0, Q4_1, Q8_0, Q4_K, Q5_K, Q6_K → units
// The whole destination is zeroed first. A matrix may come in pieces of whole rows, and two matrices may share one
// destination: gate and up interleaved by 8 rows (step 16, offsets 0 and 8), q, k and v one after another (step 8).
// Block: 256 threads. Grid: (items + 255) / 256 with items = rows · ceil(in / 8) (16 bits) or rows · k64 · 4.
#include "quant.h"

struct LmRepack {
  const u8 *src;  // row `first` of the tensor
  u8 *dst;
  i64 rowBytes;
  int rows;   // in this piece
  int first;  // tensor row of the piece's first
  int in;     // inputs
  int k64;    // tiles of 64 inputs of the destination
  int step, offset;  // tensor row r goes to row r / 8 · step + r % 8 + offset
};

LM_DEVICE u32 load_u16(const u8 *p) { return (u32)p[0] | (u32)p[1] << 8; }

#if LM_TYPE == 0 || LM_TYPE == 1 || LM_TYPE == 30

LM_DEVICE float raw_value(const u8 *row, int k) {
#if LM_TYPE == 0
  return __uint_as_float(load_u16(row + 4 * k) | load_u16(row + 4 * k + 2) << 16);
#elif LM_TYPE == 1
  return half_to_float(load_u16(row + 2 * k));
#else
  return __uint_as_float(load_u16(row + 2 * k) << 16);
#endif
}

LM_KERNEL __launch_bounds__(256) repack(const __grid_constant__ LmRepack p) {
  int chunks = (p.in + 7) / 8;
  i64 item = (i64)blockIdx.x * 256 + threadIdx.x;
  int r = (int)(item / chunks), c = (int)(item % chunks);
  if (r >= p.rows) return;
  const u8 *row = p.src + r * p.rowBytes;
  float v[8];
#pragma unroll
  for (int i = 0; i < 8; i++) v[i] = 8 * c + i < p.in ? raw_value(row, 8 * c + i) : 0.0f;
  r += p.first;
  int to = (r >> 3) * p.step + (r & 7) + p.offset;
  *(uint4 *)(p.dst + tiled_offset(to, 8 * c, p.k64)) =
      make_uint4(pack_act(v[0], v[1]), pack_act(v[2], v[3]), pack_act(v[4], v[5]), pack_act(v[6], v[7]));
}

#else

/** Quant k of a GGUF row, 0 … 255. */
LM_DEVICE u32 raw_quant(const u8 *row, int k) {
#if LM_TYPE == LM_Q8_0
  return row[k / 32 * 34 + 2 + k % 32] ^ 0x80;
#elif LM_TYPE == LM_Q4_0 || LM_TYPE == LM_Q4_1
  u32 b = row[k / 32 * (LM_TYPE == LM_Q4_0 ? 18 : 20) + (LM_TYPE == LM_Q4_0 ? 2 : 4) + k % 16];
  return k & 16 ? b >> 4 : b & 15;
#elif LM_TYPE == LM_Q4_K
  u32 b = row[k / 256 * 144 + 16 + k % 256 / 64 * 32 + k % 32];
  return k & 32 ? b >> 4 : b & 15;
#elif LM_TYPE == LM_Q5_K
  const u8 *block = row + k / 256 * 176;
  u32 b = block[48 + k % 256 / 64 * 32 + k % 32];
  return (k & 32 ? b >> 4 : b & 15) | ((block[16 + k % 32] >> (k % 256 / 32)) & 1) << 4;
#else
  const u8 *block = row + k / 256 * 210;
  int h = k % 256 / 128, quarter = k % 128 / 32, l = k % 32;
  u32 low = block[64 * h + 32 * (quarter & 1) + l], high = block[128 + 32 * h + l];
  return (quarter & 2 ? low >> 4 : low & 15) | ((high >> (2 * quarter)) & 3) << 4;
#endif
}
/** 6-bit scale (part 0) or minimum (part 1) of block b of a superblock of Q4_K or Q5_K. */
LM_DEVICE u32 k_scale(const u8 *s, int b, int part) {
  if (b < 4) return s[b + 4 * part] & 63;
  u32 low = part ? s[b + 4] >> 4 : s[b + 4] & 15;
  return low | (s[b - 4 + 4 * part] >> 6) << 4;
}

/** The four scale bytes of one row and segment; the row's own scales go beside them. */
LM_DEVICE void put_scales(const u8 *row, u8 *unit, int segment, int in, int g, int half) {
  const int INNER = LM_IS_K ? segment % 4 : 0;
  u8 *to = unit + LM_SCALES + 64 * INNER + 8 * g + 4 * half;
#if LM_IS_45K
  const u8 *block = row + segment / 4 * (LM_TYPE == LM_Q4_K ? 144 : 176);
  int b = 2 * (segment % 4);
  *(u32 *)to = k_scale(block + 4, b, 0) | k_scale(block + 4, b + 1, 0) << 8 | k_scale(block + 4, b, 1) << 16 | k_scale(block + 4, b + 1, 1) << 24;
  if (INNER == 0) *(u32 *)(unit + LM_UNIT_SCALES + 8 * g + 4 * half) = load_u16(block) | load_u16(block + 2) << 16;
#elif LM_TYPE == LM_Q6_K
  const u8 *block = row + segment / 4 * 210, *s = block + 192 + 4 * (segment % 4);
  *(u32 *)to = load_u16(s) | load_u16(s + 2) << 16;
  if (INNER == 0) *(u16 *)(unit + LM_UNIT_SCALES + 4 * g + 2 * half) = (u16)load_u16(block + 208);
#else
  const int BYTES = LM_TYPE == LM_Q8_0 ? 34 : LM_TYPE == LM_Q4_0 ? 18 : 20;
  const u8 *block = row + 2 * segment * BYTES;
  bool second = 64 * segment + 32 < in;  // a row may end within a segment
  *(u32 *)to = load_u16(block) | (second ? load_u16(block + BYTES) << 16 : 0);
  if (LM_TYPE == LM_Q4_1) *(u32 *)(to + 64) = load_u16(block + 2) | (second ? load_u16(block + BYTES + 2) << 16 : 0);
#endif
}

LM_KERNEL __launch_bounds__(256) repack(const __grid_constant__ LmRepack p) {
  i64 item = (i64)blockIdx.x * 256 + threadIdx.x;
  int t = (int)(item & 3), segment = (int)((item >> 2) % p.k64), r = (int)((item >> 2) / p.k64);
  if (r >= p.rows || segment * 64 >= p.in) return;
  const u8 *row = p.src + r * p.rowBytes;
  r += p.first;
  int to = (r >> 3) * p.step + (r & 7) + p.offset, g = to & 7, half = (to >> 3) & 1, lane = 4 * g + t;
  const int SEGMENTS = LM_QK / 64;
  u8 *unit = p.dst + ((i64)(to >> 4) * (p.k64 / SEGMENTS) + segment / SEGMENTS) * LM_UNIT;
  u8 *quants = unit + segment % SEGMENTS * LM_SEGMENT + 16 * lane;
  if (t == 0) put_scales(row, unit, segment, p.in, g, half);
  u32 high[2] = {0, 0};
#pragma unroll
  for (int j = 0; j < 4; j++) {
    u32 e[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int k = 64 * segment + 16 * j + 2 * t + (i & 1) + (i >> 1) * 8;
      e[i] = k < p.in ? raw_quant(row, k) : 0;
    }
    // the other row of this lane is another thread's: both add their bits to the zeroed word
    if (LM_TYPE == LM_Q8_0) {
      u8 *w = quants + (j >> 1) * 512 + (j & 1) * 8;
      atomicOr((u32 *)w, (e[0] | e[1] << 8) << (16 * half));
      atomicOr((u32 *)(w + 4), (e[2] | e[3] << 8) << (16 * half));
    } else {
      u32 low = (e[0] & 15) << (4 * half) | (e[1] & 15) << (4 * half + 16) | (e[2] & 15) << (4 * half + 8) | (e[3] & 15) << (4 * half + 24);
      atomicOr((u32 *)(quants + 4 * j), low);
    }
    if (LM_TYPE == LM_Q6_K) {
      int at = 8 * (j & 1) + 2 * half;
      high[j >> 1] |= (e[0] >> 4) << at | (e[1] >> 4) << (at + 16) | (e[2] >> 4) << (at + 4) | (e[3] >> 4) << (at + 20);
    }
    if (LM_TYPE == LM_Q5_K) {
      int at = 4 * j + half;
      high[0] |= (e[0] >> 4) << at | (e[1] >> 4) << (at + 16) | (e[2] >> 4) << (at + 2) | (e[3] >> 4) << (at + 18);
    }
  }
  if (LM_TYPE == LM_Q6_K) {
    u8 *w = unit + LM_HIGH_BITS + 256 * (segment % SEGMENTS) + 8 * lane;
    atomicOr((u32 *)w, high[0]);
    atomicOr((u32 *)(w + 4), high[1]);
  }
  if (LM_TYPE == LM_Q5_K) atomicOr((u32 *)(unit + LM_HIGH_BITS + 128 * (segment % SEGMENTS) + 4 * lane), high[0]);
}
#endif
