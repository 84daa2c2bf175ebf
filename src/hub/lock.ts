/** One process at a time fetches a model; the others wait for it. */
import { mkdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Milliseconds. A holder shows that it lives; process numbers alone mean nothing across containers. */
const POLL = 250;
const SIGN_OF_LIFE = 5000;
const STALE = 30_000;

export async function withLock<T>(
  file: string,
  options: { signal?: AbortSignal; onNote?: (note: string) => void },
  work: () => Promise<T>,
): Promise<T> {
  mkdirSync(path.dirname(file), { recursive: true });
  let told = false;
  while (!take(file)) {
    if (!told) options.onNote?.(`another process is fetching it (${file}); waiting`);
    told = true;
    await sleep(POLL, undefined, { signal: options.signal });
  }
  const alive = setInterval(() => touch(file), SIGN_OF_LIFE);
  try {
    return await work();
  } finally {
    clearInterval(alive);
    rmSync(file, { force: true });
  }
}

function take(file: string): boolean {
  try {
    writeFileSync(file, String(process.pid), { flag: 'wx' });
    return true;
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== 'EEXIST') throw e;
  }
  if (!isHeld(file)) rmSync(file, { force: true });
  return false;
}

function touch(file: string): void {
  try {
    utimesSync(file, new Date(), new Date());
  } catch {
    // the folder was removed meanwhile: nothing is locked any more
  }
}

function isHeld(file: string): boolean {
  try {
    return isAlive(readHolder(file)) && Date.now() - statSync(file).mtimeMs < STALE;
  } catch {
    return false;
  }
}

function readHolder(file: string): number {
  try {
    return Number(readFileSync(file, 'utf8'));
  } catch {
    return 0;
  }
}

/** This process may hold it as well: two requests of one program. */
function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (e) {
    return (e as NodeJS.ErrnoException).code === 'EPERM';
  }
}
