/** The journal's thread: the only one that touches the file. */
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writevSync,
} from 'node:fs';
import path from 'node:path';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { BEAT_MS, beat, type LockHandle } from '../base/lock.js';
import { begin, type CallMessage, refuse, reply } from '../base/worker.js';
import { errors } from '../errors.js';
import { createPrivate, openPrivate, readPrivate } from './journal-file.js';
import { compacted, replay, seal } from './journal-format.js';

export interface JournalWorkerData {
  file: string;
  fingerprint: string;
  fsync: 'turn' | 'interval' | 'off';
  validBytes: number;
  compactAbove: number;
  lock: LockHandle;
}

export type JournalMessage = { type: 'record'; record: Uint8Array } | { type: 'close' };
export type JournalCalls = { flush: { args: null; result: null } };
/** Nothing can be written for now; it can be again, and everything was. */
export type JournalNews = { type: 'failure'; message: string } | { type: 'recovery' };

type FromClient = JournalMessage | CallMessage<JournalCalls>;

const INTERVAL_MS = 1000;
/** A disk that failed is tried again so often. */
const RETRY_MS = 2000;
/** Bytes of records that wait for the disk to come back; beyond it they are given up, and the store for good. */
const MAX_BACKLOG = 64 * 2 ** 20;
const data = workerData as JournalWorkerData;
const port = parentPort!;
let fd = openPrivate(data.file);
let size = data.validBytes;
/** Size after the last compaction: it is done again when the file has grown to twice that. */
let compactedSize = size;
let dirty = false;
let timer: NodeJS.Timeout | null = null;
/** Records that the disk did not take, in order. */
let backlog: Uint8Array[] = [];
let backlogBytes = 0;
let retrying: NodeJS.Timeout | null = null;
let givenUp = false;
ftruncateSync(fd, size);
if (data.fsync !== 'off') {
  fsyncSync(fd);
  syncFolder();
}
const beats = setInterval(() => beat(data.lock), BEAT_MS);
begin(() => ({ made: null, info: null }));

port.on('message', (first: FromClient) => {
  const records: Uint8Array[] = [];
  const flushes: number[] = [];
  let closing = false;
  for (let m: FromClient | undefined = first; m; m = receiveMessageOnPort(port)?.message as FromClient | undefined) {
    if (m.type === 'record') records.push(seal(m.record));
    else if (m.type === 'call') flushes.push(m.call);
    else closing = true;
  }
  if (retrying) {
    keep(records);
    if (closing) retry();
    else refuseAll(flushes, 'it does not take anything at the moment');
  } else attempt(records, flushes, closing);
  if (!closing) return;
  if (timer) clearTimeout(timer);
  if (retrying) clearInterval(retrying);
  clearInterval(beats);
  closeSync(fd);
  port.close();
});

function say(news: JournalNews): void {
  port.postMessage(news);
}

function refuseAll(flushes: number[], why: string): void {
  for (const call of flushes) refuse(port, call, errors.io('the session store', why));
}

function attempt(records: Uint8Array[], flushes: number[], closing: boolean): void {
  try {
    if (records.length > 0) write(records);
  } catch (e) {
    keep(records);
    refuseAll(flushes, fail(e));
    return;
  }
  try {
    if (size > data.compactAbove && size > 2 * compactedSize) compact();
    if (dirty && (flushes.length > 0 || closing || data.fsync === 'turn')) sync();
    else if (dirty && data.fsync === 'interval') timer ??= setTimeout(syncLater, INTERVAL_MS);
    for (const call of flushes) reply(port, call, null);
  } catch (e) {
    refuseAll(flushes, fail(e));
  }
}

/** Tells, and returns what it told. */
function fail(e: unknown): string {
  retrying ??= setInterval(retry, RETRY_MS);
  const message = e instanceof Error ? e.message : String(e);
  say({ type: 'failure', message });
  return message;
}

/** For when the disk comes back. */
function keep(records: Uint8Array[]): void {
  if (givenUp) return;
  for (const r of records) {
    backlog.push(r);
    backlogBytes += r.length;
  }
  if (backlogBytes <= MAX_BACKLOG) return;
  givenUp = true;
  backlog = [];
  say({ type: 'failure', message: `the disk was away for too long: more than ${MAX_BACKLOG} bytes waited for it` });
}

/** The file is opened again, since that of a disk that was away may be another now; it must hold what was written. */
function retry(): void {
  if (givenUp) return;
  try {
    const again = openPrivate(data.file);
    closeSync(fd);
    fd = again;
    if (fstatSync(fd).size < size) throw new Error('it lost what had been written');
    ftruncateSync(fd, size);
    if (backlog.length > 0) write(backlog);
    // once only: a record that stands there twice may rewind what came after it
    backlog = [];
    backlogBytes = 0;
    sync();
  } catch {
    return;
  }
  if (retrying) clearInterval(retrying);
  retrying = null;
  say({ type: 'recovery' });
}

/** Appends all of them, or none. */
function write(records: Uint8Array[]): void {
  try {
    size += writeAll(fd, records);
  } catch (e) {
    ftruncateSync(fd, size);
    throw e;
  }
  dirty = true;
}

function writeAll(to: number, records: Uint8Array[]): number {
  let total = 0;
  // at most so many buffers a call (IOV_MAX is 1,024)
  for (let i = 0; i < records.length; i += 512) {
    const some = records.slice(i, i + 512);
    const bytes = some.reduce((n, r) => n + r.length, 0);
    if (writevSync(to, some) !== bytes) throw new Error(`the disk took only a part of ${bytes} bytes`);
    total += bytes;
  }
  return total;
}

function sync(): void {
  if (timer) clearTimeout(timer);
  timer = null;
  if (data.fsync !== 'off') fsyncSync(fd);
  dirty = false;
}

function syncLater(): void {
  try {
    sync();
  } catch (e) {
    fail(e);
  }
}

/** A disk that has no room for a second file leaves the first as it is; it is tried again when that has doubled. */
function compact(): void {
  const temporary = `${data.file}.new`;
  try {
    const bytes = writeCompacted(temporary);
    renameSync(temporary, data.file);
    syncFolder();
    closeSync(fd);
    fd = openPrivate(data.file);
    size = bytes;
  } catch (e) {
    rmSync(temporary, { force: true });
    if (statSync(data.file).size !== size) throw e;
  }
  compactedSize = size;
}

/** Writes what is alive to a new file and makes it durable. */
function writeCompacted(temporary: string): number {
  const { sessions, given } = replay(readPrivate(data.file));
  // of a process that was killed while it compacted
  rmSync(temporary, { force: true });
  const out = createPrivate(temporary);
  try {
    const bytes = writeAll(out, compacted(data.fingerprint, sessions.values(), given));
    fsyncSync(out);
    return bytes;
  } finally {
    closeSync(out);
  }
}

function syncFolder(): void {
  // there a folder is no file that could be synced
  if (process.platform === 'win32') return;
  const folder = openSync(path.dirname(data.file), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
