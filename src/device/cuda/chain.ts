/** The launches of a step: the plan's operations with grids for so many rows. */
import { invariant } from '../../errors.js';
import type { KvLayout, StepResult } from '../device.js';
import type { Address } from './driver.js';
import type { KernelSet } from './kernel-set.js';
import type { KernelKey } from './kernels.js';
import type { Meeting } from './meeting.js';
import type { KvPool } from './memory.js';
import { Norms, type ProductOp } from './norms.js';
import { Epilogue, isFloat, type Matrix, type NormOp, type Plan, type PlanOp, up } from './plan.js';
import {
  type Gpu,
  OWNED_TILE,
  ownsLogits,
  ownsRows,
  type ProductKernel,
  productKernel,
  ROW_CLASSES,
  rowClass,
} from './products.js';
import type { Tasks } from './tasks.js';
import type { UploadLayout, UploadName } from './upload.js';
import type { Weights } from './weights.js';
import { strideOf, type Workspace } from './workspace.js';

/** What one launch of the chain is made for; everything else is read on the device. */
export interface ChainShape {
  tokens: number;
  logits: number;
  tasks: Tasks;
  copies: number;
}
/** What a GPU holds of a model. */
export interface OnGpu {
  weights: Weights;
  work: Workspace;
  pool: KvPool;
  /** Null: it is the only GPU. */
  meeting: Meeting | null;
}
/** Where a step lies on the device. */
export interface StepPlace {
  upload: Address;
  layout: UploadLayout;
  result: Address;
  /** Addresses of the result on each GPU, if there are several. */
  results: Address;
  /** Result of the step before. */
  before: Address;
}

const LOG2_E = Math.LOG2E;
/** Bytes before words of a step's header (step.ts); the first word is the step's number here. */
const COUNTS = { step: 0, tokens: 8, logits: 12, copies: 16 };

/** Stages of tiles of K and V where a block of attention has a multiprocessor to itself: one more copy under way hides one more latency. */
const MOST_STAGES = 4;
/** Shared memory of decode attention beside its stages. */
const DECODE_SHARED = 2320;

interface DecodeKernel {
  key: KernelKey;
  shared: number;
}
interface Model {
  plan: Plan;
  kv: KvLayout;
  act: 0 | 1;
  gpu: Gpu;
  maxTokens: number;
  maxLogits: number;
}

export class Chain {
  readonly prefillTokens: number;
  readonly #group: number;
  readonly #rowBytes: number;
  readonly #headBytes: number;
  readonly #keys: { copy: KernelKey; rope: KernelKey; prefill: KernelKey };
  readonly #prefill: { block: number; shared: number };
  /** For many blocks, several on a multiprocessor, and for so few that each has one to itself. */
  readonly #decode: { many: DecodeKernel; few: DecodeKernel };
  /** By operation and class of rows. */
  readonly #products = new Map<PlanOp, Map<number, ProductKernel>>();
  readonly #plain = new Map<PlanOp, KernelKey>();
  /** Of several GPUs, in steps of many rows. */
  readonly #owned = new Map<PlanOp, KernelKey>();
  readonly #meet: KernelKey;
  readonly norms: Norms;
  readonly #dequantise = new Map<number, KernelKey>();

