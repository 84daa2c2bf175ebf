// AMX and AVX-VNNI instructions in plain C++, with what Intel's manual (SDM volume 2) says of them, for processors that lack
// them: the kernels that use them are then tested by their own sources. What raises #UD or #GP there ends the process here.
// Tiles belong to a thread, as on the processor: a thread that did not configure its own cannot use another's.
#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace emulated {

struct Tile {
  int rows, rowBytes;
  uint8_t data[16][64];
};
inline thread_local Tile tiles[8];
inline thread_local bool configured;
/** Products of tiles so far: a test wants to know that it tested them. */
inline int64_t dots;

inline void need(bool ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "emulated tiles: %s\n", what);
  abort();
}

/** LDTILECFG: palette, start row, 14 reserved bytes, 16 row lengths of two bytes, 16 numbers of rows. All tiles become zero. */
inline void configure(const void *from) {
  uint8_t c[64];
  memcpy(c, from, 64);
  memset(tiles, 0, sizeof(tiles));
  configured = c[0] != 0;
  if (!configured) return;
  need(c[0] == 1, "#GP: only palette 1 exists");
  for (int i = 2; i < 16; i++) need(c[i] == 0, "#GP: a reserved byte is set");
  for (int t = 0; t < 16; t++) {
    const int rows = c[48 + t], bytes = c[16 + 2 * t] | c[17 + 2 * t] << 8;
    need(t < 8 || (rows == 0 && bytes == 0), "#GP: there are 8 tiles");
    need(rows <= 16 && bytes <= 64, "#GP: a tile has at most 16 rows of 64 bytes");
    need((rows == 0) == (bytes == 0), "#GP: rows without bytes, or bytes without rows");
    if (t < 8) {
      tiles[t].rows = rows;
      tiles[t].rowBytes = bytes;
    }
  }
  need(c[1] == 0, "a start row other than 0 is not emulated");
}
inline void release() {
  memset(tiles, 0, sizeof(tiles));
  configured = false;
}
inline Tile *tile(int t) {
  need(configured, "#UD: this thread has not configured its tiles");
  need(t >= 0 && t < 8 && tiles[t].rows > 0, "#UD: the tile is not configured");
  return tiles + t;
}
/** TILEZERO */
inline void zero(int t) { memset(tile(t)->data, 0, sizeof(tiles[t].data)); }
/** TILELOADD: what lies beyond the tile's rows and bytes becomes zero. */
inline void load(int t, const void *from, int64_t stride) {
  Tile *x = tile(t);
  memset(x->data, 0, sizeof(x->data));
  for (int r = 0; r < x->rows; r++) memcpy(x->data[r], (const uint8_t *)from + r * stride, (size_t)x->rowBytes);
}
/** TILESTORED */
inline void store(int t, void *to, int64_t stride) {
  const Tile *x = tile(t);
  for (int r = 0; r < x->rows; r++) memcpy((uint8_t *)to + r * stride, x->data[r], (size_t)x->rowBytes);
}
/** TDPBSSD: sums[m][n] += Σ over k and i of a[m][4k + i] · b[k][4n + i], bytes signed, modulo 2^32. */
inline void dot(int sums, int a, int b) {
  Tile *c = tile(sums);
  const Tile *x = tile(a), *w = tile(b);
  need(sums != a && sums != b && a != b, "#UD: the three tiles must differ");
  need(x->rows == c->rows && w->rowBytes == c->rowBytes && x->rowBytes == 4 * w->rows, "#UD: the tiles' shapes do not match");
  __atomic_fetch_add(&dots, 1, __ATOMIC_RELAXED);
  need(c->rowBytes % 4 == 0 && x->rowBytes % 4 == 0, "#UD: rows must be whole words");
  for (int m = 0; m < c->rows; m++) {
    uint32_t row[16];
    memcpy(row, c->data[m], 64);
    for (int k = 0; k < w->rows; k++)
      for (int n = 0; n < c->rowBytes / 4; n++)
        for (int i = 0; i < 4; i++)
          row[n] += (uint32_t)((int32_t)(int8_t)x->data[m][4 * k + i] * (int32_t)(int8_t)w->data[k][4 * n + i]);
    memcpy(c->data[m], row, (size_t)c->rowBytes);
  }
}

/** VPDPBUSD: sums of four products of an unsigned and a signed byte, added without saturation. */
__attribute__((noinline)) inline __m256i dpbusd(__m256i sums, __m256i a, __m256i b) {
  uint32_t s[8];
  uint8_t u[32];
  int8_t v[32];
  memcpy(s, &sums, 32);
  memcpy(u, &a, 32);
  memcpy(v, &b, 32);
  for (int n = 0; n < 8; n++)
    for (int i = 0; i < 4; i++) s[n] += (uint32_t)((int32_t)u[4 * n + i] * (int32_t)v[4 * n + i]);
  memcpy(&sums, s, 32);
  return sums;
}

/** VPDPWSSD: sums of two products of words, added without saturation. */
__attribute__((noinline)) inline __m256i dpwssd(__m256i sums, __m256i a, __m256i b) {
  uint32_t s[8];
  int16_t u[16], v[16];
  memcpy(s, &sums, 32);
  memcpy(u, &a, 32);
  memcpy(v, &b, 32);
  for (int n = 0; n < 8; n++)
    for (int i = 0; i < 2; i++) s[n] += (uint32_t)((int32_t)u[2 * n + i] * (int32_t)v[2 * n + i]);
  memcpy(&sums, s, 32);
  return sums;
}

}  // namespace emulated

#define LM_TILE_CONFIGURE(config) emulated::configure(&(config))
#define LM_TILE_RELEASE() emulated::release()
#define LM_TILE_ZERO(tile) emulated::zero(tile)
#define LM_TILE_LOAD(tile, from, stride) emulated::load(tile, from, stride)
#define LM_TILE_STORE(tile, to) emulated::store(tile, &(to), 64)
#define LM_TILE_DOT(sums, a, b) emulated::dot(sums, a, b)
#define _mm256_dpbusd_avx_epi32 emulated::dpbusd
#define _mm256_dpwssd_avx_epi32 emulated::dpwssd
