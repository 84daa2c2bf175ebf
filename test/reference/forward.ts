/**
 * The forward pass in plain TypeScript and f64: what every device must agree with, to rounding. One function an operation,
 * no blocking, no tricks. It rounds only where the design says that bits are dropped: K and V as they are stored, and
 * (if asked) activations and weights as a device's products meet them.
 */
import type { Activation, KvLayout, Op, Program, RopeConfig, Step } from '../../src/device/device.js';
import { halfToNumber, isQuantised, numberToHalf } from './formats.js';

/**
 * What products read: int8 activations where weights are quantised (the CPU device), everything as it is, or activations and
 * weights in 16 bits, with q, k, v and attention's weights in f16 (the CUDA device).
 */
export type Arithmetic = 'int8' | 'exact' | 'f16' | 'bf16';

export interface ReferenceTensor {
  /** GGML type: quantised weights meet activations in int8. */
  type: string;
  /** (in, out) as in GGUF. */
  shape: number[];
  values: Float32Array;
  /** Of K-quants: the values when scales and minima are rounded to f16 first, as products in f16 have them. */
  inHalf?: () => Float32Array;
}

export class Reference {
  /** K and V by 'layer/place': kvHeads × headDim values each, as stored. */
  readonly stored = new Map<string, { k: Float64Array; v: Float64Array }>();
  /** A value as products read it; as q, k, v and attention's weights are kept. */
  readonly #round: (x: number) => number;
  readonly #keep: (x: number) => number;
  readonly #weights = new Map<string, Float32Array>();

  constructor(
    readonly program: Program,
    readonly tensors: ReadonlyMap<string, ReferenceTensor>,
    /** 32: K and V are not rounded. */
    readonly kv: { bits: KvLayout['bits'] | 32 },
    readonly arithmetic: Arithmetic = 'int8',
    /** Names the place where a position of a slot's sequence is stored. */
    private readonly place = (_step: Step, slot: number, position: number) => `${slot}/${position}`,
  ) {
    const as = (x: number) => x;
    this.#round = arithmetic === 'f16' ? toHalf : arithmetic === 'bf16' ? toBf16 : as;
    this.#keep = this.#round === as ? as : toHalf;
  }

  /** Runs a step, whose tokens must all be ids. Returns (logits, vocab) of the rows in logitRows. */
  step(step: Step): Float64Array[] {
    const buffers = new Map<string, Float64Array[]>();
    let logits: Float64Array[] = [];
    for (const op of this.program.ops) {
      if (op.op === 'sample') logits = buffers.get(op.in)!;
      else this.#apply(op, step, buffers);
    }
    return logits;
  }

  #apply(op: Exclude<Op, { op: 'sample' }>, step: Step, buffers: Map<string, Float64Array[]>): void {
    const rows = (name: string) => buffers.get(name)!;
    switch (op.op) {
      case 'embed': {
        const { type, shape, values: exact } = this.tensors.get(op.weight)!;
        const values = isQuantised(type) ? exact : this.#rounded(op.weight);
        const tokens = [...step.tokens.subarray(0, step.tokenCount)];
        buffers.set(
          op.out,
          tokens.map((t) =>
            Float64Array.from(values.subarray(t * shape[0], (t + 1) * shape[0])).map((x) => x * (op.scale ?? 1)),
          ),
        );
        break;
      }
      case 'rmsNorm': {
        const residual = op.residual === undefined ? null : rows(op.residual);
        const weight = this.tensors.get(op.weight)!.values;
        const normed = rows(op.in).map((x) => inParts(x, op.parts ?? 1, (part) => rmsNorm(part, weight, op.eps)));
        buffers.set(
          op.out,
          normed.map((y, t) => y.map((v, i) => v + (residual?.[t][i] ?? 0))),
        );
        break;
      }
      case 'linear':
        this.#linear(op, buffers);
        break;
      case 'ropeAndStore':
        this.#ropeAndStore(op, step, buffers);
        break;
      case 'attention':
        buffers.set(
          op.out,
          rows(op.q).map((q, t) => this.#attend(op, q, step, t)),
        );
        break;
      case 'siluMul':
        buffers.set(
          op.out,
          rows(op.gate).map((g, t) => g.map((x, i) => activate(x, op.activation) * rows(op.up)[t][i])),
        );
        break;
      case 'route':
        buffers.set(
          op.out,
          rows(op.in).map((scores) => route(scores, op)),
        );
        break;
      case 'experts':
        this.#experts(op, buffers);
        break;
      case 'addGated':
        buffers.set(
          op.stream,
          rows(op.stream).map((x, t) => x.map((v, i) => v + rows(op.in)[t][i] / (1 + Math.exp(-rows(op.gate)[t][0])))),
        );
        break;
      case 'softcap':
        buffers.set(
          op.in,
          rows(op.in).map((x) => x.map((v) => op.cap * Math.tanh(v / op.cap))),
        );
        break;
      case 'gather':
        buffers.set(
          op.out,
          [...step.logitRows.subarray(0, step.logitCount)].map((t) => rows(op.in)[t]),
        );
        break;
    }
  }

