// Weights: from GGUF rows to tiles of 16 output rows, the same bits in the order the dot product reads them.
//
// A tile holds 16 rows over all inputs: first the quants of every block of 32 inputs, then their scales.
// A chunk is 4 consecutive inputs. A 64-byte vector holds one chunk of 16 rows: byte 4·row + (input mod 4).
//   Q8_0  8 vectors a block, chunk j in vector j, stored as w + 128            scales: d[16] f16
//   Q4_0  4 vectors: low nibbles chunks 0–3, high nibbles chunks 4–7           d[16]
//   Q4_1  as Q4_0                                                              d[16], m[16]
//   Q4_K  as Q4_0, 8 blocks a superblock                                       d[16], dmin[16], sc[8][16], m[8][16] u8
//   Q5_K  as Q4_K and a vector of fifth bits: bit j belongs to chunk j
//   Q6_K  as Q4_0 and 2 vectors of high bits: bits 2j, 2j+1 = chunk j, 4 + j   d[16], sc[16][16] s8
//   F32, F16, BF16: (input, 16 rows)
// Missing rows of the last tile are zero.
namespace LM_NS {

LM_INLINE int quant_bytes(int type) {
  switch (type) {
    case LM_Q8_0: return 512;
    case LM_Q4_0: case LM_Q4_1: case LM_Q4_K: return 256;
    case LM_Q5_K: return 320;
    case LM_Q6_K: return 384;
  }
  return 0;
}
/** Scale bytes of a block of 32, or of a superblock for K-quants. */
LM_INLINE int scale_bytes(int type) {
  switch (type) {
    case LM_Q8_0: case LM_Q4_0: return 32;
    case LM_Q4_1: return 64;
    case LM_Q4_K: case LM_Q5_K: return 320;
    case LM_Q6_K: return 288;
  }
  return 0;
}
LM_INLINE int is_super(int type) { return type == LM_Q4_K || type == LM_Q5_K || type == LM_Q6_K; }

/** 0 for a type or width that is not supported. */
static int64_t tile_bytes(i32 type, i32 in) {
  if (in <= 0) return 0;
  int64_t n;
  switch (type) {
    case LM_F32: n = (int64_t)in * 64; break;
    case LM_F16: case LM_BF16: n = (int64_t)in * 32; break;
    default: {
      int q = quant_bytes(type);
      if (!q || in % (is_super(type) ? 256 : 32)) return 0;
      n = (int64_t)(in / 32) * q + (int64_t)(in / (is_super(type) ? 256 : 32)) * scale_bytes(type);
    }
  }
  return (n + 63) & ~(int64_t)63;
}

LM_INLINE void put_nibbles(u8 *dst, const u8 *e) {  // e: 32 values below 16 → 4 vectors, this row
  for (int v = 0; v < 4; v++)
    for (int i = 0; i < 4; i++) dst[64 * v + i] = (u8)(e[4 * v + i] | e[16 + 4 * v + i] << 4);
}

/** Scale k (0…7) and minimum of a Q4_K or Q5_K superblock: 6 bits each, packed in 12 bytes. */
LM_INLINE void k_scale(const u8 *s, int k, u8 *sc, u8 *m) {
  if (k < 4) {
    *sc = s[k] & 63;
    *m = s[k + 4] & 63;
  } else {
    *sc = (u8)((s[k + 4] & 15) | (s[k - 4] >> 6) << 4);
    *m = (u8)((s[k + 4] >> 4) | (s[k] >> 6) << 4);
  }
}

static void repack_q45k(u8 *quants, u8 *scales, const u8 *src, int r, int five) {
  memcpy(scales + 2 * r, src, 2);
  memcpy(scales + 32 + 2 * r, src + 2, 2);
  const u8 *qh = src + 16, *qs = src + (five ? 48 : 16);
  for (int s = 0; s < 8; s++) {
    k_scale(src + 4, s, scales + 64 + 16 * s + r, scales + 192 + 16 * s + r);
    u8 e[32];
    for (int k = 0; k < 32; k++) e[k] = (u8)((qs[32 * (s / 2) + k] >> (4 * (s & 1))) & 15);
    u8 *q = quants + (five ? 320 : 256) * s + 4 * r;
    put_nibbles(q, e);
    if (five)
      for (int i = 0; i < 4; i++) {
        u8 b = 0;
        for (int j = 0; j < 8; j++) b |= (u8)(((qh[4 * j + i] >> s) & 1) << j);
        q[256 + i] = b;
      }
  }
}

static void repack_q6k(u8 *quants, u8 *scales, const u8 *src, int r) {
  memcpy(scales + 2 * r, src + 208, 2);
  for (int k = 0; k < 16; k++) scales[32 + 16 * k + r] = src[192 + k];
  for (int s = 0; s < 8; s++) {
    const u8 *ql = src + 64 * (s / 4) + 32 * (s & 1), *qh = src + 128 + 32 * (s / 4);
    u8 e[32];
    for (int k = 0; k < 32; k++) e[k] = (u8)(s & 2 ? ql[k] >> 4 : ql[k] & 15);
    u8 *q = quants + 384 * s + 4 * r;
    put_nibbles(q, e);
    for (int half = 0; half < 2; half++)
      for (int i = 0; i < 4; i++) {
        u8 b = 0;
        for (int j = 0; j < 4; j++) b |= (u8)(((qh[16 * half + 4 * j + i] >> (2 * (s & 3))) & 3) << (2 * j));
        q[256 + 64 * half + i] = b;
      }
  }
}

static void repack(const LmTensor *t, u8 *dst, const u8 *src, int64_t rowBytes, i32 from, i32 to) {
  int nb = t->in / 32;
  for (i32 tile = from; tile < to; tile++) {
    u8 *d = dst + tile * t->tileBytes, *scales = d + (int64_t)nb * quant_bytes(t->type);
    int rows = t->out - 16 * tile < 16 ? t->out - 16 * tile : 16;
    if (rows < 16) memset(d, 0, (size_t)t->tileBytes);
    for (int r = 0; r < rows; r++) {
      const u8 *s = src + (int64_t)(16 * tile + r) * rowBytes;
      switch (t->type) {
        case LM_F32:
          for (int k = 0; k < t->in; k++) memcpy(d + 64 * (int64_t)k + 4 * r, s + 4 * (int64_t)k, 4);
          break;
        case LM_F16: case LM_BF16:
          for (int k = 0; k < t->in; k++) memcpy(d + 32 * (int64_t)k + 2 * r, s + 2 * (int64_t)k, 2);
          break;
        case LM_Q8_0:
          for (int b = 0; b < nb; b++, s += 34) {
            memcpy(scales + 32 * b + 2 * r, s, 2);
            u8 *q = d + 512 * (int64_t)b + 4 * r;
            for (int j = 0; j < 8; j++) {
              u32 w;
              memcpy(&w, s + 2 + 4 * j, 4);
              w ^= 0x80808080u;
              memcpy(q + 64 * j, &w, 4);
            }
          }
          break;
        case LM_Q4_0: case LM_Q4_1: {
          int head = t->type == LM_Q4_1 ? 4 : 2;
          for (int b = 0; b < nb; b++, s += 16 + head) {
            memcpy(scales + 16 * head * b + 2 * r, s, 2);
            if (head == 4) memcpy(scales + 64 * b + 32 + 2 * r, s + 2, 2);
            u8 *q = d + 256 * (int64_t)b + 4 * r;
            for (int v = 0; v < 4; v++) memcpy(q + 64 * v, s + head + 4 * v, 4);
          }
          break;
        }
        case LM_Q4_K: case LM_Q5_K: {
          int five = t->type == LM_Q5_K;
          for (int b = 0; b < nb / 8; b++, s += five ? 176 : 144)
            repack_q45k(d + (int64_t)b * 8 * (five ? 320 : 256), scales + 320 * b, s, r, five);
          break;
        }
        case LM_Q6_K:
          for (int b = 0; b < nb / 8; b++, s += 210) repack_q6k(d + (int64_t)b * 3072, scales + 288 * b, s, r);
          break;
      }
    }
  }
}

static void to_vector(float *dst, const void *src, i32 type, i32 n) {
  const u8 *s = (const u8 *)src;
  for (i32 i = 0; i < n; i++) {
    u16 h;
    if (type == LM_F32) {
      memcpy(dst + i, s + 4 * (int64_t)i, 4);
    } else {
      memcpy(&h, s + 2 * (int64_t)i, 2);
      dst[i] = type == LM_F16 ? half_to_float(h) : bits_f32((u32)h << 16);
    }
  }
}

LM_INLINE float half_at(const u8 *p) {
  u16 h;
  memcpy(&h, p, 2);
  return half_to_float(h);
}

/** One row of a repacked tensor as f32: an embedding is read from the same tiles as the output matrix. */
static void embed(const LmTensor *t, i32 row, float *out) {
  const u8 *d = t->data + (row / 16) * t->tileBytes;
  int r = row % 16, nb = t->in / 32, q = quant_bytes(t->type), sb = scale_bytes(t->type);
  if (!q) {
    for (int k = 0; k < t->in; k++) {
      if (t->type == LM_F32) {
        memcpy(out + k, d + 64 * (int64_t)k + 4 * r, 4);
      } else if (t->type == LM_F16) {
        out[k] = half_at(d + 32 * (int64_t)k + 2 * r);
      } else {
        u16 h;
        memcpy(&h, d + 32 * (int64_t)k + 2 * r, 2);
        out[k] = bits_f32((u32)h << 16);
      }
    }
    return;
  }
  const u8 *scales = d + (int64_t)nb * q;
  for (int b = 0; b < nb; b++) {
    const u8 *w = d + (int64_t)b * q + 4 * r, *s = scales + (int64_t)(is_super(t->type) ? b / 8 : b) * sb;
    float scale[2], minimum = 0;
    scale[0] = scale[1] = half_at(s + 2 * r);
    if (t->type == LM_Q4_1) minimum = half_at(s + 32 + 2 * r);
    if (t->type == LM_Q4_K || t->type == LM_Q5_K) {
      minimum = -half_at(s + 32 + 2 * r) * (float)s[192 + 16 * (b % 8) + r];
      scale[0] = scale[1] = scale[0] * (float)s[64 + 16 * (b % 8) + r];
    }
    if (t->type == LM_Q6_K)
      for (int h = 1; h >= 0; h--) scale[h] = scale[0] * (float)(s8)s[32 + 16 * (2 * (b % 8) + h) + r];
    for (int k = 0; k < 32; k++) {
      int j = k / 4, i = k % 4, v;
      if (t->type == LM_Q8_0) {
        v = w[64 * j + i] - 128;
      } else {
        v = (w[64 * (j & 3) + i] >> (j & 4)) & 15;
        if (t->type == LM_Q4_0) v -= 8;
        if (t->type == LM_Q5_K) v += ((w[256 + i] >> j) & 1) << 4;
        if (t->type == LM_Q6_K) v += (((w[256 + 64 * (j / 4) + i] >> (2 * (j & 3))) & 3) << 4) - 32;
      }
      out[32 * b + k] = (float)v * scale[k / 16] + minimum;
    }
  }
}

}  // namespace LM_NS
