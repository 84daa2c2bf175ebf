// Hands out pieces of the workspace; with a null base it only measures.
#pragma once
#include <stdint.h>

struct Bump {
  uint8_t *base;
  int64_t used;
  void *take(int64_t bytes) {
    void *p = base ? base + used : nullptr;
    used += (bytes + 4095) & ~(int64_t)4095;
    return p;
  }
};
