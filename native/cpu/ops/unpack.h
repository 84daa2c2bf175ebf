// Tiles of weights as signed bytes and f32 scales: for each block of 32 inputs 8 chunks of 64 bytes, then 1, 2 or 4 vectors.
namespace LM_NS {

/** How the products of a block are scaled. */
enum Scaling {
  PLAIN = 0,
  HALVES = 1,   // each half has its own scale
  MINIMUM = 2,  // and something is added for the sum of the activations
};
LM_INLINE int scaling_of(int type) {
  switch (type) {
    case LM_Q4_1: case LM_Q5_1: case LM_Q4_K: case LM_Q5_K: return MINIMUM;
    case LM_Q3_K: case LM_Q6_K: return HALVES;
    case LM_Q2_K: return HALVES | MINIMUM;
  }
  return PLAIN;
}
/** Bytes of an unpacked block. */
LM_INLINE int unpacked_block(int scaling) { return 512 + 64 * (scaling & HALVES ? 2 : 1) * (scaling & MINIMUM ? 2 : 1); }

// What a type's scales of block b become: f[0…15] for the block or its first half, f[16…31] for the second or the minimum.
struct HalfScale {
  LM_INLINE void put(float *f, const u8 *s, int b) { v_store(f, v_half(s + 32 * b)); }
};
struct Bf16Scale {
  LM_INLINE void put(float *f, const u8 *s, int b) { v_store(f, v_bf16(s + 32 * b)); }
};
struct HalfMinimum {
  LM_INLINE void put(float *f, const u8 *s, int b) {
    v_store(f, v_half(s + 64 * b));
    v_store(f + 16, v_half(s + 64 * b + 32));
  }
};
struct SuperMinimum {
  LM_INLINE void put(float *f, const u8 *s, int b) {
    s += 320 * (b / 8);
    v_store(f, v_mul(v_half(s), v_u8(s + 64 + 16 * (b % 8))));
    v_store(f + 16, v_sub(v_zero(), v_mul(v_half(s + 32), v_u8(s + 192 + 16 * (b % 8)))));
  }
};
struct SuperScale {
  LM_INLINE void put(float *f, const u8 *s, int b) {
    s += 160 * (b / 8);
    v_store(f, v_mul(v_half(s), v_s8(s + 32 + 16 * (b % 8))));
  }
};
struct SuperHalves {
  LM_INLINE void put(float *f, const u8 *s, int b) {
    s += 288 * (b / 8);
    for (int half = 0; half < 2; half++) v_store(f + 16 * half, v_mul(v_half(s), v_s8(s + 32 + 32 * (b % 8) + 16 * half)));
  }
};
struct SuperBoth {
  LM_INLINE void put(float *f, const u8 *s, int b) {
    s += 320 * (b / 8);
    u8 sc[32], mn[32];
    for (int i = 0; i < 32; i++) {
      u8 both = s[64 + 32 * (b % 8) + i];
      sc[i] = both & 15;
      mn[i] = both >> 4;
    }
    for (int half = 0; half < 2; half++) {
      v_store(f + 16 * half, v_mul(v_half(s), v_u8(sc + 16 * half)));
      v_store(f + 32 + 16 * half, v_mul(v_half(s + 32), v_u8(mn + 16 * half)));
    }
  }
};

template <class Bits, int OFFSET, int J = 0>
LM_INLINE void unpack_quants(u8 *u, const u8 *w) {
  i_store(u + 64 * J, i_less(Bits::template at<J>(w), OFFSET));
  if constexpr (J < 7) unpack_quants<Bits, OFFSET, J + 1>(u, w);
}
/** Blocks [from, to) of a tile, `step` bytes from one to the next: values of Bits less OFFSET. */
template <class Bits, int OFFSET, class Scale>
__attribute__((noinline)) static void unpack_blocks(const LmTensor *w, const u8 *tile, i32 from, i32 to, u8 *u, int step) {
  const int nb = w->in / 32, q = quant_bytes(w->type);
  const u8 *scales = tile + (int64_t)nb * q;
  tile += (int64_t)from * q;
  for (i32 b = from; b < to; b++, tile += q, u += step) {
    unpack_quants<Bits, OFFSET>(u, tile);
    Scale::put((float *)(u + 512), scales, b);
  }
}
/** False of a type that has no such form. */
static bool unpack_tile(const LmTensor *w, i32 tile, i32 from, i32 to, u8 *u, int step) {
  const u8 *t = tile_at(w, tile);
  switch (w->type) {
    case LM_Q8_0: unpack_blocks<Bits8, 128, HalfScale>(w, t, from, to, u, step); return true;
    case LM_Q4_0: unpack_blocks<Bits4, 8, HalfScale>(w, t, from, to, u, step); return true;
    case LM_Q4_1: unpack_blocks<Bits4, 0, HalfMinimum>(w, t, from, to, u, step); return true;
    case LM_Q5_0: unpack_blocks<Bits5, 16, HalfScale>(w, t, from, to, u, step); return true;
    case LM_Q5_1: unpack_blocks<Bits5, 0, HalfMinimum>(w, t, from, to, u, step); return true;
    case LM_Q4_K: unpack_blocks<Bits4, 0, SuperMinimum>(w, t, from, to, u, step); return true;
    case LM_Q5_K: unpack_blocks<Bits5, 0, SuperMinimum>(w, t, from, to, u, step); return true;
    case LM_Q6_K: unpack_blocks<Bits6, 32, SuperHalves>(w, t, from, to, u, step); return true;
    case LM_Q2_K: unpack_blocks<Bits2, 0, SuperBoth>(w, t, from, to, u, step); return true;
    case LM_Q3_K: unpack_blocks<Bits3, 4, SuperHalves>(w, t, from, to, u, step); return true;
    case LM_IQ4_NL: unpack_blocks<TableIq4, 128, HalfScale>(w, t, from, to, u, step); return true;
    case LM_IQ4_XS: unpack_blocks<TableIq4, 128, SuperScale>(w, t, from, to, u, step); return true;
    case LM_MXFP4: unpack_blocks<TableFp4, 128, Bf16Scale>(w, t, from, to, u, step); return true;
  }
  return false;
}

}  // namespace LM_NS
