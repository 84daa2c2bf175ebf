/** libcuda through koffi. */
import koffi from 'koffi';
import { errors, invariant } from '../../errors.js';
import type { Address, Driver, GpuInfo, LaunchConfig } from './driver.js';

const OUT_OF_MEMORY = 2;
const NOT_READY = 600;
const PEER_ACCESS_ALREADY = 704;
/** Pinned for all contexts. */
const PORTABLE = 1;
const Attribute = { multiprocessors: 16, major: 75, minor: 76, sharedBytes: 97 };
const DYNAMIC_SHARED = 8;
const PROGRAMMATIC = 6;
const CAPTURE_THREAD_LOCAL = 1;
const NON_BLOCKING = 1;
const NO_TIMING = 2;
const MAX_PARAMS = 1024;

type Call = (...args: unknown[]) => number;
const u = 'uint64_t';
const p = 'void *';
const i = 'int';
const out = '_Out_ uint64_t *';
const outInt = '_Out_ int *';
const SIGNATURES = {
  cuInit: ['uint32_t'],
  cuDriverGetVersion: [outInt],
  cuGetErrorName: [i, out],
  cuDeviceGetCount: [outInt],
  cuDeviceGet: [outInt, i],
  cuDeviceGetName: [p, i, i],
  cuDeviceGetAttribute: [outInt, i, i],
  cuDeviceTotalMem_v2: [out, i],
  cuDevicePrimaryCtxRetain: [out, i],
  cuDevicePrimaryCtxRelease_v2: [i],
  cuCtxSetCurrent: [u],
  cuDeviceCanAccessPeer: [outInt, i, i],
  cuCtxEnablePeerAccess: [u, 'uint32_t'],
  cuMemGetInfo_v2: [out, out],
  cuMemAlloc_v2: [out, u],
  cuMemFree_v2: [u],
  cuMemsetD8Async: [u, 'uint8_t', u, u],
  cuMemAddressReserve: [out, u, u, u, u],
  cuMemAddressFree: [u, u],
  cuMemGetAllocationGranularity: [out, p, i],
  cuMemCreate: [out, u, p, u],
  cuMemRelease: [u],
  cuMemMap: [u, u, u, u, u],
  cuMemUnmap: [u, u],
  cuMemSetAccess: [u, u, p, u],
  cuMemHostRegister_v2: [p, u, 'uint32_t'],
  cuMemHostUnregister: [p],
  cuMemcpyHtoDAsync_v2: [u, p, u, u],
  cuMemcpyDtoHAsync_v2: [p, u, u, u],
  cuStreamCreate: [out, 'uint32_t'],
  cuStreamDestroy_v2: [u],
  cuStreamSynchronize: [u],
  cuStreamWaitEvent: [u, u, 'uint32_t'],
  cuEventCreate: [out, 'uint32_t'],
  cuEventDestroy_v2: [u],
  cuEventRecord: [u, u],
  cuEventQuery: [u],
  cuEventSynchronize: [u],
  cuModuleLoadData: [out, p],
  cuModuleGetFunction: [out, u, 'const char *'],
  cuModuleUnload: [u],
  cuFuncLoad: [u],
  cuFuncSetAttribute: [u, i, i],
  cuLaunchKernelEx: [u, u, u, u],
  cuStreamBeginCapture_v2: [u, i],
  cuStreamEndCapture: [u, out],
  cuGraphInstantiateWithFlags: [out, u, u],
  cuGraphDestroy: [u],
  cuGraphExecDestroy: [u],
  cuGraphLaunch: [u, u],
} as const;
type Name = keyof typeof SIGNATURES;
/** Of CUDA 12.4: older drivers may load a kernel when it is first launched. */
const MAY_LACK: Name = 'cuFuncLoad';
type Calls = Record<Exclude<Name, typeof MAY_LACK>, Call> & Partial<Record<Name, Call>>;

/** @throws cuda_unavailable: no driver, or one that is too old */
export function openDriver(name = 'libcuda.so.1'): Driver {
  let library: ReturnType<typeof koffi.load>;
  try {
    library = koffi.load(name);
  } catch {
    throw errors.noCudaDriver();
  }
  const calls = {} as Calls;
  for (const [name, args] of Object.entries(SIGNATURES)) {
    try {
      calls[name as Name] = library.func(name, 'int', [...args]) as unknown as Call;
    } catch {
      if (name !== MAY_LACK) throw errors.cudaDriverTooOld(`it has no ${name}`);
    }
  }
  return new KoffiDriver(calls, { context: 0 });
}

class KoffiDriver implements Driver {
  readonly version: number;
  readonly #modules: number[] = [];
  readonly #mapped = new Map<Address, number>();
  /** config 56 bytes, attribute 72 at 64, pointer to the parameters at 192, parameters at 256 */
  readonly #arena = koffi.alloc('uint8_t', 256 + MAX_PARAMS) as bigint;
  readonly #bytes = new Uint8Array(koffi.view(this.#arena, 256 + MAX_PARAMS));
  readonly #view = new DataView(this.#bytes.buffer);
  #gpu = -1;
  #context = 0;

