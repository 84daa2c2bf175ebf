// The instructions of AMX, tiles named by number. Not the compilers' functions: g++ 12's tell it too little about what
// LDTILECFG reads and too much about what TILESTORED writes (every variable in memory, so that none stays in a register).
#pragma once
#if defined(LM_EMULATED)
#include "../../test/emulated.h"
#else
#define LM_TILE_CONFIGURE(config) __asm__ volatile("ldtilecfg %0" ::"m"(config))
#define LM_TILE_RELEASE() __asm__ volatile("tilerelease")
#define LM_TILE_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile ::)
/** Rows of `stride` bytes. */
#define LM_TILE_LOAD(tile, from, stride) \
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"(from), "r"((int64_t)(stride)))
/** Rows of 64 bytes to the array `to`. */
#define LM_TILE_STORE(tile, to) \
  __asm__ volatile("tilestored %%tmm" #tile ", (%1,%2,1)" : "=m"(to) : "r"(&(to)), "r"((int64_t)64))
/** sums += a · b: signed bytes, a in rows of columns, b in rows of four inputs. */
#define LM_TILE_DOT(sums, a, b) __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #sums ::)
#endif
