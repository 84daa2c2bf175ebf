/**
 * Program → the CPU device's operations. A linear becomes PREPARE (quantise the input once) and LINEAR (all outputs).
 * Fused: rmsNorm into PREPARE; gate, up, siluMul and the quantising of their result into one LINEAR. Fusing only skips
 * buffers: each value is computed by the same functions, so the debug mode (nothing fused) gives the same bits.
 */
import { errors, invariant } from '../../errors.js';
import type { LinearOutput, Op, Program, RopeConfig } from '../device.js';
import { Flag, Kind, MAX_OUTS, OP_WORDS, Word } from './layout.js';

export interface CompiledProgram {
  /** (count, OP_WORDS) */
  ops: Int32Array;
  count: number;
  /** (buffers, 2) width, perLogit. */
  buffers: Int32Array;
  /** Names of the tensors by index; vectors are norms and biases. */
  tensors: { name: string; isVector: boolean; width: number; outFeatures: number | null }[];
  ropes: RopeConfig[];
  /** Matrices that adapters add to; parts of an adapter have their numbers. */
  adapted: { weight: string; inFeatures: number; outFeatures: number }[];
}

/** Which kinds of activations a weight needs: Flag.q8 or Flag.f32 (both where the type is not known yet). */
export type NeedOf = (weight: string) => number;

type Linear = Extract<Op, { op: 'linear' }>;
type SiluMul = Extract<Op, { op: 'siluMul' }>;
type Experts = Extract<Op, { op: 'experts' }>;
type RmsNorm = Extract<Op, { op: 'rmsNorm' }>;

export function compileProgram(program: Program, needOf: NeedOf, fuse: boolean): CompiledProgram {
  return new Compiler(program, needOf, fuse).run();
}

const geluFlag = (op: SiluMul | Experts): number => (op.activation === 'geluTanh' ? Flag.gelu : 0);

function reads(op: Op): string[] {
  switch (op.op) {
    case 'embed':
      return [];
    case 'rmsNorm':
      return op.residual === undefined ? [op.in] : [op.in, op.residual];
    case 'gather':
    case 'softcap':
    case 'sample':
      return [op.in];
    case 'linear':
      return op.residual === null ? [op.in] : [op.in, op.residual];
    case 'ropeAndStore':
      return [op.q, op.k, op.v];
    case 'attention':
      return [op.q];
    case 'siluMul':
      return [op.gate, op.up];
    case 'route':
      return [op.in];
    case 'experts':
      return [op.in, op.choice, op.stream];
    case 'addGated':
      return [op.in, op.gate, op.stream];
  }
}

function writes(op: Op): string[] {
  switch (op.op) {
    case 'linear':
      return op.outputs.map((o) => o.out);
    case 'ropeAndStore':
      return [op.q, op.k];
    case 'softcap':
      return [op.in];
    case 'sample':
      return [];
    case 'experts':
    case 'addGated':
      return [op.stream];
    default:
      return [op.out];
  }
}

class Compiler {
  readonly #words: number[][] = [];
  readonly #floats: { eps: number; scale: number; cap: number }[] = [];
  readonly #tensors: CompiledProgram['tensors'] = [];
  readonly #tensorIndex = new Map<string, number>();
  readonly #bufferIndex = new Map<string, number>();
  readonly #ropes: RopeConfig[] = [];
  readonly #adapted: CompiledProgram['adapted'] = [];
  /** Rank of each adapter's part for each matrix: those of one adapter by the matrix's name. */
  readonly #ranks: Map<string, number>[];
  /** Values a row of what lies between A and B. */
  #between = 0;

  constructor(
    readonly program: Program,
    readonly needOf: NeedOf,
    readonly fuse: boolean,
  ) {
    program.buffers.forEach((b, i) => {
      this.#bufferIndex.set(b.name, i);
    });
    this.#ranks = (program.adapters ?? []).map((a) => new Map(a.parts.map((p) => [p.weight, p.rank])));
  }

