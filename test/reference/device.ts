/** The f64 forward pass behind the device interface: slow, plain, and what every other device is compared with. */
import fs from 'node:fs';
import {
  createResult,
  type Device,
  type DeviceInfo,
  type KvTransfers,
  type LoadedMemory,
  type LoadOptions,
  MAX_TOP_LOGPROBS,
  type MutableResult,
  type Program,
  type Step,
  type StepLimits,
  type StepResult,
  type Ticket,
  type Transfer,
} from '../../src/device/device.js';
import { errors, invariant } from '../../src/errors.js';
import type { PackedMatrix, TensorInfo, TensorSource } from '../../src/types.js';
import { decodeTensor } from './formats.js';
import { type Arithmetic, Reference, type ReferenceTensor, toHalf } from './forward.js';
import { decodePacked } from './packed.js';
import { drawToken, logSoftmax } from './sample.js';

export class ReferenceDevice implements Device, KvTransfers {
  readonly info: DeviceInfo = {
    name: 'reference',
    isa: 'none',
    threads: 1,
    memoryFree: 2 ** 30,
    depth: 1,
    ownMemory: false,
    kernels: 'reference-1',
    adapters: true,
  };
  readonly cancel = new Int32Array(new SharedArrayBuffer(4));
  #reference!: Reference;
  #options!: LoadOptions;
  #result!: MutableResult;
  #logits: Float64Array[] = [];
  #drawn: number[] = [];
  #grown = 0;
  #tickets = 0;
  #open: Ticket = -1;
  #transfers = 0;

  constructor(private readonly arithmetic: Arithmetic = 'int8') {}

  workspaceBytes(_program: Program, limits: StepLimits): number {
    return 8 * limits.maxTokens;
  }

  weightBytes(program: Program, source: TensorSource): number {
    return [...readTensors(program, source).values()].reduce((n, t) => n + t.values.byteLength, 0);
  }

