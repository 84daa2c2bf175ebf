/** Typed reads of a file's metadata; a value of another type than it should be is an error that names it. */
import { errors } from '../errors.js';
import type { Metadata, Strings } from './types.js';

function bad(key: string, expected: string): Error {
  return errors.badTokenizer(`metadata '${key}' must be ${expected}`);
}

export function metadataString(metadata: Metadata, key: string): string | null {
  const value = metadata.get(key) ?? null;
  if (value === null || typeof value === 'string') return value;
  throw bad(key, 'a string');
}

export function metadataFlag(metadata: Metadata, key: string): boolean | null {
  const value = metadata.get(key) ?? null;
  if (value === null || typeof value === 'boolean') return value;
  throw bad(key, 'true or false');
}

/** A token id; null if absent or outside the vocabulary (files carry such). */
export function metadataId(metadata: Metadata, key: string, size: number): number | null {
  const value = metadata.get(key) ?? null;
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < size ? value : null;
}

export function metadataStrings(metadata: Metadata, key: string): Strings | null {
  const value = metadata.get(key) ?? null;
  if (value === null) return null;
  const list = value as Partial<Strings>;
  if (typeof value === 'object' && typeof list.length === 'number' && typeof list.at === 'function') {
    if (list.length === 0 || typeof list.at(0) === 'string') return value as Strings;
  }
  throw bad(key, 'a list of strings');
}

export function metadataNumbers(metadata: Metadata, key: string, length: number): Float32Array | null {
  const value = metadata.get(key) ?? null;
  if (value === null) return null;
  const list = value as ArrayLike<number>;
  if (typeof value === 'object' && list.length === length && typeof list[0] === 'number')
    return Float32Array.from(list);
  throw bad(key, `a list of ${length} numbers`);
}
