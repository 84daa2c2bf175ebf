/** Typed reads of tokenizer.json; a value of another type than it should be is an error that names it. */
import { errors } from '../../errors.js';

export type Json = Record<string, unknown>;

export const isObject = (v: unknown): v is Json => typeof v === 'object' && v !== null && !Array.isArray(v);

const bad = (where: string, name: string, expected: string) =>
  errors.badTokenizer(`'${where}.${name}' in tokenizer.json must be ${expected}`);

/** Sequences within sequences: no tokenizer needs many. */
export function checkDepth(depth: number): void {
  if (depth > 8) throw errors.badTokenizer('tokenizer.json has sequences within sequences within sequences');
}

export function objectAt(o: Json, name: string, where: string): Json {
  const v = own(o, name);
  if (!isObject(v)) throw bad(where, name, 'an object');
  return v;
}

/** null where it is absent or null. */
export function objectOrNull(o: Json, name: string, where: string): Json | null {
  return own(o, name) === undefined ? null : objectAt(o, name, where);
}

export function textAt(o: Json, name: string, where: string, fallback?: string): string {
  const v = own(o, name) ?? fallback;
  if (typeof v !== 'string') throw bad(where, name, 'a string');
  return v;
}

export function flagAt(o: Json, name: string, where: string, fallback: boolean): boolean {
  const v = own(o, name) ?? fallback;
  if (typeof v !== 'boolean') throw bad(where, name, 'true or false');
  return v;
}

export function listAt(o: Json, name: string, where: string): unknown[] {
  const v = own(o, name) ?? [];
  if (!Array.isArray(v)) throw bad(where, name, 'a list');
  return v;
}

export function objectsAt(o: Json, name: string, where: string): Json[] {
  return listAt(o, name, where).map((v) => {
    if (!isObject(v)) throw bad(where, name, 'a list of objects');
    return v;
  });
}

export const own = (o: Json, name: string): unknown => (Object.hasOwn(o, name) ? (o[name] ?? undefined) : undefined);
