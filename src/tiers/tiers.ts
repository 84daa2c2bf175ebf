/** The places below the device, as the options ask for them. */
import { createHash } from 'node:crypto';
import type { AdoptedNode, CacheManager, TierConfig } from '../cache/types.js';
import type { DiskSpace } from '../config.js';
import type { Device, KvLayout } from '../device/device.js';
import { errors, formatBytes } from '../errors.js';
import type { TierInfo } from '../types.js';
import { type DiskProgram, DiskTier } from './disk-tier.js';
import { Mover, stagingBuffers, TierMemory } from './mover.js';

export interface TiersOptions {
  /** Bytes of host memory for KV. */
  host: number;
  disk: DiskSpace | null;
  /** Of the model's file, weights included. */
  model: string;
  kv: KvLayout;
  /** Hashes of what makes KV of other namespaces another, by group (NAMESPACE_GROUP). */
  groups?: Readonly<Record<number, string>>;
  sessionLen: number;
  /** KV blocks of the device. */
  blocks: number;
  /** Tells what is nobody's fault, and goes on. */
  onProblem: (problem: string) => void;
  /** Something ended while the engine may sleep. */
  onWake: () => void;
  /** Of the disk's thread, if it is not its own. */
  diskProgram?: DiskProgram;
}

/** Transfers under way when the process is asked to end are waited for, but not for long. */
const CLOSE_MS = 10_000;
/** Copies to host memory under way: so many bytes, and so many blocks at most. */
const HOST_WRITE_BYTES = 2 ** 29;
const MAX_HOST_WRITES = 256;

export class Tiers {
  readonly config: TierConfig;
  #mover: Mover | null = null;
  #memory: TierMemory | null = null;
  #cache: CacheManager | null = null;
  /** What an earlier process left; for the first cache manager only. */
  #found: AdoptedNode[];

  private constructor(
    private readonly device: Device,
    private readonly disk: DiskTier | null,
    private readonly options: TiersOptions,
  ) {
    const { blockBytes } = device.kv;
    const host = Math.floor(options.host / blockBytes);
    // copies to host memory alone need no buffers, and what was not saved in time is lost
    const maxWrites = disk
      ? Math.max(1, Math.min(8, stagingBuffers(blockBytes) >> 1))
      : Math.max(1, Math.min(MAX_HOST_WRITES, Math.floor(HOST_WRITE_BYTES / blockBytes), options.blocks >> 2));
    this.config = { host, disk: disk?.layout.slots ?? 0, maxWrites };
    this.#found = (disk?.found ?? []).map(({ slot, ...node }) => ({ disk: slot, ...node }));
  }

  /** After the device has loaded the model. Null: there are none. @throws invalid_option, cache_disk_in_use, io_error */
  static open(device: Device, options: TiersOptions): Tiers | null {
    const { host, disk, kv, model } = options;
    if (host === 0 && !disk) return null;
    const { blockBytes } = device.kv;
    if (host > 0 && !device.info.ownMemory)
      throw errors.invalidOption(
        'cacheHost',
        formatBytes(host),
        `0 with device '${device.info.name}', whose KV is in host memory already`,
      );
    if (host > 0 && host < blockBytes)
      throw errors.invalidOption('cacheHost', formatBytes(host), `room for one KV block of ${formatBytes(blockBytes)}`);
    const key = createHash('sha256')
      .update(JSON.stringify([model, kv, device.info.kernels]))
      .digest('hex');
    const { onProblem, onWake, diskProgram: program, groups } = options;
    const tier =
      disk && DiskTier.open({ ...disk, blockBytes, blockLen: kv.blockLen, key, groups, onProblem, onWake, program });
    return new Tiers(device, tier, options);
  }

  /** A cache manager was made with `config`; an earlier one is of no use any more. Returns what moves its KV. */
  serve(cache: CacheManager): Mover {
    const { device, disk } = this;
    this.#mover?.retire();
    this.#memory ??= new TierMemory(device.kv, this.config.host, disk !== null);
    this.#cache = cache;
    this.#mover = new Mover(cache, { kv: device.kv, sessionLen: this.options.sessionLen, memory: this.#memory, disk });
    if (disk) cache.adopt(this.#found);
    this.#found = [];
    return this.#mover;
  }

  get info(): TierInfo {
    const { disk, config } = this;
    const { dir } = this.options.disk ?? { dir: '' };
    return {
      hostBlocks: config.host,
      disk: disk && { dir, bytes: disk.layout.fileBytes, blocks: disk.layout.slots, found: disk.found.length },
    };
  }

  async close(): Promise<void> {
    const end = performance.now() + CLOSE_MS;
    while (this.#cache && this.#pending() && performance.now() < end) {
      this.#mover!.pump();
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await this.disk?.close();
  }

  #pending(): boolean {
    return this.#cache!.ordersWaiting() + this.#cache!.ordersOutstanding() > 0;
  }
}
