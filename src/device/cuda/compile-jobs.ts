/** Kernels compiled by several processes at once, while this thread sleeps. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { errors } from '../../errors.js';
import type { CompileData } from './nvrtc.js';

const SCRIPT = fileURLToPath(new URL('./compile-worker.js', import.meta.url));
const POLL_MS = 50;
/** No kernel takes so long: the processes were ended by somebody. */
const PATIENCE_MS = 180_000;

/** @throws cuda_unavailable */
export function compileAll(data: CompileData, onProgress?: (done: number, total: number) => void): void {
  const { jobs } = data;
  const list = path.join(path.dirname(jobs[0]!.target), `jobs-${process.pid}.json`);
  for (const { target } of jobs) rmSync(`${target}.error`, { force: true });
  writeFileSync(list, JSON.stringify(data));
  const count = Math.min(jobs.length, os.availableParallelism(), 16);
  const children = Array.from({ length: count }, (_, i) =>
    spawn(process.execPath, [SCRIPT, list, `${i}`, `${count}`], { stdio: 'ignore' }),
  );
  const pause = new Int32Array(new SharedArrayBuffer(4));
  let done = -1;
  let since = performance.now();
  try {
    while (done < jobs.length) {
      const failed = jobs.find(({ target }) => existsSync(`${target}.error`));
      if (failed) throw errors.kernelFailed(failed.file, readFileSync(`${failed.target}.error`, 'utf8'));
      const now = jobs.filter(({ target }) => existsSync(target)).length;
      if (now > done) {
        onProgress?.(now, jobs.length);
        since = performance.now();
      }
      done = now;
      if (performance.now() - since > PATIENCE_MS)
        throw errors.kernelFailed(`${jobs.length - done} kernels`, 'the compiling processes do not answer');
      if (done < jobs.length) Atomics.wait(pause, 0, 0, POLL_MS);
    }
  } finally {
    for (const child of children) {
      // in NVRTC it hears nothing milder
      child.kill('SIGKILL');
      child.unref();
    }
    rmSync(list, { force: true });
  }
}
