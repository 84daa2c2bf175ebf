/** Where longmind keeps what it fetched and built. */
import { accessSync, constants, lstatSync, mkdirSync, mkdtempSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** `longmind` in XDG_CACHE_HOME or ~/.cache. */
export const userCache = (env: NodeJS.ProcessEnv): string =>
  path.join(env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'longmind');

/**
 * Makes the folder, and those above it that are missing; returns the topmost that was made (undefined: it was there).
 * Not Node's own `recursive`: where the system makes no folders though the one above is there (/proc) it never returns.
 * @throws Error of the file system
 */
export function makeFolder(folder: string, mode = 0o777): string | undefined {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  const above = path.dirname(folder);
  const first = above === folder ? undefined : makeFolder(above, mode);
  try {
    mkdirSync(folder, { mode });
  } catch (e) {
    // another process was first
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) throw e;
  }
  return first ?? folder;
}

/** Makes the folder if it is not there; false if nothing can be put into it. */
export function writable(folder: string): boolean {
  try {
    makeFolder(folder);
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

const temporaryPlace = (env: NodeJS.ProcessEnv): string =>
  path.join(env.TMPDIR || os.tmpdir(), `longmind-${process.getuid?.() ?? 'user'}`);

/** The folder that an earlier process of this user made among the temporary files; null if there is none. */
export function earlierTemporaryCache(env: NodeJS.ProcessEnv): string | null {
  const folder = temporaryPlace(env);
  const found = lstatSync(folder, { throwIfNoEntry: false });
  // anybody may put a folder of that name there: what lies in it would be loaded and run
  const ours = found?.isDirectory() && found.uid === (process.getuid?.() ?? found.uid) && (found.mode & 0o077) === 0;
  return ours ? folder : null;
}

/**
 * A folder of this user alone among the temporary files, for who has no other; the same one each time unless another user
 * has taken its name. @throws Error of the file system
 */
export function temporaryCache(env: NodeJS.ProcessEnv): string {
  const folder = temporaryPlace(env);
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch {
    // it is there already, or the line below says what is wrong
  }
  return earlierTemporaryCache(env) ?? mkdtempSync(`${folder}-`);
}