  constructor(
    private readonly model: Model,
    private readonly kernels: KernelSet,
  ) {
    const { kv, gpu, act, plan } = model;
    const { headDim, heads, kvHeads } = plan.dims;
    this.norms = new Norms(plan, act, gpu);
    this.#group = heads / kvHeads;
    this.#rowBytes = (headDim * kv.bits) / 8;
    const params = kv.bits === 16 ? 0 : 8;
    this.#headBytes = kv.blockLen * (2 * this.#rowBytes + params);
    const tile = 64 * (2 * this.#rowBytes + params);
    const geometry = { HD: headDim, HEADS: heads, KV_HEADS: kvHeads, BLOCK_LEN: kv.blockLen, KV_BITS: kv.bits };
    const wgmma = gpu.wgmma && kv.bits === 16 && (headDim === 64 || headDim === 128);
    const [units, stages] = wgmma ? [2, 3] : [4, 2];
    this.prefillTokens = Math.floor((wgmma ? 128 : 64) / this.#group);
    const more = wgmma ? units * 256 * headDim : 64 * units * headDim;
    this.#prefill = { block: wgmma ? 128 * 3 : 32 * 5, shared: stages * tile + 16 * stages + more };
    const attention = { ...geometry, ACT: act, STAGES: stages, SPLIT_LEN: plan.splitLen };
    const decode = (most: number): DecodeKernel => {
      const fit = Math.floor((gpu.sharedBytes - DECODE_SHARED) / (tile + 16));
      const stages = Math.max(2, Math.min(most, fit));
      const key = { kernel: 'attention_decode', macros: { ...attention, STAGES: stages } };
      return { key, shared: stages * (tile + 16) + DECODE_SHARED };
    };
    this.#decode = { many: decode(2), few: decode(Math.min(MOST_STAGES, plan.splitLen / 64)) };
    this.#keys = {
      copy: { kernel: 'copy_blocks', macros: geometry },
      rope: { kernel: 'rope_store', macros: { ...geometry, ROPE_DIMS: plan.rope.dims, NEOX: plan.rope.neox ? 1 : 0 } },
      prefill: wgmma
        ? { kernel: 'attention_wgmma', macros: { ...attention, WGS: units } }
        : { kernel: 'attention_mma', macros: { ...attention, WARPS: units } },
    };
    this.#meet = { kernel: 'meet', macros: { RANKS: plan.shard.ranks } };
    this.#want();
  }

  /** Names every kernel that a step may need. */
  #want(): void {
    const { kernels, model } = this;
    kernels.want(this.#keys.copy, 0);
    kernels.want(this.#keys.rope, 0);
    for (const { key, shared } of [this.#decode.many, this.#decode.few]) kernels.want(key, shared);
    kernels.want(this.#keys.prefill, this.#prefill.shared);
    for (const op of model.plan.ops) {
      if (op.op === 'product') this.#wantProduct(op);
      const key = this.#plainKey(op);
      if (!key) continue;
      this.#plain.set(op, key);
      kernels.want(key, 0);
      const { ranks } = model.plan.shard;
      const mayOwn =
        (op.op === 'reduce' && ownsRows(ranks, model.maxTokens)) ||
        (op.op === 'sample' && ownsLogits(ranks, model.maxLogits));
      if (!mayOwn) continue;
      const owned = { ...key, macros: { ...key.macros, RANKS: ranks, OWNED: 1 } };
      this.#owned.set(op, owned);
      kernels.want(owned, 0);
    }
  }

  #wantProduct(op: ProductOp): void {
    const { plan, act, gpu, maxTokens, maxLogits } = this.model;
    const matrix = plan.matrices[op.matrix]!;
    const most = plan.buffers.get(op.out)!.perLogit ? maxLogits : maxTokens;
    const byRows = new Map<number, ProductKernel>();
    let below = 0;
    for (const rows of ROW_CLASSES) {
      if (below >= most) break;
      const width = this.norms.of(op, rows) ? matrix.inputs : 0;
      const product = productKernel(matrix, act, op.epilogue, rows, gpu, width);
      byRows.set(rows, product);
      this.kernels.want(product.key, product.shared);
      if (product.scratch) this.kernels.want(this.dequantise(matrix), 0);
      below = rows;
    }
    this.#products.set(op, byRows);
  }

  #plainKey(op: PlanOp): KernelKey | null {
    const { act, plan } = this.model;
    switch (op.op) {
      case 'embed': {
        const { type } = plan.matrices[op.matrix]!;
        return { kernel: 'embed', macros: { TYPE: isFloat(type) ? 0 : type, ACT: act } };
      }
      case 'norm':
        return { kernel: 'rms_norm', macros: { WIDTH: plan.buffers.get(op.out)!.width, ACT: act } };
      case 'reduce': {
        const { width } = plan.buffers.get(op.x)!;
        return {
          kernel: 'reduce',
          macros: { WIDTH: width, ACT: act, RANKS: plan.shard.ranks, NORM: op.norm ? 1 : 0 },
        };
      }
      case 'meet':
        return this.#meet;
      case 'silu':
        return { kernel: 'silu_mul', macros: { ACT: act } };
      case 'gather':
      case 'sample':
        return { kernel: op.op, macros: {} };
      default:
        return null;
    }
  }

  /** What launches a step's operations [from, to) into the stream. */
  begin(shape: ChainShape, place: StepPlace, result: StepResult, on: OnGpu): (from: number, to: number) => void {
    const launcher = new Launcher(this.model, this.kernels, shape, place, result, on);
    return (from, to) => launcher.run(this, from, to);
  }

  copyBlocks(l: Launcher): void {
    const { dims } = this.model.plan;
    const values = {
      kv: l.pool.base,
      blockBytes: l.pool.blockBytes,
      copies: l.field('copies'),
      count: l.count('copies'),
    };
    l.launch(this.#keys.copy, [dims.layers * dims.kvHeads, l.shape.copies, 1], 256, 0, values);
    // attention reads what is stored before the kernel before it is done
    this.kernels.restart();
  }

  rope(l: Launcher, op: Extract<PlanOp, { op: 'rope' }>): void {
    const { dims } = this.model.plan;
    l.launch(this.#keys.rope, [l.shape.tokens, Math.ceil((dims.heads + 2 * dims.kvHeads) / 8), 1], 256, 0, {
      qkv: l.buffer(op.qkv),
      angles: l.work.angles,
      kv: this.#layer(l, op.layer),
      blockBytes: l.pool.blockBytes,
      tables: l.field('blockTables'),
      positions: l.field('positions'),
      slots: l.field('slots'),
      count: l.count('tokens'),
      stride: l.stride(op.qkv),
      maxBlocks: l.columns,
    });
  }

  attention(l: Launcher, op: Extract<PlanOp, { op: 'attention' }>): void {
    const { dims } = this.model.plan;
    const { tasks } = l.shape;
    const skipped = tasks.firstToken * dims.heads * tasks.splits;
    const values = {
      kv: this.#layer(l, op.layer),
      blockBytes: l.pool.blockBytes,
      q: l.buffer(op.qkv),
      out: l.buffer(op.out),
      partial: l.work.partial - 4 * skipped * dims.headDim,
      weights: l.work.partialWeights - 8 * skipped,
      arrived: l.work.arrived,
      tables: l.field('blockTables'),
      tasks: l.field('decodeTasks'),
      stride: l.stride(op.qkv),
      k64: l.stride(op.out),
      maxBlocks: l.columns,
      splits: tasks.splits,
      scale: LOG2_E * op.scale,
    };
    const parts = Math.ceil(this.#group / 16);
    const grid: [number, number, number] = [tasks.decode, dims.kvHeads * parts, tasks.splits];
    const few = grid[0] * grid[1] * grid[2] <= this.model.gpu.multiprocessors;
    const { key, shared: decodeShared } = this.#decode[few ? 'few' : 'many'];
    l.launch(key, grid, 160, decodeShared, values);
    const { block, shared } = this.#prefill;
    const others = { ...values, partial: 0, weights: 0, arrived: 0, tasks: l.field('prefillTasks') };
    l.launch(this.#keys.prefill, [tasks.prefill, dims.kvHeads, 1], block, shared, others);
  }

  dequantise({ type }: Matrix): KernelKey {
    const known = this.#dequantise.get(type);
    const key = known ?? { kernel: 'dequantise', macros: { TYPE: type, ACT: this.model.act } };
    this.#dequantise.set(type, key);
    return key;
  }

  product(op: PlanOp, rows: number): ProductKernel {
    return this.#products.get(op)!.get(rowClass(rows))!;
  }
  plain(op: PlanOp): KernelKey {
    return this.#plain.get(op)!;
  }
  /** How shares are added, or tokens drawn: with many rows by the GPU that owns a row, and then `meet`. */
  shared(op: Extract<PlanOp, { op: 'reduce' | 'sample' }>, rows: number) {
    const { ranks } = this.model.plan.shard;
    const owned = op.op === 'reduce' ? ownsRows(ranks, rows) : ownsLogits(ranks, rows);
    if (!owned) return { key: this.plain(op), meet: null, blocks: rows };
    const blocks = op.op === 'reduce' ? OWNED_TILE * Math.ceil(rows / OWNED_TILE / ranks) : rows;
    return { key: this.#owned.get(op)!, meet: this.#meet, blocks };
  }

  #layer(l: Launcher, layer: number): Address {
    return l.pool.base + layer * this.model.plan.dims.kvHeads * this.#headBytes;
  }
}

/** One step's launches. */
class Launcher {
  constructor(
    readonly model: Model,
    readonly kernels: KernelSet,
    readonly shape: ChainShape,
    readonly place: StepPlace,
    readonly result: StepResult,
    readonly on: OnGpu,
  ) {}

  run(chain: Chain, from: number, to: number): void {
    if (from === 0 && this.shape.copies > 0) chain.copyBlocks(this);
    if (this.shape.tokens === 0) return;
    for (const op of this.model.plan.ops.slice(from, to)) this.#op(chain, op);
  }

  get weights(): Weights {
    return this.on.weights;
  }
  get work(): Workspace {
    return this.on.work;
  }
  get pool(): KvPool {
    return this.on.pool;
  }
  /** What the ranks have for each other. */
  get meeting(): Meeting {
    invariant(this.on.meeting, 'one GPU alone meets nobody');
    return this.on.meeting;
  }

  launch(
    key: KernelKey,
    grid: [number, number, number],
    block: number,
    shared: number,
    values: Record<string, number>,
  ): void {
    this.kernels.launch(key, { grid, block, shared }, values);
  }

  field(name: UploadName): Address {
    return this.place.upload + 4 * this.place.layout.at(name);
  }
  count(which: keyof typeof COUNTS): Address {
    return this.place.upload + COUNTS[which];
  }
  /** From row to row of the block tables. */
  get columns(): number {
    return this.place.layout.sizes.columns;
  }
  buffer(name: string): Address {
    return this.work.buffers.get(name)!;
  }
  stride(name: string): number {
    return strideOf(this.model.plan.buffers.get(name)!);
  }
  rows(name: string): number {
    return this.model.plan.buffers.get(name)!.perLogit ? this.shape.logits : this.shape.tokens;
  }
  out(name: keyof StepResult): number {
    return (this.result[name] as Int32Array).byteOffset;
  }

  #op(chain: Chain, op: PlanOp): void {
    switch (op.op) {
      case 'embed':
        this.#embed(chain.plain(op), op);
        break;
      case 'norm':
        if (!chain.norms.made(op, this.rows(op.out))) this.#norm(chain.plain(op), op);
        break;
      case 'product':
        this.#product(chain, op);
        break;
      case 'reduce':
        this.#reduce(chain, op);
        break;
      case 'meet':
        if (this.shape.logits > 0) this.#meetAt(chain.plain(op), op.slot);
        break;
      case 'rope':
        chain.rope(this, op);
        break;
      case 'attention':
        chain.attention(this, op);
        break;
      case 'silu': {
        const { width } = this.model.plan.buffers.get(op.out)!;
        const rows = this.rows(op.out);
        const values = { gate: this.buffer(op.gate), up: this.buffer(op.up), out: this.buffer(op.out), rows, width };
        const strides = { stride: this.stride(op.gate), k64: this.stride(op.out) };
        this.launch(chain.plain(op), [Math.ceil(width / 1024), rows, 1], 256, 0, { ...values, ...strides });
        break;
      }
      case 'gather': {
        const { width } = this.model.plan.buffers.get(op.out)!;
        const rows = this.rows(op.out);
        const values = {
          in: this.buffer(op.in),
          out: this.buffer(op.out),
          index: this.field('logitRows'),
          rows,
          width,
        };
        const strides = { inStride: this.stride(op.in), outStride: this.stride(op.out) };
        this.launch(chain.plain(op), [Math.ceil(width / 1024), rows, 1], 256, 0, { ...values, ...strides });
        break;
      }
      case 'sample':
        this.#sample(chain, op);
        break;
    }
  }

  #meet(slot: number): Record<string, number> {
    const { peers, flags } = this.meeting;
    const { rank } = this.model.plan.shard;
    return { peers, flags, step: this.count('step'), slot, rank };
  }

  #meetAt(key: KernelKey, slot: number): void {
    this.launch(key, [1, 1, 1], 32, 0, this.#meet(slot));
  }

  #reduce(chain: Chain, op: Extract<PlanOp, { op: 'reduce' }>): void {
    const { x, slot, norm } = op;
    const rows = this.rows(x);
    const { key, meet, blocks } = chain.shared(op, rows);
    this.launch(key, [blocks, 1, 1], 256, 0, {
      ...this.#meet(slot),
      x: this.buffer(x),
      shares: this.meeting.turn(slot).shares,
      weight: norm ? this.weights.vectors.get(norm.weight)! : 0,
      out: norm ? this.buffer(norm.out) : 0,
      rows,
      stride: this.stride(x),
      k64: norm ? this.stride(norm.out) : 0,
      eps: norm?.eps ?? 0,
      shareStride: this.meeting.shareBytes / 4,
      outs: meet ? this.meeting.rowsOf(op) : 0,
    });
    if (meet) this.#meetAt(meet, slot + 1);
  }

  #embed(key: KernelKey, op: Extract<PlanOp, { op: 'embed' }>): void {
    const { plan } = this.model;
    const rows = this.shape.tokens;
    this.launch(key, [rows, 1, 1], 256, 0, {
      table: this.weights.matrices[op.matrix]!.address,
      out: this.buffer(op.out),
      tokens: this.field('tokens'),
      drawn: this.place.before + this.out('tokens'),
      positions: this.field('positions'),
      inverse: this.work.inverse,
      angles: this.work.angles,
      rows,
      dim: plan.buffers.get(op.out)!.width,
      k64: plan.matrices[op.matrix]!.k64,
      stride: this.stride(op.out),
      vocab: plan.dims.vocab,
      half: plan.rope.dims / 2,
      magnitude: plan.rope.magnitude,
    });
  }

  #norm(key: KernelKey, op: NormOp): void {
    const rows = this.rows(op.out);
    this.launch(key, [rows, 1, 1], 256, 0, {
      in: this.buffer(op.in),
      weight: this.weights.vectors.get(op.weight)!,
      out: this.buffer(op.out),
      index: op.indexed ? this.field('logitRows') : 0,
      rows,
      stride: this.stride(op.in),
      k64: this.stride(op.out),
      eps: op.eps,
    });
  }

