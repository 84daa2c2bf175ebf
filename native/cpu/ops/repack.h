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
//   Q5_0  as Q4_0 and a vector of fifth bits (see Q5_K)                        d[16]
//   Q5_1  as Q5_0                                                              d[16], m[16]
//   Q2_K  2 vectors: bits 2j, 2j+1 of vector h = chunk 4h + j                  d[16], dmin[16], (sc | m << 4)[16][16]
//   Q3_K  as Q2_K and a vector of third bits: bit j belongs to chunk j         d[16], sc[16][16] s8
//   IQ4_NL, MXFP4  as Q4_0, each nibble an index of a table of values          d[16]; MXFP4: bf16, which holds every power
//   IQ4_XS  as IQ4_NL, 8 blocks a superblock                                   d[16], sc[8][16] s8
//   F32, F16, BF16: (input, 16 rows)
// Missing rows of the last tile are zero.
namespace LM_NS {

LM_INLINE int quant_bytes(int type) {
  switch (type) {
    case LM_Q8_0: return 512;
    case LM_Q4_0: case LM_Q4_1: case LM_Q4_K: case LM_IQ4_NL: case LM_IQ4_XS: case LM_MXFP4: return 256;
    case LM_Q5_0: case LM_Q5_1: case LM_Q5_K: return 320;
    case LM_Q6_K: return 384;
    case LM_Q2_K: return 128;
    case LM_Q3_K: return 192;
  }
  return 0;
}
/** Scale bytes of a block of 32, or of a superblock for K-quants. */
LM_INLINE int scale_bytes(int type) {
  switch (type) {
    case LM_Q8_0: case LM_Q4_0: case LM_Q5_0: case LM_IQ4_NL: case LM_MXFP4: return 32;
    case LM_Q4_1: case LM_Q5_1: return 64;
    case LM_Q2_K: case LM_Q4_K: case LM_Q5_K: return 320;
    case LM_Q3_K: case LM_Q6_K: return 288;
    case LM_IQ4_XS: return 160;
  }
  return 0;
}
LM_INLINE int is_super(int type) {
  return type == LM_Q2_K || type == LM_Q3_K || type == LM_Q4_K || type == LM_Q5_K || type == LM_Q6_K || type == LM_IQ4_XS;
}

/** What a nibble means, + 128: IQ4_NL and IQ4_XS; MXFP4 (e2m1, doubled). */
alignas(16) static const u8 IQ4_TABLE[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
alignas(16) static const u8 FP4_TABLE[16] = {128, 129, 130, 131, 132, 134, 136, 140, 128, 127, 126, 125, 124, 122, 120, 116};
LM_INLINE const u8 *table_of(int type) {
  return type == LM_IQ4_NL || type == LM_IQ4_XS ? IQ4_TABLE : type == LM_MXFP4 ? FP4_TABLE : 0;
}
/** 2^(e - 128), half of what e8m0 means as the table is doubled, in bf16. */
LM_INLINE u16 e8m0_half(u8 e) { return e < 2 ? (u16)(0x20 << e) : (u16)((e - 1) << 7); }

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

/** 32 values of one bit each, this row's part of a vector: bit j belongs to chunk j. */
LM_INLINE void put_bits(u8 *dst, const u8 *e) {
  for (int i = 0; i < 4; i++) {
    u8 b = 0;
    for (int j = 0; j < 8; j++) b |= (u8)(e[4 * j + i] << j);
    dst[i] = b;
  }
}
/** 32 values below 4 → 2 vectors. */
LM_INLINE void put_pairs(u8 *dst, const u8 *e) {
  for (int half = 0; half < 2; half++)
    for (int i = 0; i < 4; i++) {
      u8 b = 0;
      for (int j = 0; j < 4; j++) b |= (u8)(e[16 * half + 4 * j + i] << (2 * j));
      dst[64 * half + i] = b;
    }
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
    if (five) {
      for (int k = 0; k < 32; k++) e[k] = (u8)((qh[k] >> s) & 1);
      put_bits(q + 256, e);
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
    for (int k = 0; k < 32; k++) e[k] = (u8)((qh[k] >> (2 * (s & 3))) & 3);
    put_pairs(q + 256, e);
  }
}

/** One block of Q5_0 (head of 2 bytes) or Q5_1 (4). */
static void repack_q5(u8 *quants, u8 *scales, const u8 *src, int head) {
  u8 e[32];
  u32 h;
  memcpy(&h, src + head, 4);
  for (int k = 0; k < 32; k++) e[k] = (h >> k) & 1;
  memcpy(scales, src, 2);
  if (head == 4) memcpy(scales + 32, src + 2, 2);
  for (int v = 0; v < 4; v++) memcpy(quants + 64 * v, src + head + 4 + 4 * v, 4);
  put_bits(quants + 256, e);
}

static void repack_q2k(u8 *quants, u8 *scales, const u8 *src, int r) {
  memcpy(scales + 2 * r, src + 80, 2);
  memcpy(scales + 32 + 2 * r, src + 82, 2);
  for (int k = 0; k < 16; k++) scales[64 + 16 * k + r] = src[k];
  for (int s = 0; s < 8; s++) {
    u8 e[32];
    for (int k = 0; k < 32; k++) e[k] = (u8)((src[16 + 32 * (s / 4) + k] >> (2 * (s & 3))) & 3);
    put_pairs(quants + 128 * s + 4 * r, e);
  }
}

static void repack_q3k(u8 *quants, u8 *scales, const u8 *src, int r) {
  const u8 *hm = src, *qs = src + 32, *sc = src + 96;
  memcpy(scales + 2 * r, src + 108, 2);
  for (int k = 0; k < 16; k++) {  // 4 low bits: nibbles of 8 bytes; 2 high bits: pairs of 4 bytes
    int low = k < 8 ? sc[k] & 15 : sc[k - 8] >> 4, high = (sc[8 + (k & 3)] >> (2 * (k / 4))) & 3;
    scales[32 + 16 * k + r] = (u8)(s8)((low | high << 4) - 32);
  }
  for (int s = 0; s < 8; s++) {
    u8 e[32], h[32];
    for (int k = 0; k < 32; k++) {
      e[k] = (u8)((qs[32 * (s / 4) + k] >> (2 * (s & 3))) & 3);
      h[k] = (u8)((hm[k] >> s) & 1);
    }
    put_pairs(quants + 192 * s + 4 * r, e);
    put_bits(quants + 192 * s + 4 * r + 128, h);
  }
}

static void repack_iq4xs(u8 *quants, u8 *scales, const u8 *src, int r) {
  u16 high;
  memcpy(&high, src + 2, 2);
  memcpy(scales + 2 * r, src, 2);
  for (int s = 0; s < 8; s++) {
    int low = (src[4 + s / 2] >> (4 * (s & 1))) & 15;
    scales[32 + 16 * s + r] = (u8)(s8)((low | ((high >> (2 * s)) & 3) << 4) - 32);
    for (int v = 0; v < 4; v++) memcpy(quants + 256 * s + 64 * v + 4 * r, src + 8 + 16 * s + 4 * v, 4);
  }
}

static void repack(const LmTensor *t, u8 *dst, const u8 *src, int64_t rowBytes, i32 from, i32 to) {
  int nb = t->in / 32;
  for (i32 tile = from; tile < to; tile++) {
    u8 *d = dst + tile * t->tileBytes, *scales = d + (int64_t)nb * quant_bytes(t->type);
    int rows = t->out - 16 * tile < 16 ? t->out - 16 * tile : 16;
    if (rows < 16) memset(d, 0, (size_t)t->tileBytes);
    if (t->type == LM_F16 || t->type == LM_BF16) {
      transpose_halves(d, src + 16 * (int64_t)tile * rowBytes, rowBytes, rows, t->in);
      continue;
    }
    for (int r = 0; r < rows; r++) {
      const u8 *s = src + (int64_t)(16 * tile + r) * rowBytes;
      switch (t->type) {
        case LM_F32:
          for (int k = 0; k < t->in; k++) memcpy(d + 64 * (int64_t)k + 4 * r, s + 4 * (int64_t)k, 4);
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
        case LM_Q4_0: case LM_Q4_1: case LM_IQ4_NL: {
          int head = t->type == LM_Q4_1 ? 4 : 2;
          for (int b = 0; b < nb; b++, s += 16 + head) {
            memcpy(scales + 16 * head * b + 2 * r, s, 2);
            if (head == 4) memcpy(scales + 64 * b + 32 + 2 * r, s + 2, 2);
            u8 *q = d + 256 * (int64_t)b + 4 * r;
            for (int v = 0; v < 4; v++) memcpy(q + 64 * v, s + head + 4 * v, 4);
          }
          break;
        }
        case LM_MXFP4:
          for (int b = 0; b < nb; b++, s += 17) {
            u16 scale = e8m0_half(s[0]);
            memcpy(scales + 32 * b + 2 * r, &scale, 2);
            u8 *q = d + 256 * (int64_t)b + 4 * r;
            for (int v = 0; v < 4; v++) memcpy(q + 64 * v, s + 1 + 4 * v, 4);
          }
          break;
        case LM_Q5_0: case LM_Q5_1: {
          int head = t->type == LM_Q5_1 ? 4 : 2;
          for (int b = 0; b < nb; b++, s += 20 + head)
            repack_q5(d + 320 * (int64_t)b + 4 * r, scales + 16 * head * b + 2 * r, s, head);
          break;
        }
        case LM_Q2_K:
          for (int b = 0; b < nb / 8; b++, s += 84) repack_q2k(d + (int64_t)b * 1024, scales + 320 * b, s, r);
          break;
        case LM_Q3_K:
          for (int b = 0; b < nb / 8; b++, s += 110) repack_q3k(d + (int64_t)b * 1536, scales + 288 * b, s, r);
          break;
        case LM_IQ4_XS:
          for (int b = 0; b < nb / 8; b++, s += 136) repack_iq4xs(d + (int64_t)b * 2048, scales + 160 * b, s, r);
          break;
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

LM_INLINE float bf16_at(const u8 *p) {
  u16 h;
  memcpy(&h, p, 2);
  return bits_f32((u32)h << 16);
}

/** Value k (0…31) of a block, before scales; w: this row's part of the block's quants. */
LM_INLINE int quant_at(int type, const u8 *w, int k) {
  int j = k / 4, i = k % 4;
  if (type == LM_Q8_0) return w[64 * j + i] - 128;
  if (type == LM_Q2_K || type == LM_Q3_K) {
    int v = (w[64 * (j / 4) + i] >> (2 * (j & 3))) & 3;
    return type == LM_Q2_K ? v : v + (((w[128 + i] >> j) & 1) << 2) - 4;
  }
  int v = (w[64 * (j & 3) + i] >> (j & 4)) & 15;
  const u8 *table = table_of(type);
  if (table) return table[v] - 128;
  if (type == LM_Q4_0) return v - 8;
  if (type == LM_Q6_K) return v + (((w[256 + 64 * (j / 4) + i] >> (2 * (j & 3))) & 3) << 4) - 32;
  if (type == LM_Q5_0 || type == LM_Q5_1 || type == LM_Q5_K) v += ((w[256 + i] >> j) & 1) << 4;
  return type == LM_Q5_0 ? v - 16 : v;
}

/** Scale and what is added, of each half of block b; s: the scales of the block or of its superblock, r: the row. */
LM_INLINE void scales_at(int type, const u8 *s, int b, int r, float *scale, float *add) {
  float d = type == LM_MXFP4 ? bf16_at(s + 2 * r) : half_at(s + 2 * r);
  for (int h = 0; h < 2; h++) {
    scale[h] = d;
    add[h] = 0;
    switch (type) {
      case LM_Q4_1: case LM_Q5_1: add[h] = half_at(s + 32 + 2 * r); break;
      case LM_Q4_K: case LM_Q5_K:
        add[h] = -half_at(s + 32 + 2 * r) * (float)s[192 + 16 * (b % 8) + r];
        scale[h] = d * (float)s[64 + 16 * (b % 8) + r];
        break;
      case LM_Q2_K: {
        u8 both = s[64 + 16 * (2 * (b % 8) + h) + r];
        add[h] = -half_at(s + 32 + 2 * r) * (float)(both >> 4);
        scale[h] = d * (float)(both & 15);
        break;
      }
      case LM_Q3_K: case LM_Q6_K: scale[h] = d * (float)(s8)s[32 + 16 * (2 * (b % 8) + h) + r]; break;
      case LM_IQ4_XS: scale[h] = d * (float)(s8)s[32 + 16 * (b % 8) + r]; break;
    }
  }
}

/** One row of a repacked tensor as f32: an embedding is read from the same tiles as the output matrix. */
static void embed(const LmTensor *t, i32 row, float *out) {
  const u8 *d = t->data + (row / 16) * t->tileBytes;
  int r = row % 16, nb = t->in / 32, q = quant_bytes(t->type), sb = scale_bytes(t->type);
  if (!q) {
    for (int k = 0; k < t->in; k++) {
      if (t->type == LM_F32) memcpy(out + k, d + 64 * (int64_t)k + 4 * r, 4);
      else out[k] = t->type == LM_F16 ? half_at(d + 32 * (int64_t)k + 2 * r) : bf16_at(d + 32 * (int64_t)k + 2 * r);
    }
    return;
  }
  const u8 *scales = d + (int64_t)nb * q;
  for (int b = 0; b < nb; b++) {
    float scale[2], add[2];
    scales_at(t->type, scales + (int64_t)(is_super(t->type) ? b / 8 : b) * sb, b, r, scale, add);
    const u8 *w = d + (int64_t)b * q + 4 * r;
    for (int k = 0; k < 32; k++) out[32 * b + k] = (float)quant_at(t->type, w, k) * scale[k / 16] + add[k / 16];
  }
}

}  // namespace LM_NS
