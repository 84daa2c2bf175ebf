// The table of kernels: what the device (compiled once) asks of an instruction set (compiled once for each).
// Plain data and function pointers only, so that nothing of one build can leak into another.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "abi.h"

#define LM_SPAN 256  // tokens of a softmax span; spans lie at absolute positions

/** A repacked matrix: tiles of 16 output rows, over all inputs, contiguous. */
struct LmTensor {
  const uint8_t *data;
  int64_t tileBytes;
  int32_t type;
  int32_t in, out;  // features
  int32_t tiles;    // ceil(out / 16)
  const float *vector;  // one-dimensional tensors: f32 values
};

/** A matrix of a quantised checkpoint as its files hold it; `codes`, `scales`, `zeros` and `order` are as long as it says. */
struct LmPacked {
  const uint8_t *codes, *scales, *zeros;
  const int32_t *order;  // group of each input; null: one after another
  int32_t in, rows;      // of the whole matrix in the file
  int32_t layout, bits, code;
  int32_t groupSize, groups;      // inputs a group, groups of a row
  int32_t groupRows, scaleRows;   // rows that share a scale, and how many such there are
  int32_t scaleType, scalesByGroup;
  int32_t zeroKind, zeroAdd, zeroSame;
  int32_t exact;  // codes and scales become those of a GGUF type
  int64_t rowBytes;
};

/**
 * Activations of n tokens, split into panels of P columns, each (block of 32 inputs, column). With two planes a token takes
 * two columns (see ops/prepare.h).
 */
struct LmPanels {
  uint8_t *q8;         // (panels, blocks, panel block): see panelBlockBytes
  float *f32;          // (panels, inputs, P)
  int32_t P;
  int32_t n;
  int32_t planes;  // 1 or 2
};

static inline int64_t panelBlockBytes(int P) { return ((int64_t)P * 56 + 63) & ~(int64_t)63; }

struct LmLinearOut {
  const LmTensor *w;
  const float *bias;
  float *out;
  int64_t stride;  // floats between rows of out
};

struct LmLinear {
  LmPanels x;
  int32_t outCount;
  int32_t silu;  // 1 SiLU, 2 GELU
  LmLinearOut outs[LM_MAX_OUTS];
  const float *residual;  // same stride as outs[0].out
  float scale;            // of products and biases, before the residual; 1 = none
  LmPanels hidden;        // silu: what is written
  int32_t hiddenNeed;
};

/** Rows of one expert: stream[rows[i]] += weights[i] · w · (column i). */
struct LmExpertAdd {
  LmPanels x;
  const LmTensor *w;
  const int32_t *rows;
  const float *weights;
  float *stream;
  int64_t stride;  // floats between rows of stream
};

struct LmPrepare {
  const float *x;  // rows of `width`
  int64_t stride;
  int32_t width;
  const float *norm;  // or null
  float eps;
  int32_t need;
  LmPanels out;
};

/** Where K and V of one layer lie. */
struct LmKv {
  uint8_t *base;
  int64_t blockBytes, layerOffset, headBytes, tileBytes;  // tileBytes: 16 tokens of K, or of V
  int32_t blockLen, heads, headDim, bits;
};

struct LmAttention {
  LmKv kv;
  const float *q;
  float *out;
  int64_t stride;  // floats between rows of q and of out
  int32_t heads;
  float scale;
  float cap;       // scores become cap · tanh(score / cap); 0 = they stay
  int32_t window;  // the last so many tokens; 0 = all
};

/** Tokens [token, token + count) of one row, the first at `position`; spans [spanFrom, spanTo). */
struct LmAttentionTask {
  const int32_t *table;
  int32_t token, count, position, spanFrom, spanTo;
  int32_t spans;   // of the whole context
  float *partial;  // if set: (kvHeads, spans, count · group, headDim + 2) instead of out
};

/** What the thread reads after a task: another task, or else any memory. Its beginning is prefetched. */
struct LmAttentionNext {
  const LmAttentionTask *task;
  int32_t kvHead;
  const uint8_t *after;
};

struct LmRopeStore {
  LmKv kv;
  float *q;
  float *k;
  const float *v;
  int64_t qStride, kStride, vStride;
  int32_t heads, dims, neox;
  const float *angles;  // (tokens, dims): cos and sin of each pair
};

/** B of an adapter, for one matrix. */
struct LmLoraUp {
  const uint8_t *b;
  int32_t type, rank;
  int32_t out;  // features
  float scale;
};

struct LmSampling {
  const float *temperature;
  const int32_t *topK;
  const float *topP, *minP, *repetition, *presence, *frequency;
  const uint32_t *seed;
  const int32_t *topLogprobs, *scoreToken, *historyStart, *historyTokens, *historyCounts, *biasStart, *biasTokens;
  const float *biasValues;
  const int32_t *maskRow, *masks;
};

