/**
 * The folder of fetched models. Beside each complete file lies FILE.json with its reference, size and sha256; a file
 * without it is not there yet.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Reference } from './reference.js';
import type { CachedModel } from './types.js';

const RECORD = '.json';

export function cacheFolder(cacheDir: string | undefined, env: NodeJS.ProcessEnv): string {
  if (cacheDir) return path.resolve(cacheDir);
  return path.join(env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'longmind');
}

/** Where a file of that origin is kept. */
export function placeOf(folder: string, origin: Reference & { kind: 'hf' | 'pypi' }, file: string): string {
  return origin.kind === 'hf'
    ? path.join(folder, 'hf', origin.repo, file)
    : path.join(folder, 'pypi', origin.package, origin.version, path.basename(file));
}

/** Every complete model of the folder, sorted by reference. */
export function cachedModels(folder: string): CachedModel[] {
  const found: CachedModel[] = [];
  if (!existsSync(folder)) return found;
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.toLowerCase().endsWith(`.gguf${RECORD}`)) continue;
    const record = path.join(entry.parentPath, entry.name);
    const model = readRecord(record.slice(0, -RECORD.length));
    if (model) found.push(model);
  }
  return found.sort((a, b) => (a.ref < b.ref ? -1 : 1));
}

/** The model at that place, if it is complete. */
export function readRecord(file: string): CachedModel | null {
  try {
    const { ref, bytes, sha256 } = JSON.parse(readFileSync(file + RECORD, 'utf8')) as Partial<CachedModel>;
    if (typeof ref !== 'string' || typeof bytes !== 'number' || typeof sha256 !== 'string') return null;
    return statSync(file).size === bytes ? { ref, path: file, bytes, sha256 } : null;
  } catch {
    return null;
  }
}

/** Makes a complete file part of the folder, in one move. */
export function adopt(part: string, model: CachedModel): void {
  mkdirSync(path.dirname(model.path), { recursive: true });
  renameSync(part, model.path);
  const { ref, bytes, sha256 } = model;
  const record = model.path + RECORD;
  writeFileSync(`${record}.part`, `${JSON.stringify({ ref, bytes, sha256 }, null, 2)}\n`);
  renameSync(`${record}.part`, record);
  rmSync(part + RECORD, { force: true });
}

/** Removes a model, what is left of attempts to fetch it, and folders that become empty. */
export function removeFiles(folder: string, file: string): void {
  for (const suffix of [RECORD, '', '.part', '.part.json']) rmSync(file + suffix, { force: true });
  for (let dir = path.dirname(file); dir.startsWith(folder + path.sep); dir = path.dirname(dir)) {
    if (readdirSync(dir).length > 0) break;
    rmdirSync(dir);
  }
}
