/** The CPU device: native C++ kernels, a whole step in one foreign call. */
import { errors, invariant } from '../../errors.js';
import type { TensorSource } from '../../types.js';
import {
  createResult,
  type Device,
  type DeviceInfo,
  type KvTransfers,
  kvBlockBytes,
  type LoadedMemory,
  type LoadOptions,
  type MutableResult,
  type Program,
  type Step,
  type StepLimits,
  type StepResult,
  type Ticket,
} from '../device.js';
import { layoutAdapters, loadAdapters } from './adapters.js';
import { buildNativeLibrary } from './build.js';
import { type CompiledProgram, compileProgram } from './compile.js';
import { CODES, describeCode, Flag, ISAS, type Isa, SIZES } from './layout.js';
import { defaultThreads, memoryFree } from './machine.js';
import { type Handle, loadNative, type Native } from './native.js';
import { HostTransfers } from './transfers.js';
import { loadWeights, needOf, shapeOf, typeInMemory } from './weights.js';

export { checkNativeLibrary } from './build.js';
export { defaultThreads, memoryFree as hostMemoryFree, memoryLevels as hostMemoryLevels } from './machine.js';

export interface CpuDeviceOptions {
  /** Default: one for each core this process may run on, within the cgroup quota. */
  threads?: number;
  isa?: 'auto' | Isa;
  /** A library compiled beforehand (option nativeLibrary); otherwise it is compiled at first use. */
  library?: string;
  /** Gets one line if the library must be compiled. */
  onBuild?: (line: string) => void;
  /** Bytes that the machine can give now. Default: it is asked. */
  memoryFree?: () => number;
}

/** KV leaves so much of the memory free, for what else this process and others need while they run. */
const RESERVE_BYTES = 256 * 2 ** 20;
/** … or this share of what was free when the model had been loaded, on a small machine. */
const RESERVE_SHARE = 0.1;

/** To be raised whenever a kernel gives other bits than before. */
const KERNELS = 2;
/** How a family is called, and whose bits it gives: KV that one stored the other may read. */
const FAMILIES: Record<Isa, { name: string; bits: string }> = {
  portable: { name: 'portable', bits: 'portable' },
  avx2: { name: 'avx2', bits: 'avx2' },
  avxvnni: { name: 'avxvnni', bits: 'avx2' },
  avx512: { name: 'avx512vnni', bits: 'avx512vnni' },
  amx: { name: 'amx', bits: 'avx512vnni' },
  dotprod: { name: 'neon-dot', bits: 'neon-dot' },
  i8mm: { name: 'neon-i8mm', bits: 'neon-dot' },
};

/**
 * @throws native_unavailable (no compiler, library not loadable), invalid_option (threads, isa)
 */
export function createCpuDevice(options: CpuDeviceOptions = {}): CpuDevice {
  const threads = options.threads ?? defaultThreads();
  if (!Number.isInteger(threads) || threads < 1 || threads > 256)
    throw errors.invalidOption('threads', threads, 'a whole number from 1 to 256');
  const library = options.library ?? buildNativeLibrary(options.onBuild);
  const native = loadNative(library);
  const available = availableIsas(native);
  const wanted = options.isa ?? 'auto';
  const isa = wanted === 'auto' ? available[available.length - 1]! : wanted;
  if (!available.includes(isa))
    throw errors.invalidOption('isa', wanted, `one this machine has (${available.join(', ')}) or 'auto'`);
  const handle = native.create(threads, ISAS[isa]);
  if (!handle) throw errors.native(-4, describeCode(-4));
  const { name, bits } = FAMILIES[isa];
  const info = {
    name: 'cpu',
    isa: name,
    threads,
    library,
    depth: 1,
    adapters: true,
    ownMemory: false,
    kernels: `cpu-${bits}-${KERNELS}`,
  };
  return new CpuDevice(native, handle, info, options.memoryFree ?? memoryFree);
}

/** Values of option `isa` that this machine can run, the best last. */
export function availableIsas(native: Native): Isa[] {
  const bits = native.isaAvailable();
  return (Object.keys(ISAS) as Isa[]).filter((name) => (bits >> ISAS[name]) & 1);
}

