/** Entry of the disk tier's thread. */
import { workerData } from 'node:worker_threads';
import { DiskIo } from './disk-io.js';
import { type DiskWorkerData, serveDisk } from './disk-thread.js';

const { fd, layout, crcs, port, lock } = workerData as DiskWorkerData;
serveDisk(port, new DiskIo(fd, layout, crcs), lock);
