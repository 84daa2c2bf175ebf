// Rows of floats as rows of another type: what weights become while they are loaded. Blocks are GGUF's: Q8_0 has 32 values
// and d = max |x| / 127; Q4_0 has 32 values and d = the value of the largest magnitude / -8.
namespace LM_NS {

LM_INLINE void widen(float *out, const u8 *src, i32 type, int n) {
  to_vector(out, src, type, n);
}

/** NaN must not vanish: it becomes the scale. */
LM_INLINE float largest(const float *x, float *value) {
  float most = 0, at = 0;
  int bad = 0;
  for (int i = 0; i < 32; i++) {
    float a = x[i] < 0 ? -x[i] : x[i];
    bad |= !(a <= 3.0e38f);
    at = a > most ? x[i] : at;
    most = a > most ? a : most;
  }
  if (bad) most = at = __builtin_nanf("");
  *value = at;
  return most;
}

static void to_q8_0(u8 *dst, const float *x) {
  float value, d = largest(x, &value) / 127.0f, inverse = d > 0 ? 1.0f / d : 0;
  u16 h = float_to_half(d);
  memcpy(dst, &h, 2);
  for (int i = 0; i < 32; i++) {
    float q = x[i] * inverse;
    q = q + (q < 0 ? -0.5f : 0.5f);
    dst[2 + i] = (u8)(s8)(i32)(q > -128.0f && q < 128.0f ? q : 0);
  }
}

static void to_q4_0(u8 *dst, const float *x) {
  float value;
  largest(x, &value);
  float d = value / -8.0f, inverse = d < 0 || d > 0 ? 1.0f / d : 0;
  u16 h = float_to_half(d);
  memcpy(dst, &h, 2);
  u8 q[32];
  for (int i = 0; i < 32; i++) {
    float y = x[i] * inverse + 8.5f;
    y = y > 0 ? y : 0;  // NaN too
    q[i] = (u8)(i32)(y < 15.0f ? y : 15.0f);
  }
  for (int i = 0; i < 16; i++) dst[2 + i] = (u8)(q[i] | q[i + 16] << 4);
}

static void to_bf16(u8 *dst, const float *x, int n) {
  for (int i = 0; i < n; i++) {
    u32 b = f32_bits(x[i]);
    u16 h = (b & 0x7fffffff) > 0x7f800000 ? (u16)((b >> 16) | 64) : (u16)((b + 0x7fff + ((b >> 16) & 1)) >> 16);
    memcpy(dst + 2 * i, &h, 2);
  }
}

static void convert(u8 *dst, i32 to, const u8 *src, i32 from, i32 n) {
  int size = from == LM_F32 ? 4 : 2;
  float x[32];
  for (i32 at = 0; at < n; at += 32) {
    int m = n - at < 32 ? n - at : 32;
    widen(x, src + (int64_t)at * size, from, m);
    switch (to) {
      case LM_Q8_0: to_q8_0(dst + at / 32 * 34, x); break;
      case LM_Q4_0: to_q4_0(dst + at / 32 * 18, x); break;
      case LM_BF16: to_bf16(dst + 2 * (int64_t)at, x, m); break;
      case LM_F32: memcpy(dst + 4 * (int64_t)at, x, 4 * (size_t)m); break;
    }
  }
}

}  // namespace LM_NS