  #product(chain: Chain, op: ProductOp): void {
    const matrix = this.model.plan.matrices[op.matrix]!;
    const { address, bias } = this.weights.matrices[op.matrix]!;
    const rows = this.rows(op.out);
    if (rows === 0) return;
    const { key, block, shared, features, rows: tile, most, scratch } = chain.product(op, rows);
    const norm = chain.norms.of(op, rows);
    if (scratch) this.#dequantise(chain, matrix, address);
    const tiles = Math.ceil(matrix.features / features) * Math.ceil(rows / tile);
    this.launch(key, [most > 0 ? Math.min(most, tiles) : tiles, 1, 1], block, shared, {
      weights: scratch ? this.weights.scratch : address,
      in: this.buffer(op.in),
      out: this.buffer(op.out) + 2 * op.column,
      bias,
      rows,
      n: matrix.features,
      k64: matrix.k64,
      stride: this.stride(op.out),
      x: norm ? this.buffer(norm.in) : 0,
      norm: norm ? this.weights.vectors.get(norm.weight)! : 0,
      xStride: norm ? this.stride(norm.in) : 0,
      eps: norm?.eps ?? 0,
      outs: matrix.ranks > 1 ? this.#outs(op) : 0,
    });
  }

  /** Where the sums go on all GPUs. */
  #outs(op: ProductOp): Address {
    if (op.epilogue === Epilogue.logits) return this.meeting.logitsOuts;
    const { ops } = this.model.plan;
    const next = ops[ops.indexOf(op) + 1];
    invariant(next?.op === 'reduce', 'nobody adds the shares of a product');
    return this.meeting.turn(next.slot).outs;
  }

  #dequantise(chain: Chain, matrix: Matrix, from: Address): void {
    const { k64 } = matrix;
    const strips = up(matrix.features, 64) / 16;
    const values = { src: from, dst: this.weights.scratch, k64, strips };
    this.launch(chain.dequantise(matrix), [Math.ceil(k64 / 4), strips, 1], 128, 0, values);
    // a product reads its weights before it waits for the kernel before it, which here makes them
    this.kernels.restart();
  }

  #sample(chain: Chain, op: Extract<PlanOp, { op: 'sample' }>): void {
    const logits = op.in;
    const { key, meet, blocks } = chain.shared(op, this.shape.logits);
    const names = [
      ...(['temperature', 'topK', 'topP', 'minP', 'repetitionPenalty', 'presencePenalty', 'frequencyPenalty'] as const),
      ...([
        'seed',
        'topLogprobs',
        'scoreToken',
        'historyStart',
        'historyTokens',
        'historyCounts',
        'biasStart',
      ] as const),
      ...(['biasTokens', 'biasValues', 'maskRow', 'masks', 'logitRows', 'positions'] as const),
    ];
    const values: Record<string, number> = {
      logits: this.buffer(logits),
      scratch: this.work.scratch.address,
      count: this.count('logits'),
      vocab: this.model.plan.dims.vocab,
      stride: this.stride(logits),
    };
    for (const name of names) values[name] = this.field(name);
    for (const name of ['tokens', 'status', 'logprobs', 'scoreLogprobs', 'topTokens'] as const)
      values[name] = this.place.result + this.out(name);
    values.topLogprobsOut = this.place.result + this.out('topLogprobs');
    values.results = meet ? this.place.results : 0;
    values.rank = this.model.plan.shard.rank;
    this.launch(key, [blocks, 1, 1], 1024, 0, values);
    if (meet) this.#meetAt(meet, op.slot);
  }
}
