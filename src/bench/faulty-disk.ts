/**
 * A disk that fails, for tests and measurements of what that may cost: time, and no bit. The program of a disk thread
 * (DiskProgram); how it fails is in its data.
 */
import fs from 'node:fs';
import { workerData } from 'node:worker_threads';
import { type DiskFs, DiskIo } from '../tiers/disk-io.js';
import { type DiskWorkerData, serveDisk } from '../tiers/disk-thread.js';
import { AWAY, type DiskFaults, SILENT } from './disk-faults.js';
import { uniform } from './random.js';

const { fd, layout, crcs, port, lock, data } = workerData as DiskWorkerData;
const faults = data as DiskFaults;
const random = uniform(faults.seed);
const happens = (share: number): boolean => share > 0 && random() < share;
const pause = new Int32Array(new SharedArrayBuffer(4));

function fail(code: string): never {
  throw Object.assign(new Error(`${code}: on purpose`), { code });
}

/** What every access meets. */
function access(): void {
  if (faults.delayMs > 0) Atomics.wait(pause, 0, 0, faults.delayMs);
  while (Atomics.load(faults.state, 0) === SILENT) Atomics.wait(faults.state, 0, SILENT, 1000);
  if (Atomics.load(faults.state, 0) === AWAY) fail('ENODEV');
  if (happens(faults.broken)) fail('EIO');
}

const disk: DiskFs = {
  readSync: (f, into, offset, length, position) => {
    access();
    const n = fs.readSync(f, into, offset, length, position);
    if (n > 0 && happens(faults.flipped)) into[offset + Math.floor(random() * n)]! ^= 1 << Math.floor(random() * 8);
    return n;
  },
  writeSync: (f, from, offset, length, position) => {
    access();
    if (happens(faults.full)) {
      fs.writeSync(f, from, offset, length >> 1, position); // a part arrives
      fail('ENOSPC');
    }
    if (!happens(faults.torn)) return fs.writeSync(f, from, offset, length, position);
    fs.writeSync(f, from, offset, Math.floor(random() * length), position);
    return length; // so it says
  },
  fdatasyncSync: (f) => {
    access();
    fs.fdatasyncSync(f);
  },
};
serveDisk(port, new DiskIo(fd, layout, crcs, disk), lock);
