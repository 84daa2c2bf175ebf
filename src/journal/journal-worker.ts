/** The journal's thread: the only one that touches the file. */
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
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
/** Writing failed. */
export type JournalNews = { type: 'failure'; message: string };

type FromClient = JournalMessage | CallMessage<JournalCalls>;

const INTERVAL_MS = 1000;
const data = workerData as JournalWorkerData;
const port = parentPort!;
let fd = openSync(data.file, 'a');
let size = data.validBytes;
/** Size after the last compaction: it is done again when the file has grown to twice that. */
let compactedSize = size;
let dirty = false;
let timer: NodeJS.Timeout | null = null;
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
  try {
    if (records.length > 0) write(records);
    if (size > data.compactAbove && size > 2 * compactedSize) compact();
    if (dirty && (flushes.length > 0 || closing || data.fsync === 'turn')) sync();
    else if (dirty && data.fsync === 'interval') timer ??= setTimeout(sync, INTERVAL_MS);
    for (const call of flushes) reply(port, call, null);
  } catch (e) {
    const message = e instanceof Error ? e.message : String(e);
    port.postMessage({ type: 'failure', message } satisfies JournalNews);
    for (const call of flushes) refuse(port, call, errors.io('the session store', message));
  }
  if (!closing) return;
  if (timer) clearTimeout(timer);
  clearInterval(beats);
  closeSync(fd);
  port.close();
});

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

/** A disk that has no room for a second file leaves the first as it is; it is tried again when that has doubled. */
function compact(): void {
  const temporary = `${data.file}.new`;
  try {
    const bytes = writeCompacted(temporary);
    renameSync(temporary, data.file);
    syncFolder();
    closeSync(fd);
    fd = openSync(data.file, 'a');
    size = bytes;
  } catch (e) {
    rmSync(temporary, { force: true });
    if (statSync(data.file).size !== size) throw e;
  }
  compactedSize = size;
}

/** Writes what is alive to a new file and makes it durable. */
function writeCompacted(temporary: string): number {
  const { sessions } = replay(readFileSync(data.file));
  const out = openSync(temporary, 'w');
  try {
    const bytes = writeAll(out, compacted(data.fingerprint, sessions.values()));
    fsyncSync(out);
    return bytes;
  } finally {
    closeSync(out);
  }
}

function syncFolder(): void {
  const folder = openSync(path.dirname(data.file), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