export class CpuDevice implements Device {
  readonly info: DeviceInfo;
  readonly cancel = new Int32Array(new SharedArrayBuffer(4));
  #handle: Handle | null;
  #compiled: CompiledProgram | null = null;
  #program: Program | null = null;
  #limits!: StepLimits;
  #blockBytes = 0;
  #maxBlocks = 0;
  #grown = 0;
  #reserve = 0;
  #debug = false;
  #result!: MutableResult;
  #kv: KvTransfers | null = null;
  /** The ticket that was not waited for, or -1. */
  #open: Ticket = -1;
  #tickets = 0;

  constructor(
    readonly native: Native,
    handle: Handle,
    info: Omit<DeviceInfo, 'memoryFree'>,
    private readonly memoryFree: () => number,
  ) {
    this.#handle = handle;
    const free = this.memoryFree;
    this.info = {
      ...info,
      get memoryFree() {
        return free();
      },
    };
  }

  /** Names of the loaded tensors, by native index (for benchmarks). */
  get tensorNames(): string[] {
    return this.#compiled?.tensors.map((t) => t.name) ?? [];
  }

  /** The native device (for benchmarks). */
  get handle(): Handle {
    invariant(this.#handle, 'the device is closed');
    return this.#handle;
  }

  get kv(): KvTransfers {
    invariant(this.#kv, 'KV transfers before load');
    return this.#kv;
  }

  workspaceBytes(program: Program, limits: StepLimits): number {
    const compiled = compileProgram(program, () => Flag.q8 | Flag.f32, true);
    const sizes = this.#sizes(program, limits, compiled, { blockLen: 16, bits: 16 }, 1);
    const bytes = this.native.workspace(this.handle, sizes, compiled.buffers, compiled.ops, ropeShapes(compiled));
    if (bytes < 0) throw errors.native(bytes, describeCode(bytes));
    return bytes;
  }

  weightBytes(program: Program, source: TensorSource): number {
    const { tensors, adapted } = compileProgram(program, () => Flag.q8, true);
    const adapters = layoutAdapters(program.adapters ?? [], adapted).bytes;
    return tensors.reduce((sum, t) => sum + shapeOf(this.native, t, source).bytes, adapters);
  }

  load(program: Program, source: TensorSource, options: LoadOptions): LoadedMemory {
    invariant(!this.#compiled, 'a device is loaded once');
    const { limits, kv, maxBlocks } = options;
    const { dims } = program;
    invariant(kv.headDim === dims.headDim && kv.kvHeads === dims.kvHeads, 'the KV layout is not of this model');
    if (kv.blockLen % 16 !== 0 || kv.blockLen < 16)
      throw errors.invalidOption('cacheBlockSeqLen', kv.blockLen, 'a multiple of 16');
    this.#debug = options.debug ?? false;
    const compiled = compileProgram(
      program,
      (weight) => needOf(typeInMemory(source.tensors.get(weight))),
      !this.#debug,
    );
    const weightBytes = loadWeights(this.native, this.handle, compiled.tensors, source, options.onProgress);
    const adapterBytes = loadAdapters(this.native, this.handle, program.adapters ?? [], compiled.adapted);
    const sizes = this.#sizes(program, limits, compiled, kv, maxBlocks);
    const code = this.native.configure(
      this.handle,
      sizes,
      compiled.buffers,
      compiled.ops,
      ropeShapes(compiled),
      ropeValues(compiled),
    );
    if (code !== 0) throw errors.native(code, describeCode(code));
    this.#compiled = compiled;
    this.#program = program;
    this.#limits = limits;
    this.#blockBytes = kvBlockBytes(kv);
    this.#kv = new HostTransfers(this.native, () => this.handle, this.#blockBytes);
    this.#maxBlocks = maxBlocks;
    this.#reserve = Math.min(RESERVE_BYTES, RESERVE_SHARE * this.memoryFree());
    this.#result = createResult(limits);
    return { weightBytes: weightBytes + adapterBytes, workspaceBytes: this.workspaceBytes(program, limits) };
  }

  growKv(total: number): boolean {
    if (total <= this.#grown) return true;
    const bytes = (total - this.#grown) * this.#blockBytes;
    // Linux ends who writes to more memory than there is: what is grown is had now, and only while something is left
    if (total > this.#maxBlocks || bytes + this.#reserve > this.memoryFree()) return false;
    if (this.native.grow(this.handle, total) !== 0) return false;
    this.#grown = total;
    return true;
  }

  submit(step: Step): Ticket {
    invariant(this.#compiled, 'submit before load');
    invariant(this.#open === -1, `ticket ${this.#open} was not waited for`);
    Atomics.store(this.cancel, 0, 0);
    const { count } = this.#compiled;
    let code = 0;
    if (this.#debug) {
      // every operation in its own foreign call, nothing fused; the same bits
      for (let i = 0; i < count && code === 0; i++) code = this.#run(step, i, i + 1);
    } else {
      code = this.#run(step, 0, count);
    }
    const r = this.#result;
    if (code < 0) throw errors.native(code, `${describeCode(code)} (index ${r.faultIndex}, value ${r.faultValue})`);
    r.completed = code !== CODES.cancelled[0];
    r.logitCount = step.logitCount;
    this.#open = this.#tickets;
    return this.#tickets++;
  }

  wait(ticket: Ticket): StepResult {
    invariant(ticket === this.#open, `ticket ${ticket} is not the one in flight (${this.#open})`);
    this.#open = -1;
    return this.#result;
  }

  hidden(i: number): Float32Array {
    const { buffers, hidden } = this.#program!;
    const buffer = buffers.findIndex((b) => b.name === hidden);
    invariant(buffer >= 0, 'the program keeps no hidden state');
    const out = new Float32Array(buffers[buffer].width);
    const code = this.native.row(this.handle, buffer, i, out, out.length);
    if (code !== 0) throw errors.native(code, `there is no row ${i} of hidden states`);
    return out;
  }

  logits(i: number): Float32Array {
    const out = new Float32Array(this.#limits.vocab);
    const code = this.native.logits(this.handle, i, out, out.length);
    if (code !== 0) throw errors.native(code, `there is no row ${i} of logits`);
    return out;
  }

  close(): void {
    if (this.#handle) this.native.destroy(this.#handle);
    this.#handle = null;
  }

  #run(step: Step, from: number, to: number): number {
    const { bytes } = this.#result;
    return this.native.step(this.handle, from, to, step.bytes, step.bytes.length, bytes, bytes.length, this.cancel);
  }

  #sizes(
    program: Program,
    limits: StepLimits,
    compiled: CompiledProgram,
    kv: { blockLen: number; bits: number },
    maxBlocks: number,
  ): Int32Array {
    const { dims } = program;
    const sizes = [
      limits.maxTokens,
      limits.maxRows,
      limits.maxBlocksPerRow,
      limits.maxLogits,
      limits.vocab,
      dims.layers,
      dims.heads,
      dims.kvHeads,
      dims.headDim,
      kv.blockLen,
      kv.bits,
      maxBlocks,
      compiled.buffers.length / 2,
      compiled.count,
      compiled.ropes.length,
      dims.contextLength,
      program.adapters?.length ?? 0,
      compiled.adapted.length,
    ];
    invariant(sizes.length === SIZES.length, 'sizes do not match the native library');
    return Int32Array.from(sizes);
  }
}

function ropeShapes(compiled: CompiledProgram): Int32Array {
  return Int32Array.from([...compiled.ropes.flatMap((r) => [r.dims, r.neox ? 1 : 0]), 0, 0]);
}

function ropeValues(compiled: CompiledProgram): Float32Array {
  const values = compiled.ropes.flatMap((r) => [r.magnitude, ...r.inverseFrequencies]);
  const expected = compiled.ropes.reduce((n, r) => n + 1 + r.dims / 2, 0);
  invariant(values.length === expected, 'a rope has another number of inverse frequencies than dims / 2');
  return Float32Array.from([...values, 0]);
}
