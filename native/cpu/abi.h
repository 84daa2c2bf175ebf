// The C ABI between TypeScript (src/device/cpu/native.ts) and the CPU device. Plain data only.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define LM_ABI 1

// GGML's numbers of tensor types.
enum LmType {
  LM_F32 = 0,
  LM_F16 = 1,
  LM_Q4_0 = 2,
  LM_Q4_1 = 3,
  LM_Q8_0 = 8,
  LM_Q4_K = 12,
  LM_Q5_K = 13,
  LM_Q6_K = 14,
  LM_BF16 = 30,
};

enum LmIsa { LM_PORTABLE = 0, LM_AVX2 = 1, LM_AVX512 = 2 };

enum LmOpKind {
  LM_OP_EMBED = 1,      // weight → out
  LM_OP_NORM = 2,       // in, weight → out
  LM_OP_PREPARE = 3,    // in (, weight = norm) → panel
  LM_OP_LINEAR = 4,     // panel → outs
  LM_OP_ROPE_STORE = 5, // in = q, in2 = k, out = v
  LM_OP_ATTENTION = 6,  // in = q → out
  LM_OP_SILU_MUL = 7,   // in = gate, in2 = up → out
  LM_OP_GATHER = 8,     // in → out
  LM_OP_SAMPLE = 9,     // in = logits
};

enum LmFlags {
  LM_NEED_Q8 = 1,    // PREPARE: int8 panels for integer dot products
  LM_NEED_F32 = 2,   // PREPARE: f32 panels for float weights
  LM_SILU_MUL = 4,   // LINEAR: outs are (gate, up); silu(gate)·up goes to panelOut
  LM_PER_LOGIT = 8,  // rows follow logitRows
  LM_FINE = 16,      // int8 activations in two planes, the second for what the first left; with LM_PER_LOGIT
};

#define LM_MAX_OUTS 8

// One compiled operation: 40 words. Buffers and tensors are indexes, -1 = none.
struct LmOp {
  int32_t kind;
  int32_t in;
  int32_t in2;
  int32_t out;
  int32_t weight;
  int32_t rope;
  int32_t layer;
  int32_t flags;
  int32_t panel;     // panel set read or written (0, 1)
  int32_t panelOut;  // LINEAR with LM_SILU_MUL: panel set written
  int32_t residual;  // LINEAR: buffer added to the output
  int32_t outCount;
  float eps;
  float scale;
  int32_t width;     // values a row: of the input for PREPARE, NORM, LINEAR, GATHER; of the output otherwise
  int32_t source;    // index of the program's operation, for messages
  struct {
    int32_t weight, bias, out;
  } outs[LM_MAX_OUTS];
};

// Return codes of lm_step and the loaders.
enum LmCode {
  LM_OK = 0,
  LM_CANCELLED = 1,
  LM_E_ARGUMENT = -1,
  LM_E_MEMORY = -2,
  LM_E_IO = -3,
  LM_E_THREADS = -4,
  LM_E_STATE = -5,
  // an invalid step
  LM_E_COUNTS = -10,
  LM_E_TOKEN = -11,
  LM_E_POSITION = -12,
  LM_E_ROWS = -13,
  LM_E_SLOT = -14,
  LM_E_BLOCK = -15,
  LM_E_LOGIT_ROW = -16,
  LM_E_COPY = -17,
  LM_E_HISTORY = -18,
  LM_E_BIAS = -19,
  LM_E_MASK = -20,
  LM_E_SAMPLING = -21,
};

// Words of `sizes` given to lm_configure.
enum LmSize {
  LM_S_MAX_TOKENS,
  LM_S_MAX_ROWS,
  LM_S_MAX_BLOCKS_PER_ROW,
  LM_S_MAX_LOGITS,
  LM_S_VOCAB,
  LM_S_LAYERS,
  LM_S_HEADS,
  LM_S_KV_HEADS,
  LM_S_HEAD_DIM,
  LM_S_BLOCK_LEN,
  LM_S_KV_BITS,
  LM_S_MAX_BLOCKS,
  LM_S_BUFFERS,
  LM_S_OPS,
  LM_S_ROPES,
  LM_S_CONTEXT,  // tokens up to which spans of one token are shared out
  LM_SIZES,
};

// Words of `counts` given to lm_step: the step's counts, then the capacities of its arrays.
enum LmCount {
  LM_C_ROWS,
  LM_C_TOKENS,
  LM_C_LOGITS,
  LM_C_COPIES,
  LM_C_CAP_TOKENS,
  LM_C_CAP_POSITIONS,
  LM_C_CAP_ROW_START,
  LM_C_CAP_ROW_SLOT,
  LM_C_CAP_TABLES,
  LM_C_CAP_LOGIT_ROWS,
  LM_C_CAP_COPIES,
  LM_C_CAP_SAMPLING,  // smallest of the per-logit arrays (seed / 2, starts - 1)
  LM_C_CAP_HISTORY,
  LM_C_CAP_BIAS,
  LM_C_CAP_MASKS,
  LM_COUNTS,
};

#define LM_MAX_TOP 20
