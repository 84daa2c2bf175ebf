// The state of one CPU device.
#pragma once
#include "adapters.h"
#include "experts.h"
#include "kernels.h"
#include "pool.h"

struct Buffer {
  float *data;
  int32_t width, perLogit;
};

struct Rope {
  int32_t dims, neox;
  float magnitude;
  const float *inverse;  // dims / 2
  float *angles;         // (maxTokens, dims): cos, sin
};

struct TensorInfo {
  LmTensor t;
  int64_t bytes, at;  // at: offset in the weights
  int32_t isVector;
  int32_t source;  // type in the file
  int32_t loaded;  // rows
};

/** One step and where its result goes, as they were passed. */
struct StepArrays : LmStep {
  LmResult out;
  LmSampling sampling;
  LmSampled result;
  const int32_t *cancel;
};

struct Device {
  Pool pool;
  const LmKernels *k;
  LmKernels own;  // where *k lies, if it is a family with some kernels of another's replaced
  int32_t sizes[LM_S_COUNT];
  bool configured;
  Buffer *buffers;
  LmOp *ops;
  Rope *ropes;
  float *ropeValues;
  // weights
  TensorInfo *tensors;
  int32_t tensorCount;
  uint8_t *weights;
  int64_t weightBytes;
  const uint8_t *file;
  int64_t fileBytes;
  // KV cache
  uint8_t *kv;
  int64_t kvReserved;
  int32_t kvBlocks;  // usable
  LmKv kvShape;      // of layer 0
  int64_t layerBytes;
  // workspace
  uint8_t *workspace;
  int64_t workspaceBytes;
  LmPanels panels[2];
  Mixture mixture;
  Adapters adapters;
  float *scratch[LM_MAX_THREADS];
  Phase *phases;            // 0: before the first operation; i + 1: operation i
  int32_t *totals, *pieces;  // of the phases of the step being run
  LmLinear *linears;        // by operation; only the panels' n and P change
  // What the stream of weights and KV reads (see ahead.cpp). A member may look at them late: they are hints.
  const uint8_t **streams;  // (ops, lanes): where a product's weights begin for each lane, else null
  int32_t *nextStream;      // (ops + 1): of a phase, the operation whose memory comes next
  const uint8_t *kvStart[LM_LANES];  // K of a lane's first attention task, in layer 0 (or any KV)
  LmAttentionTask *tasks;
  int32_t *taskEntry;  // index of the split entry, or -1
  int32_t maxTasks, maxSplit, maxSpans;
  float *partials;
  int64_t partialFloats;  // of one split entry
  int32_t *remaining;     // (split entries, kvHeads)
  int32_t taskCount;
  int32_t logitsBuffer;
  int32_t lastLogits;
  StepArrays step;  // of the step being run
  int32_t *tokens;  // of the step being run, references replaced
  int32_t *drawn;   // by the logit rows of the last step that ran to its end
  int32_t drawnCount;
};

int step_check(const Device *d, const StepArrays *s);
int step_run(Device *d, int from, int to);
/** Fills d->linears; after configuration. */
void step_prepare(Device *d);
/** Units of work of a product, and the bytes of its weights. */
int64_t linear_units(const LmLinear *l, int64_t *bytes);
/** Units that a thread should do at a time, of so many that have so many bytes of weights. */
int32_t linear_piece(const LmKernels *k, const LmLinear *l, int64_t units, int64_t bytes, int threads);
void adapters_close(Adapters *a);
/** Takes the memory that a step's lists need. */
void adapters_place(Adapters *a, const int32_t *sizes, Bump *b);
/** Do all parts of the two operations lie in the data, and the ranks of each adapter in `room` floats? */
bool adapters_check(const Adapters *a, const LmOp *down, const LmOp *up, int32_t room);
/** Which tokens of the step have which adapter. */
void adapters_step(Device *d);
int32_t adapters_units(const Adapters *a, const LmOp *o);
void adapters_run(const Device *d, const LmOp *o, int32_t from, int32_t to);
/** Fills what is known of the stream after configuration, and at the beginning of a step. */
void ahead_prepare(Device *d);
void ahead_step(Device *d);
/** What the member reads after units up to `to` of the product that is operation i. */
const uint8_t *ahead_after(const Device *d, int i, int32_t to, int member);
/** Where a lane begins to read after phase p (phase 0 comes before the first operation). */
const uint8_t *ahead_stream(const Device *d, int p, int lane);
/** The last unit before which the member goes on with its lane: `to`, or if its lane ends there or it was not its own, to - 1. */
int ahead_last(const Device *d, int total, int to, int member);
/** For Pool::idle. */
bool ahead_idle(void *device, int phase, int member, int k);
