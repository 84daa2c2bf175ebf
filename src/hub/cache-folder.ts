/**
 * The folder of fetched models. Beside each complete file lies FILE.json with its reference, size and sha256; a file
 * without it is not there yet.
 */
import { createHash } from 'node:crypto';
import {
  type Dirent,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { earlierTemporaryCache, makeFolder, temporaryCache, userCache, writable } from '../base/folders.js';
import { partNames } from '../base/split-names.js';
import { errors } from '../errors.js';
import { RECORD as FOLDER_RECORD, readFolder, removeFolder } from './folder.js';
import { messageOf } from './http.js';
import type { Reference } from './reference.js';
import type { CachedModel, HubOptions } from './types.js';

const RECORD = '.json';

type Place = Pick<HubOptions, 'cacheDir' | 'env' | 'onNote'>;

/** Where fetched models may lie, the folder that is meant for them first. */
export function cacheFolders({ cacheDir, env = process.env }: Place): string[] {
  if (cacheDir) return [path.resolve(cacheDir)];
  const temporary = earlierTemporaryCache(env);
  return temporary ? [userCache(env), temporary] : [userCache(env)];
}

/** The folder to fetch into: a temporary one, and that is said, where the usual one cannot be written. @throws io_error */
export function folderToFill(place: Place): string {
  const { env = process.env } = place;
  const folder = cacheFolders(place)[0]!;
  if (writable(folder)) return folder;
  const name = `'${folder}' cannot be written`;
  if (place.cacheDir) throw errors.io(name, 'give another folder for models with --cache-dir (cacheDir)');
  try {
    const temporary = temporaryCache(env);
    place.onNote?.(`${name}: models are kept in '${temporary}' instead; --cache-dir names a folder that lasts`);
    return temporary;
  } catch (e) {
    throw errors.io(name, `nor a temporary folder (${messageOf(e)}); name one with --cache-dir`);
  }
}

/** Where a file of that origin is kept. */
export function placeOf(folder: string, origin: Reference & { kind: 'hf' | 'pypi' | 'url' }, file: string): string {
  switch (origin.kind) {
    case 'hf':
      return path.join(folder, 'hf', origin.repo, file);
    case 'pypi':
      return path.join(folder, 'pypi', origin.package, origin.version, path.basename(file));
    case 'url': {
      const { host } = new URL(origin.url);
      // files of one name from different addresses do not meet
      const address = createHash('sha256').update(origin.url).digest('hex').slice(0, 12);
      return path.join(folder, 'url', host.replace(/[^\w.-]/g, '_'), address, file);
    }
  }
}

/** Every complete model of the folder, sorted by reference. */
export function cachedModels(folder: string): CachedModel[] {
  const found: CachedModel[] = [];
  for (const entry of entriesOf(folder)) {
    if (entry.isFile() && entry.name === FOLDER_RECORD) {
      const model = readFolder(entry.parentPath);
      if (model) found.push(model);
    }
    if (!entry.isFile() || !entry.name.toLowerCase().endsWith(`.gguf${RECORD}`)) continue;
    const record = path.join(entry.parentPath, entry.name);
    const model = readRecord(record.slice(0, -RECORD.length));
    if (model) found.push(model);
  }
  return found.sort((a, b) => (a.ref < b.ref ? -1 : 1));
}

/** None where there is no such folder, or we may not read it. */
function entriesOf(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true });
  } catch {
    return [];
  }
}

/** The model at that place, if it is complete. */
export function readRecord(file: string): CachedModel | null {
  try {
    const { ref, bytes, sha256 } = JSON.parse(readFileSync(file + RECORD, 'utf8')) as Partial<CachedModel>;
    if (typeof ref !== 'string' || typeof bytes !== 'number' || typeof sha256 !== 'string') return null;
    const present = partNames(file).reduce((sum, part) => sum + statSync(part).size, 0);
    return present === bytes ? { ref, path: file, bytes, sha256 } : null;
  } catch {
    return null;
  }
}

/** Makes a complete file part of the folder, in one move. */
export function adopt(part: string, model: CachedModel): void {
  makeFolder(path.dirname(model.path));
  renameSync(part, model.path);
  writeRecord(model);
  rmSync(part + RECORD, { force: true });
}

/** Makes files that are all there a model: of one that is split, the first part has the record. */
export function writeRecord(model: CachedModel): void {
  const { ref, bytes, sha256 } = model;
  const record = model.path + RECORD;
  writeFileSync(`${record}.part`, `${JSON.stringify({ ref, bytes, sha256 }, null, 2)}\n`);
  renameSync(`${record}.part`, record);
}

/** Removes a model, what is left of attempts to fetch it, and folders that become empty. */
export function removeFiles(folder: string, file: string): void {
  if (existsSync(path.join(file, FOLDER_RECORD))) {
    removeFolder(folder, file);
    return;
  }
  for (const part of partNames(file))
    for (const suffix of [RECORD, '', '.part', '.part.json']) rmSync(part + suffix, { force: true });
  for (let dir = path.dirname(file); dir.startsWith(folder + path.sep); dir = path.dirname(dir)) {
    if (readdirSync(dir).length > 0) break;
    rmdirSync(dir);
  }
}
