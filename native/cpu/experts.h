// Mixtures of experts: how the rows of a step are grouped, and the phases of their products.
#pragma once
#include "bump.h"
#include "kernels.h"

/** An expert's rows in the step being run. */
struct MixtureExpert {
  int32_t rows, first;  // first: of its rows in Mixture::row
  int64_t column;       // of its panels, counted through the panels of all
  int32_t P;
};

/** Made anew by each group phase. (tokens, used) means one for each expert of each token. */
struct Mixture {
  MixtureExpert *of;  // (experts)
  int32_t *active, activeCount;  // experts with rows, ascending
  int32_t *expert;    // (tokens, used)
  int32_t *place;     // (tokens, used) place among its expert's rows
  int32_t *row;       // by expert: tokens, ascending
  float *weight;      // by expert, as row
  uint8_t *q8[2];     // panels of all experts: inputs, and what is between their matrices
  float *f32[2];
};

/** choice: (used, 2) index, weight. */
void experts_route(const float *scores, int32_t count, int32_t used, bool normalise, float scale, float *choice);
/** Takes the memory that the program's mixtures need; `columns`: of a full panel. */
void experts_place(Mixture *m, const LmOp *ops, int32_t count, int64_t tokens, int32_t columns, Bump *b);
/** `stride`: floats between rows of choice. */
void experts_group(Mixture *m, const LmOp *o, const float *choice, int64_t stride, int32_t n, int32_t columns);
/** Row i of (tokens, used) into its expert's panels. */
void experts_prepare(const Mixture *m, const LmKernels *k, const LmOp *o, const float *in, int64_t stride, int32_t i, float *scratch);
/** Units of one expert's gate and up: blocks of 32 of what is between its matrices. */
int64_t experts_up_units(const LmOp *o);
/** Units [from, to), counted through the active experts. */
void experts_up(const Mixture *m, const LmKernels *k, const LmOp *o, const LmTensor *gate, const LmTensor *up, int32_t from,
                int32_t to, float *scratch);
/** Output tiles [from, to) of all active experts, added to the stream. */
void experts_down(const Mixture *m, const LmKernels *k, const LmOp *o, const LmTensor *down, float *stream, int64_t stride,
                  int32_t from, int32_t to, float *scratch);
