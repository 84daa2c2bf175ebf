/**
 * The one interface between the engine and whatever computes: cpu, cuda, null.
 *
 * The model is a Program: plain data recorded by `model/*.ts`. A device compiles it once (`load`), then runs whole steps.
 * All arrays of a Step are allocated once by `createStep` and reused; a device may hold on to them.
 */
import type { ModelDims, TensorSource } from '../types.js';

// ---------------------------------------------------------------- the model as data

export interface RopeConfig {
  /** Number of leading dimensions of a head that are rotated (pairs 2i, 2i+1 unless `neox`). */
  dims: number;
  freqBase: number;
  /** Pairs (i, i + dims/2) instead of (2i, 2i+1). */
  neox: boolean;
  /** Inverse frequencies already scaled (linear, llama3 …): (dims / 2) values; angle = position × inverse frequency. */
  inverseFrequencies: Float32Array;
  /** Multiplies cos and sin (YaRN); 1 otherwise. */
  magnitude: number;
}

/** One output of a linear: `out = weight · in (+ bias) (+ residual)`; weight (inFeatures, outFeatures) in GGUF order. */
export interface LinearOutput {
  weight: string;
  bias: string | null;
  out: string;
}

/**
 * The operations. Buffers hold one f32 row per token of the step (`gather` moves to one row per wanted logit).
 * K and V are stored first and attention reads only what is stored (DESIGN §5).
 */
export type Op =
  | { op: 'embed'; weight: string; out: string }
  | { op: 'rmsNorm'; in: string; weight: string; out: string; eps: number }
  /** Several outputs share one input (q, k, v; gate, up). `residual`, if any, is added to the single output. */
  | { op: 'linear'; in: string; outputs: LinearOutput[]; residual: string | null }
  /** Rotates q in place and k on its way into the KV cache of `layer`; v is stored as it is. */
  | { op: 'ropeAndStore'; layer: number; q: string; k: string; v: string; rope: RopeConfig }
  /** Causal attention of q over the stored K and V of `layer`, grouped-query heads. */
  | { op: 'attention'; layer: number; q: string; out: string; scale: number }
  | { op: 'siluMul'; gate: string; up: string; out: string }
  /** Keeps the rows listed in Step.logitRows. */
  | { op: 'gather'; in: string; out: string }
  /** Logits → tokens by Step.sampling. Always last. */
  | { op: 'sample'; in: string };

export interface Program {
  dims: ModelDims;
  /** Named activation buffers: `width` f32 values a row; `perLogit` rows follow logitRows instead of tokens. */
  buffers: { name: string; width: number; perLogit: boolean }[];
  ops: Op[];
}

// ---------------------------------------------------------------- KV cache memory

/** Block → layer → KV head → K, then V, contiguous. K interleaved by 16 tokens. */
export interface KvLayout {
  layers: number;
  kvHeads: number;
  headDim: number;
  /** Tokens a block; a multiple of 16. */
  blockLen: number;
  /** 16 = f16; 8 and 4 = per token, per head, asymmetric, scale and zero in f16 (two f16 for each of K and V). */
  bits: 16 | 8 | 4;
}

/** Bytes of K and V of one token in one block, all layers and heads, quantisation parameters included. */
export function kvBytesPerToken(kv: KvLayout): number {
  const values = 2 * kv.layers * kv.kvHeads * kv.headDim;
  const parameters = kv.bits === 16 ? 0 : 2 * kv.layers * kv.kvHeads * 4;
  return (values * kv.bits) / 8 + parameters;
}

export function kvBlockBytes(kv: KvLayout): number {
  return kvBytesPerToken(kv) * kv.blockLen;
}

// ---------------------------------------------------------------- Step

export const MAX_TOP_LOGPROBS = 20;

