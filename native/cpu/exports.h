// Every function that TypeScript calls. Compiled with hidden visibility: only these are seen.
#pragma once
#include "device.h"
#pragma GCC visibility push(default)
extern "C" {
/** Hash of all that this library and TypeScript must agree on. */
int32_t lm_abi(void);
/** Bit i: instruction set i of LmIsa can run here. */
int32_t lm_isa_available(void);
/** Null if the threads cannot be started or the instruction set is not available. */
Device *lm_create(int32_t threads, int32_t isa);
void lm_destroy(Device *d);
/** Bytes a tensor takes repacked; 0 if its type or width is not supported. */
double lm_tensor_bytes(int32_t type, int32_t in, int32_t out, int32_t isVector);
/** `info`: (count, 5) type, in, out, isVector, type in the file. */
int32_t lm_open_weights(Device *d, int32_t count, const double *info);
/** Maps a file; the one before is let go. */
int32_t lm_open_file(Device *d, const char *path);
/**
 * Rows [first, first + rows) of tensor i from `bytes` bytes at `offset` of the open file; `first` is a multiple of 16, and so is `rows` unless they are the
 * last. `add` is added to each value of a vector, which is one row.
 */
int32_t lm_load_rows(Device *d, int32_t i, double offset, double bytes, int32_t first, int32_t rows, double add);
/**
 * The same from a quantised checkpoint: `codes` are `bytes` bytes at `offset` of the open file, `spec` are LmPackedField values,
 * `sourceRow` is the row of the file's matrix that becomes row `first`. Scales, zeros and order (may be null) are in memory.
 */
int32_t lm_load_packed(Device *d, int32_t i, double offset, double bytes, const int32_t *spec, const uint8_t *scales,
                       double scaleBytes, const uint8_t *zeros, double zeroBytes, const int32_t *order,
                       int32_t orderCount, int32_t first, int32_t rows, int32_t sourceRow);
void lm_close_file(Device *d);
/** Room for low-rank adapters, before lm_configure; `parts`: (adapters, count) what each adds to the matrices of the program. */
int32_t lm_open_adapters(Device *d, int32_t adapters, int32_t count, const double *parts, double bytes);
/** Fills a piece of that room. */
int32_t lm_load_adapter(Device *d, double offset, const uint8_t *from, double bytes);
/** Workspace bytes for a program, or a negative code. `buffers`: (count, 2) width, perLogit. */
double lm_workspace(Device *d, const int32_t *sizes, const int32_t *buffers, const int32_t *ops, const int32_t *ropes);
/** After the weights: fixes program, workspace and KV address space. `ropes`: (count, 2) dims, neox; `ropeValues`:
 *  for each its magnitude, then dims / 2 inverse frequencies. */
int32_t lm_configure(Device *d, const int32_t *sizes, const int32_t *buffers, const int32_t *ops, const int32_t *ropes,
                     const float *ropeValues);
int32_t lm_grow(Device *d, int32_t blocks);
/**
 * Runs operations [from, to) of the compiled program on a step (see src/device/step.ts), whose buffers are checked against their
 * lengths; the result's header gets (index at fault, value) of a step that is refused.
 */
int32_t lm_step(Device *d, int32_t from, int32_t to, const void *step, int64_t stepBytes, void *result,
                int64_t resultBytes, const int32_t *cancel);
/** Copies row i of the last step's logits. */
int32_t lm_logits(Device *d, int32_t i, float *out, int32_t count);
/** Copies row i of a buffer that has one for each wanted logit, as the last step left it. */
int32_t lm_row(Device *d, int32_t buffer, int32_t i, float *out, int32_t count);
/** Copies block `block` out and in; `bytes` must be those of a block. */
int32_t lm_read_block(Device *d, int32_t block, uint8_t *out, int64_t bytes);
int32_t lm_write_block(Device *d, int32_t block, const uint8_t *in, int64_t bytes);
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
