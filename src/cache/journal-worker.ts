/** The journal's thread: the only one that touches the file. */
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, renameSync, writevSync } from 'node:fs';
import path from 'node:path';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { compacted, replay, seal } from './journal-format.js';

export interface JournalWorkerData {
  file: string;
  fingerprint: string;
  fsync: 'turn' | 'interval' | 'off';
  validBytes: number;
  compactAbove: number;
}

export type JournalMessage = { record: Uint8Array } | { flush: number } | { close: true };

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

port.on('message', (first: JournalMessage) => {
  const records: Uint8Array[] = [];
  const flushes: number[] = [];
  let closing = false;
  for (
    let m: JournalMessage | undefined = first;
    m;
    m = receiveMessageOnPort(port)?.message as JournalMessage | undefined
  ) {
    if ('record' in m) records.push(seal(m.record));
    else if ('flush' in m) flushes.push(m.flush);
    else closing = true;
  }
  try {
    if (records.length > 0) write(records);
    if (size > data.compactAbove && size > 2 * compactedSize) compact();
    if (dirty && (flushes.length > 0 || closing || data.fsync === 'turn')) sync();
    else if (dirty && data.fsync === 'interval') timer ??= setTimeout(sync, INTERVAL_MS);
    for (const n of flushes) port.postMessage({ flushed: n, size });
  } catch (e) {
    port.postMessage({ failed: e instanceof Error ? e.message : String(e) });
  }
  if (!closing) return;
  if (timer) clearTimeout(timer);
  closeSync(fd);
  port.close();
});

function write(records: Uint8Array[]): void {
  // at most so many buffers a call (IOV_MAX is 1,024)
  for (let i = 0; i < records.length; i += 512) {
    const some = records.slice(i, i + 512);
    const bytes = some.reduce((n, r) => n + r.length, 0);
    if (writevSync(fd, some) !== bytes) {
      ftruncateSync(fd, size);
      throw new Error(`the disk took only a part of ${bytes} bytes`);
    }
    size += bytes;
  }
  dirty = true;
}

function sync(): void {
  timer = null;
  if (data.fsync !== 'off') fsyncSync(fd);
  dirty = false;
}

/** Writes what is alive to a new file, makes it durable, and puts it in the old one's place. */
function compact(): void {
  const { sessions } = replay(readFileSync(data.file));
  const temporary = `${data.file}.new`;
  const out = openSync(temporary, 'w');
  let bytes = 0;
  for (const record of compacted(data.fingerprint, sessions.values())) bytes += writevSync(out, [record]);
  fsyncSync(out);
  closeSync(out);
  renameSync(temporary, data.file);
  const folder = openSync(path.dirname(data.file), 'r');
  fsyncSync(folder);
  closeSync(folder);
  closeSync(fd);
  fd = openSync(data.file, 'a');
  size = compactedSize = bytes;
}