  run(): CompiledProgram {
    const { ops } = this.program;
    for (let i = 0; i < ops.length; ) i += this.#emitAt(i);
    const count = this.#words.length;
    const out = new Int32Array(count * OP_WORDS);
    const floats = new Float32Array(out.buffer);
    this.#words.forEach((w, i) => {
      out.set(w, i * OP_WORDS);
      floats[i * OP_WORDS + Word.eps] = this.#floats[i].eps;
      floats[i * OP_WORDS + Word.scale] = this.#floats[i].scale;
      floats[i * OP_WORDS + Word.cap] = this.#floats[i].cap;
    });
    const between = this.#between > 0 ? [this.#between, 0] : [];
    const buffers = Int32Array.from([
      ...this.program.buffers.flatMap((b) => [b.width, b.perLogit ? 1 : 0]),
      ...between,
    ]);
    return { ops: out, count, buffers, tensors: this.#tensors, ropes: this.#ropes, adapted: this.#adapted };
  }

  /** Emits the operation at i, with what follows if it fuses; returns how many operations that took. */
  #emitAt(i: number): number {
    const { ops } = this.program;
    const op = ops[i];
    const next = ops[i + 1];
    if (op.op === 'rmsNorm' && next?.op === 'linear' && this.#fusesNorm(op, next, i)) {
      this.#prepare(i, next, op);
      return 1 + this.#linearAt(i + 1);
    }
    if (op.op === 'linear') {
      this.#prepare(i, op, null);
      return this.#linearAt(i);
    }
    this.#plain(i, op);
    return 1;
  }

  #fusesNorm(norm: RmsNorm, next: Linear, i: number): boolean {
    const plain = (norm.parts ?? 1) === 1 && norm.residual === undefined && norm.in !== norm.out;
    return this.fuse && plain && !this.#isAdapted(next) && next.in === norm.out && !this.#live(norm.out, i + 2);
  }

  /** Is the buffer read at or after operation `from`, before it is written anew? */
  #live(name: string, from: number): boolean {
    if (name === this.program.hidden) return true;
    for (const op of this.program.ops.slice(from)) {
      if (reads(op).includes(name)) return true;
      if (writes(op).includes(name)) return false;
    }
    return false;
  }

  /** The linear at i, its input prepared in panel set 0; with siluMul and the linear after it if they fuse. */
  #linearAt(i: number): number {
    const { ops } = this.program;
    const op = ops[i] as Linear;
    const silu = ops[i + 1];
    const down = ops[i + 2];
    if (this.fuse && silu?.op === 'siluMul' && down?.op === 'linear' && this.#fusesSilu(op, silu, down, i)) {
      const gate = op.outputs.find((o) => o.out === silu.gate)!;
      const up = op.outputs.find((o) => o.out === silu.up)!;
      const flags = Flag.siluMul | geluFlag(silu) | this.#needs(down);
      this.#linear(i, op, [gate, up], { panel: 0, panelOut: 1, flags });
      this.#linear(i + 2, down, down.outputs, { panel: 1, panelOut: -1, flags: 0 });
      return 3;
    }
    this.#linear(i, op, op.outputs, { panel: 0, panelOut: -1, flags: 0 });
    if (this.#isAdapted(op)) this.#adapt(i, op);
    return 1;
  }

  #fusesSilu(op: Linear, silu: SiluMul, down: Linear, i: number): boolean {
    const names = op.outputs.map((o) => o.out);
    const width = this.#width(silu.out);
    return (
      !this.#isAdapted(op) &&
      !this.#isAdapted(down) &&
      op.residual === null &&
      (op.scale ?? 1) === 1 &&
      !this.#perLogit(op.in) &&
      names.length === 2 &&
      silu.gate !== silu.up &&
      names.includes(silu.gate) &&
      names.includes(silu.up) &&
      down.in === silu.out &&
      width % 32 === 0 &&
      this.#width(silu.gate) === width &&
      this.#width(silu.up) === width &&
      ![silu.gate, silu.up, silu.out].some((name) => this.#live(name, i + 3) || down.residual === name)
    );
  }

  #isAdapted(op: Linear): boolean {
    return op.outputs.some(({ weight }) => this.#ranks.some((ranks) => ranks.has(weight)));
  }

  /** What adapters add to a product, whose input is in its buffer (nothing is fused there). */
  #adapt(i: number, op: Linear): void {
    const outputs = op.outputs.filter(({ weight }) => this.#ranks.some((ranks) => ranks.has(weight)));
    invariant(
      !op.outputs.some((o) => o.out === op.in) && !this.#perLogit(op.in),
      'a product that adapters cannot add to',
    );
    const width = this.#width(op.in);
    const first = this.#adapted.length;
    for (const { weight, out } of outputs)
      this.#adapted.push({ weight, inFeatures: width, outFeatures: this.#width(out) });
    const padded = (ranks: Map<string, number>) =>
      outputs.reduce((sum, { weight }) => sum + Math.ceil((ranks.get(weight) ?? 0) / 16) * 16, 0);
    this.#between = Math.max(this.#between, ...this.#ranks.map(padded));
    const between = this.program.buffers.length;
    const outCount = outputs.length;
    const words = [
      this.#emit(i, Kind.loraDown, { in: this.#buffer(op.in), out: between, width, outCount }),
      this.#emit(i, Kind.loraUp, { in: between, width, outCount, scale: op.scale ?? 1 }),
    ];
    outputs.forEach(({ out }, j) => {
      for (const w of words) w.splice(Word.outs + 3 * j, 3, first + j, this.#width(out), this.#buffer(out));
    });
  }

  #needs(op: Linear): number {
    return op.outputs.reduce((flags, o) => flags | this.needOf(o.weight), 0);
  }

  #prepare(i: number, op: Linear, norm: RmsNorm | null): void {
    const input = norm ? norm.in : op.in;
    const width = this.#width(input);
    this.#emit(i, Kind.prepare, {
      in: this.#buffer(input),
      weight: norm ? this.#tensor(norm.weight, true, width, null) : -1,
      eps: norm?.eps ?? 0,
      flags: this.#needs(op) | this.#perLogit(input) | this.#fine(input),
      panel: 0,
      width,
    });
  }

  #linear(i: number, op: Linear, outputs: LinearOutput[], o: { panel: number; panelOut: number; flags: number }): void {
    invariant(outputs.length <= MAX_OUTS, `a linear has ${outputs.length} outputs, at most ${MAX_OUTS} are possible`);
    invariant(op.residual === null || outputs.length === 1, 'a residual needs a single output');
    const width = this.#width(op.in);
    const words = this.#emit(i, Kind.linear, {
      flags: o.flags | this.#perLogit(op.in) | this.#fine(op.in),
      panel: o.panel,
      panelOut: o.panelOut,
      residual: op.residual === null ? -1 : this.#buffer(op.residual),
      outCount: outputs.length,
      scale: op.scale ?? 1,
      width,
    });
    outputs.forEach((output, j) => {
      const features = this.#width(output.out);
      const at = Word.outs + 3 * j;
      words[at] = this.#tensor(output.weight, false, width, features);
      words[at + 1] = output.bias === null ? -1 : this.#tensor(output.bias, true, features, null);
      words[at + 2] = o.flags & Flag.siluMul ? features : this.#buffer(output.out);
    });
  }

  #plain(i: number, op: Exclude<Op, Linear>): void {
    switch (op.op) {
      case 'embed': {
        const width = this.#width(op.out);
        this.#emit(i, Kind.embed, {
          weight: this.#tensor(op.weight, false, width, this.program.dims.vocab),
          out: this.#buffer(op.out),
          scale: op.scale ?? 1,
          width,
        });
        break;
      }
      case 'rmsNorm': {
        const width = this.#width(op.in);
        const parts = op.parts ?? 1;
        const weight = this.#tensor(op.weight, true, width / parts, null);
        const flags = this.#perLogit(op.in);
        this.#emit(i, Kind.norm, {
          in: this.#buffer(op.in),
          weight,
          out: this.#buffer(op.out),
          residual: op.residual === undefined ? -1 : this.#buffer(op.residual),
          eps: op.eps,
          parts,
          width,
          flags,
        });
        break;
      }
      case 'ropeAndStore':
        this.#emit(i, Kind.ropeStore, {
          in: this.#buffer(op.q),
          in2: this.#buffer(op.k),
          out: this.#buffer(op.v),
          layer: op.layer,
          rope: op.rope === null ? -1 : this.#rope(op.rope),
          width: this.#width(op.q),
        });
        break;
      case 'attention': {
        const width = this.#width(op.q);
        this.#emit(i, Kind.attention, {
          in: this.#buffer(op.q),
          out: this.#buffer(op.out),
          layer: op.layer,
          scale: op.scale,
          window: op.window ?? 0,
          cap: op.softcap ?? 0,
          width,
        });
        break;
      }
      case 'siluMul':
        this.#emit(i, Kind.siluMul, {
          in: this.#buffer(op.gate),
          in2: this.#buffer(op.up),
          out: this.#buffer(op.out),
          width: this.#width(op.out),
          flags: this.#perLogit(op.out) | geluFlag(op),
        });
        break;
      case 'route':
        this.#emit(i, Kind.route, {
          in: this.#buffer(op.in),
          out: this.#buffer(op.out),
          experts: this.#width(op.in),
          used: op.used,
          scale: op.scale,
          width: this.#width(op.in),
          flags: op.normalise ? Flag.normalise : 0,
        });
        break;
      case 'experts':
        this.#experts(i, op);
        break;
      case 'addGated':
        this.#emit(i, Kind.addGated, {
          in: this.#buffer(op.in),
          in2: this.#buffer(op.gate),
          out: this.#buffer(op.stream),
          width: this.#width(op.in),
        });
        break;
      case 'softcap':
        this.#emit(i, Kind.softcap, {
          in: this.#buffer(op.in),
          cap: op.cap,
          width: this.#width(op.in),
          flags: this.#perLogit(op.in),
        });
        break;
      case 'gather':
        this.#emit(i, Kind.gather, { in: this.#buffer(op.in), out: this.#buffer(op.out), width: this.#width(op.in) });
        break;
      case 'sample':
        this.#emit(i, Kind.sample, { in: this.#buffer(op.in), width: this.#width(op.in), flags: Flag.perLogit });
        break;
    }
  }

  /** Who has which expert; their inputs, expert by expert; gate and up; down, which adds to the stream. */
  #experts(i: number, op: Experts): void {
    const { gate, up, down, count: experts, used, width } = op.weights;
    const dim = this.#width(op.in);
    const features = this.#width(op.stream);
    if (width % 32 !== 0 || features % 16 !== 0)
      throw errors.unsupportedModel(
        `its experts are ${width} wide and the model ${features}: on the CPU device these must be multiples of 32 and of 16`,
      );
    const both = { experts, used };
    this.#emit(i, Kind.group, { in: this.#buffer(op.choice), width: 2 * used, ...both });
    const needs = this.needOf(gate) | this.needOf(up);
    this.#emit(i, Kind.expertPrepare, { in: this.#buffer(op.in), panel: 0, width: dim, flags: needs, ...both });
    const flags = Flag.siluMul | geluFlag(op) | this.needOf(down);
    const hidden = this.#emit(i, Kind.expertUp, { panel: 0, panelOut: 1, width: dim, flags, outCount: 2, ...both });
    [gate, up].forEach((name, j) => {
      hidden[Word.outs + 3 * j] = this.#tensor(name, false, dim, width * experts);
      hidden[Word.outs + 3 * j + 2] = width;
    });
    const words = this.#emit(i, Kind.expertDown, {
      panel: 1,
      in: this.#buffer(op.choice),
      width,
      outCount: 1,
      ...both,
    });
    words[Word.outs] = this.#tensor(down, false, width, features * experts);
    words[Word.outs + 2] = this.#buffer(op.stream);
  }

  #emit(source: number, kind: number, fields: Partial<Record<keyof typeof Word, number>>): number[] {
    const words = new Array<number>(OP_WORDS).fill(-1);
    words[Word.kind] = kind;
    words[Word.flags] = 0;
    words[Word.outCount] = 0;
    words[Word.source] = source;
    for (const [name, value] of Object.entries(fields)) {
      if (name !== 'eps' && name !== 'scale' && name !== 'cap') words[Word[name as keyof typeof Word]] = value;
    }
    this.#words.push(words);
    this.#floats.push({ eps: fields.eps ?? 0, scale: fields.scale ?? 0, cap: fields.cap ?? 0 });
    return words;
  }

  #buffer(name: string): number {
    const i = this.#bufferIndex.get(name);
    invariant(i !== undefined, `the program names a buffer '${name}' that it does not declare`);
    return i;
  }

  #width(name: string): number {
    return this.program.buffers[this.#buffer(name)].width;
  }

  /**
   * Products of logit rows take finer activations, in two planes of int8 or in 16 bits: their rounding goes straight into the logits,
   * and a decoding step, which waits for memory there, has the time.
   */
  #fine(name: string): number {
    return this.#perLogit(name) ? Flag.fine : 0;
  }

  #perLogit(name: string): number {
    return this.program.buffers[this.#buffer(name)].perLogit ? Flag.perLogit : 0;
  }

  #tensor(name: string, isVector: boolean, width: number, outFeatures: number | null): number {
    const known = this.#tensorIndex.get(name);
    if (known !== undefined) {
      const t = this.#tensors[known];
      if (t.isVector !== isVector || t.width !== width)
        throw errors.invalidRequest(`tensor '${name}' is used with different shapes by the program`);
      return known;
    }
    this.#tensorIndex.set(name, this.#tensors.length);
    return this.#tensors.push({ name, isVector, width, outFeatures }) - 1;
  }

  #rope(rope: RopeConfig): number {
    const i = this.#ropes.indexOf(rope);
    return i >= 0 ? i : this.#ropes.push(rope) - 1;
  }
}
