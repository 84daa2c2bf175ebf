/**
 * Repositories that hold a model as a folder: config.json, tokenizer, safetensors. In the cache folder it is complete when
 * RECORD lies in it, which names the files and their sizes.
 */
import { existsSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { makeFolder } from '../base/folders.js';
import type { CachedModel } from './types.js';

export const RECORD = 'longmind-folder.json';
/** What stands for the folder in references: 'hf:org/repo:safetensors'. */
export const FOLDER = 'safetensors';

const SMALL = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer.model',
  'tokenizer_config.json',
  'chat_template.jinja',
  'model.safetensors.index.json',
];
/** A plain name, of what is no adapter and no second copy of the weights. */
const WEIGHTS = /^(?!adapter_model|consolidated)[A-Za-z0-9_][\w.-]*\.safetensors$/;

/** A LoRA adapter as PEFT saves it. */
const ADAPTER = ['adapter_config.json', 'adapter_model.safetensors'];

/** The files to fetch of a repository's, the small ones first; null if it holds no folder of a model or of an adapter. */
export function selectFolder(names: readonly string[], select: string | null): string[] | null {
  if (select !== null && select !== FOLDER) return null;
  const weights = names.filter((n) => WEIGHTS.test(n) && !n.includes('..'));
  const split = weights.filter((n) => /-\d{5}-of-\d{5}\.safetensors$/.test(n));
  const wanted = weights.includes('model.safetensors')
    ? ['model.safetensors']
    : names.includes('model.safetensors.index.json') && split.length > 0
      ? split
      : weights.length === 1
        ? weights
        : [];
  if (wanted.length === 0 || !names.includes('config.json'))
    return ADAPTER.every((n) => names.includes(n)) ? ADAPTER : null;
  return [...SMALL.filter((n) => names.includes(n)), ...wanted];
}

/** The model in that folder of the cache, if it is complete. */
export function readFolder(folder: string): CachedModel | null {
  try {
    const { ref, files } = JSON.parse(readFileSync(path.join(folder, RECORD), 'utf8')) as {
      ref: unknown;
      files: [name: string, bytes: number][];
    };
    if (typeof ref !== 'string' || !files.every(([name, bytes]) => sizeOf(folder, name) === bytes)) return null;
    const bytes = files.reduce((sum, [, n]) => sum + n, 0);
    return { ref, path: folder, bytes, sha256: '' };
  } catch {
    return null;
  }
}

const sizeOf = (folder: string, name: string): number => statSync(path.join(folder, path.basename(name))).size;

/** Makes files that are all there a model. */
export function recordFolder(folder: string, ref: string, names: readonly string[]): CachedModel {
  makeFolder(folder);
  const files = names.map((name) => [name, sizeOf(folder, name)] as const);
  const record = path.join(folder, RECORD);
  writeFileSync(`${record}.part`, `${JSON.stringify({ ref, files }, null, 2)}\n`);
  renameSync(`${record}.part`, record);
  return { ref, path: folder, bytes: files.reduce((sum, [, n]) => sum + n, 0), sha256: '' };
}

/** Removes the files of the record, what is left of attempts to fetch them, and folders up to `top` that become empty. */
export function removeFolder(top: string, folder: string): void {
  const { files } = JSON.parse(readFileSync(path.join(folder, RECORD), 'utf8')) as { files: [string, number][] };
  rmSync(path.join(folder, RECORD), { force: true });
  for (const [name] of files)
    for (const suffix of ['', '.part', '.part.json'])
      rmSync(path.join(folder, path.basename(name) + suffix), { force: true });
  for (let dir = folder; dir.startsWith(top + path.sep) && readdirSync(dir).length === 0; dir = path.dirname(dir))
    rmdirSync(dir);
}

/** A folder that other tools have made, if nothing of it is missing. */
export function completeFolder(folder: string, names: readonly string[], select: string | null): CachedModel | null {
  const files = selectFolder(names, select);
  // a link to what is not complete leads nowhere
  if (!files?.every((name) => existsSync(path.join(folder, name))) || !shardsThere(files)) return null;
  return { ref: folder, path: folder, bytes: files.reduce((sum, n) => sum + sizeOf(folder, n), 0), sha256: '' };
}

/** All of them: model-00001-of-00003 without the others is none. */
function shardsThere(files: readonly string[]): boolean {
  const count = /-of-(\d{5})\.safetensors$/.exec(files.at(-1)!)?.[1];
  return count === undefined || files.filter((n) => n.endsWith(`-of-${count}.safetensors`)).length === Number(count);
}
