// Tiles of weights as bfloat16, as the instruction wants them: a block of 32 inputs is 16 rows of 64 bytes; row r has inputs 2r and
// 2r + 1 of each of the 16 outputs.
namespace LM_NS {

// What a type's scales of block b are, for its first or second half: weight = quant · d + add.
struct HalfScale {
  enum { HALVES = false };
  LM_INLINE void get(const u8 *s, int b, int, V *d, V *add) {
    *d = v_half(s + 32 * b);
    *add = v_zero();
  }
};
struct Bf16Scale {
  enum { HALVES = false };
  LM_INLINE void get(const u8 *s, int b, int, V *d, V *add) {
    *d = v_bf16(s + 32 * b);
    *add = v_zero();
  }
};
struct HalfMinimum {
  enum { HALVES = false };
  LM_INLINE void get(const u8 *s, int b, int, V *d, V *add) {
    *d = v_half(s + 64 * b);
    *add = v_half(s + 64 * b + 32);
  }
};
struct SuperMinimum {
  enum { HALVES = false };
  LM_INLINE void get(const u8 *s, int b, int, V *d, V *add) {
    s += 320 * (b / 8);
    *d = v_mul(v_half(s), v_u8(s + 64 + 16 * (b % 8)));
    *add = v_sub(v_zero(), v_mul(v_half(s + 32), v_u8(s + 192 + 16 * (b % 8))));
  }
};
struct SuperScale {
  enum { HALVES = false };
  LM_INLINE void get(const u8 *s, int b, int, V *d, V *add) {
    s += 160 * (b / 8);
    *d = v_mul(v_half(s), v_s8(s + 32 + 16 * (b % 8)));
    *add = v_zero();
  }
};
struct SuperHalves {
  enum { HALVES = true };
  LM_INLINE void get(const u8 *s, int b, int half, V *d, V *add) {
    s += 288 * (b / 8);
    *d = v_mul(v_half(s), v_s8(s + 32 + 32 * (b % 8) + 16 * half));
    *add = v_zero();
  }
};
struct SuperBoth {
  enum { HALVES = true };
  LM_INLINE void get(const u8 *s, int b, int half, V *d, V *add) {
    s += 320 * (b / 8);
    u8 sc[16], mn[16];
    for (int i = 0; i < 16; i++) {
      u8 both = s[64 + 32 * (b % 8) + 16 * half + i];
      sc[i] = both & 15;
      mn[i] = both >> 4;
    }
    *d = v_mul(v_half(s), v_u8(sc));
    *add = v_sub(v_zero(), v_mul(v_half(s + 32), v_u8(mn)));
  }
};

/** A scale, and what makes a weight of 32,768 + quant. */
struct Line {
  V d, add;
  template <int K>
  __attribute__((always_inline)) V at(I chunk) const { return v_fma(v_byte<K>(chunk), d, add); }
};
template <class Scale, int OFFSET>
LM_INLINE Line line_of(const u8 *s, int b, int half) {
  V d, add;
  Scale::get(s, b, half, &d, &add);
  return {d, v_fma(d, v_set(-32768.0f - OFFSET), add)};
}
/** Chunks J to LAST. */
template <class Bits, int J, int LAST>
LM_INLINE void unpack_chunks(u8 *u, const u8 *w, const Line &l) {
  const I chunk = Bits::template at<J>(w);
  i_store(u + 128 * J, v_pairs(l.at<0>(chunk), l.at<1>(chunk)));
  i_store(u + 128 * J + 64, v_pairs(l.at<2>(chunk), l.at<3>(chunk)));
  if constexpr (J < LAST) unpack_chunks<Bits, J + 1, LAST>(u, w, l);
}
/** Bytes of an unpacked block. */
#define LM_BLOCK 1024
/** What is read next, so that it is prefetched: the tile itself, then what follows it. */
struct Ahead {
  const u8 *tile, *next;
  i32 blocks, bytes;  // of a block with its scales
  LM_INLINE Ahead of(const LmTensor *w, const u8 *tile, const u8 *next) {
    const i32 nb = w->in / 32;
    return {tile, next, nb, quant_bytes(w->type) + scale_bytes(w->type) / (is_super(w->type) ? 8 : 1)};
  }
  __attribute__((always_inline)) void fetch(i32 block) const {
    const i32 b = block + LM_PREFETCH_AHEAD / bytes;
    const u8 *at = b < blocks ? tile + (int64_t)b * bytes : next + (int64_t)(b - blocks) * bytes;
    for (i32 l = 0; l < bytes; l += 64) __builtin_prefetch(at + l);
  }
};
/**
 * Blocks [from, to) of a tile, `step` bytes from one to the next. Quants are those of Bits less OFFSET. `next` is where reading goes on
 * after the tile; null: nothing is prefetched.
 */
template <class Bits, int OFFSET, class Scale>
__attribute__((noinline)) static void unpack_blocks(const LmTensor *w, const u8 *tile, i32 from, i32 to, u8 *u, int step, const u8 *next) {
  const int nb = w->in / 32, q = quant_bytes(w->type);
  const u8 *scales = tile + (int64_t)nb * q;
  const Ahead ahead = Ahead::of(w, tile, next);
  tile += (int64_t)from * q;
  for (i32 b = from; b < to; b++, tile += q, u += step) {
    if (next) ahead.fetch(b);
    const Line first = line_of<Scale, OFFSET>(scales, b, 0);
    unpack_chunks<Bits, 0, 3>(u, tile, first);
    unpack_chunks<Bits, 4, 7>(u, tile, Scale::HALVES ? line_of<Scale, OFFSET>(scales, b, 1) : first);
  }
}
/** False of a type that has no such form. */
static bool unpack_tile(const LmTensor *w, i32 tile, i32 from, i32 to, u8 *u, int step, const u8 *next) {
  const u8 *t = tile_at(w, tile);
  switch (w->type) {
    case LM_Q8_0: unpack_blocks<Bits8, 128, HalfScale>(w, t, from, to, u, step, next); return true;
    case LM_Q4_0: unpack_blocks<Bits4, 8, HalfScale>(w, t, from, to, u, step, next); return true;
    case LM_Q4_1: unpack_blocks<Bits4, 0, HalfMinimum>(w, t, from, to, u, step, next); return true;
    case LM_Q5_0: unpack_blocks<Bits5, 16, HalfScale>(w, t, from, to, u, step, next); return true;
    case LM_Q5_1: unpack_blocks<Bits5, 0, HalfMinimum>(w, t, from, to, u, step, next); return true;
    case LM_Q4_K: unpack_blocks<Bits4, 0, SuperMinimum>(w, t, from, to, u, step, next); return true;
    case LM_Q5_K: unpack_blocks<Bits5, 0, SuperMinimum>(w, t, from, to, u, step, next); return true;
    case LM_Q6_K: unpack_blocks<Bits6, 32, SuperHalves>(w, t, from, to, u, step, next); return true;
    case LM_Q2_K: unpack_blocks<Bits2, 0, SuperBoth>(w, t, from, to, u, step, next); return true;
    case LM_Q3_K: unpack_blocks<Bits3, 4, SuperHalves>(w, t, from, to, u, step, next); return true;
    case LM_IQ4_NL: unpack_blocks<TableIq4, 128, HalfScale>(w, t, from, to, u, step, next); return true;
    case LM_IQ4_XS: unpack_blocks<TableIq4, 128, SuperScale>(w, t, from, to, u, step, next); return true;
    case LM_MXFP4: unpack_blocks<TableFp4, 128, Bf16Scale>(w, t, from, to, u, step, next); return true;
  }
  return false;
}

}  // namespace LM_NS
