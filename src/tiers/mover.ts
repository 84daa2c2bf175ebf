/**
 * Moves KV between the device and the places below it, as the cache manager orders, and measures how long that takes. Runs
 * between two steps on the engine's thread and never waits: the device copies beside its computing where it can, the disk
 * has a thread of its own.
 */
import type { RestoreCost, TierOperations, TransferOrder } from '../cache/types.js';
import type { KvTransfers, Transfer } from '../device/device.js';
import type { DiskTier } from './disk-tier.js';

/** What the mover needs of a disk. */
export type Disk = Pick<DiskTier, 'writable' | 'poll' | 'read' | 'write' | 'erase'>;

/** Buffers between disk and device take so much memory together, and are so many at least and at most. */
const STAGING_BYTES = 64 * 2 ** 20;
const MIN_STAGING = 4;
const MAX_STAGING = 32;
/** Host memory is taken in pieces of about so much. */
const PIECE_BYTES = 2 ** 30;
/** Where nothing was measured: 2 GB/s from host memory, 500 MB/s from disk. */
const FIRST_HOST_BYTES_PER_MS = 2e6;
const FIRST_DISK_BYTES_PER_MS = 5e5;
/** Who has not answered for so long counts as slow. */
const LONG_SILENCE_MS = 1000;
const OUTLIER = 8;
/** Copies of a device take milliseconds. */
const RETIRE_MS = 2000;

export interface MoverOptions {
  kv: KvTransfers;
  /** Tokens of the longest sequence. */
  sessionLen: number;
  memory: TierMemory;
  disk: Disk | null;
}

/** Host memory that a device copies from and to. Taken once: a cache manager made anew goes on with it. */
export class TierMemory {
  /** Buffers between disk and device that nobody uses. */
  readonly staging: Uint8Array[];
  /** (slots) a block each. */
  readonly #host: Uint8Array[];

  constructor(
    private readonly kv: KvTransfers,
    hostSlots: number,
    disk: boolean,
  ) {
    this.#host = slices(kv, hostSlots);
    this.staging = disk ? slices(kv, stagingBuffers(kv.blockBytes)) : [];
  }

  get host(): readonly Uint8Array[] {
    return this.#host;
  }

  /** The slot is other memory from now on: somebody still reads the one that it was. */
  replace(slot: number): void {
    this.#host[slot] = this.kv.allocateHost(this.kv.blockBytes);
  }
}

interface DeviceCopy {
  transfer: Transfer;
  then: () => void;
}

export class Mover {
  readonly #kv: KvTransfers;
  readonly #disk: Disk | null;
  readonly #memory: TierMemory;
  readonly #staging: Uint8Array[];
  /** Slots of host memory that the disk writes. */
  readonly #demoting = new Set<number>();
  readonly #copies: DeviceCopy[] = [];
  readonly #orders: TransferOrder[] = [];
  readonly #prefix: Int32Array;
  readonly #rate: { host: ServiceTime; disk: ServiceTime };
  /** Milliseconds of a block from host memory, as the device measured; null: it did not. */
  readonly #hostMs: number | null;
  #retired = false;

