/** Records a forward pass as plain data (a Program): the model's code reads like the paper, a device compiles the list. */
import type { LinearOutput, Op, Program, RopeConfig } from '../device/device.js';
import type { ModelDims } from '../types.js';

/** A named activation buffer: `width` f32 values for each token (or for each wanted logit). */
interface Buffer {
  readonly name: string;
  readonly width: number;
}

export class Recorder {
  readonly #buffers: Program['buffers'] = [];
  readonly #ops: Op[] = [];
  #hidden: string | undefined;

  constructor(readonly dims: ModelDims) {}

  buffer(name: string, width: number, perLogit = false): Buffer {
    this.#buffers.push({ name, width, perLogit });
    return { name, width };
  }

  embed(weight: string, out: Buffer): void {
    this.#ops.push({ op: 'embed', weight, out: out.name });
  }

  rmsNorm(input: Buffer, weight: string, eps: number, out: Buffer): void {
    this.#ops.push({ op: 'rmsNorm', in: input.name, weight, eps, out: out.name });
  }

  /** Several products of one input. */
  linear(input: Buffer, outputs: { weight: string; bias?: string | null; out: Buffer }[]): void {
    const plain: LinearOutput[] = outputs.map((o) => ({ weight: o.weight, bias: o.bias ?? null, out: o.out.name }));
    this.#ops.push({ op: 'linear', in: input.name, outputs: plain, residual: null });
  }

  /** stream ← stream + weight · input. */
  linearResidual(input: Buffer, weight: string, stream: Buffer): void {
    const outputs = [{ weight, bias: null, out: stream.name }];
    this.#ops.push({ op: 'linear', in: input.name, outputs, residual: stream.name });
  }

  ropeAndStore(layer: number, q: Buffer, k: Buffer, v: Buffer, rope: RopeConfig): void {
    this.#ops.push({ op: 'ropeAndStore', layer, q: q.name, k: k.name, v: v.name, rope });
  }

  attention(layer: number, q: Buffer, out: Buffer): void {
    this.#ops.push({ op: 'attention', layer, q: q.name, out: out.name, scale: 1 / Math.sqrt(this.dims.headDim) });
  }

  siluMul(gate: Buffer, up: Buffer, out: Buffer): void {
    this.#ops.push({ op: 'siluMul', gate: gate.name, up: up.name, out: out.name });
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
