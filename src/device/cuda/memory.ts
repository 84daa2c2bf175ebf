/** Memory of the device: single allocations, pinned host memory, and the KV pool that grows in place. */
import os from 'node:os';
import { errors } from '../../errors.js';
import type { Address, Driver } from './driver.js';
import { Toucher } from './touch.js';

export class DeviceMemory {
  readonly #owned: Address[] = [];
  readonly #pinned: Uint8Array[] = [];
  readonly #toucher = new Toucher(os.availableParallelism());

  constructor(
    readonly driver: Driver,
    /** What is to be allocated in all, for the message. */
    private readonly split: string,
  ) {}

  /** @throws not_enough_memory */
  take(bytes: number, what: string): Address {
    const address = this.driver.allocate(Math.max(256, bytes));
    if (address === null) throw errors.notEnoughMemory(`${what} (${this.split})`, bytes, this.driver.memory().free);
    this.#owned.push(address);
    return address;
  }

  release(address: Address): void {
    this.driver.release(address);
    this.#owned.splice(this.#owned.indexOf(address), 1);
  }

  /** Shared memory of this process, pinned; other threads may fill it. @throws not_enough_memory */
  host(bytes: number): Uint8Array {
    const memory = new SharedArrayBuffer(bytes);
    this.#toucher.touch(memory);
    const view = new Uint8Array(memory);
    if (!this.driver.pin(view)) throw errors.notEnoughMemory('pinned host memory', bytes, os.freemem());
    this.#pinned.push(view);
    return view;
  }

  releaseHost(view: Uint8Array): void {
    this.driver.unpin(view);
    this.#pinned.splice(this.#pinned.indexOf(view), 1);
  }

  close(): void {
    for (const view of this.#pinned) this.driver.unpin(view);
    for (const address of this.#owned) this.driver.release(address);
    this.#pinned.length = this.#owned.length = 0;
  }
}

/** KV blocks in one range of addresses; memory is put behind it in chunks. */
export class KvPool {
  readonly base: Address;
  readonly #reserved: number;
  readonly #granularity: number;
  readonly #chunks: { address: Address; bytes: number }[] = [];
  #mapped = 0;
  #blocks = 0;

  constructor(
    private readonly driver: Driver,
    readonly blockBytes: number,
    private readonly maxBlocks: number,
  ) {
    this.#granularity = driver.granularity();
    this.#reserved = this.#round(maxBlocks * blockBytes);
    this.base = driver.reserve(this.#reserved);
  }

  get blocks(): number {
    return this.#blocks;
  }

  /** False, and nothing changed, if there is not so much memory. */
  grow(total: number): boolean {
    if (total > this.maxBlocks) return false;
    const bytes = this.#round(total * this.blockBytes) - this.#mapped;
    if (bytes > 0) {
      const address = this.base + this.#mapped;
      if (!this.driver.map(address, bytes)) return false;
      this.#chunks.push({ address, bytes });
      this.#mapped += bytes;
    }
    this.#blocks = Math.max(this.#blocks, total);
    return true;
  }

  /** Gives back what blocks from `total` on have for themselves: another GPU had no memory for them. */
  shrink(total: number): void {
    const keep = this.#round(total * this.blockBytes);
    for (let last = this.#chunks.at(-1); last && this.#mapped - last.bytes >= keep; last = this.#chunks.at(-1)) {
      this.driver.unmap(last.address, last.bytes);
      this.#chunks.pop();
      this.#mapped -= last.bytes;
    }
    this.#blocks = total;
  }

  addressOf(block: number): Address {
    return this.base + block * this.blockBytes;
  }

  close(): void {
    for (const { address, bytes } of this.#chunks) this.driver.unmap(address, bytes);
    this.driver.unreserve(this.base, this.#reserved);
  }

  #round(bytes: number): number {
    return Math.ceil(bytes / this.#granularity) * this.#granularity;
  }
}
