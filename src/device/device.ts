/**
 * The one interface between the engine and whatever computes: cpu, null; cuda to come.
 *
 * The model is a Program: plain data recorded by `model/*.ts`. A device compiles it once (`load`), then runs whole steps
 * (step.ts), as many at a time as its depth says.
 */
import type { Activation, Adapter, ModelDims, RopeConfig, TensorSource } from '../types.js';
import type { Step, StepLimits, StepResult } from './step.js';

export {
  createResult,
  createStep,
  MAX_TOP_LOGPROBS,
  type MutableResult,
  STEP_LAYOUT,
  type Step,
  type StepLimits,
  type StepResult,
  type StepSampling,
} from './step.js';

// ---------------------------------------------------------------- the model as data

export type { Activation, RopeConfig } from '../types.js';

/** One output of a linear: `out = weight · in (+ bias) (+ residual)`; weight (inFeatures, outFeatures) in GGUF order. */
export interface LinearOutput {
  weight: string;
  bias: string | null;
  out: string;
}

/** Names of the matrices of a layer's experts, how many there are, and how many a token uses. */
export interface ExpertWeights {
  gate: string;
  up: string;
  down: string;
  count: number;
  used: number;
  /** Values between an expert's matrices. */
  width: number;
}

/**
 * The operations. Buffers hold one f32 row per token of the step (`gather` moves to one row per wanted logit).
 * K and V are stored first and attention reads only what is stored (ARCHITECTURE.md, "The same bits, hit or miss").
 */
export type Op =
  /** `scale` multiplies the row (default 1). */
  | { op: 'embed'; weight: string; out: string; scale?: number }
  /**
   * A row is normed in `parts` equal pieces with one weight (heads; default 1). `residual`, if any, is added to the result.
   * `in` and `out` may be one buffer.
   */
  | { op: 'rmsNorm'; in: string; weight: string; out: string; eps: number; parts?: number; residual?: string }
  /**
   * Several outputs share one input (q, k, v; gate, up). `scale` multiplies products and biases (default 1); then `residual`,
   * if any, is added to the single output.
   */
  | { op: 'linear'; in: string; outputs: LinearOutput[]; residual: string | null; scale?: number }
  /** Rotates q in place and k on its way into the KV cache of `layer` (null: neither); v is stored as it is. */
  | { op: 'ropeAndStore'; layer: number; q: string; k: string; v: string; rope: RopeConfig | null }
  /**
   * Causal attention of q over the stored K and V of `layer`, grouped-query heads. `window`: only the last so many tokens,
   * its own among them (default 0: all). `softcap`: scores become softcap · tanh(score / softcap) (default 0: they stay).
   */
  | { op: 'attention'; layer: number; q: string; out: string; scale: number; window?: number; softcap?: number }
  /** out = activation(gate) · up; the activation is SiLU if none is named. */
  | { op: 'siluMul'; gate: string; up: string; out: string; activation?: Activation }
  /**
   * Chooses experts: the `used` highest of a row of scores (the lower index where two are equal), best first, and their
   * weights, scale · softmax. `normalise`: the softmax is that of the chosen ones alone. out: (used, 2) index, weight.
   */
  | { op: 'route'; in: string; out: string; used: number; normalise: boolean; scale: number }
  /**
   * stream ← stream + Σ weight · down(activation(gate · in) · up · in) over the experts that `choice` (of a route) names.
   * Matrices are (inFeatures, outFeatures, experts). A row's experts are added in an order that is the row's own.
   */
  | { op: 'experts'; in: string; choice: string; weights: ExpertWeights; stream: string; activation?: Activation }
  /** stream ← stream + sigmoid(gate) · in; the gate is one value a row. */
  | { op: 'addGated'; in: string; gate: string; stream: string }
  /** x ← cap · tanh(x / cap), in place. */
  | { op: 'softcap'; in: string; cap: number }
  /** Keeps the rows listed in Step.logitRows. */
  | { op: 'gather'; in: string; out: string }
  /** Logits → tokens by Step.sampling. Always last. */
  | { op: 'sample'; in: string };