  constructor(
    private readonly cache: TierOperations,
    { kv, disk, memory, sessionLen }: MoverOptions,
  ) {
    this.#kv = kv;
    this.#disk = disk;
    this.#memory = memory;
    this.#staging = memory.staging;
    this.#prefix = new Int32Array(sessionLen);
    // ends are seen between steps, which last longer than these copies: the device's own figure is the better one
    const hostRate = memory.host.length > 0 ? kv.writeRate : null;
    this.#hostMs = hostRate && kv.blockBytes / hostRate;
    this.#rate = {
      host: new ServiceTime(kv.blockBytes / FIRST_HOST_BYTES_PER_MS),
      disk: new ServiceTime(kv.blockBytes / FIRST_DISK_BYTES_PER_MS),
    };
  }

  /** Copies of the device are under way: nothing wakes who waits for them. */
  get copying(): boolean {
    return this.#copies.length > 0;
  }

  /** Milliseconds that bringing back so many blocks will take, as measured of late. */
  restoreMs(cost: Readonly<RestoreCost>): number {
    return cost.host * (this.#hostMs ?? this.#rate.host.ms) + cost.disk * this.#rate.disk.ms;
  }

  /** Found too slow: believed a little less each time, so that it is measured again some day. */
  doubt(): void {
    this.#rate.host.doubt();
    this.#rate.disk.doubt();
  }

  /**
   * The cache manager is of no use any more. Copies under way are waited for, since blocks and slots will be others'; what a disk
   * brings later goes nowhere, and what it has still to write from a slot of host memory keeps that memory: a name of one text
   * must never stand on the disk before the KV of another.
   */
  retire(): void {
    this.#retired = true;
    for (const slot of this.#demoting) this.#memory.replace(slot);
    const end = performance.now() + RETIRE_MS;
    try {
      while (this.copying && performance.now() < end) this.#endCopies();
    } catch {
      // a device that failed copies nothing more
    }
  }

  /** Starts what can be started, tells the cache manager of what ended. After a step was committed. */
  pump(): void {
    this.#disk?.poll();
    this.#endCopies();
    for (let n = this.#take(); n > 0; n = this.#take()) {
      for (let i = 0; i < n; i++) this.#start({ ...this.#orders[i]! });
      this.#endCopies();
    }
  }

  #take(): number {
    // an order may need a buffer; orders that need none do not wait for one long
    const room = this.#disk ? this.#staging.length : MAX_STAGING;
    return room > 0 ? this.cache.takeOrders(this.#orders, room) : 0;
  }

  #start(order: TransferOrder): void {
    const { kind, host, disk } = order;
    if (kind === 'load') {
      if (host !== -1) this.#loadFromHost(order);
      else this.#loadFromDisk(order);
    } else if (kind === 'forget') {
      this.#disk!.erase(disk);
      this.cache.orderDone(order.id, true);
    } else if (kind === 'save' && host !== -1) {
      this.#copy(this.#kv.read(order.block, this.#memory.host[host]!), () => this.#tell(order.id, true));
    } else if (!this.#disk!.writable) {
      this.cache.orderDone(order.id, false);
    } else if (kind === 'demote') {
      this.#demoting.add(host);
      this.#write(order, this.#memory.host[host]!, () => this.#demoting.delete(host));
    } else {
      this.#saveToDisk(order);
    }
  }

  #saveToDisk(order: TransferOrder): void {
    const buffer = this.#staging.pop()!;
    this.#copy(this.#kv.read(order.block, buffer), () => {
      if (this.#retired) {
        this.#staging.push(buffer);
        return;
      }
      this.cache.blockRead(order.id);
      this.#write(order, buffer, () => this.#staging.push(buffer));
    });
  }

  /** The node's KV goes into its slot of the disk. */
  #write({ id, node, disk }: TransferOrder, kv: Uint8Array, after: () => void): void {
    const prefix = this.#prefix.slice(0, this.cache.prefixTokens(node, this.#prefix));
    this.#disk!.write(disk, this.cache.namespaceOf(node), prefix, kv, ({ ok }) => {
      after();
      this.#tell(id, ok);
    });
  }

  #loadFromHost({ id, block, host }: TransferOrder): void {
    const end = this.#rate.host.begin();
    this.#copy(this.#kv.write(block, this.#memory.host[host]!), () => {
      end();
      this.#tell(id, true);
    });
  }

  #loadFromDisk({ id, block, disk }: TransferOrder): void {
    const buffer = this.#staging.pop()!;
    const end = this.#rate.disk.begin();
    const done = (ok: boolean, ms: number) => {
      end(ms);
      this.#staging.push(buffer);
      this.#tell(id, ok);
    };
    this.#disk!.read(disk, buffer, ({ ok, ms }) => {
      if (ok && !this.#retired && this.cache.loadArrived(id))
        this.#copy(this.#kv.write(block, buffer), () => done(true, ms));
      else done(ok, ms);
    });
  }

  #tell(id: number, ok: boolean): void {
    if (!this.#retired) this.cache.orderDone(id, ok);
  }

  #copy(transfer: Transfer, then: () => void): void {
    this.#copies.push({ transfer, then });
  }

  #endCopies(): void {
    // ending one may begin others
    for (let i = 0; i < this.#copies.length; ) {
      const { transfer, then } = this.#copies[i]!;
      if (!this.#kv.done(transfer)) {
        i++;
        continue;
      }
      this.#copies.splice(i, 1);
      then();
    }
  }
}

/** Buffers between disk and device. */
export function stagingBuffers(blockBytes: number): number {
  return Math.max(MIN_STAGING, Math.min(MAX_STAGING, Math.floor(STAGING_BYTES / blockBytes)));
}

function slices(kv: KvTransfers, count: number): Uint8Array[] {
  if (count === 0) return [];
  // in pieces: an array has an end (4 GiB in Node 20)
  const most = Math.max(1, Math.floor(PIECE_BYTES / kv.blockBytes));
  const all: Uint8Array[] = [];
  while (all.length < count) {
    const n = Math.min(most, count - all.length);
    const memory = kv.allocateHost(n * kv.blockBytes);
    for (let i = 0; i < n; i++) all.push(memory.subarray(i * kv.blockBytes, (i + 1) * kv.blockBytes));
  }
  return all;
}

/** What a block takes of a place that serves one after another. */
class ServiceTime {
  #ms: number;
  /** When those were asked for that have not come yet, oldest first; when the last one came. */
  readonly #asked = new Set<{ at: number }>();
  #lastCame = 0;

  constructor(first: number) {
    this.#ms = first;
  }

  /** Milliseconds. A place that has not answered for long takes at least so long. */
  get ms(): number {
    const [oldest] = this.#asked;
    if (!oldest) return this.#ms;
    const silent = performance.now() - Math.max(oldest.at, this.#lastCame);
    return silent > LONG_SILENCE_MS ? Math.max(silent, this.#ms) : this.#ms;
  }

  /** Call what it returns when the block has come, with what it took if the place measured that itself. */
  begin(): (ms?: number) => void {
    const asked = { at: performance.now() };
    this.#asked.add(asked);
    return (ms = performance.now() - Math.max(asked.at, this.#lastCame)) => {
      this.#asked.delete(asked);
      this.#lastCame = performance.now();
      // a single one that took far longer than the others says little of the next
      this.#ms += 0.2 * (Math.min(ms, OUTLIER * this.#ms) - this.#ms);
    };
  }

  doubt(): void {
    this.#ms *= 0.99;
  }
}