/** Sizes a step may have; a device sizes its workspace by them. */
export interface StepLimits {
  /** Tokens in one step, all rows together. */
  maxTokens: number;
  /** Sequences in one step = number of slots. */
  maxRows: number;
  /** Columns of the block table: ceil(sessionLength / blockLen). */
  maxBlocksPerRow: number;
  /** Rows of logits in one step. */
  maxLogits: number;
  vocab: number;
}

/**
 * One unit of work, plain data. Row r (a sequence) owns tokens rowStart[r] … rowStart[r+1]-1, at consecutive positions;
 * its context is everything stored at smaller positions in the blocks of its slot.
 */
export interface Step {
  rowCount: number;
  tokenCount: number;
  logitCount: number;
  copyCount: number;
  /** (maxTokens) token ids. */
  tokens: Int32Array;
  /** (maxTokens) absolute positions. */
  positions: Int32Array;
  /** (maxRows + 1) first token of each row. */
  rowStart: Int32Array;
  /** (maxRows) which row of `blockTables` belongs to the sequence. */
  rowSlot: Int32Array;
  /** (maxRows, maxBlocksPerRow) block numbers by slot. A slot's row changes only when its blocks do. */
  blockTables: Int32Array;
  /** (maxLogits) indexes into `tokens` whose logits are wanted, ascending. */
  logitRows: Int32Array;
  /** (2 × maxRows, 3) triples (from block, to block, leading tokens to copy), done before anything else in the step. */
  copies: Int32Array;
  sampling: StepSampling;
}

/** Parallel arrays over the wanted logits. Order of work: bias and mask, penalties, temperature, top-k, top-p, min-p, draw. */
export interface StepSampling {
  /** (maxLogits); 0 = greedy (argmax, lowest id wins ties). */
  temperature: Float32Array;
  /** (maxLogits); 0 = off. */
  topK: Int32Array;
  /** (maxLogits); 1 = off. */
  topP: Float32Array;
  /** (maxLogits); 0 = off. */
  minP: Float32Array;
  /** (maxLogits); 1 = off. Divides positive and multiplies negative logits of tokens in the history. */
  repetitionPenalty: Float32Array;
  /** (maxLogits); 0 = off. Subtracted once from tokens of the history whose count is above 0. */
  presencePenalty: Float32Array;
  /** (maxLogits); 0 = off. Subtracted count times. */
  frequencyPenalty: Float32Array;
  /** (maxLogits, 2) seed; the random number is a function of (seed, position of the token being drawn) only. */
  seed: Uint32Array;
  /** (maxLogits) -1: no log-probabilities; 0…20: that many alternatives. They are of the model's raw distribution. */
  topLogprobs: Int32Array;
  /** (maxLogits) a token whose raw log-probability is wanted too, or -1. */
  scoreToken: Int32Array;
  /** (maxLogits + 1) offsets into historyTokens / historyCounts: distinct tokens, how often each was generated (0 = prompt only). */
  historyStart: Int32Array;
  historyTokens: Int32Array;
  historyCounts: Int32Array;
  /** (maxLogits + 1) offsets into biasTokens / biasValues (added to logits; -Infinity bans). */
  biasStart: Int32Array;
  biasTokens: Int32Array;
  biasValues: Float32Array;
  /** (maxLogits) row of `masks` that limits the choice, or -1. */
  maskRow: Int32Array;
  /** (rows, ceil(vocab / 32)) bit t of a row set = token t allowed. */
  masks: Int32Array;
}

/** Result of a step, arrays reused by the next one. Row i belongs to logitRows[i]. */
export interface StepResult {
  /** False if the cancel flag stopped the step half-way: nothing of it may be committed. */
  completed: boolean;
  logitCount: number;
  /** (maxLogits) drawn token. */
  tokens: Int32Array;
  /** (maxLogits) 0 = good, 1 = the logits hold NaN or no allowed token is finite. */
  status: Int32Array;
  /** (maxLogits) raw log-probability of the drawn token; NaN where not asked for. */
  logprobs: Float32Array;
  /** (maxLogits) raw log-probability of scoreToken; NaN where not asked for. */
  scoreLogprobs: Float32Array;
  /** (maxLogits, MAX_TOP_LOGPROBS) */
  topTokens: Int32Array;
  topLogprobs: Float32Array;
}