  constructor(
    private readonly calls: Calls,
    /** Of this thread, as all drivers of one library left it. */
    private readonly current: { context: number },
  ) {
    const code = calls.cuInit(0);
    if (code !== 0) throw errors.noCudaGpu(this.#name(code));
    this.version = this.#int('cuDriverGetVersion');
    this.#bytes.fill(0);
    const at = this.#arena;
    this.#view.setBigUint64(40, at + 64n, true); // attributes
    this.#view.setUint32(64, PROGRAMMATIC, true);
    this.#view.setUint32(72, 1, true);
    this.#view.setBigUint64(192, at + 256n, true);
  }

  gpus(): GpuInfo[] {
    return Array.from({ length: this.#int('cuDeviceGetCount') }, (_, ordinal) => {
      const device = this.#int('cuDeviceGet', ordinal);
      const name = new Uint8Array(256);
      this.#call('cuDeviceGetName', name, name.length, device);
      const attribute = (which: number) => this.#int('cuDeviceGetAttribute', which, device);
      return {
        name: Buffer.from(name.subarray(0, name.indexOf(0))).toString(),
        capability: 10 * attribute(Attribute.major) + attribute(Attribute.minor),
        multiprocessors: attribute(Attribute.multiprocessors),
        totalBytes: this.#out('cuDeviceTotalMem_v2', device),
        sharedBytes: attribute(Attribute.sharedBytes),
      };
    });
  }

  open(gpu: number): void {
    this.#gpu = this.#int('cuDeviceGet', gpu);
    this.#context = this.#out('cuDevicePrimaryCtxRetain', this.#gpu);
  }

  close(): void {
    const [modules, gpu] = [this.#modules.splice(0), this.#gpu];
    this.#gpu = -1;
    try {
      for (const module of modules) this.#call('cuModuleUnload', module);
    } finally {
      try {
        if (gpu >= 0) this.#call('cuDevicePrimaryCtxRelease_v2', gpu);
      } finally {
        this.#context = this.current.context = 0;
      }
    }
  }

  another(gpu: number): Driver {
    const driver = new KoffiDriver(this.calls, this.current);
    driver.open(gpu);
    return driver;
  }

  reach(other: Driver): boolean {
    invariant(other instanceof KoffiDriver, 'a GPU of another driver');
    if (!this.calls.cuFuncLoad) throw errors.cudaDriverTooOld('several GPUs need cuFuncLoad of CUDA 12.4');
    if (this.#int('cuDeviceCanAccessPeer', this.#gpu, other.#gpu) === 0) return false;
    const code = this.#raw('cuCtxEnablePeerAccess', other.#context, 0);
    if (code !== PEER_ACCESS_ALREADY) this.#good('cuCtxEnablePeerAccess', code);
    return true;
  }

  memory(): { free: number; total: number } {
    const free = [0];
    const total = [0];
    this.#call('cuMemGetInfo_v2', free, total);
    return { free: Number(free[0]), total: Number(total[0]) };
  }

  allocate(bytes: number): Address | null {
    const address = [0];
    const code = this.#raw('cuMemAlloc_v2', address, bytes);
    if (code === OUT_OF_MEMORY) return null;
    this.#good('cuMemAlloc_v2', code);
    return Number(address[0]);
  }

  release(address: Address): void {
    this.#call('cuMemFree_v2', address);
  }

  fill(address: Address, byte: number, bytes: number, stream: Address): void {
    this.#call('cuMemsetD8Async', address, byte, bytes, stream);
  }

  reserve(bytes: number): Address {
    return this.#out('cuMemAddressReserve', bytes, 0, 0, 0);
  }

  unreserve(address: Address, bytes: number): void {
    this.#call('cuMemAddressFree', address, bytes);
  }

  granularity(): number {
    return this.#out('cuMemGetAllocationGranularity', this.#allocation(), 0);
  }

  map(address: Address, bytes: number): boolean {
    const handle = [0];
    const code = this.#raw('cuMemCreate', handle, bytes, this.#allocation(), 0);
    if (code === OUT_OF_MEMORY) return false;
    this.#good('cuMemCreate', code);
    this.#call('cuMemMap', address, bytes, 0, handle[0], 0);
    const access = new Uint8Array(64);
    new Int32Array(access.buffer).set([1, this.#gpu, 3]);
    this.#call('cuMemSetAccess', address, bytes, access, 1);
    this.#mapped.set(address, Number(handle[0]));
    return true;
  }

  unmap(address: Address, bytes: number): void {
    this.#call('cuMemUnmap', address, bytes);
    this.#call('cuMemRelease', this.#mapped.get(address));
    this.#mapped.delete(address);
  }

  pin(host: Uint8Array): boolean {
    const code = this.#raw('cuMemHostRegister_v2', host, host.length, PORTABLE);
    if (code === OUT_OF_MEMORY) return false;
    this.#good('cuMemHostRegister_v2', code);
    return true;
  }

  unpin(host: Uint8Array): void {
    this.#call('cuMemHostUnregister', host);
  }

  upload(to: Address, from: Uint8Array, stream: Address): void {
    this.#call('cuMemcpyHtoDAsync_v2', to, from, from.length, stream);
  }

  download(to: Uint8Array, from: Address, stream: Address): void {
    this.#call('cuMemcpyDtoHAsync_v2', to, from, to.length, stream);
  }

  stream(): Address {
    return this.#out('cuStreamCreate', NON_BLOCKING);
  }

  destroyStream(stream: Address): void {
    this.#call('cuStreamDestroy_v2', stream);
  }

  synchronize(stream: Address): void {
    this.#call('cuStreamSynchronize', stream);
  }

  event(): Address {
    return this.#out('cuEventCreate', NO_TIMING);
  }

  destroyEvent(event: Address): void {
    this.#call('cuEventDestroy_v2', event);
  }

  record(event: Address, stream: Address): void {
    this.#call('cuEventRecord', event, stream);
  }

  streamWait(stream: Address, event: Address): void {
    this.#call('cuStreamWaitEvent', stream, event, 0);
  }

  eventDone(event: Address): boolean {
    const code = this.#raw('cuEventQuery', event);
    if (code === NOT_READY) return false;
    this.#good('cuEventQuery', code);
    return true;
  }

  eventWait(event: Address): void {
    this.#call('cuEventSynchronize', event);
  }

  kernel(cubin: Uint8Array, entry: string, shared: number): Address {
    const module = this.#out('cuModuleLoadData', cubin);
    this.#modules.push(module);
    const kernel = this.#out('cuModuleGetFunction', module, entry);
    if (shared > 0) this.#call('cuFuncSetAttribute', kernel, DYNAMIC_SHARED, shared);
    if (this.calls.cuFuncLoad) this.#call('cuFuncLoad', kernel);
    return kernel;
  }

  launch(kernel: Address, { grid, block, shared, early }: LaunchConfig, params: Uint8Array, stream: Address): void {
    invariant(params.length <= MAX_PARAMS, `a kernel has ${params.length} bytes of parameters`);
    const v = this.#view;
    for (let d = 0; d < 3; d++) v.setUint32(4 * d, grid[d]!, true);
    v.setUint32(12, block, true);
    v.setUint32(16, 1, true);
    v.setUint32(20, 1, true);
    v.setUint32(24, shared, true);
    v.setBigUint64(32, BigInt(stream), true);
    v.setUint32(48, early ? 1 : 0, true);
    this.#bytes.set(params, 256);
    this.#call('cuLaunchKernelEx', this.#arena, kernel, this.#arena + 192n, 0);
  }

  capture(stream: Address, work: () => void): Address {
    this.#call('cuStreamBeginCapture_v2', stream, CAPTURE_THREAD_LOCAL);
    const graph = [0];
    try {
      work();
    } finally {
      this.#call('cuStreamEndCapture', stream, graph);
    }
    const ready = this.#out('cuGraphInstantiateWithFlags', graph[0], 0);
    this.#call('cuGraphDestroy', graph[0]);
    return ready;
  }

  launchGraph(graph: Address, stream: Address): void {
    this.#call('cuGraphLaunch', graph, stream);
  }

  destroyGraph(graph: Address): void {
    this.#call('cuGraphExecDestroy', graph);
  }

  /** CUmemAllocationProp: pinned memory of the GPU. */
  #allocation(): Uint8Array {
    const prop = new Uint8Array(128);
    new Int32Array(prop.buffer).set([1, 0, 1, this.#gpu]);
    return prop;
  }

  #call(name: Name, ...args: unknown[]): void {
    this.#good(name, this.#raw(name, ...args));
  }

  /** In this GPU's context. */
  #raw(name: Name, ...args: unknown[]): number {
    const { calls, current } = this;
    if (this.#context !== current.context && this.#context !== 0) {
      this.#good('cuCtxSetCurrent', calls.cuCtxSetCurrent(this.#context));
      current.context = this.#context;
    }
    return calls[name]!(...args);
  }

  /** Calls that give one number, by their first argument. */
  #out(name: Name, ...args: unknown[]): number {
    const value = [0];
    this.#call(name, value, ...args);
    return Number(value[0]);
  }

  #int = this.#out;

  #good(name: Name, code: number): void {
    if (code !== 0) throw errors.native(code, `${name}: ${this.#name(code)}`);
  }

  #name(code: number): string {
    const text = [0];
    if (this.calls.cuGetErrorName(code, text) !== 0) return `CUDA error ${code}`;
    return koffi.decode(BigInt(text[0]!), 'char', -1) as string;
  }
}

export const versionText = (version: number): string =>
  `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
