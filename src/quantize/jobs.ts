/** Threads make pieces of a file, which are written where they belong; the file appears when it is whole. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { type FileHandle, open, rename, rm, statfs } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { WorkerClient } from '../base/worker.js';
import { errors, formatBytes } from '../errors.js';
import type { Calls, Piece } from './pieces.js';

export interface WriteOptions {
  /** An existing file is replaced (default false: refused). */
  force?: boolean;
  /** Default: all processors. */
  threads?: number;
  /** Bytes of the input. */
  onProgress?: (what: string, done: number, total: number) => void;
  onNote?: (note: string) => void;
  /** Aborted, nothing is left behind, and its reason is thrown. */
  signal?: AbortSignal;
}

export interface Job extends Piece {
  /** Where the result begins in the new file. */
  at: number;
}

/** Each thread takes the next piece when it has done one. */
export async function runJobs(
  what: string,
  jobs: readonly Job[],
  file: FileHandle,
  options: WriteOptions,
): Promise<void> {
  const { onProgress, signal } = options;
  const sizeOf = ({ parts }: Piece): number => parts.reduce((sum, p) => sum + p.bytes, 0);
  const total = jobs.reduce((sum, j) => sum + sizeOf(j), 0);
  const threads = Math.max(1, Math.min(options.threads ?? os.availableParallelism(), jobs.length));
  const workers = Array.from(
    { length: threads },
    () => new WorkerClient<Calls>(new URL('./worker.js', import.meta.url), {}),
  );
  const stop = () => void Promise.all(workers.map((w) => w.terminate()));
  signal?.addEventListener('abort', stop, { once: true });
  let next = 0;
  let done = 0;
  const run = async (worker: WorkerClient<Calls>): Promise<void> => {
    await worker.ready;
    while (next < jobs.length) {
      signal?.throwIfAborted();
      const { at, ...piece } = jobs[next++]!;
      const bytes = await worker.call('piece', piece);
      await file.write(bytes, 0, bytes.length, at);
      done += sizeOf(piece);
      onProgress?.(what, done, total);
    }
  };
  try {
    signal?.throwIfAborted();
    await Promise.all(workers.map(run));
  } catch (e) {
    signal?.throwIfAborted();
    throw e;
  } finally {
    signal?.removeEventListener('abort', stop);
    next = jobs.length;
    await Promise.all(workers.map((w) => w.terminate()));
  }
}

/** The file appears under its name when `fill` is done; before that nothing is there, and after a failure nothing is left. */
export async function writeWhole(
  output: string,
  bytes: number,
  { force }: WriteOptions,
  fill: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const part = `${output}.${randomBytes(4).toString('hex')}.part`;
  const what = `writing '${output}'`;
  try {
    const { bavail, bsize } = await statfs(path.dirname(path.resolve(output)));
    if (bytes > bavail * bsize)
      throw errors.io(what, `it needs ${formatBytes(bytes)}, ${formatBytes(bavail * bsize)} are free`);
    const file = await open(part, 'wx');
    try {
      await fill(file);
      await file.sync();
    } finally {
      await file.close();
    }
    if (!force && existsSync(output)) throw errors.io(what, 'the file has appeared meanwhile');
    await rename(part, output);
  } catch (e) {
    await rm(part, { force: true });
    throw e instanceof Error && 'syscall' in e ? errors.io(what, e.message) : e;
  }
}
