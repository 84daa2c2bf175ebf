// Rotary embedding of q in place and of k on its way into the KV cache; v is stored as it is.
//
// KV of one head of a block: tiles of 16 tokens of K, then tiles of V.
//   16 bits: K (dim, 16 tokens) f16; V (16 tokens, dim) f16
//    8 bits: the same in u8, then scale[16], zero[16] in f16
//    4 bits: K (dim / 2, 16 tokens), even dim in the low nibble; V (16 tokens, dim / 16, 8): dims j and j + 8 of 16
namespace LM_NS {

LM_INLINE u8 *kv_tile(const LmKv *kv, const i32 *table, i32 head, i32 position, int isV) {
  i32 block = table[position / kv->blockLen], inBlock = position % kv->blockLen;
  return kv->base + block * kv->blockBytes + kv->layerOffset + head * kv->headBytes +
         (int64_t)((isV ? kv->blockLen / 16 : 0) + inBlock / 16) * kv->tileBytes;
}

/** A product on its own: g++ 12.2 makes fused multiply-adds of such sums whatever -ffp-contract says (GCC's bug 107647). */
LM_INLINE float rounded(float x) {
#if defined(__clang__)
#elif defined(__x86_64__)
  __asm__("" : "+x"(x));
#elif defined(__aarch64__)
  __asm__("" : "+w"(x));
#endif
  return x;
}

LM_INLINE void rotate(float *x, const float *angles, int dims, int neox) {
  int half = dims / 2;
  for (int i = 0; i < half; i++) {
    int a = neox ? i : 2 * i, b = neox ? i + half : 2 * i + 1;
    float c = angles[2 * i], s = angles[2 * i + 1], p = x[a], q = x[b];
    x[a] = rounded(p * c) - rounded(q * s);
    x[b] = rounded(p * s) + rounded(q * c);
  }
}

LM_INLINE float clamp_half(float x) { return x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x; }

static void store_half(u8 *k, u8 *v, const float *x, const float *y, int hd, int lane) {
  u16 *kt = (u16 *)k + lane, *vt = (u16 *)v + lane * hd;
  V low = v_set(-65504.0f), high = v_set(65504.0f);
  for (int d = 0; d < hd; d += 16) {
    u16 h[16];
    // NaN stays NaN: the first operand of min and max is the constant
    v_to_half(h, v_max(low, v_min(high, v_load(x + d))));
    for (int i = 0; i < 16; i++) kt[16 * (d + i)] = h[i];
    v_to_half(vt + d, v_max(low, v_min(high, v_load(y + d))));
  }
}

/** scale = (max - min) / (2^bits - 1), zero = min, both as f16; q = round((x - zero) / scale). */
static void quantise_head(u8 *q, u16 *scale, u16 *zero, const float *x, int hd, int bits) {
  float top = bits == 8 ? 255.0f : 15.0f;
  V most = v_load(x), least = v_sub(v_zero(), most);  // of -x
  int bad = v_any_nan(most);
  for (int d = 16; d < hd; d += 16) {
    V y = v_load(x + d);
    most = v_max(most, y);
    least = v_max(least, v_sub(v_zero(), y));
    bad |= v_any_nan(y);
  }
  float low = -v_maximum(least), high = v_maximum(most);
  *zero = bad ? 0x7e00 : float_to_half(clamp_half(low));  // NaN must not vanish
  *scale = float_to_half(clamp_half((high - low) / top));
  float z = half_to_float(*zero), s = half_to_float(*scale), inverse = s > 0.0f ? 1.0f / s : 0.0f;
  for (int d = 0; d < hd; d++) {
    float y = (x[d] - z) * inverse + 0.5f;
    y = y > 0.0f ? y : 0.0f;  // NaN too
    q[d] = (u8)(i32)(y < top ? y : top);
  }
}

static void store_quantised(u8 *tile, const float *x, int hd, int lane, int bits, int isV) {
  u8 q[512];
  u16 scale, zero;
  int64_t data = (int64_t)16 * hd * bits / 8;
  quantise_head(q, &scale, &zero, x, hd, bits);
  memcpy(tile + data + 2 * lane, &scale, 2);
  memcpy(tile + data + 32 + 2 * lane, &zero, 2);
  if (bits == 8) {
    if (isV)
      memcpy(tile + lane * hd, q, (size_t)hd);
    else
      for (int d = 0; d < hd; d++) tile[16 * d + lane] = q[d];
  } else if (isV) {
    for (int d = 0; d < hd; d += 16)
      for (int j = 0; j < 8; j++) tile[lane * (hd / 2) + d / 2 + j] = (u8)(q[d + j] | q[d + j + 8] << 4);
  } else {
    for (int d = 0; d < hd; d += 2) tile[8 * d + lane] = (u8)(q[d] | q[d + 1] << 4);
  }
}

static void rope_store(const LmRopeStore *r, const i32 *table, i32 token, i32 position) {
  int hd = r->kv.headDim, lane = position % 16;
  const float *angles = r->angles + (int64_t)token * r->dims;
  float *q = r->q + token * r->qStride, *k = r->k + token * r->kStride;
  const float *v = r->v + token * r->vStride;
  for (int h = 0; h < r->heads; h++) rotate(q + h * hd, angles, r->dims, r->neox);
  for (int h = 0; h < r->kv.heads; h++) {
    rotate(k + h * hd, angles, r->dims, r->neox);
    u8 *kt = kv_tile(&r->kv, table, h, position, 0), *vt = kv_tile(&r->kv, table, h, position, 1);
    if (r->kv.bits == 16) {
      store_half(kt, vt, k + h * hd, v + h * hd, hd, lane);
    } else {
      store_quantised(kt, k + h * hd, hd, lane, r->kv.bits, 0);
      store_quantised(vt, v + h * hd, hd, lane, r->kv.bits, 1);
    }
  }
}

}  // namespace LM_NS