// ---------------------------------------------------------------- Device

export interface DeviceInfo {
  name: string;
  /** e.g. 'avx512vnni', 'avx2', 'portable'. */
  isa: string;
  threads: number;
  /** Bytes that the device could give now, e.g. MemAvailable within the cgroup limit. */
  memoryFree: number;
}

export interface LoadOptions {
  limits: StepLimits;
  kv: KvLayout;
  /** Upper bound on KV blocks; address space is reserved for so many. */
  maxBlocks: number;
  /** Run and check every operation by itself (slow; the same bits). */
  debug?: boolean;
  onProgress?: (doneBytes: number, totalBytes: number) => void;
}

export interface LoadedMemory {
  weightBytes: number;
  workspaceBytes: number;
}

export type Transfer = number;
export interface KvTransfers {
  readonly blockBytes: number;
  allocateHost(bytes: number): Uint8Array;
  read(block: number, host: Uint8Array): Transfer;
  write(block: number, host: Uint8Array): Transfer;
  done(transfer: Transfer): boolean;
}

export interface Device {
  readonly info: DeviceInfo;
  /** Bytes of workspace that `load` would allocate for these limits. */
  workspaceBytes(program: Program, limits: StepLimits): number;
  /** Bytes the weights will take on the device. */
  weightBytes(program: Program, source: TensorSource): number;
  /** Compiles the program, brings the weights in, allocates the workspace, reserves the KV address space. */
  load(program: Program, source: TensorSource, options: LoadOptions): LoadedMemory;
  /** Makes blocks 0 … total-1 usable. False if the device has not enough memory; then nothing changed. */
  growKv(total: number): boolean;
  /** Starts a step. A device with its own queue returns at once; the CPU may do all the work here. */
  submit(step: Step): void;
  /** Ends the step begun by `submit`. */
  wait(): StepResult;
  /** (1) shared flag: any thread stores 1 to stop the running step between two operations; the next submit clears it. */
  readonly cancel: Int32Array;
  /** Raw logits (vocab) of row i of the last step, for tests and comparisons. */
  logits(i: number): Float32Array;
  close(): void;
}

/** Allocates a step for these limits. Histories and biases grow on demand (`ensureCapacity`). */
export function createStep(limits: StepLimits): Step {
  const { maxTokens, maxRows, maxBlocksPerRow, maxLogits, vocab } = limits;
  const i32 = (n: number) => new Int32Array(n);
  const f32 = (n: number) => new Float32Array(n);
  return {
    rowCount: 0,
    tokenCount: 0,
    logitCount: 0,
    copyCount: 0,
    tokens: i32(maxTokens),
    positions: i32(maxTokens),
    rowStart: i32(maxRows + 1),
    rowSlot: i32(maxRows),
    blockTables: i32(maxRows * maxBlocksPerRow),
    logitRows: i32(maxLogits),
    copies: i32(6 * maxRows),
    sampling: {
      temperature: f32(maxLogits),
      topK: i32(maxLogits),
      topP: f32(maxLogits).fill(1),
      minP: f32(maxLogits),
      repetitionPenalty: f32(maxLogits).fill(1),
      presencePenalty: f32(maxLogits),
      frequencyPenalty: f32(maxLogits),
      seed: new Uint32Array(2 * maxLogits),
      topLogprobs: i32(maxLogits).fill(-1),
      scoreToken: i32(maxLogits).fill(-1),
      historyStart: i32(maxLogits + 1),
      historyTokens: i32(1024),
      historyCounts: i32(1024),
      biasStart: i32(maxLogits + 1),
      biasTokens: i32(256),
      biasValues: f32(256),
      maskRow: i32(maxLogits).fill(-1),
      masks: i32(Math.ceil(vocab / 32)),
    },
  };
}
