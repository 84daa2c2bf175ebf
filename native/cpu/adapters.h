// Low-rank adapters: what each adds to which matrix of the program, and the rows of a step that have one.
#pragma once
#include "bump.h"
#include "kernels.h"

struct Adapters {
  int32_t count;        // adapters
  int32_t parts;        // matrices of the program that any of them adds to
  LmAdapterPart *all;   // (count, parts)
  uint8_t *data;        // A and B of all
  int64_t bytes;
  // of the step being run
  int32_t *tokens;      // those whose row has an adapter, the tokens of one adapter together
  int32_t *of;          // (tokens) which
  int32_t tokenCount;
  int32_t *active;      // (count) adapters that rows have
  int32_t activeCount;
};
