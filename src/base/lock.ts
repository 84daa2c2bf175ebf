/**
 * A lock: a file, made exclusively, that says which process holds it. Nothing has to be cleaned up after `kill -9`: who
 * finds the lock of a process that is gone takes it over.
 *
 * Of a process of another container, machine or boot nothing can be looked up: such a lock is held as long as its file's
 * time changes, which the holder sees to by `beat()`.
 */

import {
  closeSync,
  fstatSync,
  futimesSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeFolder } from './folders.js';
import { lives, type ProcessIdentity, parseIdentity, placeOfProcesses, thisProcess } from './identity.js';

/** The holder beats so often; a lock that did not for three times that is nobody's. */
export const BEAT_MS = 2000;
const POLL_MS = 100;
/** Who takes a lock away, and cannot be looked up, is done after so long. */
const TAKING_MS = 10_000n;

interface LockOptions {
  /** Milliseconds; a lock that did not change for so long is nobody's. Default: three beats. */
  patienceMs?: number;
  /** A living process of this machine must beat too: the thread of it that held the lock may have ended. */
  mustBeat?: boolean;
}

/** What beat() needs; may be passed to another thread. */
export type LockHandle = number;

export class FileLock {
  constructor(
    private readonly file: string,
    /** For beat(). */
    readonly handle: LockHandle,
  ) {}

  release(): void {
    // never a lock that somebody took over
    const mine = statSync(this.file, { throwIfNoEntry: false })?.ino === fstatSync(this.handle).ino;
    closeSync(this.handle);
    if (mine) unlinkSync(this.file);
  }
}

/** Who has a lock, for messages: 'process 12'. */
export class HeldBy {
  constructor(readonly holder: string) {}
}

/** The lock, or who holds it. May wait as long as the patience lasts, for a holder that cannot be looked up. */
export function takeLock(file: string, options: LockOptions = {}): FileLock | HeldBy {
  const attempt = new Attempt(file, options);
  for (;;) {
    const found = attempt.next();
    if (found instanceof FileLock) return found;
    if (found === 'held') return new HeldBy(attempt.holder);
    pause();
  }
}

/** Waits for the lock and holds it while `work` runs. `onWait`: told once, if somebody else holds it. */
export async function withLock<T>(
  file: string,
  options: LockOptions & { signal?: AbortSignal; onWait?: () => void },
  work: () => Promise<T>,
): Promise<T> {
  makeFolder(path.dirname(file));
  const attempt = new Attempt(file, options);
  let lock = attempt.next();
  if (!(lock instanceof FileLock)) options.onWait?.();
  while (!(lock instanceof FileLock)) {
    await sleep(POLL_MS, undefined, { signal: options.signal });
    lock = attempt.next();
  }
  const { handle } = lock;
  const beats = setInterval(() => beat(handle), BEAT_MS);
  try {
    return await work();
  } finally {
    clearInterval(beats);
    lock.release();
  }
}

/** The same for work that blocks its thread, and that beats on its own. null: `done` while another one worked. */
export function withLockSync<T>(file: string, options: LockOptions, done: () => boolean, work: () => T): T | null {
  const attempt = new Attempt(file, options);
  for (;;) {
    const lock = attempt.next();
    if (lock instanceof FileLock) {
      try {
        return work();
      } finally {
        lock.release();
      }
    }
    if (done()) return null;
    pause();
  }
}

/** One who wants the lock, and what was seen of it so far. */
class Attempt {
  holder = 'another process';
  #content: string | null = null;
  #time = 0n;
  #since = 0;

  constructor(
    private readonly file: string,
    private readonly options: LockOptions,
  ) {}

  /** Never waits. 'silent': perhaps a dead one's; whether it changes will tell. */
  next(): FileLock | 'held' | 'silent' {
    const { file } = this;
    for (;;) {
      const handle = create(file);
      if (handle !== -1) return new FileLock(file, handle);
      const content = read(file);
      const time = timeOf(file);
      if (content === null || time === null) continue;
      const state = this.#judge(content, time);
      if (state !== 'dead') return state;
      if (!putAway(file, content)) return 'silent';
    }
  }

  #judge(content: string, time: bigint): 'held' | 'silent' | 'dead' {
    const { mustBeat = false, patienceMs = 3 * BEAT_MS } = this.options;
    const holder = parseIdentity(content);
    this.holder = describe(holder);
    if (holder?.where === placeOfProcesses()) {
      if (!lives(holder)) return 'dead';
      if (!mustBeat) return 'held';
    }
    const now = performance.now();
    if (content === this.#content && time === this.#time) return now - this.#since < patienceMs ? 'silent' : 'dead';
    const first = this.#content === null;
    this.#content = content;
    this.#time = time;
    this.#since = now;
    return first ? 'silent' : 'held';
  }
}

const pause = (): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, POLL_MS);
};

/** Shows others that the holder lives. */
export function beat(handle: LockHandle): void {
  const now = new Date();
  futimesSync(handle, now, now);
}

/** Makes the lock; -1: there is one. */
function create(file: string): LockHandle {
  let handle: number;
  try {
    handle = openSync(file, 'wx', 0o600);
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'EEXIST') return -1;
    throw e;
  }
  writeSync(handle, `${JSON.stringify(thisProcess())}\n`);
  return handle;
}

/** null: it is gone. */
function read(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw e;
  }
}

function timeOf(file: string): bigint | null {
  return statSync(file, { bigint: true, throwIfNoEntry: false })?.mtimeNs ?? null;
}

/**
 * Takes a dead process's lock away. One at a time may, or one who had looked earlier would take away what another one had
 * made since. False: somebody else is at it.
 */
function putAway(file: string, content: string): boolean {
  const taking = `${file}.taking`;
  const handle = create(taking);
  if (handle === -1) {
    if (abandoned(taking)) rmSync(taking, { force: true });
    return false;
  }
  const mine = new FileLock(taking, handle);
  try {
    if (read(file) === content) rmSync(file, { force: true });
  } finally {
    mine.release();
  }
  return true;
}

/** It is there for microseconds, unless who made it was killed just then. */
function abandoned(taking: string): boolean {
  const content = read(taking);
  const time = timeOf(taking);
  if (content === null || time === null) return false;
  const holder = parseIdentity(content);
  if (holder?.where === placeOfProcesses()) return !lives(holder);
  return BigInt(Date.now()) - time / 1_000_000n > TAKING_MS;
}

function describe(holder: ProcessIdentity | null): string {
  if (holder === null) return 'another process';
  return holder.where === placeOfProcesses()
    ? `process ${holder.pid}`
    : `process ${holder.pid} of another container or machine`;
}
