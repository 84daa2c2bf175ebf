/**
 * What the CUDA device asks of the driver: plain numbers in and out, failures thrown. Addresses and handles are numbers (user
 * space has 47 bits). koffi-driver.ts binds libcuda; a test double checks every argument.
 */

import { LongmindError } from '../../errors.js';

/** A pointer on the device, or a driver's handle. */
export type Address = number;

export interface GpuInfo {
  name: string;
  /** 90 for compute capability 9.0. */
  capability: number;
  multiprocessors: number;
  totalBytes: number;
  /** Shared memory that one block may have. */
  sharedBytes: number;
}

export interface LaunchConfig {
  grid: readonly [number, number, number];
  block: number;
  /** Dynamic shared memory, bytes. */
  shared: number;
  /** May begin while the kernel before it in the stream ends (programmatic dependent launch). */
  early: boolean;
}

export interface Driver {
  /** 13000 for CUDA 13.0. */
  readonly version: number;
  gpus(): GpuInfo[];
  /** Makes this thread's calls mean a GPU. */
  open(gpu: number): void;
  close(): void;
  /** Another GPU through the same library, opened: this thread may use both in turn. */
  another(gpu: number): Driver;
  /**
   * From now on kernels of this GPU may read and write what is allocated on the other; false: they cannot.
   * @throws cuda_unavailable: the driver might load a kernel at its first launch, which waits for one that waits for another GPU
   */
  reach(other: Driver): boolean;

  memory(): { free: number; total: number };
  /** null if there is not so much. Aligned to 256. */
  allocate(bytes: number): Address | null;
  release(address: Address): void;
  fill(address: Address, byte: number, bytes: number, stream: Address): void;

  /** Address space without memory. */
  reserve(bytes: number): Address;
  unreserve(address: Address, bytes: number): void;
  /** What sizes of `map` are multiples of. */
  granularity(): number;
  /** Puts memory behind reserved addresses; false if there is not so much. */
  map(address: Address, bytes: number): boolean;
  unmap(address: Address, bytes: number): void;

  /** Pins host memory for all GPUs, so that copies of it run beside everything else; false if the system does not have so much. */
  pin(host: Uint8Array): boolean;
  unpin(host: Uint8Array): void;
  upload(to: Address, from: Uint8Array, stream: Address): void;
  download(to: Uint8Array, from: Address, stream: Address): void;

  stream(): Address;
  destroyStream(stream: Address): void;
  synchronize(stream: Address): void;
  event(): Address;
  destroyEvent(event: Address): void;
  record(event: Address, stream: Address): void;
  /** What comes later in the stream waits for the event as it was recorded last. */
  streamWait(stream: Address, event: Address): void;
  eventDone(event: Address): boolean;
  eventWait(event: Address): void;

  /** A kernel of a cubin, ready for `shared` bytes of dynamic shared memory. */
  kernel(cubin: Uint8Array, entry: string, shared: number): Address;
  launch(kernel: Address, config: LaunchConfig, params: Uint8Array, stream: Address): void;
  /** What `work` launches into the stream becomes a graph instead. */
  capture(stream: Address, work: () => void): Address;
  launchGraph(graph: Address, stream: Address): void;
  destroyGraph(graph: Address): void;
}

/** A GPU whose context is lost refuses to free what went with it. */
export function unlessLost(free: () => void): void {
  try {
    free();
  } catch (e) {
    if (!(e instanceof LongmindError && e.code === 'native_error')) throw e;
  }
}
