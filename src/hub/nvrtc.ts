/** NVRTC from PyPI: the one thing that a machine with a bare driver lacks. */
import { readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { makeFolder } from '../base/folders.js';
import { withLock } from '../base/lock.js';
import { errors, LongmindError } from '../errors.js';
import { messageOf } from './http.js';
import { pipDownload } from './pypi.js';
import type { HubOptions } from './types.js';
import { extract, readWheel } from './wheel.js';

const LOCK = { patienceMs: 30_000, mustBeat: true };
/** Newest known to work, by CUDA's major version. */
const PACKAGES: Readonly<Record<number, { package: string; version: string }>> = {
  13: { package: 'nvidia-cuda-nvrtc', version: '13.0.88' },
  12: { package: 'nvidia-cuda-nvrtc-cu12', version: '12.9.86' },
};

/** `pypi:PACKAGE==VERSION` that a driver of this version can use. */
export function nvrtcReference(major: number): string {
  const p = PACKAGES[Math.min(13, major)]!;
  return `pypi:${p.package}==${p.version}`;
}

/**
 * Brings NVRTC into a folder, once; the wheel's own checksums are checked.
 * @throws offline, cuda_unavailable; what `signal` was aborted with
 */
export async function fetchNvrtc(major: number, folder: string, options: HubOptions): Promise<void> {
  const reference = nvrtcReference(major);
  if (options.offline)
    throw errors.noNvrtc(`--offline forbids fetching ${reference}; without it, it is fetched once, about 90 MB`);
  const wheels = `${folder}.part`;
  try {
    options.onNote?.(`fetching ${reference}, the compiler of the CUDA kernels`);
    await withLock(`${folder}.lock`, { signal: options.signal, ...LOCK }, async () => {
      if (await complete(folder)) return;
      makeFolder(wheels);
      const wheel = await pipDownload({ kind: 'pypi', ...PACKAGES[Math.min(13, major)]!, file: null }, wheels, options);
      const entries = await readWheel(wheel);
      for (const { name, bytes } of entries.filter((e) => /\/libnvrtc[^/]*\.so[.\d]*$/.test(e.name))) {
        const file = path.basename(name);
        const report = (received: number) => options.onProgress?.({ file, received, total: bytes });
        await extract(wheel, entries, name, path.join(wheels, file), report, options.signal);
      }
      await rm(wheel);
      await rm(folder, { recursive: true, force: true });
      await rename(wheels, folder);
    });
  } catch (e) {
    if (options.signal?.aborted) throw options.signal.reason;
    if (e instanceof LongmindError) throw e;
    throw errors.noNvrtc(`${reference} could not be fetched: ${messageOf(e)}`);
  }
}

const complete = (folder: string): Promise<boolean> =>
  readdir(folder).then(
    (names) => names.some((n) => n.startsWith('libnvrtc.so')),
    () => false,
  );
