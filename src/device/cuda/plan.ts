/**
 * Program → what the CUDA kernels do. Products that read the same input and have weights of one type become one: q, k, v
 * one after another; gate and up interleaved by 8 rows, with SiLU·mul in the epilogue. Values do not depend on that.
 */
import { errors, invariant } from '../../errors.js';
import type { ModelDims } from '../../types.js';
import type { LinearOutput, Op, Program, RopeConfig } from '../device.js';
import { type Shard, shardProgram, unfit, vocabularyOf, WHOLE } from './shard.js';

/** Tensor types by GGML's numbers; 16 and 32 bit floats become tiles of the activation type, the others stay quantised. */
export const TYPES: Readonly<Record<string, number>> = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q8_0: 8,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  BF16: 30,
};
export const isFloat = (type: number): boolean => type === 0 || type === 1 || type === 30;
/** Inputs and bytes of a unit of 16 rows of quantised weights. */
export const UNITS: Readonly<Record<number, { inputs: number; bytes: number }>> = {
  2: { inputs: 64, bytes: 576 },
  3: { inputs: 64, bytes: 640 },
  8: { inputs: 64, bytes: 1088 },
  12: { inputs: 256, bytes: 2368 },
  13: { inputs: 256, bytes: 2880 },
  14: { inputs: 256, bytes: 3360 },
};
export const up = (n: number, to: number): number => Math.ceil(n / to) * to;

export interface MatrixPart {
  weight: string;
  bias: string | null;
  rows: number;
  /** The tensor's row that is the first of these, and how many rows it has. */
  first: number;
  of: number;
  /** Row r goes to floor(r / 8) · step + r % 8 + offset. */
  step: 8 | 16;
  offset: number;
}
export interface Matrix {
  parts: MatrixPart[];
  features: number;
  inputs: number;
  k64: number;
  type: number;
  /** The tensors' input that is the first of these, and how many inputs they have. */
  column: number;
  rowInputs: number;
  /** Equal parts of the inputs whose sums are made alone: as many GPUs as give the same bits. */
  cuts: number;
  /** GPUs that all get the sums. */
  ranks: number;
}
export function matrixBytes({ features, k64, type }: Matrix): number {
  const rows = up(features, 64);
  if (isFloat(type)) return rows * k64 * 128;
  const { inputs, bytes } = UNITS[type]!;
  return (rows / 16) * (k64 / (inputs / 64)) * bytes;
}

export interface PlanBuffer {
  /** f32 rows; f16 rows; activations in tiles of 64 × 64. */
  kind: 'f32' | 'half' | 'tiles';
  width: number;
  perLogit: boolean;
}

export const Epilogue = { store: 0, residual: 1, silu: 2, logits: 3 };

/** Slots of a `reduce`. */
export const SLOTS = 2;
/** GPUs whose sums one GPU's are cut for: so many give the same bits. */
const ALIKE = 2;

export interface NormOp {
  op: 'norm';
  in: string;
  weight: string;
  out: string;
  eps: number;
  indexed: boolean;
}
export type PlanOp =
  | { op: 'embed'; matrix: number; out: string }
  | NormOp
  | { op: 'product'; matrix: number; in: string; out: string; epilogue: number; column: number }
  | { op: 'rope'; layer: number; qkv: string }
  | { op: 'attention'; layer: number; qkv: string; out: string; scale: number }
  /** x + each rank's share of the product before, then the norm that follows if it is one of all rows. Many rows: all meet once more, at slot + 1. */
  | { op: 'reduce'; x: string; slot: number; norm: NormOp | null }
  /** Waits for all ranks' logits. */
  | { op: 'meet'; slot: number }
  | { op: 'silu'; gate: string; up: string; out: string }
  | { op: 'gather'; in: string; out: string }
  /** `slot`: where ranks meet again if each draws its own rows. */
  | { op: 'sample'; in: string; slot: number };

export interface Plan {
  ops: PlanOp[];
  matrices: Matrix[];
  /** Norm weights: name → width. */
  vectors: Map<string, number>;
  buffers: Map<string, PlanBuffer>;
  rope: RopeConfig;
  /** Of what this GPU has: its share of the heads. */
  dims: ModelDims;
  shard: Shard;
  /** Places where all ranks meet. */
  meetings: number;
  /**
   * Positions that attention sums alone before it joins them: the same in every kernel of a model and on every GPU. Shorter where a token's K
   * and V are few, so that one sequence has enough blocks; more cost large batches more than they give.
   */
  splitLen: number;
}

