/** Weights: from the file through pinned memory to the device, where kernels repack them into what the products read. */
import { closeSync, openSync, readSync } from 'node:fs';
import { errors } from '../../errors.js';
import type { TensorInfo, TensorSource } from '../../types.js';
import type { Address, Driver } from './driver.js';
import type { KernelSet } from './kernel-set.js';
import type { KernelKey } from './kernels.js';
import type { DeviceMemory } from './memory.js';
import { isFloat, type Matrix, type MatrixPart, matrixBytes, type Plan, TYPES, up } from './plan.js';
import { type Gpu, scratchBytes } from './products.js';

const PIECE_BYTES = 32 * 2 ** 20;

/** What this device does not do to a tensor on its way from the file. @throws unsupported_model */
function refuseChanges({ name, as, runs, packed, add = 0 }: TensorInfo): void {
  const cannot = (what: string) => errors.unsupportedModel(`the CUDA device cannot ${what} (tensor '${name}')`);
  if (packed) throw cannot('read weights that are quantised as AWQ, GPTQ, compressed-tensors or FP8: use --device cpu');
  if (as !== undefined) throw cannot(`make weights ${as} while it loads them: leave out --weights`);
  if (runs !== undefined) throw cannot('put a matrix together from pieces of a file');
  if (add !== 0) throw cannot('add to norms while it loads them');
}

/** GGML's number of a tensor's type. @throws bad_gguf, unsupported_tensor_type */
export function typeOf(source: TensorSource, name: string): number {
  const info = source.tensors.get(name);
  if (!info) throw errors.badModelFile(source.path, `tensor '${name}' is missing`);
  refuseChanges(info);
  const type = TYPES[info.type];
  if (type === undefined) throw errors.unsupportedTensorType(name, info.type, Object.keys(TYPES));
  return type;
}

/** Activations are bf16 where weights are, else f16. */
export function activationOf({ matrices }: Plan): 0 | 1 {
  return matrices.some((m) => m.type === TYPES.BF16) ? 0 : 1;
}

const vectorBytes = (width: number): number => 4 * up(width, 64);
/** Room for tiles of quantised weights included. */
export function weightBytes(plan: Plan, gpu: Gpu): number {
  const vectors = [...plan.vectors.values()].reduce((sum, width) => sum + vectorBytes(width), 0);
  const biases = plan.matrices.reduce((sum, m) => sum + (hasBias(m) ? vectorBytes(m.features) : 0), 0);
  return scratchBytes(plan, gpu) + vectors + biases + plan.matrices.reduce((sum, m) => sum + matrixBytes(m), 0);
}
const hasBias = (m: Matrix): boolean => m.parts.some((p) => p.bias !== null);

export interface Weights {
  /** By the plan's indexes. */
  matrices: { address: Address; bias: Address }[];
  vectors: Map<string, Address>;
  /** For tiles of the quantised matrix that many rows meet; 0 = there is none. */
  scratch: Address;
}

const repackKey = (type: number, act: number): KernelKey => ({ kernel: 'repack', macros: { TYPE: type, ACT: act } });

export function wantRepack(plan: Plan, act: number, kernels: KernelSet): void {
  for (const { type } of plan.matrices) kernels.want(repackKey(type, act), 0);
}

/** Two buffers: one is read from the file while the other goes to the device and is repacked. */
class Loader {
  readonly #buffers;
  #next = 0;
  #done = 0;

  /** Opened files by their paths. */
  readonly #files = new Map<string, number>();

  constructor(
    readonly source: TensorSource,
    readonly driver: Driver,
    readonly memory: DeviceMemory,
    readonly stream: Address,
    readonly onBytes: (done: number) => void,
  ) {
    this.#buffers = [0, 1].map(() => ({
      host: memory.host(PIECE_BYTES),
      device: memory.take(PIECE_BYTES, 'the buffers for loading'),
      event: driver.event(),
    }));
  }

  /** Rows of the tensor in pieces, each on the device while `use` is called. */
  pieces(
    info: TensorInfo,
    { first: from, rows }: Pick<MatrixPart, 'first' | 'rows'>,
    use: (device: Address, first: number, count: number) => void,
  ): void {
    const rowBytes = info.byteLength / (info.shape[1] ?? 1);
    const most = Math.floor(PIECE_BYTES / rowBytes);
    if (most < 1) throw errors.badGguf(this.source.path, `a row of tensor '${info.name}' has ${rowBytes} bytes`);
    for (let first = 0; first < rows; first += most) {
      const count = Math.min(most, rows - first);
      const buffer = this.#buffers[this.#next]!;
      this.#next ^= 1;
      this.driver.eventWait(buffer.event);
      const piece = buffer.host.subarray(0, count * rowBytes);
      this.read(info, piece, info.offset + (from + first) * rowBytes);
      this.driver.upload(buffer.device, piece, this.stream);
      use(buffer.device, first, count);
      this.driver.record(buffer.event, this.stream);
      this.#done += piece.length;
      this.onBytes(this.#done);
    }
  }

  /** @throws file_missing */
  #fileOf(info: TensorInfo): number {
    const path = info.file ?? this.source.path;
    const known = this.#files.get(path);
    if (known !== undefined) return known;
    let file: number;
    try {
      file = openSync(path, 'r');
    } catch {
      throw errors.fileMissing(path);
    }
    this.#files.set(path, file);
    return file;
  }

  read(info: TensorInfo, into: Uint8Array, from: number): void {
    const file = this.#fileOf(info);
    for (let n = 0; n < into.length; ) {
      const got = readSync(file, into, n, into.length - n, from + n);
      if (got === 0) throw errors.badModelFile(info.file ?? this.source.path, 'a tensor lies outside the file');
      n += got;
    }
  }

  /** A vector of `of` values from the `first` on as f32, padded with zeros. */
  vector(name: string, width: number, first = 0, of = width): Float32Array {
    const info = this.source.tensors.get(name);
    if (!info || !isFloat(typeOf(this.source, name)) || info.shape[0] !== of)
      throw errors.badGguf(this.source.path, `tensor '${name}' must be ${of} floats`);
    const bytes = new Uint8Array(info.byteLength);
    this.read(info, bytes, info.offset);
    const view = new DataView(bytes.buffer);
    const at = {
      F32: (i: number) => view.getFloat32(4 * i, true),
      F16: (i: number) => half(view.getUint16(2 * i, true)),
    };
    const bf16 = (i: number) => new Float32Array(Uint32Array.of(view.getUint16(2 * i, true) << 16).buffer)[0]!;
    const value = info.type === 'F32' ? at.F32 : info.type === 'F16' ? at.F16 : bf16;
    const out = new Float32Array(up(width, 64));
    for (let i = 0; i < width; i++) out[i] = value(first + i);
    return out;
  }

  put(address: Address, values: Float32Array): void {
    this.driver.upload(address, new Uint8Array(values.buffer), this.stream);
    this.driver.synchronize(this.stream);
  }

  close(): void {
    for (const file of this.#files.values()) closeSync(file);
    this.driver.synchronize(this.stream);
    for (const { host, device, event } of this.#buffers) {
      this.memory.releaseHost(host);
      this.memory.release(device);
      this.driver.destroyEvent(event);
    }
  }
}

