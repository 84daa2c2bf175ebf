/** Schemas as they are written, and what reading one keyword needs to know of the others. */
import type { Dfa } from './dfa.js';
import type { Budget } from './errors.js';
import type { Conjunction, Facets, StringFacet } from './facets.js';

export type RawSchema = Record<string, unknown>;

/** A schema object in its document. */
export interface Location {
  raw: RawSchema | false;
  path: string;
  /** The document that `#` of a reference means. */
  root: unknown;
}

/** One alternative, with what it must not match (the other branches of oneOf, and `not`). */
export interface Alternative {
  facets: Facets;
  excluded: { facets: Facets; path: string; keyword: string }[];
}

/** What the reading of a keyword needs of the schemas around it: `SchemaReader`, which see. */
export interface Schemas {
  readonly budget: Budget;
  add(raw: unknown, path: string, root: unknown): Conjunction;
  expand(conjunction: Conjunction): Alternative[];
  language(pattern: string, keyword: string, path: string): Dfa;
  stringLanguage(f: StringFacet, path: string): Dfa;
}

export function isRecord(v: unknown): v is RawSchema {
  return typeof v === 'object' && v !== null && !Array.isArray(v);
}

export function escapePointer(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}

export function decodePointer(part: string): string {
  let decoded = part;
  try {
    decoded = decodeURIComponent(part);
  } catch {
    // a lone per cent sign stands for itself
  }
  return decoded.replaceAll('~1', '/').replaceAll('~0', '~');
}
