/**
 * The disk tier: KV of blocks in one preallocated file, on a thread of its own, so that the engine never waits for a disk.
 * It survives the process; see disk-layout.ts for what survives a crash. A disk that fails is never an error of a request:
 * what cannot be read is computed again, what cannot be written is not kept.
 */

import { closeSync } from 'node:fs';
import path from 'node:path';
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { makeFolder } from '../base/folders.js';
import { type FileLock, HeldBy, takeLock } from '../base/lock.js';
import { errors, formatBytes, LongmindError } from '../errors.js';
import { openFile, prepareFile } from './disk-file.js';
import { type DiskLayout, planLayout } from './disk-layout.js';
import { type FoundNode, keysOf, type Scan } from './disk-scan.js';
import type { DiskAnswer, DiskOrder, DiskWorkerData } from './disk-thread.js';

export interface DiskTierOptions {
  /** A folder for KV alone; made if it is missing. */
  dir: string;
  /** Bytes the file may take. */
  bytes: number;
  blockBytes: number;
  blockLen: number;
  /** SHA-256 (hex) of model, KV layout and kernel family. */
  key: string;
  /** See DiskLayout. */
  groups?: DiskLayout['groups'];
  /** Told when the disk begins to fail, and when it works again. */
  onProblem?: (problem: string) => void;
  /** Something ended, for an engine that sleeps; not called by `poll`. */
  onWake?: () => void;
  /** Tests and measurements have one whose disk fails. */
  program?: DiskProgram;
}

/** What the disk's thread runs, as plain data. */
export interface DiskProgram {
  /** Address of a script that serves the disk (disk-thread.ts). */
  script: string;
  data: unknown;
}

const FILE = 'kv-cache.bin';
const LOCK = 'kv-cache.lock';
/** After a failed write nothing is written for so long; doubles with each further one. */
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** Who closes waits so long for a disk that does not answer. */
const CLOSE_MS = 5000;

type Done = (answer: DiskAnswer) => void;

export class DiskTier {
  /** Of an earlier process. */
  readonly found: FoundNode[];
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #waiting = new Map<number, Done>();
  #nextId = 0;
  #stamp: number;
  #pausedUntil = 0;
  #pauseMs = 0;
  #ended = false;
  #closed: Promise<void> | null = null;