/** @throws file_missing, bad_gguf, not_enough_memory */
export function loadWeights(
  plan: Plan,
  act: number,
  gpu: Gpu,
  source: TensorSource,
  driver: Driver,
  memory: DeviceMemory,
  kernels: KernelSet,
  onProgress: (done: number) => void,
): Weights {
  const loader = new Loader(source, driver, memory, kernels.stream, onProgress);
  try {
    const matrices = plan.matrices.map((m) => loadMatrix(m, act, loader, kernels));
    const vectors = new Map<string, Address>();
    for (const [name, width] of plan.vectors) {
      const address = memory.take(vectorBytes(width), `tensor '${name}'`);
      loader.put(address, loader.vector(name, width));
      vectors.set(name, address);
    }
    const bytes = scratchBytes(plan, gpu);
    const scratch = bytes > 0 ? memory.take(bytes, 'the tiles of quantised weights') : 0;
    return { matrices, vectors, scratch };
  } finally {
    loader.close();
  }
}

/** What is read from the file for a plan. */
export const readBytes = ({ matrices }: Plan, source: TensorSource): number =>
  matrices.reduce((sum, m) => sum + partBytes(m, source), 0);
const partBytes = (m: Matrix, source: TensorSource): number =>
  m.parts.reduce((sum, p) => sum + ((source.tensors.get(p.weight)?.byteLength ?? 0) * p.rows) / p.of, 0);

function loadMatrix(m: Matrix, act: number, loader: Loader, kernels: KernelSet): { address: Address; bias: Address } {
  const { driver, memory, source } = loader;
  const bytes = matrixBytes(m);
  const address = memory.take(bytes, `matrix '${m.parts[0]!.weight}'`);
  driver.fill(address, 0, bytes, kernels.stream);
  const key = repackKey(m.type, act);
  for (const part of m.parts) {
    const info = shaped(part, m, source);
    const rowBytes = info.byteLength / info.shape[1]!;
    const column = (rowBytes * m.column) / m.rowInputs;
    loader.pieces(info, part, (device, first, count) => {
      const items = count * (isFloat(m.type) ? Math.ceil(m.inputs / 8) : 4 * m.k64);
      kernels.launch(
        key,
        { grid: [Math.ceil(items / 256), 1, 1], block: 256, shared: 0 },
        {
          src: device + column,
          dst: address,
          rowBytes,
          rows: count,
          first,
          in: m.inputs,
          k64: m.k64,
          step: part.step,
          offset: part.offset,
        },
      );
      kernels.restart();
    });
  }
  if (!hasBias(m)) return { address, bias: 0 };
  const values = new Float32Array(up(m.features, 64));
  for (const part of m.parts) {
    if (part.bias === null) continue;
    const bias = loader.vector(part.bias, part.rows, part.first, part.of);
    for (let r = 0; r < part.rows; r++) values[Math.floor(r / 8) * part.step + (r % 8) + part.offset] = bias[r]!;
  }
  const bias = memory.take(4 * values.length, `bias '${m.parts[0]!.bias}'`);
  loader.put(bias, values);
  return { address, bias };
}

/** @throws bad_gguf */
function shaped(part: MatrixPart, m: Matrix, source: TensorSource): TensorInfo {
  const info = source.tensors.get(part.weight)!;
  const shape = info.shape;
  if (shape[0] !== m.rowInputs || (shape[1] ?? 1) < part.of || shape.slice(2).some((n) => n !== 1))
    throw errors.badGguf(
      source.path,
      `tensor '${part.weight}' has shape (${shape.join(', ')}), the model needs (${m.rowInputs}, ${part.of})`,
    );
  return info;
}

/** f16 → number. */
function half(h: number): number {
  const sign = h & 0x8000 ? -1 : 1;
  const exponent = (h >> 10) & 31;
  const fraction = h & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
