/** A file of a model, open for reading: whatever stands there instead is a typed error, and nothing waits for a pipe. */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { errors, type LongmindError } from '../errors.js';

/** @throws LongmindError file_missing, io_error, what `bad` makes, and what `read` throws that is no error of the system */
export function readModelFile<T>(
  path: string,
  bad: (what: string) => LongmindError,
  read: (fd: number, size: number) => T,
): T {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (e) {
    const { code, message } = e as NodeJS.ErrnoException;
    throw code === 'ENOENT' || code === 'ENOTDIR' ? errors.fileMissing(path) : errors.io(`reading '${path}'`, message);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw bad('it is not a file');
    return read(fd, stat.size);
  } catch (e) {
    if (e instanceof Error && 'syscall' in e) throw errors.io(`reading '${path}'`, e.message);
    throw e;
  } finally {
    closeSync(fd);
  }
}
