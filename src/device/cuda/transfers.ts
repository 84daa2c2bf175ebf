/** KV blocks ↔ pinned host memory, on streams of their own, behind the steps and beside them. */
import { errors, invariant } from '../../errors.js';
import type { KvTransfers, Transfer } from '../device.js';
import { type Address, type Driver, unlessLost } from './driver.js';
import type { DeviceMemory, KvPool } from './memory.js';

const MEASURED_ROUNDS = 4;
const MEASURED_COPIES = 8;

export class CudaTransfers implements KvTransfers {
  readonly #reads: Address;
  readonly #writes: Address;
  /** Of steps or copies that the next copy must follow. */
  readonly #order: Address;
  /** Copies under way. */
  readonly #open = new Map<Transfer, Address>();
  readonly #spare: Address[] = [];
  #started = 0;
  #rate: number | null = null;

  constructor(
    private readonly driver: Driver,
    private readonly memory: DeviceMemory,
    private readonly pool: KvPool,
    /** The stream of the steps. */
    private readonly steps: Address,
    /** Memory of the device that nobody reads before writing it. */
    private readonly scratch: { address: Address; bytes: number },
  ) {
    this.#reads = driver.stream();
    this.#writes = driver.stream();
    this.#order = driver.event();
  }

  get blockBytes(): number {
    return this.pool.blockBytes;
  }

  get writeRate(): number {
    this.#rate ??= this.#measure();
    return this.#rate;
  }

  allocateHost(bytes: number): Uint8Array {
    return this.memory.host(bytes);
  }

  read(block: number, host: Uint8Array): Transfer {
    this.#check(block, host);
    this.#follow(this.#reads);
    this.driver.download(host, this.pool.addressOf(block), this.#reads);
    return this.#begun(this.#reads);
  }

  write(block: number, host: Uint8Array): Transfer {
    this.#check(block, host);
    this.#follow(this.#writes);
    this.driver.upload(this.pool.addressOf(block), host, this.#writes);
    return this.#begun(this.#writes);
  }

  done(transfer: Transfer): boolean {
    invariant(transfer >= 0 && transfer < this.#started, `transfer ${transfer} was never started`);
    const event = this.#open.get(transfer);
    if (event === undefined) return true;
    if (!this.driver.eventDone(event)) return false;
    this.#open.delete(transfer);
    this.#spare.push(event);
    return true;
  }

  close(): void {
    for (const stream of [this.#reads, this.#writes]) {
      this.driver.synchronize(stream);
      this.driver.destroyStream(stream);
    }
    for (const event of [this.#order, ...this.#open.values(), ...this.#spare]) this.driver.destroyEvent(event);
  }

  /** In copies of a block, the best of some. */
  #measure(): number {
    const bytes = Math.min(this.blockBytes, this.scratch.bytes);
    const host = this.memory.host(bytes);
    let best = 0;
    for (let round = 0; round < MEASURED_ROUNDS; round++) {
      const started = performance.now();
      for (let i = 0; i < MEASURED_COPIES; i++) this.driver.upload(this.scratch.address, host, this.#writes);
      this.driver.synchronize(this.#writes);
      best = Math.max(best, (MEASURED_COPIES * bytes) / Math.max(1e-3, performance.now() - started));
    }
    this.memory.releaseHost(host);
    return best;
  }

  /** What comes next in the stream follows all steps that were submitted. */
  #follow(stream: Address): void {
    this.driver.record(this.#order, this.steps);
    this.driver.streamWait(stream, this.#order);
  }

  #begun(stream: Address): Transfer {
    const event = this.#spare.pop() ?? this.driver.event();
    this.driver.record(event, stream);
    this.#open.set(this.#started, event);
    return this.#started++;
  }

  #check(block: number, host: Uint8Array): void {
    if (!(block >= 0 && block < this.pool.blocks) || host.length !== this.blockBytes)
      throw errors.native(
        -1,
        `block ${block} of ${this.pool.blocks}, ${host.length} of ${this.blockBytes} bytes: out of range`,
      );
  }
}

/** Blocks that several GPUs have shares of: in host memory they lie one after another. */
export class SharedTransfers implements KvTransfers {
  readonly blockBytes: number;

  constructor(
    /** They begin and end together, so their transfers have the same numbers. */
    private readonly parts: readonly [CudaTransfers, ...CudaTransfers[]],
  ) {
    this.blockBytes = parts.reduce((sum, part) => sum + part.blockBytes, 0);
  }

  /** Each GPU has a way of its own. */
  get writeRate(): number {
    return this.parts.length * Math.min(...this.parts.map((part) => part.writeRate));
  }

  allocateHost(bytes: number): Uint8Array {
    return this.parts[0].allocateHost(bytes);
  }

  read(block: number, host: Uint8Array): Transfer {
    return this.#each(host, (part, share) => part.read(block, share));
  }

  write(block: number, host: Uint8Array): Transfer {
    return this.#each(host, (part, share) => part.write(block, share));
  }

  done(transfer: Transfer): boolean {
    return this.parts.every((part) => part.done(transfer));
  }

  close(): void {
    for (const part of this.parts) unlessLost(() => part.close());
  }

  #each(host: Uint8Array, start: (part: CudaTransfers, share: Uint8Array) => Transfer): Transfer {
    const { parts, blockBytes } = this;
    const bytes = blockBytes / parts.length;
    // what is wrong is found by the first: all have the same blocks
    const transfers = parts.map((part, i) =>
      start(part, host.subarray(i * bytes, i + 1 < parts.length ? (i + 1) * bytes : host.length)),
    );
    return transfers[0]!;
  }
}