export interface Program {
  dims: ModelDims;
  /** Named activation buffers: `width` f32 values a row; `perLogit` rows follow logitRows instead of tokens. */
  buffers: { name: string; width: number; perLogit: boolean }[];
  ops: Op[];
  /** The buffer (per logit) that the logits are made of, if it is to stay readable. */
  hidden?: string;
  /** A row of a step may have one of them: see Step.rowAdapter. Only devices that say so take them. */
  adapters?: readonly Adapter[];
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

// ---------------------------------------------------------------- Device

export interface DeviceInfo {
  name: string;
  /** e.g. 'avx512vnni', 'avx2', 'portable'. */
  isa: string;
  threads: number;
  /** File of the native code, where it is one. */
  library?: string;
  /** Bytes that the device could give now, e.g. MemAvailable within the cgroup limit. */
  memoryFree: number;
  /** GPUs that share the model; sizes are of all of them together. Default: 1. */
  gpus?: number;
  /** Its memory is not the host's: KV may go there when there is no room on the device. */
  ownMemory: boolean;
  /** It computes low-rank adapters. Default: no. */
  adapters?: boolean;
  /** Steps that may be in flight: submitted and not yet waited for. */
  depth: number;
  /**
   * Family of kernels: devices of one name store the same KV bits for the same tokens. Part of the key of KV that outlives
   * the process, so it changes whenever the arithmetic does.
   */
  kernels: string;
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

/** 0, 1, 2 …, one for each submitted step. */
export type Ticket = number;

/** A copy of a block under way. */
export type Transfer = number;

/**
 * KV of whole blocks ↔ host memory, beside the steps where the device can: a transfer comes after the steps submitted before
 * it, and steps do not wait for it.
 */
export interface KvTransfers {
  readonly blockBytes: number;
  /** Bytes a millisecond from host memory into blocks, measured when this is first read; null: not known. */
  readonly writeRate: number | null;
  /** Host memory that the device copies from and to fastest (pinned on a GPU, a SharedArrayBuffer elsewhere, so that a worker can read files into it). */
  allocateHost(bytes: number): Uint8Array;
  /**
   * Starts to copy a block into host memory (blockBytes). It sees what the steps submitted before it stored. The block must
   * not be given to anybody else before it is done.
   */
  read(block: number, host: Uint8Array): Transfer;
  /**
   * Starts to copy host memory into a block. Steps that were submitted after it is done see it; none that is submitted before
   * may use the block. `host` must stay as it is until it is done.
   */
  write(block: number, host: Uint8Array): Transfer;
  /** Never waits. */
  done(transfer: Transfer): boolean;
}

/**
 * Steps run one after another, in the order of their submission: what a step stores, a later one may read, and a block may be
 * given to somebody else as soon as the last step that uses it was submitted.
 *
 * A step that did not complete (cancelled) or failed takes those in flight behind it along: none of them completes.
 */
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
  /**
   * Starts a step; at most `info.depth` are in flight. The step's buffer belongs to the device until `wait` returned. A device
   * with its own queue returns at once; the CPU does all the work here.
   * @throws native_error if the step is malformed or the device failed; then it was not submitted, and those in flight go on
   */
  submit(step: Step): Ticket;
  /**
   * Ends the oldest step in flight, which the ticket must name. The result is valid until `info.depth` more steps were
   * submitted.
   * @throws native_error if the device failed; the step is over then, too
   */
  wait(ticket: Ticket): StepResult;
  /** After `load`. */
  readonly kv: KvTransfers;
  /**
   * (1) shared flag: any thread stores 1 to stop the running step between two operations; a submit with nothing else in
   * flight clears it.
   */
  readonly cancel: Int32Array;
  /**
   * What the logits of row i of the last step that ended were made of: the normalised hidden state (dim), a copy. Devices
   * without it have no embeddings.
   */
  hidden?(i: number): Float32Array;
  /** Raw logits (vocab) of row i of the last step that ended, for tests and comparisons. */
  logits(i: number): Float32Array;
  close(): void;
}