  load(program: Program, source: TensorSource, options: LoadOptions): LoadedMemory {
    const { kv, limits } = options;
    const place = (step: Step, slot: number, position: number) => {
      const block = step.blockTables[slot * limits.maxBlocksPerRow + Math.floor(position / kv.blockLen)];
      invariant(block >= 0 && block < this.#grown, `block ${block} of ${this.#grown} at position ${position}`);
      return `${block}/${position % kv.blockLen}`;
    };
    this.#options = options;
    this.#reference = new Reference(program, readTensors(program, source), kv, this.arithmetic, place);
    this.#result = createResult(limits);
    return { weightBytes: this.weightBytes(program, source), workspaceBytes: this.workspaceBytes(program, limits) };
  }

  growKv(total: number): boolean {
    if (total > this.#options.maxBlocks) return false;
    this.#grown = Math.max(this.#grown, total);
    return true;
  }

  submit(step: Step): Ticket {
    const result = this.#result;
    invariant(this.#open === -1, `ticket ${this.#open} was not waited for`);
    Atomics.store(this.cancel, 0, 0);
    for (let c = 0; c < step.copyCount; c++) this.#copy(step.copies.subarray(3 * c, 3 * c + 3));
    this.#logits = this.#reference.step(this.#resolved(step));
    result.logitCount = step.logitCount;
    result.completed = true;
    for (let i = 0; i < step.logitCount; i++) this.#sample(step, i);
    this.#drawn = [...result.tokens.subarray(0, step.logitCount)];
    this.#open = this.#tickets;
    return this.#tickets++;
  }

  wait(ticket: Ticket): StepResult {
    invariant(ticket === this.#open, `ticket ${ticket} is not the one in flight (${this.#open})`);
    this.#open = -1;
    return this.#result;
  }

  logits(i: number): Float32Array {
    return Float32Array.from(this.#logits[i]);
  }

  close(): void {}

  /** The step with ids in place of references to what the step before drew. */
  #resolved(step: Step): Step {
    const ids = step.tokens.map((t) => {
      if (t >= 0) return t;
      invariant(-1 - t < this.#drawn.length, `token ${t} refers to a row that drew nothing`);
      return Math.max(0, this.#drawn[-1 - t]);
    });
    return new Proxy(step, { get: (s, name) => (name === 'tokens' ? ids : Reflect.get(s, name, s)) });
  }

  #sample(step: Step, i: number): void {
    const r = this.#result;
    const token = drawToken(this.#logits[i], step, i, step.positions[step.logitRows[i]] + 1);
    r.tokens[i] = token;
    r.status[i] = token < 0 ? 1 : 0;
    const raw = logSoftmax(this.#logits[i]);
    const asked = step.topLogprobs[i];
    r.logprobs[i] = asked < 0 ? Number.NaN : raw[token];
    r.scoreLogprobs[i] = step.scoreToken[i] < 0 ? Number.NaN : raw[step.scoreToken[i]];
    const order = asked > 0 ? [...raw.keys()].sort((a, b) => raw[b] - raw[a] || a - b) : [];
    for (let k = 0; k < asked; k++) {
      r.topTokens[i * MAX_TOP_LOGPROBS + k] = order[k];
      r.topLogprobs[i * MAX_TOP_LOGPROBS + k] = raw[order[k]];
    }
  }

  #copy([from, to, tokens]: Int32Array): void {
    const { stored } = this.#reference;
    for (let l = 0; l < this.#options.kv.layers; l++)
      for (let t = 0; t < tokens; t++) {
        const value = stored.get(`${l}/${from}/${t}`);
        if (value) stored.set(`${l}/${to}/${t}`, value);
      }
  }

  // ---------------------------------------------------------------- KV: (layers, blockLen, K then V) in f64; never stored: NaN

  get kv(): KvTransfers {
    return this;
  }

  get blockBytes(): number {
    const { layers, kvHeads, headDim, blockLen } = this.#options.kv;
    return 8 * layers * blockLen * 2 * kvHeads * headDim;
  }

  readonly writeRate = null;

  allocateHost(bytes: number): Uint8Array {
    return new Uint8Array(new SharedArrayBuffer(bytes));
  }

  read(block: number, host: Uint8Array): Transfer {
    const values = this.#values(block, host);
    this.#places(block, (key, at, size) => {
      const { k, v } = this.#reference.stored.get(key) ?? {};
      for (let i = 0; i < size; i++) {
        values[at + i] = k?.[i] ?? Number.NaN;
        values[at + size + i] = v?.[i] ?? Number.NaN;
      }
    });
    new Float64Array(host.buffer, host.byteOffset, values.length).set(values);
    return this.#transfers++;
  }

  write(block: number, host: Uint8Array): Transfer {
    const values = this.#values(block, host);
    this.#places(block, (key, at, size) => {
      const [k, v] = [values.slice(at, at + size), values.slice(at + size, at + 2 * size)];
      if (!Number.isNaN(k[0])) this.#reference.stored.set(key, { k, v });
    });
    return this.#transfers++;
  }

  done(transfer: Transfer): boolean {
    invariant(transfer >= 0 && transfer < this.#transfers, `transfer ${transfer} was never started`);
    return true;
  }

  #values(block: number, host: Uint8Array): Float64Array {
    if (!(block >= 0 && block < this.#grown) || host.length !== this.blockBytes)
      throw errors.native(-1, `block ${block} of ${this.#grown}, ${host.length} of ${this.blockBytes} bytes`);
    return Float64Array.from(new Float64Array(host.buffer, host.byteOffset, host.length / 8));
  }

  #places(block: number, visit: (key: string, at: number, size: number) => void): void {
    const { layers, kvHeads, headDim, blockLen } = this.#options.kv;
    const size = kvHeads * headDim;
    for (let l = 0; l < layers; l++)
      for (let t = 0; t < blockLen; t++) visit(`${l}/${block}/${t}`, 2 * size * (l * blockLen + t), size);
  }
}

/** The tensors that the program names, as numbers. */
export function readTensors(program: Program, source: TensorSource): Map<string, ReferenceTensor> {
  const names = new Set(
    program.ops.flatMap((op) => {
      if (op.op === 'linear') return op.outputs.flatMap((o) => (o.bias === null ? [o.weight] : [o.weight, o.bias]));
      if (op.op === 'experts') return [op.weights.gate, op.weights.up, op.weights.down];
      return 'weight' in op ? [op.weight] : [];
    }),
  );
  return new Map([...names].map((name) => [name, readTensor(source, name)]));
}

function readTensor(source: TensorSource, name: string): ReferenceTensor {
  const info = source.tensors.get(name)!;
  const { type, shape, offset, byteLength, file, runs, packed, add = 0 } = info;
  const rows = shape.slice(1).reduce((a, b) => a * b, 1);
  if (packed) return { type, shape, values: packedValues(info, packed, rows) };
  const bytes = new Uint8Array(byteLength);
  let at = 0;
  for (const run of runs ?? [{ offset, rows }]) {
    const length = (byteLength / rows) * run.rows;
    const fd = fs.openSync(run.file ?? file ?? source.path, 'r');
    try {
      fs.readSync(fd, bytes, at, length, run.offset);
    } finally {
      fs.closeSync(fd);
    }
    at += length;
  }
  const count = shape.reduce((a, b) => a * b, 1);
  const values = decodeTensor(type, bytes, count);
  const inHalf = type.endsWith('_K') ? () => decodeTensor(type, bytes, count, toHalf) : undefined;
  return { type, shape, inHalf, values: add === 0 ? values : values.map((v) => v + add) };
}

/** Weights of a quantised checkpoint have their own values, not those that a device rounds them to. */
function packedValues(info: TensorInfo, whole: PackedMatrix, rows: number): Float32Array {
  const values = new Float32Array(rows * info.shape[0]!);
  let at = 0;
  for (const run of info.runs ?? [{ offset: info.offset, rows }]) {
    const p = run.packed ?? whole;
    const from = { file: run.file ?? info.file!, offset: run.offset, row: run.row ?? p.row, rows: run.rows };
    values.set(decodePacked(from, p), at);
    at += run.rows * p.in;
  }
  return values;
}
