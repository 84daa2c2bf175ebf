/** Records a forward pass as plain data (a Program): the model's code reads like the paper, a device compiles the list. */
import type { ExpertWeights, LinearOutput, Op, Program } from '../device/device.js';
import type { Activation, ModelDims, RopeConfig } from '../types.js';

/** A named activation buffer: `width` f32 values for each token (or for each wanted logit). */
export interface Buffer {
  readonly name: string;
  readonly width: number;
}

/** What differs from the default: a device that does not know a field must not find it in a program that needs none. */
const unless = <T extends Record<string, number>>(usual: number, fields: T): Partial<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== usual)) as Partial<T>;

export class Recorder {
  readonly #buffers: Program['buffers'] = [];
  readonly #ops: Op[] = [];
  #hidden: string | undefined;

  constructor(readonly dims: ModelDims) {}

  buffer(name: string, width: number, perLogit = false): Buffer {
    this.#buffers.push({ name, width, perLogit });
    return { name, width };
  }

  embed(weight: string, out: Buffer, scale = 1): void {
    this.#ops.push({ op: 'embed', weight, out: out.name, ...unless(1, { scale }) });
  }

  rmsNorm(input: Buffer, weight: string, eps: number, out: Buffer, parts = 1, residual?: Buffer): void {
    const more = { ...unless(1, { parts }), ...(residual && { residual: residual.name }) };
    this.#ops.push({ op: 'rmsNorm', in: input.name, weight, eps, out: out.name, ...more });
  }

  /** Several products of one input. */
  linear(input: Buffer, outputs: { weight: string; bias?: string | null; out: Buffer }[], scale = 1): void {
    const plain: LinearOutput[] = outputs.map((o) => ({ weight: o.weight, bias: o.bias ?? null, out: o.out.name }));
    this.#ops.push({ op: 'linear', in: input.name, outputs: plain, residual: null, ...unless(1, { scale }) });
  }

  /** stream ← stream + scale · (weight · input + bias). */
  linearResidual(input: Buffer, weight: string, stream: Buffer, bias: string | null = null, scale = 1): void {
    const outputs = [{ weight, bias, out: stream.name }];
    this.#ops.push({ op: 'linear', in: input.name, outputs, residual: stream.name, ...unless(1, { scale }) });
  }

  ropeAndStore(layer: number, q: Buffer, k: Buffer, v: Buffer, rope: RopeConfig | null): void {
    this.#ops.push({ op: 'ropeAndStore', layer, q: q.name, k: k.name, v: v.name, rope });
  }

  attention(layer: number, q: Buffer, out: Buffer, scale: number, window = 0, softcap = 0): void {
    const more = unless(0, { window, softcap });
    this.#ops.push({ op: 'attention', layer, q: q.name, out: out.name, scale, ...more });
  }

  siluMul(gate: Buffer, up: Buffer, out: Buffer, activation: Activation = 'silu'): void {
    const more = activation === 'silu' ? {} : { activation };
    this.#ops.push({ op: 'siluMul', gate: gate.name, up: up.name, out: out.name, ...more });
  }

  route(scores: Buffer, choice: Buffer, used: number, normalise: boolean, scale: number): void {
    this.#ops.push({ op: 'route', in: scores.name, out: choice.name, used, normalise, scale });
  }

  experts(input: Buffer, choice: Buffer, weights: ExpertWeights, stream: Buffer, activation: Activation): void {
    const more = activation === 'silu' ? {} : { activation };
    this.#ops.push({ op: 'experts', in: input.name, choice: choice.name, weights, stream: stream.name, ...more });
  }

  addGated(input: Buffer, gate: Buffer, stream: Buffer): void {
    this.#ops.push({ op: 'addGated', in: input.name, gate: gate.name, stream: stream.name });
  }

  softcap(values: Buffer, cap: number): void {
    this.#ops.push({ op: 'softcap', in: values.name, cap });
  }

  gather(input: Buffer, out: Buffer): void {
    this.#ops.push({ op: 'gather', in: input.name, out: out.name });
  }

  /** Embeddings are made of it, so a device must not fuse it away. */
  keep(buffer: Buffer): void {
    this.#hidden = buffer.name;
  }

  sample(logits: Buffer): void {
    this.#ops.push({ op: 'sample', in: logits.name });
  }

  program(): Program {
    return { dims: this.dims, buffers: this.#buffers, ops: this.#ops, hidden: this.#hidden };
  }
}
