/** A disk thread whose disk refuses slot 7, cannot read slot 8, ends the thread at slot 9, and never answers for slot 10. */
import fs from 'node:fs';
import { workerData } from 'node:worker_threads';
import { type DiskFs, DiskIo } from '../../src/tiers/disk-io.js';
import { type DiskWorkerData, serveDisk } from '../../src/tiers/disk-thread.js';

const { fd, layout, crcs, port, lock } = workerData as DiskWorkerData;
const slotAt = (position: number) => Math.floor((position - layout.dataAt) / layout.slotBytes);
const disk: DiskFs = {
  ...fs,
  writeSync: (f: number, b: Uint8Array, at: number, n: number, to: number) => {
    if (slotAt(to) === 7) throw new Error('ENOSPC: no space left on device');
    if (slotAt(to) === 9) process.exit(1);
    if (slotAt(to) === 10) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    return fs.writeSync(f, b, at, n, to);
  },
  readSync: (f: number, b: Uint8Array, at: number, n: number, from: number) => {
    if (slotAt(from) === 8) throw new Error('EIO: i/o error');
    return fs.readSync(f, b, at, n, from);
  },
};
serveDisk(port, new DiskIo(fd, layout, crcs, disk), lock);
