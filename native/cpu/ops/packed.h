// Rows of checkpoints that are quantised already (see src/weights/folder/quantised): the value of output o at input i is
// (code - zero) * scale of its group. What has GGUF's form becomes Q4_0, Q4_1, MXFP4 or Q8_0 with its own codes and scales; the rest
// goes through floats.
namespace LM_NS {

LM_INLINE u32 word_at(const u8 *p, int64_t i) {
  u32 w;
  memcpy(&w, p + 4 * i, 4);
  return w;
}

/** Where AWQ puts column k of 8 in a word. */
LM_INLINE int awq_shift(int k) { return 4 * ((k & 1) * 4 + k / 2); }

/** Codes of `n` rows from `first` on, (n, in). */
static void read_codes(const LmPacked *p, u8 *q, i32 first, i32 n) {
  const int64_t in = p->in, rows = p->rows;
  if (p->layout == LM_PACKED_AWQ) {
    for (int64_t i = 0; i < in; i++)
      for (i32 r = 0; r < n; r++) {
        i32 o = first + r;
        q[r * in + i] = (u8)(word_at(p->codes, i * (rows / 8) + o / 8) >> awq_shift(o % 8)) & 15;
      }
    return;
  }
  const int each = 32 / p->bits;
  const u32 mask = p->bits == 4 ? 15 : 255;
  for (i32 r = 0; r < n; r++) {
    u8 *out = q + r * in;
    const int64_t o = first + r;
    if (p->layout == LM_PACKED_GPTQ) {
      for (int64_t w = 0; w < in / each; w++) {
        u32 x = word_at(p->codes, w * rows + o);
        for (int k = 0; k < each; k++, x >>= p->bits) out[each * w + k] = (u8)(x & mask);
      }
    } else if (p->bits == 8) {
      memcpy(out, p->codes + o * p->rowBytes, (size_t)in);
    } else {
      const u8 *src = p->codes + o * p->rowBytes;
      for (int64_t i = 0; i < in; i++) out[i] = (u8)((src[i / 2] >> (4 * (i & 1))) & 15);
    }
  }
}

LM_INLINE int64_t scale_index(const LmPacked *p, int64_t o, int64_t g) {
  o /= p->groupRows;
  return p->scalesByGroup ? g * p->scaleRows + o : o * p->groups + g;
}

static float scale_of(const LmPacked *p, int64_t o, int64_t g) {
  const int64_t at = scale_index(p, o, g);
  if (p->scaleType == LM_PACKED_E8M0) {
    u8 e = p->scales[at];
    return e == 255 ? __builtin_nanf("") : e == 0 ? bits_f32(0x00400000u) : bits_f32((u32)e << 23);
  }
  float s;
  to_vector(&s, p->scales + at * (p->scaleType == LM_F32 ? 4 : 2), p->scaleType, 1);
  return s;
}

static int zero_of(const LmPacked *p, int64_t o, int64_t g) {
  const int each = 32 / p->bits;
  const u32 mask = p->bits == 4 ? 15 : 255;
  int z = 0;
  switch (p->zeroKind) {
    case LM_ZERO_GPTQ: z = (int)((word_at(p->zeros, g * (p->rows / each) + o / each) >> (p->bits * (o % each))) & mask); break;
    case LM_ZERO_AWQ: z = (int)((word_at(p->zeros, g * (p->rows / 8) + o / 8) >> awq_shift((int)(o % 8))) & 15); break;
    case LM_ZERO_ROWS: z = (int)((word_at(p->zeros, o / each * p->groups + g) >> (p->bits * (o % each))) & mask); break;
    case LM_ZERO_INT8: z = (s8)p->zeros[o * p->groups + g]; break;
  }
  return z + p->zeroAdd;
}

LM_INLINE float e4m3(u8 b) {
  int e = (b >> 3) & 15, m = b & 7;
  if ((b & 127) == 127) return __builtin_nanf("");
  float v = e ? bits_f32((u32)(e + 120) << 23 | (u32)m << 20) : (float)m * 0.001953125f;
  return b & 128 ? -v : v;
}

/** Codes as numbers whose scale is what the file says, or half of it for E2M1. */
static void code_values(int code, float *table) {
  static const s8 e2m1[8] = {0, 1, 2, 3, 4, 6, 8, 12};
  for (int k = 0; k < 256; k++) {
    switch (code) {
      case LM_CODE_INT8: table[k] = (float)(s8)(u8)k; break;
      case LM_CODE_E4M3: table[k] = e4m3((u8)k); break;
      case LM_CODE_E2M1: table[k] = (float)(k & 8 ? -e2m1[k & 7] : e2m1[k & 7]); break;
      default: table[k] = (float)k;
    }
  }
}

/** 0, or which promise the file breaks: 1 its zero points are not all the same, 2 its groups are not in order. */
static i32 unpack_exact(const LmPacked *p, const float *table, u8 *dst, i32 type, const u8 *q, i32 o) {
  for (i32 b = 0; b < p->in / 32; b++, q += 32) {
    const int64_t g = (int64_t)b * 32 / p->groupSize;
    const int z = zero_of(p, o, g);
    if (type == LM_MXFP4) {
      dst[0] = p->scales[scale_index(p, o, g)];
      for (int k = 0; k < 16; k++) dst[1 + k] = (u8)(q[k] | q[k + 16] << 4);
      dst += 17;
      continue;
    }
    float s = scale_of(p, o, g) * (p->code == LM_CODE_E2M1 ? 0.5f : 1.0f);
    u16 d = float_to_half(s);
    memcpy(dst, &d, 2);
    if (type == LM_Q8_0) {
      if (z != p->zeroSame) return 1;
      for (int k = 0; k < 32; k++) dst[2 + k] = (u8)(s8)((i32)table[q[k]] - z);
      dst += 34;
      continue;
    }
    int head = 2;
    if (type == LM_Q4_1) {
      u16 m = float_to_half(-s * (float)z);
      memcpy(dst + 2, &m, 2);
      head = 4;
    } else if (z != 8) {
      return 1;
    }
    for (int k = 0; k < 16; k++) dst[head + k] = (u8)(q[k] | q[k + 16] << 4);
    dst += 16 + head;
  }
  return 0;
}

/** Rows [first, first + n) of a packed tensor as rows of `type`; `q`: n * in bytes of scratch, `x`: in floats. */
static i32 unpack_rows(const LmPacked *p, u8 *dst, int64_t rowBytes, i32 type, i32 first, i32 n, u8 *q, float *x) {
  float table[256];
  code_values(p->code, table);
  read_codes(p, q, first, n);
  const float factor = p->code == LM_CODE_E2M1 ? 0.5f : 1.0f;
  for (i32 r = 0; r < n; r++, q += p->in, dst += rowBytes) {
    const i32 o = first + r;
    if (p->exact) {
      i32 broken = unpack_exact(p, table, dst, type, q, o);
      if (broken) return broken;
      continue;
    }
    int64_t last = -1;
    float s = 0, z = 0;
    for (i32 i = 0; i < p->in; i++) {
      const int64_t g = p->order ? p->order[i] : i / p->groupSize;
      if (g != last) {
        s = scale_of(p, o, g) * factor;
        z = (float)zero_of(p, o, g);
        last = g;
      }
      x[i] = (table[q[i]] - z) * s;
    }
    convert(dst, type, (const u8 *)x, LM_F32, p->in);
  }
  return 0;
}

}  // namespace LM_NS
