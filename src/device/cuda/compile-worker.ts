/** A thread that compiles kernels until none is left. The engine's thread sleeps meanwhile: it is told by the counts. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type MessagePort, threadId, workerData } from 'node:worker_threads';
import { errors, LongmindError } from '../../errors.js';
import type { CompileData } from './kernels.js';
import { loadNvrtc } from './nvrtc.js';

const { place, folder, jobs, counts, port } = workerData as CompileData & { port: MessagePort };

try {
  const nvrtc = loadNvrtc(place);
  for (let i = Atomics.add(counts, 0, 1); i < jobs.length; i = Atomics.add(counts, 0, 1)) {
    const { file, options, target } = jobs[i]!;
    const cubin = nvrtc.compile(readFileSync(path.join(folder, file), 'utf8'), file, options);
    // another process may write the same
    const aside = `${target}.${process.pid}-${threadId}`;
    writeFileSync(aside, cubin);
    renameSync(aside, target);
    Atomics.add(counts, 1, 1);
    Atomics.notify(counts, 1);
  }
} catch (e) {
  const error = e instanceof LongmindError ? e : errors.kernelFailed('a kernel', (e as Error).message);
  port.postMessage(error.toJSON());
}