  #linear(op: Extract<Op, { op: 'linear' }>, buffers: Map<string, Float64Array[]>): void {
    const inputs = buffers.get(op.in)!;
    const residual = op.residual === null ? null : buffers.get(op.residual)!;
    for (const o of op.outputs) {
      const w = this.tensors.get(o.weight)!;
      const bias = o.bias === null ? null : this.tensors.get(o.bias)!.values;
      // products that make logits have finer activations on every device
      const fine = this.program.buffers.find((b) => b.name === op.in)!.perLogit;
      const integer = this.arithmetic === 'int8' && !fine && isQuantised(w.type);
      const weights = this.#rounded(o.weight);
      const products = inputs.map((x) => multiply(w.shape, weights, integer ? quantised(x) : x.map(this.#round)));
      buffers.set(
        o.out,
        products.map((y, t) => y.map((v, i) => (v + (bias?.[i] ?? 0)) * (op.scale ?? 1) + (residual?.[t][i] ?? 0))),
      );
    }
  }

  #experts(op: Extract<Op, { op: 'experts' }>, buffers: Map<string, Float64Array[]>): void {
    const { gate, up, down, count, used, width } = op.weights;
    const product = (name: string, e: number, x: Float64Array): Float64Array => {
      const { shape, type } = this.tensors.get(name)!;
      const all = this.#rounded(name);
      const size = all.length / count;
      const integer = this.arithmetic === 'int8' && type.startsWith('Q');
      const input = integer ? quantised(x) : x.map(this.#round);
      return multiply([shape[0], size / shape[0]], all.subarray(e * size, (e + 1) * size), input);
    };
    buffers.set(
      op.stream,
      buffers.get(op.stream)!.map((stream, t) => {
        const x = buffers.get(op.in)![t];
        const choice = buffers.get(op.choice)![t];
        const out = stream.slice();
        for (let k = 0; k < used; k++) {
          const [e, weight] = choice.subarray(2 * k, 2 * k + 2);
          const ups = product(up, e, x);
          const hidden = product(gate, e, x).map((g, i) => activate(g, op.activation) * ups[i]);
          if (hidden.length !== width) throw new Error(`an expert is ${hidden.length} wide, not ${width}`);
          product(down, e, hidden).forEach((y, i) => {
            out[i] += weight * y;
          });
        }
        return out;
      }),
    );
  }

  #rounded(name: string): Float32Array {
    const known = this.#weights.get(name);
    if (known) return known;
    const { values, inHalf } = this.tensors.get(name)!;
    const made = this.arithmetic === 'f16' && inHalf ? inHalf() : values;
    const rounded = this.#keep === toHalf ? made.map(this.#round) : values;
    this.#weights.set(name, rounded);
    return rounded;
  }

  #ropeAndStore(op: Extract<Op, { op: 'ropeAndStore' }>, step: Step, buffers: Map<string, Float64Array[]>): void {
    const { headDim } = this.program.dims;
    for (let t = 0; t < step.tokenCount; t++) {
      const position = step.positions[t];
      const k = buffers.get(op.k)![t];
      const v = buffers.get(op.v)![t];
      for (const x of [buffers.get(op.q)![t], k]) {
        x.set(x.map(this.#keep));
        if (!op.rope) continue;
        for (let h = 0; h < x.length; h += headDim) rotate(x.subarray(h, h + headDim), position, op.rope);
        x.set(x.map(this.#keep));
      }
      const slot = step.rowSlot[rowOf(step, t)];
      const key = `${op.layer}/${this.place(step, slot, position)}`;
      this.stored.set(key, { k: this.#store(k), v: this.#store(v) });
    }
  }

  /** What comes back after storing: f16, or per head asymmetric with f16 scale and zero. */
  #store(x: Float64Array): Float64Array {
    const { headDim } = this.program.dims;
    if (this.kv.bits === 32) return x.slice();
    if (this.kv.bits === 16) return x.map(toHalf);
    const out = new Float64Array(x.length);
    const top = 2 ** this.kv.bits - 1;
    for (let h = 0; h < x.length; h += headDim) {
      const head = x.subarray(h, h + headDim);
      const low = Math.min(...head);
      const zero = toHalf(low);
      const scale = toHalf((Math.max(...head) - low) / top);
      head.forEach((v, i) => {
        const q = scale > 0 ? Math.min(top, Math.max(0, Math.round((v - zero) / scale))) : 0;
        out[h + i] = q * scale + zero;
      });
    }
    return out;
  }

  #attend(op: Extract<Op, { op: 'attention' }>, q: Float64Array, step: Step, t: number): Float64Array {
    const slot = step.rowSlot[rowOf(step, t)];
    const position = step.positions[t];
    const first = op.window ? Math.max(0, position + 1 - op.window) : 0;
    const stored = Array.from({ length: position + 1 - first }, (_, i) => {
      return this.stored.get(`${op.layer}/${this.place(step, slot, first + i)}`)!;
    });
    const { headDim, heads, kvHeads } = this.program.dims;
    const out = new Float64Array(q.length);
    for (let h = 0; h < heads; h++) {
      const at = Math.floor(h / (heads / kvHeads)) * headDim;
      const scores: number[] = [];
      for (let p = 0; p < stored.length; p++) {
        const { k } = stored[p];
        let s = 0;
        for (let d = 0; d < headDim; d++) s += q[h * headDim + d] * k[at + d];
        s *= op.scale;
        scores.push(op.softcap ? op.softcap * Math.tanh(s / op.softcap) : s);
      }
      const top = Math.max(...scores);
      const weights = scores.map((s) => this.#keep(Math.exp(s - top)));
      const total = weights.reduce((a, b) => a + b, 0);
      for (let p = 0; p < stored.length; p++) {
        const { v } = stored[p];
        for (let d = 0; d < headDim; d++) out[h * headDim + d] += (weights[p] / total) * v[at + d];
      }
    }
    return out;
  }
}

export const toHalf = (x: number) => halfToNumber(numberToHalf(x));
const single = new Float32Array(1);
const word = new Uint32Array(single.buffer);
function toBf16(x: number): number {
  single[0] = x;
  const bits = word[0]!;
  word[0] = (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000;
  return single[0]!;
}

function rowOf(step: Step, token: number): number {
  let row = 0;
  while (step.rowStart[row + 1] <= token) row++;
  return row;
}

/** The best experts, each with its weight. */
function route(scores: Float64Array, op: Extract<Op, { op: 'route' }>): Float64Array {
  const chosen = [...scores.keys()].sort((a, b) => scores[b] - scores[a] || a - b).slice(0, op.used);
  const over = op.normalise ? chosen : [...scores.keys()];
  const top = scores[chosen[0]];
  const sum = over.reduce((n, e) => n + Math.exp(scores[e] - top), 0);
  return Float64Array.from(chosen.flatMap((e) => [e, (op.scale * Math.exp(scores[e] - top)) / sum]));
}

/** SiLU, or GELU by its tanh approximation. */
function activate(x: number, activation: Activation = 'silu'): number {
  if (activation === 'silu') return x / (1 + Math.exp(-x));
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

/** `parts` equal pieces, each by itself. */
function inParts(x: Float64Array, parts: number, f: (part: Float64Array) => Float64Array): Float64Array {
  const width = x.length / parts;
  const out = new Float64Array(x.length);
  for (let i = 0; i < x.length; i += width) out.set(f(x.subarray(i, i + width)), i);
  return out;
}

function rmsNorm(x: Float64Array, w: Float32Array, eps: number): Float64Array {
  const mean = x.reduce((sum, v) => sum + v * v, 0) / x.length;
  return x.map((v, i) => (v / Math.sqrt(mean + eps)) * w[i]);
}

function rotate(x: Float64Array, position: number, rope: RopeConfig): void {
  const half = rope.dims / 2;
  for (let i = 0; i < half; i++) {
    const [a, b] = rope.neox ? [i, i + half] : [2 * i, 2 * i + 1];
    const angle = position * rope.inverseFrequencies[i];
    const c = Math.cos(angle) * rope.magnitude;
    const s = Math.sin(angle) * rope.magnitude;
    [x[a], x[b]] = [x[a] * c - x[b] * s, x[a] * s + x[b] * c];
  }
}

/** Blocks of 32 as int8: d = max |x| / 127, q = round(x / d). Rounds where f32 arithmetic rounds. */
function quantised(x: Float64Array): Float64Array {
  const out = new Float64Array(x.length);
  for (let b = 0; b < x.length; b += 32) {
    const block = x.subarray(b, b + 32);
    const top = Math.fround(block.reduce((m, v) => Math.max(m, Math.abs(v)), 0));
    const d = Math.fround(top * Math.fround(1 / 127));
    const inverse = top > 0 ? Math.fround(127 / top) : 0;
    block.forEach((v, i) => {
      out[b + i] = roundEven(Math.fround(Math.fround(v) * inverse)) * d;
    });
  }
  return out;
}

function roundEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

function multiply([inputs, outputs]: number[], w: Float32Array, x: Float64Array): Float64Array {
  const out = new Float64Array(outputs);
  for (let o = 0; o < outputs; o++) {
    let sum = 0;
    for (let i = 0; i < inputs; i++) sum += w[o * inputs + i] * x[i];
    out[o] = sum;
  }
  return out;
}
