/** Random tiny models written to a file as a device reads them, and steps over them. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { buildNativeLibrary } from '../../src/device/cpu/build.js';
import { type CpuDeviceOptions, createCpuDevice } from '../../src/device/cpu/index.js';
import {
  createStep,
  type Device,
  type LoadOptions,
  type Program,
  type Step,
  type StepLimits,
  type StepResult,
} from '../../src/device/device.js';
import { type LlamaConfig, llama } from '../../src/model/llama.js';
import type { ExpertFlags, FamilyFlags, TensorInfo, TensorSource } from '../../src/types.js';
import { decodeTensor, FORMATS, numberToHalf } from '../reference/formats.js';
import type { ReferenceTensor } from '../reference/forward.js';

type Random = () => number;

/** Uniform in [0, 1), the same on every run. */
export function random(seed: number): Random {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const normal = (r: Random) => Math.sqrt(-2 * Math.log(1 - r())) * Math.cos(2 * Math.PI * r());

const word = new DataView(new ArrayBuffer(4));

/**
 * Bytes of a random tensor whose values have about the given spread; `extreme` fills quants with their end points: blocks all
 * of the highest, all of the lowest and of both, so that sums of neighbours are as large as they can be.
 */
export function randomTensor(type: string, count: number, r: Random, spread: number, extreme = false): Uint8Array {
  const { block, bytes } = FORMATS[type];
  const out = new Uint8Array((count / block) * bytes);
  const view = new DataView(out.buffer);
  for (let b = 0; b < count / block; b++) {
    const at = b * bytes;
    if (block === 1) {
      const x = normal(r) * spread;
      if (type === 'F32') view.setFloat32(at, x, true);
      else if (type === 'F16') view.setUint16(at, numberToHalf(x), true);
      else {
        word.setFloat32(0, x);
        view.setUint16(at, word.getUint16(0), true);
      }
      continue;
    }
    const [low, high] = END_POINTS[type] ?? [0x00, 0xff];
    const share = [0, 1, 0.5][Math.floor(r() * 3)];
    for (let i = 0; i < bytes; i++) out[at + i] = extreme ? (r() < share ? high : low) : Math.floor(r() * 256);
    setScales(type, view, at, spread * (0.5 + r()));
  }
  return out;
}

/** Bytes whose quants are the least and the greatest, where they are not all zeros and all ones. */
const END_POINTS: Readonly<Record<string, [number, number]>> = { Q8_0: [0x80, 0x7f], MXFP4: [0xff, 0x77] };

function setScales(type: string, view: DataView, at: number, spread: number): void {
  const put = (offset: number, x: number) => view.setUint16(at + offset, numberToHalf(x), true);
  if (type === 'Q8_0') put(0, spread / 74);
  if (type === 'Q4_0') put(0, spread / 4.6);
  if (type === 'Q4_1') {
    put(0, spread / 4.6);
    put(2, -1.6 * spread);
  }
  if (type === 'Q4_K' || type === 'Q5_K') {
    const top = type === 'Q4_K' ? 15 : 31;
    put(0, spread / (9 * top));
    put(2, spread / 20);
  }
  if (type === 'Q6_K') put(208, spread / (18 * 74));
  if (type === 'Q5_0') put(0, spread / 9.2);
  if (type === 'Q5_1') {
    put(0, spread / 9.2);
    put(2, -1.6 * spread);
  }
  if (type === 'Q2_K') {
    put(80, spread / 14);
    put(82, spread / 9.3);
  }
  if (type === 'Q3_K') put(108, spread / (18 * 2.3));
  if (type === 'IQ4_NL') put(0, spread / 70);
  if (type === 'IQ4_XS') put(0, spread / (18 * 70));
  if (type === 'MXFP4') view.setUint8(at, 127 + Math.round(Math.log2(spread / 2.8)));
}

export interface TestModel {
  program: Program;
  source: TensorSource;
  tensors: Map<string, ReferenceTensor>;
}

const temporary: string[] = [];
process.on('exit', () => {
  for (const folder of temporary) fs.rmSync(folder, { recursive: true, force: true });
});

/** Writes tensors one after another into a temporary file. */
export function writeTensors(
  list: { name: string; type: string; shape: number[]; bytes: Uint8Array }[],
): TestModel['source'] & {
  reference: Map<string, ReferenceTensor>;
} {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'longmind-test-'));
  temporary.push(folder);
  const file = path.join(folder, 'weights.bin');
  const tensors = new Map<string, TensorInfo>();
  const reference = new Map<string, ReferenceTensor>();
  let offset = 96; // not a multiple of a page
  const parts: Uint8Array[] = [new Uint8Array(offset)];
  for (const { name, type, shape, bytes } of list) {
    tensors.set(name, { name, type, shape, offset, byteLength: bytes.length });
    const count = shape.reduce((a, b) => a * b, 1);
    reference.set(name, { type, shape, values: decodeTensor(type, bytes, count) });
    const padded = new Uint8Array(Math.ceil(bytes.length / 32) * 32);
    padded.set(bytes);
    parts.push(padded);
    offset += padded.length;
  }
  fs.writeFileSync(file, Buffer.concat(parts));
  return { path: file, tensors, reference };
}

