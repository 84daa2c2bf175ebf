// Every function that TypeScript calls. Compiled with hidden visibility: only these are seen.
#pragma once
#include "device.h"
#pragma GCC visibility push(default)
extern "C" {
int32_t lm_abi(void);
/** Bit i: instruction set i of LmIsa can run here. */
int32_t lm_isa_available(void);
/** Null if the threads cannot be started or the instruction set is not available. */
Device *lm_create(int32_t threads, int32_t isa);
void lm_destroy(Device *d);
/** Bytes a tensor takes repacked; 0 if its type or width is not supported. */
double lm_tensor_bytes(int32_t type, int32_t in, int32_t out, int32_t isVector);
int32_t lm_open_weights(Device *d, const char *path, int32_t count, const double *info);
int32_t lm_load_tensor(Device *d, int32_t i);
void lm_close_file(Device *d);
/** Workspace bytes for a program, or a negative code. `buffers`: (count, 2) width, perLogit. */
double lm_workspace(Device *d, const int32_t *sizes, const int32_t *buffers, const int32_t *ops, const int32_t *ropes);
/** After the weights: fixes program, workspace and KV address space. `ropes`: (count, 2) dims, neox; `ropeValues`:
 *  for each its magnitude, then dims / 2 inverse frequencies. */
int32_t lm_configure(Device *d, const int32_t *sizes, const int32_t *buffers, const int32_t *ops, const int32_t *ropes,
                     const float *ropeValues);
int32_t lm_grow(Device *d, int32_t blocks);
/** Runs operations [from, to) of the compiled program; `detail` gets (operation or index at fault, value). */
int32_t lm_step(Device *d, int32_t from, int32_t to, const int32_t *counts, const int32_t *tokens,
                const int32_t *positions, const int32_t *rowStart, const int32_t *rowSlot, const int32_t *tables,
                const int32_t *logitRows, const int32_t *copies, const float *temperature, const int32_t *topK,
                const float *topP, const float *minP, const float *repetition, const float *presence,
                const float *frequency, const uint32_t *seed, const int32_t *topLogprobs, const int32_t *scoreToken,
                const int32_t *historyStart, const int32_t *historyTokens, const int32_t *historyCounts,
                const int32_t *biasStart, const int32_t *biasTokens, const float *biasValues, const int32_t *maskRow,
                const int32_t *masks, int32_t *outTokens, int32_t *outStatus, float *outLogprobs, float *outScores,
                int32_t *outTopTokens, float *outTopLogprobs, const int32_t *cancel, int32_t *detail);
/** Copies row i of the last step's logits. */
int32_t lm_logits(Device *d, int32_t i, float *out, int32_t count);
/** Test: flips one bit of the stored KV, counted from the beginning of block 0. */
int32_t lm_flip_kv(Device *d, double byte, int32_t bit);
/** Bench: bytes a second all threads together read from `bytes` of memory; operations a second of all threads (int8 dot
 *  products, or f32 multiply-adds). */
double lm_bench_read(Device *d, double bytes, int32_t repeats);
double lm_bench_peak(Device *d, int32_t f32, double milliseconds);
/** Bench: seconds of one product of tensor i with n columns, the activations prepared once. */
double lm_bench_linear(Device *d, int32_t tensor, int32_t n, int32_t repeats);
}
#pragma GCC visibility pop
