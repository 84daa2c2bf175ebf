/**
 * Files that nobody else may read, and that are never another file: a symbolic link in their place is refused, so that who
 * may write into the folder cannot have a server overwrite or read what it can reach and he cannot.
 */
import { chmodSync, closeSync, constants, fchmodSync, openSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { makeFolder } from '../base/folders.js';

const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = constants;
const MODE = 0o600;

/** A folder for this user alone; one that is there and holds `file` already is made so. */
export function privateFolder(dir: string, file: string): void {
  const made = makeFolder(dir, 0o700);
  if (made !== undefined || !statSync(path.join(dir, file), { throwIfNoEntry: false })) return;
  if (statSync(dir).uid === process.getuid?.()) chmodSync(dir, 0o700);
}

/** For appending to a file that is there. */
export function openPrivate(file: string): number {
  const fd = openSync(file, O_WRONLY | O_APPEND | O_NOFOLLOW);
  try {
    // made by an earlier version
    fchmodSync(fd, MODE);
  } catch {
    // another user's: what it may do was decided by opening it
  }
  return fd;
}

/** Makes a file that must not be there yet. */
export function createPrivate(file: string): number {
  return openSync(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, MODE);
}

export function readPrivate(file: string): Buffer {
  const fd = openSync(file, O_RDONLY | O_NOFOLLOW);
  try {
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