export interface ModelOptions extends Partial<LlamaConfig> {
  /** Type of the matrices, or of one by its name's end. */
  type?: string | ((name: string) => string);
  seed?: number;
}

/** A LLaMA with random weights. */
export function randomModel(options: ModelOptions = {}): TestModel {
  const heads = options.heads ?? 4;
  const headDim = options.headDim ?? 32;
  const config: LlamaConfig = {
    layers: 2,
    dim: heads * headDim,
    heads,
    kvHeads: 2,
    headDim,
    ffDim: 256,
    vocab: 300,
    contextLength: 2048,
    rmsEps: 1e-5,
    tiedOutput: true,
    flags: {},
    rope: {
      dims: headDim,
      freqBase: 10000,
      neox: false,
      magnitude: 1,
      inverseFrequencies: Float32Array.from({ length: headDim / 2 }, (_, i) => 10000 ** ((-2 * i) / headDim)),
    },
    ...options,
  };
  const r = random(options.seed ?? 1);
  const typeOf = (name: string) => (typeof options.type === 'function' ? options.type(name) : (options.type ?? 'Q8_0'));
  const program = llama(config);
  const list = tensorShapes(config).map(({ name, shape }) => {
    const count = shape.reduce((a, b) => a * b, 1);
    if (shape.length === 1) {
      const bytes = new Uint8Array(Float32Array.from({ length: count }, () => 0.5 + r()).buffer);
      return { name, type: 'F32', shape, bytes };
    }
    const type = name.includes('gate_inp') ? 'F32' : typeOf(name);
    return { name, type, shape, bytes: randomTensor(type, count, r, 1.3 / Math.sqrt(shape[0])) };
  });
  const { reference, ...source } = writeTensors(list);
  return { program, source, tensors: reference };
}

function tensorShapes(c: LlamaConfig): { name: string; shape: number[] }[] {
  const shapes = [
    { name: 'token_embd.weight', shape: [c.dim, c.vocab] },
    { name: 'output_norm.weight', shape: [c.dim] },
  ];
  if (!c.tiedOutput) shapes.push({ name: 'output.weight', shape: [c.dim, c.vocab] });
  for (let l = 0; l < c.layers; l++) {
    const add = (name: string, ...shape: number[]) => shapes.push({ name: `blk.${l}.${name}.weight`, shape });
    add('attn_norm', c.dim);
    add('attn_q', c.dim, c.heads * c.headDim);
    add('attn_k', c.dim, c.kvHeads * c.headDim);
    add('attn_v', c.dim, c.kvHeads * c.headDim);
    add('attn_output', c.heads * c.headDim, c.dim);
    add('ffn_norm', c.dim);
    const e = c.flags?.experts;
    if (e && !e.denseLayers.includes(l)) {
      add('ffn_gate_inp', c.dim, e.count);
      add('ffn_gate_exps', c.dim, e.width, e.count);
      add('ffn_up_exps', c.dim, e.width, e.count);
      add('ffn_down_exps', e.width, c.dim, e.count);
      if (e.sharedGate) add('ffn_gate_inp_shexp', c.dim, 1);
      if (e.sharedWidth > 0) {
        add('ffn_gate_shexp', c.dim, e.sharedWidth);
        add('ffn_up_shexp', c.dim, e.sharedWidth);
        add('ffn_down_shexp', e.sharedWidth, c.dim);
      }
    } else {
      add('ffn_gate', c.dim, c.ffDim);
      add('ffn_up', c.dim, c.ffDim);
      add('ffn_down', c.ffDim, c.dim);
    }
    addFlagged(c, shapes, l);
  }
  return shapes;
}