type Linear = Extract<Op, { op: 'linear' }>;
const cannot = (what: string) => errors.unsupportedModel(`the CUDA kernels have no ${what}`);
const mixtures = () => cannot('mixtures of experts');

/** @throws unsupported_model where the kernels do not have what the program asks for, invalid_option: not to be cut so */
export function makePlan(program: Program, typeOf: (weight: string) => number, shard: Shard = WHOLE): Plan {
  const unitOf = (weight: string): number => {
    const type = typeOf(weight);
    return isFloat(type) ? 64 : UNITS[type]!.inputs;
  };
  const cuts = shard.ranks > 1 || unfit(program, unitOf, ALIKE) ? 1 : ALIKE;
  const { kvHeads, headDim } = program.dims;
  const own = new Planner(shardProgram(program, unitOf, shard), typeOf, shard, cuts).run();
  return { ...own, splitLen: kvHeads * headDim <= 512 ? 256 : 512 };
}

/** Variations of operations that these kernels do not have: refused by name, never left out. @throws unsupported_model */
function refuseUnknown(op: Op): void {
  if (op.op === 'experts') throw mixtures();
  if (op.op === 'embed' && (op.scale ?? 1) !== 1) throw cannot('scale of the embeddings');
  if (op.op === 'rmsNorm' && (op.parts ?? 1) !== 1) throw cannot('norm of each head');
  if (op.op === 'rmsNorm' && op.residual !== undefined) throw cannot('norm after attention or feed-forward');
  if (op.op === 'rmsNorm' && op.in === op.out) throw cannot('norm of queries and keys');
  if (op.op === 'linear' && (op.scale ?? 1) !== 1) throw cannot('scale of residuals or logits');
  if (op.op === 'attention' && (op.window ?? 0) !== 0) throw cannot('sliding window of attention');
  if (op.op === 'attention' && (op.softcap ?? 0) !== 0) throw cannot('bound of the scores (softcap)');
  if (op.op === 'siluMul' && (op.activation ?? 'silu') !== 'silu') throw cannot(`activation '${op.activation}'`);
}