  private constructor(
    readonly layout: DiskLayout,
    private readonly fd: number,
    private readonly lock: FileLock,
    scan: Scan,
    private readonly options: DiskTierOptions,
  ) {
    this.found = scan.nodes;
    this.#stamp = scan.stamp;
    const { port1, port2 } = new MessageChannel();
    const { script, data } = options.program ?? { script: new URL('./disk-worker.js', import.meta.url), data: null };
    const workerData: DiskWorkerData = { fd, layout, crcs: scan.crcs, port: port2, lock: lock.handle, data };
    this.#port = port1;
    this.#port.on('message', (a: DiskAnswer) => {
      this.#end(a);
      options.onWake?.();
    });
    this.#port.unref();
    this.#worker = new Worker(new URL(script), { workerData, transferList: [port2], execArgv: [] });
    this.#worker.unref();
    this.#worker.on('error', (e) => this.#fail(e));
    this.#worker.once('exit', () => this.#fail(new Error('the disk thread ended')));
  }

  /** @throws invalid_option (no slot fits), cache_disk_in_use, io_error (cannot be made, too little room) */
  static open(options: DiskTierOptions): DiskTier {
    const { dir, bytes, blockBytes, blockLen, key } = options;
    const layout = planLayout(bytes, blockBytes, blockLen, key, options.groups);
    if (layout.slots === 0)
      throw errors.invalidOption(
        'cacheDisk',
        formatBytes(bytes),
        `a size with room for one KV block of ${formatBytes(blockBytes)}`,
      );
    const file = path.join(dir, FILE);
    let lock: FileLock | null = null;
    let fd = -1;
    try {
      makeFolder(dir, 0o700);
      const taken = takeLock(path.join(dir, LOCK));
      if (taken instanceof HeldBy) throw errors.cacheDiskInUse(dir, taken.holder);
      lock = taken;
      fd = openFile(file);
      return new DiskTier(layout, fd, lock, prepareFile(fd, layout, file), options);
    } catch (e) {
      if (fd !== -1) closeSync(fd);
      lock?.release();
      if (e instanceof LongmindError) throw e;
      throw errors.io(`the disk cache '${file}' cannot be used`, (e as Error).message);
    }
  }

  /** A disk that failed is left alone for a while; nothing should be written meanwhile. */
  get writable(): boolean {
    return !this.#ended && performance.now() >= this.#pausedUntil;
  }

  /** Stores the KV of the last block of the text `prefix`. `kv` belongs to the disk thread until `done`. */
  write(slot: number, namespace: number, prefix: Int32Array, kv: Uint8Array, done: Done): void {
    const { blockLen } = this.layout;
    const tokens = prefix.slice(prefix.length - 1 - ((prefix.length - 1) % blockLen));
    const record = {
      ...keysOf(namespace, prefix, blockLen, this.layout.groups),
      namespace,
      end: prefix.length,
      tokens,
      stamp: ++this.#stamp,
    };
    this.#send({ id: this.#nextId++, kind: 'write', slot, record, kv }, (a) => {
      this.#judge(a);
      done(a);
    });
  }

  /** Brings a slot's KV. Not ok: it is not there any more. */
  read(slot: number, kv: Uint8Array, done: Done): void {
    this.#send({ id: this.#nextId++, kind: 'read', slot, kv }, done);
  }

  /** After a restart nobody finds what the slot holds. */
  erase(slot: number): void {
    this.#send({ id: this.#nextId++, kind: 'erase', slot }, () => {});
  }

  /** Tells of all orders that ended; never waits. */
  poll(): void {
    for (let m = receiveMessageOnPort(this.#port); m; m = receiveMessageOnPort(this.#port)) {
      this.#end(m.message as DiskAnswer);
    }
  }

  /** All that was ordered is on the disk then, unless the disk does not answer within `patienceMs`: it is left behind. */
  close(patienceMs: number = CLOSE_MS): Promise<void> {
    this.#closed ??= this.#close(patienceMs);
    return this.#closed;
  }

  async #close(patienceMs: number): Promise<void> {
    if (!this.#ended)
      await within(patienceMs, new Promise((resolve) => this.#send({ id: this.#nextId++, kind: 'sync' }, resolve)));
    this.#ended = true;
    this.#port.close();
    this.#endAll('the disk did not answer');
    // a thread that is stuck in the system still uses both
    if (!(await within(patienceMs, this.#worker.terminate()))) return;
    closeSync(this.fd);
    this.lock.release();
  }

  #send(order: DiskOrder, done: Done): void {
    if (this.#ended) {
      done({ id: order.id, ok: false, ms: 0, error: 'the disk thread ended' });
      return;
    }
    if (this.#waiting.size === 0) this.#keepAlive(true);
    this.#waiting.set(order.id, done);
    this.#port.postMessage(order);
  }

  #end(answer: DiskAnswer): void {
    const done = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if (this.#waiting.size === 0) this.#keepAlive(false);
    done?.(answer);
  }

  /** A process is kept alive by what it waits for, and by nothing else. */
  #keepAlive(on: boolean): void {
    if (on) this.#port.ref();
    else this.#port.unref();
    if (on) this.#worker.ref();
    else this.#worker.unref();
  }

  #fail(e: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.options.onProblem?.(`the disk cache is not used any more: ${e.message}`);
    this.#endAll(e.message);
    this.options.onWake?.();
  }

  #endAll(error: string): void {
    for (const id of [...this.#waiting.keys()]) this.#end({ id, ok: false, ms: 0, error });
  }

  /** A failed write makes a pause. */
  #judge(a: DiskAnswer): void {
    const { dir, onProblem } = this.options;
    if (a.ok) {
      if (this.#pauseMs > 0) onProblem?.(`the disk cache in '${dir}' can be written again`);
      this.#pauseMs = 0;
      return;
    }
    if (!this.writable) return;
    if (this.#pauseMs === 0)
      onProblem?.(`the disk cache in '${dir}' cannot be written: ${a.error}; what it lacks is computed again`);
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, 2 * this.#pauseMs || FIRST_PAUSE_MS);
    this.#pausedUntil = performance.now() + this.#pauseMs;
  }
}

/** False: it has not happened in time, and is not waited for. */
async function within(ms: number, happens: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  const inTime = await Promise.race([happens.then(() => true), late]);
  clearTimeout(timer);
  return inTime;
}
