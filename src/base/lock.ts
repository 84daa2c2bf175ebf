/**
 * A lock: a file, made exclusively, that says which process holds it. Nothing has to be cleaned up after `kill -9`: who
 * finds the lock of a process that is gone takes it over.
 *
 * A process is known by its number and its start time, since numbers are used again (in a container it is always 1).
 * Of a process of another container, machine or boot neither can be looked up: such a lock is held as long as its file's
 * time changes, which the holder sees to by `beat()`.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  futimesSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** The holder beats so often; a lock that did not for three times that is nobody's. */
export const BEAT_MS = 2000;
const POLL_MS = 100;

interface LockOptions {
  /** Milliseconds; a lock that did not change for so long is nobody's. Default: three beats. */
  patienceMs?: number;
  /** A living process of this machine must beat too: the thread of it that held the lock may have ended. */
  mustBeat?: boolean;
}

interface Holder {
  pid: number;
  /** Start time of the process, '' where the system does not tell. */
  start: string;
  /** Where `pid` means something. */
  where: string;
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
  mkdirSync(path.dirname(file), { recursive: true });
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
      putAway(file, content);
    }
  }

  #judge(content: string, time: bigint): 'held' | 'silent' | 'dead' {
    const { mustBeat = false, patienceMs = 3 * BEAT_MS } = this.options;
    const holder = parse(content);
    this.holder = describe(holder);
    if (holder?.where === place()) {
      if (startOf(holder.pid) !== holder.start) return 'dead';
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
  const me: Holder = { pid: process.pid, start: startOf(process.pid) ?? '', where: place() };
  writeSync(handle, `${JSON.stringify(me)}\n`);
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

function parse(content: string): Holder | null {
  try {
    const { pid, start, where } = JSON.parse(content) as Partial<Holder>;
    return Number.isInteger(pid) && typeof start === 'string' && typeof where === 'string'
      ? { pid: pid!, start, where }
      : null;
  } catch {
    return null;
  }
}

function timeOf(file: string): bigint | null {
  return statSync(file, { bigint: true, throwIfNoEntry: false })?.mtimeNs ?? null;
}

/** Takes a dead process's lock away. Only one of many who try moves it; who moved a living one by mistake puts it back. */
function putAway(file: string, content: string): void {
  const aside = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  try {
    renameSync(file, aside);
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw e;
  }
  if (read(aside) !== content) {
    try {
      linkSync(aside, file);
    } catch {
      // somebody made a new one in the meantime
    }
  }
  unlinkSync(aside);
}

/** Start time of a living process, '' if that cannot be told, null if there is none. */
function startOf(pid: number): string | null {
  try {
    // the name, in brackets, may contain anything; after it come state (field 3) … start time (field 22)
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? null : fields[19]!;
  } catch {
    return isLinux() ? null : lives(pid) ? '' : null;
  }
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (e) {
    return (e as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function isLinux(): boolean {
  return process.platform === 'linux';
}

/** Names the boot and the process name space, in which a process number means something. */
function place(): string {
  if (!isLinux()) return hostname();
  try {
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()} ${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return hostname();
  }
}

function describe(holder: Holder | null): string {
  if (holder === null) return 'another process';
  return holder.where === place() ? `process ${holder.pid}` : `process ${holder.pid} of another container or machine`;
}