class Planner {
  readonly #plan: Pick<Plan, 'ops' | 'matrices' | 'vectors' | 'buffers'> = {
    ops: [],
    matrices: [],
    vectors: new Map(),
    buffers: new Map(),
  };
  #meetings = 0;
  readonly #matrixIndex = new Map<string, number>();
  readonly #declared: Map<string, { width: number; perLogit: boolean }>;
  #rope: RopeConfig | null = null;

  constructor(
    readonly program: Program,
    readonly typeOf: (weight: string) => number,
    readonly shard: Shard,
    readonly cuts: number,
  ) {
    this.#declared = new Map(program.buffers.map((b) => [b.name, b]));
  }

  run(): Omit<Plan, 'splitLen'> {
    const { headDim, heads, kvHeads } = this.program.dims;
    if (headDim % 16 !== 0 || headDim > 256) throw cannot(`attention with heads of ${headDim} values`);
    if (heads % kvHeads !== 0 || heads / kvHeads > 64) throw cannot(`attention of ${heads} heads over ${kvHeads}`);
    const { ops } = this.program;
    for (const op of ops) refuseUnknown(op);
    for (let i = 0; i < ops.length; ) i += this.#add(ops[i]!, ops[i + 1], ops[i + 2]);
    if (!this.#rope) throw cannot('model without rotary positions');
    const { program, shard } = this;
    return { ...this.#plan, rope: this.#rope, dims: program.dims, shard, meetings: this.#meetings };
  }

  /** Plans an operation, with those after it if they go together; returns how many. */
  #add(op: Op, next: Op | undefined, third: Op | undefined): number {
    const { ops } = this.#plan;
    switch (op.op) {
      case 'embed':
        this.#buffer(op.out, 'f32');
        ops.push({ op: 'embed', matrix: this.#single(op.weight, null, this.program.dims.vocab, op.out), out: op.out });
        return 1;
      case 'rmsNorm':
        this.#norm(op.in, op, false);
        return 1;
      case 'gather':
        if (next?.op === 'rmsNorm' && next.in === op.out) {
          this.#norm(op.in, next, true);
          return 2;
        }
        this.#buffer(op.out, 'f32');
        ops.push(op);
        return 1;
      case 'linear':
        return this.#linear(op, next, third);
      case 'ropeAndStore':
        if (op.rope === null) throw cannot('layer without rotary positions');
        if (this.#rope && this.#rope !== op.rope) throw cannot('second kind of rotary positions');
        this.#rope = op.rope;
        ops.push({ op: 'rope', layer: op.layer, qkv: this.#qkv(op.q) });
        return 1;
      case 'attention':
        this.#buffer(op.out, 'tiles');
        ops.push({ op: 'attention', layer: op.layer, qkv: this.#qkv(op.q), out: op.out, scale: op.scale });
        return 1;
      case 'siluMul':
        this.#buffer(op.out, 'tiles');
        ops.push({ op: 'silu', gate: op.gate, up: op.up, out: op.out });
        return 1;
      case 'softcap':
        throw cannot('bound of the logits (softcap)');
      case 'route':
      case 'experts':
      case 'addGated':
        throw mixtures();
      case 'sample':
        ops.push({ ...op, slot: this.#meetings });
        if (this.shard.ranks > 1) this.#meetings++;
        return 1;
    }
  }

  #norm(from: string, op: Extract<Op, { op: 'rmsNorm' }>, indexed: boolean): void {
    this.#plan.vectors.set(op.weight, this.#width(op.out));
    this.#buffer(op.out, 'tiles');
    const norm: NormOp = { op: 'norm', in: from, weight: op.weight, out: op.out, eps: op.eps, indexed };
    const before = this.#plan.ops.at(-1);
    if (before?.op === 'reduce' && before.x === from && !indexed) before.norm = norm;
    else this.#plan.ops.push(norm);
  }

  #linear(op: Linear, next: Op | undefined, third: Op | undefined): number {
    const { outputs } = op;
    const single = outputs[0]!;
    if (op.residual !== null) {
      if (outputs.length !== 1 || single.out !== op.residual) throw cannot('sum into another buffer');
      this.#residual(op.in, single);
      return 1;
    }
    if (next?.op === 'ropeAndStore' && outputs.map((o) => o.out).join() === [next.q, next.k, next.v].join()) {
      const qkv = this.#qkv(next.q);
      const width = outputs.reduce((sum, o) => sum + this.#width(o.out), 0);
      this.#plan.buffers.set(qkv, { kind: 'half', width, perLogit: false });
      this.#products(op.in, outputs, qkv);
      return 1;
    }
    if (next?.op === 'siluMul' && outputs.map((o) => o.out).join() === [next.gate, next.up].join())
      return this.#gateAndUp(op, next);
    if (outputs.length === 1 && next?.op === 'sample' && next.in === single.out && third === undefined) {
      this.#buffer(single.out, 'f32');
      this.#logits(op.in, single);
      return 1;
    }
    throw cannot(`product into '${outputs.map((o) => o.out).join(', ')}'`);
  }

  #gateAndUp(op: Linear, silu: Extract<Op, { op: 'siluMul' }>): number {
    const [gate, upper] = op.outputs as [LinearOutput, LinearOutput];
    const width = this.#width(silu.out);
    if (this.typeOf(gate.weight) === this.typeOf(upper.weight) && width % 8 === 0) {
      this.#buffer(silu.out, 'tiles');
      this.#product(op.in, silu.out, Epilogue.silu, op.outputs);
      return 2;
    }
    for (const o of op.outputs) {
      this.#buffer(o.out, 'half');
      this.#product(op.in, o.out, Epilogue.store, [o]);
    }
    return 1;
  }

  /** Outputs side by side: one product where their types agree. */
  #products(input: string, outputs: LinearOutput[], out: string): void {
    const types = new Set(outputs.map((o) => this.typeOf(o.weight)));
    if (types.size === 1) {
      this.#product(input, out, Epilogue.store, outputs);
      return;
    }
    let column = 0;
    for (const o of outputs) {
      this.#product(input, out, Epilogue.store, [o], column);
      column += this.#width(o.out);
    }
  }

  #product(input: string, out: string, epilogue: number, outputs: LinearOutput[], column = 0): void {
    const matrix = this.#matrix(outputs, this.#width(input), epilogue === Epilogue.silu);
    this.#plan.ops.push({ op: 'product', matrix, in: input, out, epilogue, column });
  }

  /** The sums of a share of the inputs; on several GPUs they all get them, and each adds them to its own stream. */
  #residual(input: string, { weight, bias, out }: LinearOutput): void {
    const { rank, ranks } = this.shard;
    const rows = this.#width(out);
    const inputs = this.#width(input);
    const part: MatrixPart = { weight, bias: rank === 0 ? bias : null, rows, first: 0, of: rows, step: 8, offset: 0 };
    const cut = { column: rank * inputs, rowInputs: ranks * inputs, cuts: this.cuts, ranks };
    const matrix = this.#add1({ parts: [part], features: rows, ...cut }, inputs);
    this.#plan.ops.push({ op: 'product', matrix, in: input, out, epilogue: Epilogue.residual, column: 0 });
    if (ranks === 1) return;
    this.#plan.ops.push({ op: 'reduce', x: out, slot: this.#meetings, norm: null });
    this.#meetings += SLOTS;
  }

  #logits(input: string, { weight, bias, out }: LinearOutput): void {
    const { ranks } = this.shard;
    const of = this.#width(out);
    const { first, rows } = vocabularyOf(of, this.shard);
    const inputs = this.#width(input);
    const part: MatrixPart = { weight, bias, rows, first, of, step: 8, offset: 0 };
    const whole = { column: 0, rowInputs: inputs, cuts: 1, ranks };
    const matrix = this.#add1({ parts: [part], features: rows, ...whole }, inputs);
    this.#plan.ops.push({ op: 'product', matrix, in: input, out, epilogue: Epilogue.logits, column: 0 });
    if (ranks > 1) this.#plan.ops.push({ op: 'meet', slot: this.#meetings++ });
  }

  #single(weight: string, bias: string | null, rows: number, input: string): number {
    const part: MatrixPart = { weight, bias, rows, first: 0, of: rows, step: 8, offset: 0 };
    const inputs = this.#width(input);
    return this.#add1({ parts: [part], features: rows, column: 0, rowInputs: inputs, cuts: 1, ranks: 1 }, inputs);
  }

  #matrix(outputs: LinearOutput[], inputs: number, interleaved: boolean): number {
    let features = 0;
    const parts = outputs.map(({ weight, bias, out }, i): MatrixPart => {
      const rows = this.#width(out);
      const offset = interleaved ? 8 * i : features;
      features += rows;
      const { rank, ranks } = this.shard;
      return { weight, bias, rows, first: rank * rows, of: ranks * rows, step: interleaved ? 16 : 8, offset };
    });
    return this.#add1({ parts, features, column: 0, rowInputs: inputs, cuts: 1, ranks: 1 }, inputs);
  }

  #add1(matrix: Omit<Matrix, 'inputs' | 'k64' | 'type'>, inputs: number): number {
    const { parts, ranks } = matrix;
    const key = `${parts.map((p) => `${p.weight}+${p.bias}/${p.step}/${p.rows}`).join()} to ${ranks}`;
    const known = this.#matrixIndex.get(key);
    if (known !== undefined) return known;
    const type = this.typeOf(parts[0]!.weight);
    const k64 = up(inputs, isFloat(type) ? 64 : UNITS[type]!.inputs) / 64;
    if (k64 !== Math.ceil(inputs / 64)) throw cannot(`K-quants of ${inputs} inputs`);
    this.#matrixIndex.set(key, this.#plan.matrices.length);
    return this.#plan.matrices.push({ ...matrix, inputs, k64, type }) - 1;
  }

  #qkv(q: string): string {
    return `${q}+k+v`;
  }

  #width(name: string): number {
    const b = this.#declared.get(name);
    invariant(b, `the program names a buffer '${name}' that it does not declare`);
    return b.width;
  }

  #buffer(name: string, kind: PlanBuffer['kind']): void {
    const { width, perLogit } = this.#declared.get(name)!;
    this.#plan.buffers.set(name, { kind, width, perLogit });
  }
}
