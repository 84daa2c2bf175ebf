/** Opening the disk tier's file: what it still holds, or a new one with all its room taken at once. */
import { constants, fstatSync, ftruncateSync, openSync, readSync, statfsSync, writeSync } from 'node:fs';
import koffi from 'koffi';
import { errors, formatBytes } from '../errors.js';
import { type DiskLayout, encodeHeader, HEADER_BYTES, isHeaderOf } from './disk-layout.js';
import { type Scan, scanRecords } from './disk-scan.js';

/** A link is not followed: another user's link must not make us write elsewhere. */
export function openFile(file: string): number {
  return openSync(file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
}

/** A file of another model, layout or size is begun anew. @throws io_error if the disk has too little room */
export function prepareFile(fd: number, layout: DiskLayout, file: string): Scan {
  const header = Buffer.alloc(HEADER_BYTES);
  const known = fstatSync(fd).size === layout.fileBytes && readFully(fd, header, 0) && isHeaderOf(header, layout);
  if (known) {
    const table = Buffer.alloc(layout.slots * layout.recordBytes);
    if (readFully(fd, table, HEADER_BYTES)) return scanRecords(layout, table);
  }
  ftruncateSync(fd, 0);
  allocate(fd, layout.fileBytes, file);
  writeSync(fd, encodeHeader(layout), 0, HEADER_BYTES, 0);
  return { nodes: [], crcs: new Uint32Array(layout.slots), stamp: 0 };
}

function readFully(fd: number, into: Buffer, at: number): boolean {
  let done = 0;
  while (done < into.length) {
    const n = readSync(fd, into, done, into.length - done, at + done);
    if (n <= 0) return false;
    done += n;
  }
  return true;
}

/** Takes the room on the disk now, so that a disk that is too small says so at start. */
function allocate(fd: number, bytes: number, file: string): void {
  const { bavail, bsize } = statfsSync(file);
  if (bavail * bsize < bytes)
    throw errors.io(
      `the disk cache '${file}' needs ${formatBytes(bytes)}, but ${formatBytes(bavail * bsize)} are free there`,
      'give it a smaller size, or another folder',
    );
  // where the system cannot reserve room, the file is a sparse one, and a full disk is met when a slot is written
  if (!fallocate(fd, bytes)) ftruncateSync(fd, bytes);
}

function fallocate(fd: number, bytes: number): boolean {
  if (process.platform !== 'linux') return false;
  try {
    const call = koffi.load(null).func('int fallocate(int fd, int mode, int64_t offset, int64_t length)');
    return call(fd, 0, 0, bytes) === 0;
  } catch {
    return false;
  }
}
