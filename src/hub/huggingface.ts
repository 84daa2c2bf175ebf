/** Models of a hub with Hugging Face's interface; HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_CACHE are honoured. */
import { existsSync, readdirSync, readFileSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { partNames } from '../base/split-names.js';
import { adopt, placeOf, writeRecord } from './cache-folder.js';
import { download, Refused } from './download.js';
import { completeFolder, FOLDER, recordFolder, selectFolder } from './folder.js';
import { readText, request } from './http.js';
import { isPlainPath, type Reference } from './reference.js';
import { selectFile } from './select.js';
import type { CachedModel, HubOptions } from './types.js';

type HfReference = Reference & { kind: 'hf' };

const ENDPOINT = 'https://huggingface.co';
const LIST_LIMIT = 32 * 2 ** 20;

interface RemoteFile {
  path: string;
  bytes: number | null;
  sha256: string | null;
}

/** @throws Error with why it cannot be had; LongmindError for what is wrong with the file */
export async function fetchFromHub(ref: HfReference, folder: string, options: HubOptions): Promise<CachedModel> {
  const env = options.env ?? process.env;
  const endpoint = (env.HF_ENDPOINT || ENDPOINT).replace(/\/+$/, '');
  const token = readToken(env);
  const listed = await list(endpoint, ref.repo, token, options);
  const names = listed.map((f) => f.path);
  const selection = selectFile(names, ref.select);
  const remote: Remote = { endpoint, repo: ref.repo, token };
  if ('file' in selection && partNames(selection.file).length > 1)
    return fetchSplit(remote, listed, selection.file, placeOf(folder, ref, ''), options);
  if ('file' in selection) {
    const { path: name } = listed.find((f) => f.path === selection.file)!;
    const file = placeOf(folder, ref, name);
    const got = await fetchFile(remote, listed, name, file, options);
    const model = { ref: `hf:${ref.repo}:${name}`, path: file, bytes: got.bytes, sha256: got.sha256 };
    adopt(got.part, model);
    return model;
  }
  const files = selectFolder(names, ref.select);
  if (!files) throw new Refused(problemOf(selection.problem, names));
  return fetchFolder(remote, listed, files, placeOf(folder, ref, ''), options);
}

interface Remote {
  endpoint: string;
  repo: string;
  token: string | null;
}

/** Why a repository without GGUF files and without a folder that can be read cannot be used. */
function problemOf(problem: string, names: readonly string[]): string {
  if (names.some((n) => /\.gguf$/i.test(n))) return problem;
  const pickled = names.find((n) => /\.(bin|pt|pth|ckpt)$/i.test(n));
  if (pickled && !names.some((n) => n.endsWith('.safetensors')))
    return `it has its weights pickled only ('${pickled}'), a format that runs code when it is read`;
  return `${problem}, and no config.json with weights in safetensors`;
}

async function fetchFile(
  { endpoint, repo, token }: Remote,
  listed: readonly RemoteFile[],
  name: string,
  file: string,
  options: HubOptions,
) {
  const remote = listed.find((f) => f.path === name)!;
  const url = `${endpoint}/${repo}/resolve/main/${name.split('/').map(encodeURIComponent).join('/')}`;
  const { bytes, sha256 } = remote.sha256 === null ? await head(url, token, remote, options) : remote;
  return download({ url, token, file, bytes, sha256 }, options);
}

/** All parts of a model, whose record the first one has. */
async function fetchSplit(
  remote: Remote,
  listed: readonly RemoteFile[],
  first: string,
  folder: string,
  options: HubOptions,
): Promise<CachedModel> {
  const names = partNames(first);
  const missing = names.find((name) => !listed.some((f) => f.path === name));
  if (missing) throw new Refused(`it has no '${missing}', a part of '${first}'`);
  await fetchFiles(remote, listed, names, folder, options);
  const file = path.join(folder, first);
  const bytes = names.reduce((sum, name) => sum + statSync(path.join(folder, name)).size, 0);
  const model = { ref: `hf:${remote.repo}:${first}`, path: file, bytes, sha256: '' };
  writeRecord(model);
  return model;
}

async function fetchFolder(
  remote: Remote,
  listed: readonly RemoteFile[],
  names: readonly string[],
  folder: string,
  options: HubOptions,
): Promise<CachedModel> {
  await fetchFiles(remote, listed, names, folder, options);
  return recordFolder(folder, `hf:${remote.repo}:${FOLDER}`, names);
}

/** File after file; those that are here already are kept. */
async function fetchFiles(
  remote: Remote,
  listed: readonly RemoteFile[],
  names: readonly string[],
  folder: string,
  options: HubOptions,
): Promise<void> {
  const bytesOf = (name: string): number => listed.find((f) => f.path === name)!.bytes ?? 0;
  const here = (name: string): boolean =>
    statSync(path.join(folder, name), { throwIfNoEntry: false })?.size === bytesOf(name);
  const present = names.filter(here).reduce((sum, n) => sum + bytesOf(n), 0);
  await options.onPlan?.({ file: remote.repo, bytes: names.reduce((sum, n) => sum + bytesOf(n), 0), present });
  for (const name of names) {
    // small files carry no checksum in the list: they are fetched anew
    if (here(name) && listed.find((f) => f.path === name)!.sha256 !== null) continue;
    const file = path.join(folder, name);
    const got = await fetchFile(remote, listed, name, file, { ...options, onPlan: undefined });
    renameSync(got.part, file);
    rmSync(`${got.part}.json`, { force: true });
    options.signal?.throwIfAborted();
  }
}

async function list(endpoint: string, repo: string, token: string | null, options: HubOptions): Promise<RemoteFile[]> {
  const url = `${endpoint}/api/models/${repo}/tree/main?recursive=true`;
  const res = await request(url, { token, signal: options.signal });
  if (res.status !== 200) {
    res.body.destroy();
    throw new Refused(refusal(new URL(endpoint).host, repo, res.status, token));
  }
  const entries: unknown = JSON.parse(await readText(res.body, LIST_LIMIT));
  if (!Array.isArray(entries)) throw new Refused(`${new URL(endpoint).host} sent no list of files`);
  return entries.flatMap(
    (e: { type?: unknown; path?: unknown; size?: unknown; lfs?: { oid?: unknown; size?: unknown } }) => {
      if (e?.type !== 'file' || typeof e.path !== 'string' || !isPlainPath(e.path)) return [];
      const size = e.lfs?.size ?? e.size;
      const bytes = typeof size === 'number' && Number.isSafeInteger(size) && size >= 0 ? size : null;
      return [{ path: e.path, bytes, sha256: sha(e.lfs?.oid) }];
    },
  );
}

/** The checksum that the first answer names before it redirects. */
async function head(url: string, token: string | null, known: RemoteFile, options: HubOptions): Promise<RemoteFile> {
  const res = await request(url, { method: 'HEAD', token, signal: options.signal });
  res.body.destroy();
  if (res.status !== 200) throw new Refused(refusal(new URL(url).host, known.path, res.status, token));
  const linked = res.firstHeaders['x-linked-etag'];
  const etag = typeof linked === 'string' ? linked : res.headers.etag;
  return { ...known, sha256: sha(etag?.replace(/^W\/|"/g, '')) };
}

const sha = (oid: unknown): string | null =>
  typeof oid === 'string' && /^[0-9a-f]{64}$/i.test(oid) ? oid.toLowerCase() : null;

function refusal(host: string, what: string, status: number, token: string | null): string {
  if (status === 401 || status === 403) {
    const why = token ? 'the token in HF_TOKEN may not read it' : 'it needs a token in HF_TOKEN, or does not exist';
    return `${host} answered ${status} for ${what}: ${why}`;
  }
  return `${host} answered ${status} for ${what}${status === 404 ? ': there is no such repository or file' : ''}`;
}

function hfHome(env: NodeJS.ProcessEnv): string {
  return env.HF_HOME || path.join(env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache'), 'huggingface');
}

/** HF_TOKEN, else the token that the hub's own tools have stored. */
function readToken(env: NodeJS.ProcessEnv): string | null {
  if (env.HF_TOKEN) return env.HF_TOKEN.trim();
  try {
    return readFileSync(env.HF_TOKEN_PATH || path.join(hfHome(env), 'token'), 'utf8').trim() || null;
  } catch {
    return null;
  }
}

/** The file, if the hub's own tools have fetched it before (models--org--repo/snapshots/REVISION/FILE). */
export function findInHubCache(ref: HfReference, env: NodeJS.ProcessEnv): CachedModel | null {
  const cache = env.HF_HUB_CACHE || path.join(hfHome(env), 'hub');
  const repo = path.join(cache, `models--${ref.repo.replace('/', '--')}`);
  for (const revision of revisions(repo)) {
    const snapshot = path.join(repo, 'snapshots', revision);
    if (!existsSync(snapshot)) continue;
    const names = readdirSync(snapshot, { recursive: true }).map(String);
    const selection = selectFile(names, ref.select);
    if ('problem' in selection) {
      const found = completeFolder(snapshot, names, ref.select);
      if (found) return { ...found, ref: `hf:${ref.repo}:${FOLDER}` };
      continue;
    }
    const file = path.join(snapshot, selection.file);
    const parts = partNames(file);
    if (!parts.every((part) => existsSync(part))) continue; // a link to a blob that is not complete
    const bytes = parts.reduce((sum, part) => sum + statSync(part).size, 0);
    const sha256 = parts.length > 1 ? null : sha(path.basename(realpathSync(file)));
    return { ref: `hf:${ref.repo}:${selection.file}`, path: file, bytes, sha256: sha256 ?? '' };
  }
  return null;
}

/** `main` first. */
function revisions(repo: string): string[] {
  try {
    const main = path.join(repo, 'refs', 'main');
    const others = readdirSync(path.join(repo, 'snapshots'));
    return existsSync(main) ? [readFileSync(main, 'utf8').trim(), ...others] : others;
  } catch {
    return [];
  }
}
