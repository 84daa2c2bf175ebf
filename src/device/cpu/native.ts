/** The C ABI of native/cpu (see exports.h), typed. */
import koffi from 'koffi';
import { errors } from '../../errors.js';
import { ABI } from './layout.js';

/** An opaque native device. */
export type Handle = { readonly __handle: unique symbol };
type Ints = Int32Array;
type Floats = Float32Array;

export interface Native {
  isaAvailable(): number;
  create(threads: number, isa: number): Handle | null;
  destroy(d: Handle): void;
  tensorBytes(type: number, inFeatures: number, outFeatures: number, isVector: number): number;
  openWeights(d: Handle, count: number, info: Float64Array): number;
  openFile(d: Handle, path: string): number;
  loadRows(d: Handle, i: number, offset: number, bytes: number, first: number, rows: number, add: number): number;
  /** The same from a quantised checkpoint; `spec`: PACKED_FIELDS. */
  loadPacked(
    d: Handle,
    i: number,
    offset: number,
    bytes: number,
    spec: Ints,
    scales: Uint8Array,
    scaleBytes: number,
    zeros: Uint8Array | null,
    zeroBytes: number,
    order: Ints | null,
    orderCount: number,
    first: number,
    rows: number,
    sourceRow: number,
  ): number;
  closeFile(d: Handle): void;
  /** Room for the adapters of a program; `parts`: (adapters, adapterParts, ADAPTER_FIELDS). */
  openAdapters(d: Handle, adapters: number, count: number, parts: Float64Array, bytes: number): number;
  loadAdapter(d: Handle, offset: number, from: Uint8Array, bytes: number): number;
  workspace(d: Handle, sizes: Ints, buffers: Ints, ops: Ints, ropes: Ints): number;
  configure(d: Handle, sizes: Ints, buffers: Ints, ops: Ints, ropes: Ints, ropeValues: Floats): number;
  grow(d: Handle, blocks: number): number;
  /** Operations [from, to) on a flat step and result (step.ts). */
  step(
    d: Handle,
    from: number,
    to: number,
    step: Uint8Array,
    stepBytes: number,
    result: Uint8Array,
    resultBytes: number,
    cancel: Ints,
  ): number;
  readBlock(d: Handle, block: number, out: Uint8Array, bytes: number): number;
  writeBlock(d: Handle, block: number, from: Uint8Array, bytes: number): number;
  logits(d: Handle, i: number, out: Floats, count: number): number;
  /** Row i of a buffer that has one for each wanted logit, as the last step left it. */
  row(d: Handle, buffer: number, i: number, out: Floats, count: number): number;
  /** For tests of the promise that stored KV decides. */
  flipKv(d: Handle, byte: number, bit: number): number;
  benchRead(d: Handle, bytes: number, repeats: number): number;
  benchPeak(d: Handle, f32: number, milliseconds: number): number;
  benchLinear(d: Handle, tensor: number, n: number, repeats: number): number;
}

/** @throws native_unavailable if the file cannot be loaded or is of another version */
export function loadNative(path: string): Native {
  let library: ReturnType<typeof koffi.load>;
  try {
    library = koffi.load(path);
  } catch (e) {
    throw errors.nativeUnavailable([`${path}: ${(e as Error).message}`]);
  }
  const f = (name: string, result: string, ...args: string[]) => {
    try {
      return library.func(name, result, args) as unknown;
    } catch (e) {
      throw errors.nativeUnavailable([`${path}: ${(e as Error).message}`]);
    }
  };
  const i = 'int32_t';
  const p = 'void *';
  const l = 'int64_t';
  const d = 'double';
  const abi = (f('lm_abi', i) as () => number)();
  if (abi !== ABI)
    throw errors.nativeUnavailable([
      `${path}: was made for another version of longmind (its ABI is ${abi}, this version's ${ABI}): compile it again`,
    ]);
  return {
    isaAvailable: f('lm_isa_available', i),
    create: f('lm_create', p, i, i),
    destroy: f('lm_destroy', 'void', p),
    tensorBytes: f('lm_tensor_bytes', d, i, i, i, i),
    openWeights: f('lm_open_weights', i, p, i, p),
    openFile: f('lm_open_file', i, p, 'const char *'),
    loadRows: f('lm_load_rows', i, p, i, d, d, i, i, d),
    loadPacked: f('lm_load_packed', i, p, i, d, d, p, p, d, p, d, p, i, i, i, i),
    closeFile: f('lm_close_file', 'void', p),
    openAdapters: f('lm_open_adapters', i, p, i, i, p, d),
    loadAdapter: f('lm_load_adapter', i, p, d, p, d),
    workspace: f('lm_workspace', d, p, p, p, p, p),
    configure: f('lm_configure', i, p, p, p, p, p, p),
    grow: f('lm_grow', i, p, i),
    step: f('lm_step', i, p, i, i, p, l, p, l, p),
    readBlock: f('lm_read_block', i, p, i, p, l),
    writeBlock: f('lm_write_block', i, p, i, p, l),
    logits: f('lm_logits', i, p, i, p, i),
    row: f('lm_row', i, p, i, i, p, i),
    flipKv: f('lm_flip_kv', i, p, d, i),
    benchRead: f('lm_bench_read', d, p, d, i),
    benchPeak: f('lm_bench_peak', d, p, i, d),
    benchLinear: f('lm_bench_linear', d, p, i, i, i),
  } as Native;
}