struct LmSampled {
  int32_t *tokens, *status;
  float *logprobs, *scoreLogprobs;
  int32_t *topTokens;
  float *topLogprobs;
};

struct LmKernels {
  const char *name;
  int32_t columns;  // widest panel
  int32_t fineTokens;  // logit rows of the widest panel of two planes
  int64_t (*tile_bytes)(int32_t type, int32_t in);
  /** Repacks tiles [from, to) of a tensor from the file's rows. */
  void (*repack)(const LmTensor *t, uint8_t *dst, const uint8_t *src, int64_t rowBytes, int32_t from, int32_t to);
  /** A row of n floats of type `from` as a row of type `to` (see ops/quantise.h); Q8_0 and Q4_0 need n % 32 == 0. */
  void (*convert)(uint8_t *dst, int32_t to, const uint8_t *src, int32_t from, int32_t n);
  /** Rows of a checkpoint that is quantised already, as rows of `type` (see ops/packed.h). */
  int32_t (*unpack)(const LmPacked *p, uint8_t *dst, int64_t rowBytes, int32_t type, int32_t first, int32_t n, uint8_t *q,
                    float *x);
  void (*vector)(float *dst, const void *src, int32_t type, int32_t n);
  void (*embed)(const LmTensor *t, int32_t row, float *out);
  void (*norm)(const float *x, const float *w, float eps, int32_t n, float *out);
  /** Row `token` of x into the panels; scratch holds `width` floats. */
  void (*prepare)(const LmPrepare *p, int32_t token, float *scratch);
  /** Output tiles [from, to), counted through all outs (two of gate and two of up when silu). `after`: memory that this
   *  thread will read next; its beginning is prefetched. Any address will do. */
  void (*linear)(const LmLinear *l, int32_t from, int32_t to, float *scratch, const uint8_t *after);
  /** Output tiles [from, to) of one expert. */
  void (*expert_add)(const LmExpertAdd *x, int32_t from, int32_t to, float *scratch, const uint8_t *after);
  /** x ← x + sigmoid(gate) · y */
  void (*add_gated)(float *x, const float *y, float gate, int64_t n);
  void (*silu_mul)(const float *gate, const float *up, float *out, int64_t n, int32_t gelu);
  /** x ← cap · tanh(x / cap) */
  void (*softcap)(float *x, float cap, int64_t n);
  /** 16 ranks of A times x → h. */
  void (*lora_down)(const uint8_t *a, int32_t type, const float *x, int32_t in, float *h);
  /** y += scale · B · h, for outputs [from, to). */
  void (*lora_up)(const LmLoraUp *l, const float *h, float *y, int32_t from, int32_t to);
  void (*rope_store)(const LmRopeStore *r, const int32_t *table, int32_t token, int32_t position);
  int64_t (*attention_scratch)(int32_t group, int32_t headDim);  // floats
  int32_t (*attention_tokens)(int32_t group);                    // query tokens a task should hold
  void (*attention)(const LmAttention *a, const LmAttentionTask *t, int32_t kvHead, const LmAttentionNext *next, float *scratch);
  /** When all spans of a task with `partial` are there. */
  void (*attention_merge)(const LmAttention *a, const LmAttentionTask *t, int32_t kvHead);
  int64_t (*sample_scratch)(int32_t vocab);  // floats
  /** Draws for logit row i; scratch holds sample_scratch(vocab) floats. */
  void (*sample)(const LmSampling *s, const LmSampled *r, const float *logits, int32_t vocab, int32_t i,
                 int32_t position, float *scratch);
  void (*bench_read)(const uint8_t *p, int64_t bytes);
  double (*bench_int8)(int32_t rounds);
  double (*bench_f32)(int32_t rounds);
  /** Floats of scratch that a product of so many inputs needs beyond those of its panels; null: none. */
  int64_t (*product_scratch)(int32_t inputs);
  /** Output tiles that a product of these rows should have at a time, an even number; 0: as many as the L2 cache holds. Null: 0. */
  int32_t (*tiles_at_once)(const LmPanels *x, int32_t type);
};

extern "C" {
const LmKernels *lm_kernels_portable(void);
const LmKernels *lm_kernels_avx2(void);
const LmKernels *lm_kernels_avx512(void);
const LmKernels *lm_kernels_dotprod(void);
const LmKernels *lm_kernels_i8mm(void);
// Those of AVX2 and of AVX-512 VNNI, some of them replaced; null if the compiler did not know the instructions.
const LmKernels *lm_kernels_avxvnni(LmKernels *into);
const LmKernels *lm_kernels_amx(LmKernels *into);
}
