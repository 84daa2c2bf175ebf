/**
 * A process that compiles its share of kernels: NVRTC takes one at a time in a process. Arguments: a file with the jobs, which
 * of them are its own (every n-th from i). What goes wrong is written beside the target.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type CompileData, loadNvrtc } from './nvrtc.js';

/** Who asked; without it nobody wants the kernels. */
const parent = process.ppid;
const [file, first, step] = process.argv.slice(2) as [string, string, string];
const { place, folder, jobs } = JSON.parse(readFileSync(file, 'utf8')) as CompileData;

let target = jobs[Number(first)]!.target;
/** Another process may write the same. */
function write(to: string, bytes: Uint8Array | string): void {
  const aside = `${to}.${process.pid}`;
  writeFileSync(aside, bytes);
  renameSync(aside, to);
}
try {
  const nvrtc = loadNvrtc(place);
  for (let i = Number(first); i < jobs.length && process.ppid === parent; i += Number(step)) {
    const job = jobs[i]!;
    target = job.target;
    write(target, nvrtc.compile(readFileSync(path.join(folder, job.file), 'utf8'), job.file, job.options));
  }
} catch (e) {
  write(`${target}.error`, (e as Error).message);
}
