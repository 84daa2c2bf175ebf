/**
 * A lock on a folder: one file, made exclusively, that says which process holds it. Nothing has to be cleaned up after
 * `kill -9`: who finds the lock of a process that is gone takes it over.
 *
 * A process is known by its number and its start time, since numbers are used again (in a container it is always 1).
 * Of a process of another container, machine or boot neither can be looked up: such a lock is held as long as its file's
 * time changes, which the holder sees to by `beat()`.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  futimesSync,
  linkSync,
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
import { errors } from '../errors.js';

const FILE = 'sessions.lock';
/** The holder beats so often; a lock that did not for three times that is nobody's. */
export const BEAT_MS = 2000;
const POLL_MS = 100;

interface Holder {
  pid: number;
  /** Start time of the process, '' where the system does not tell. */
  start: string;
  /** Where `pid` means something. */
  where: string;
}

/** What beat() needs; may be passed to another thread. */
export type LockHandle = number;

export class FolderLock {
  private constructor(
    private readonly file: string,
    /** For beat(). */
    readonly handle: LockHandle,
  ) {}

  /** Throws sessionStoreInUse, or what the file system says. May wait for three beats. */
  static take(dir: string, patienceMs = 3 * BEAT_MS): FolderLock {
    const file = path.join(dir, FILE);
    for (;;) {
      const handle = create(file);
      if (handle !== -1) return new FolderLock(file, handle);
      const found = read(file);
      if (found === null) continue;
      const holder = parse(found);
      if (!isHeld(file, found, holder, patienceMs)) putAway(file, found);
      // else it was being written just now: look again
      else if (read(file) === found) throw errors.sessionStoreInUse(dir, describe(holder));
    }
  }

  release(): void {
    closeSync(this.handle);
    unlinkSync(this.file);
  }
}

/** Shows others that the holder lives. */
export function beat(handle: LockHandle): void {
  const now = new Date();
  futimesSync(handle, now, now);
}

/** Makes the lock; -1: there is one. */
function create(file: string): LockHandle {
  let handle: number;
  try {
    handle = openSync(file, 'wx');
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

function isHeld(file: string, content: string, holder: Holder | null, patienceMs: number): boolean {
  if (holder?.where === place()) return startOf(holder.pid) === holder.start;
  return changes(file, content, patienceMs);
}

/** Somebody touches the lock, or writes it. */
function changes(file: string, content: string, patienceMs: number): boolean {
  const sleep = new Int32Array(new SharedArrayBuffer(4));
  const time = timeOf(file);
  for (let waited = 0; waited < patienceMs; waited += POLL_MS) {
    Atomics.wait(sleep, 0, 0, POLL_MS);
    const now = timeOf(file);
    // gone: the caller finds out
    if (now === null) return false;
    if (now !== time || read(file) !== content) return true;
  }
  return false;
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