/** What the flags of a family add to a layer, and what they leave out. */
function addFlagged(c: LlamaConfig, shapes: { name: string; shape: number[] }[], layer: number): void {
  const { norms = 'pre', qkNorm = 'none', biases } = c.flags ?? {};
  const add = (name: string, shape: number) => shapes.push({ name: `blk.${layer}.${name}`, shape: [shape] });
  const drop = (name: string) => {
    const at = shapes.findIndex((s) => s.name === `blk.${layer}.${name}`);
    shapes.splice(at, 1);
  };
  const [q, kv] = [c.heads * c.headDim, c.kvHeads * c.headDim];
  if (norms !== 'pre') for (const name of ['post_attention_norm', 'post_ffw_norm']) add(`${name}.weight`, c.dim);
  if (norms === 'post') for (const name of ['attn_norm', 'ffn_norm']) drop(`${name}.weight`);
  if (qkNorm !== 'none') {
    add('attn_q_norm.weight', qkNorm === 'head' ? c.headDim : q);
    add('attn_k_norm.weight', qkNorm === 'head' ? c.headDim : kv);
  }
  if (biases?.qkv)
    for (const [name, n] of [
      ['q', q],
      ['k', kv],
      ['v', kv],
    ] as const)
      add(`attn_${name}.bias`, n);
  if (biases?.output) add('attn_output.bias', c.dim);
  if (biases?.gateUp) for (const name of ['gate', 'up']) add(`ffn_${name}.bias`, c.ffDim);
  if (biases?.down) add('ffn_down.bias', c.dim);
}

const rope = (freqBase: number) => ({
  dims: 32,
  freqBase,
  neox: true,
  magnitude: 1,
  inverseFrequencies: Float32Array.from({ length: 16 }, (_, i) => freqBase ** ((-2 * i) / 32)),
});
/** What families do otherwise than LLaMA, each by itself and as they come together. */
export const FLAGS: Record<string, Partial<FamilyFlags>> = {
  'norms after': { norms: 'post', qkNorm: 'all' },
  'norms before and after': { norms: 'both', qkNorm: 'head', activation: 'geluTanh', embeddingScale: 11.3 },
  biases: { biases: { qkv: true, output: true, gateUp: true, down: true } },
  scales: { embeddingScale: 12, residualScale: 0.22, logitScale: 0.125, attentionScale: 0.015625 },
  bounds: { attentionSoftcap: 0.5, logitSoftcap: 3 },
  window: {
    perLayer: [
      { rope: rope(10_000), window: 11 },
      { rope: null, window: 0 },
    ],
  },
  'two ropes': {
    perLayer: [
      { rope: rope(500), window: 20 },
      { rope: rope(1e6), window: 1 },
    ],
  },
};

/** Mixtures as the families have them. */
export const MIXTURES: Record<string, ExpertFlags> = {
  'two of eight': mixture({ count: 8, used: 2, width: 96, normalise: true }),
  'six of forty, weights over all, and one for every token': mixture({
    ...{ count: 40, used: 6, width: 64, scale: 1.5, sharedWidth: 128, sharedGate: true, denseLayers: [0] },
  }),
  'one of three, all of them beside it': mixture({ count: 3, used: 1, width: 32, sharedWidth: 64 }),
  'all of five': mixture({ count: 5, used: 5, width: 32, normalise: true }),
};

function mixture(given: Partial<ExpertFlags>): ExpertFlags {
  const usual = { normalise: false, scale: 1, sharedWidth: 0, sharedGate: false, denseLayers: [] };
  return { ...usual, count: 8, used: 2, width: 32, ...given };
}

let library: string | undefined;
/**
 * The library that tests of the CPU device look at: the usual one, or what scripts/check-emulated.mjs names. Looked for once:
 * that asks the compiler for its version.
 */
export function testLibrary(): string {
  library ??= process.env.LONGMIND_TEST_LIBRARY ?? buildNativeLibrary();
  return library;
}

export interface RunnerOptions extends Partial<Omit<LoadOptions, 'limits' | 'kv'>> {
  isa?: CpuDeviceOptions['isa'];
  library?: string;
  threads?: number;
  blockLen?: number;
  bits?: 16 | 8 | 4;
  maxTokens?: number;
  maxRows?: number;
  session?: number;
  maxLogits?: number;
  /** Instead of a CPU device. */
  device?: Device;
  /** Block numbers are dealt out in this order instead of 0, 1, 2 … */
  shuffle?: number;
}

export interface Row {
  slot: number;
  position: number;
  tokens: number[];
  /** Which of the tokens' logits are wanted: the last (default), all or none. */
  logits?: 'last' | 'all' | 'none';
  /** Index of its adapter. */
  adapter?: number;
}

/** A loaded device and a step to fill. */
export class Runner {
  readonly device: Device;
  readonly step: Step;
  readonly #limits: StepLimits;

  constructor(
    readonly model: TestModel,
    o: RunnerOptions = {},
  ) {
    const { dims } = model.program;
    const blockLen = o.blockLen ?? 16;
    const maxRows = o.maxRows ?? 8;
    const maxBlocksPerRow = Math.ceil((o.session ?? 640) / blockLen);
    const limits = {
      maxTokens: o.maxTokens ?? 256,
      maxRows,
      maxBlocksPerRow,
      maxLogits: o.maxLogits ?? 256,
      vocab: dims.vocab,
    };
    const kv = { layers: dims.layers, kvHeads: dims.kvHeads, headDim: dims.headDim, blockLen, bits: o.bits ?? 16 };
    const maxBlocks = maxRows * maxBlocksPerRow;
    this.device = o.device ?? createCpuDevice({ isa: o.isa, threads: o.threads, library: o.library ?? testLibrary() });
    this.device.load(model.program, model.source, { limits, kv, maxBlocks, debug: o.debug });
    if (!this.device.growKv(maxBlocks)) throw new Error('the device has not enough memory');
    this.#limits = limits;
    this.step = createStep(limits);
    const order = Array.from({ length: maxBlocks }, (_, i) => i);
    if (o.shuffle !== undefined) {
      const r = random(o.shuffle);
      for (let i = maxBlocks - 1; i > 0; i--) {
        const j = Math.floor(r() * (i + 1));
        [order[i], order[j]] = [order[j], order[i]];
      }
    }
    this.step.blockTables.set(order);
  }

  fill(rows: Row[]): Step {
    const s = this.step;
    s.rowCount = rows.length;
    s.tokenCount = s.logitCount = s.copyCount = 0;
    rows.forEach((row, i) => {
      s.rowSlot[i] = row.slot;
      s.rowAdapter[i] = row.adapter ?? -1;
      s.rowStart[i] = s.tokenCount;
      row.tokens.forEach((token, j) => {
        const last = j === row.tokens.length - 1;
        if (row.logits === 'all' || (row.logits !== 'none' && last)) s.logitRows[s.logitCount++] = s.tokenCount;
        s.tokens[s.tokenCount] = token;
        s.positions[s.tokenCount++] = row.position + j;
      });
      s.rowStart[i + 1] = s.tokenCount;
    });
    return s;
  }

  /** Another step: three tokens of slot 0. */
  another(): Step {
    const step = createStep(this.#limits);
    step.blockTables.set(this.step.blockTables);
    step.rowCount = 1;
    step.tokenCount = 3;
    step.logitCount = 1;
    step.rowStart.set([0, 3]);
    step.positions.set([0, 1, 2]);
    step.logitRows[0] = 2;
    return step;
  }

  run(rows: Row[]): StepResult {
    return this.device.wait(this.device.submit(this.fill(rows)));
  }

  /** Logits of all wanted rows. */
  logits(rows: Row[]): Float32Array[] {
    const n = this.run(rows).logitCount;
    return Array.from({ length: n }, (_, i) => this.device.logits(i));
  }

  close(): void {
    this.device.close();
  }
}

export const sequence = (n: number, seed: number, vocab = 300): number[] => {
  const r = random(seed);
  return Array.from({ length: n }, () => Math.floor(r() * vocab));
};

/** |a - b| over |b|, as vectors. */
export function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    size += b[i] ** 2;
  }
  return Math.sqrt(difference / size);
}
