/** JSON files of a model folder: bounded reading, and fields checked by type; errors name the file and the field. */
import { readSync } from 'node:fs';
import { errors, LongmindError } from '../../errors.js';
import { readModelFile } from '../model-file.js';

type JsonObject = Record<string, unknown>;

/** Bytes of a file, or null if there is none. @throws bad_model_file, io_error */
export function readSmallFile(path: string, limit: number): Buffer | null {
  const bad = (what: string) => errors.badModelFile(path, what);
  try {
    return readModelFile(path, bad, (fd, size) => {
      if (size > limit) throw bad(`it has ${size} bytes, more than ${limit} that it may have`);
      const bytes = Buffer.alloc(size);
      let have = 0;
      while (have < bytes.length) {
        const n = readSync(fd, bytes, have, bytes.length - have, have);
        if (n === 0) break;
        have += n;
      }
      return bytes.subarray(0, have);
    });
  } catch (e) {
    if (e instanceof LongmindError && e.code === 'file_missing') return null;
    throw e;
  }
}

/** null if there is no such file. @throws bad_model_file */
export function readJson(path: string, limit: number): JsonObject | null {
  const bytes = readSmallFile(path, limit);
  return bytes && parseObject(path, bytes.toString('utf8'));
}

/** @throws bad_model_file */
export function parseObject(path: string, text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (e) {
    throw errors.badModelFile(path, `it is not valid JSON: ${(e as Error).message.slice(0, 200)}`);
  }
  if (!isObject(value)) throw errors.badModelFile(path, 'it is not a JSON object');
  return value;
}

/** A value for a message: whatever it is, short and never followed into its depth. */
export function shown(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  return isObject(value) ? 'an object' : String(JSON.stringify(value)).slice(0, 80);
}

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Typed reads of an object's fields; null counts as absent. */
export class Fields {
  constructor(
    readonly path: string,
    readonly object: JsonObject,
    private readonly prefix = '',
  ) {}

  #value(name: string): unknown {
    return Object.hasOwn(this.object, name) ? (this.object[name] ?? undefined) : undefined;
  }

  bad(name: string, expected: string): Error {
    const value = this.#value(name);
    const what = value === undefined ? 'missing' : shown(value);
    return errors.badModelFile(this.path, `'${this.prefix}${name}' is ${what}, it must be ${expected}`);
  }

  has(name: string): boolean {
    return this.#value(name) !== undefined;
  }

  integer(name: string, fallback?: number, min = 1, max = 2 ** 31 - 1): number {
    const value = this.#value(name) ?? fallback;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max)
      throw this.bad(name, `an integer from ${min} to ${max}`);
    return value;
  }

  positive(name: string, fallback?: number): number {
    const value = this.#value(name) ?? fallback;
    if (typeof value !== 'number' || !(value > 0) || !Number.isFinite(value)) throw this.bad(name, 'a positive number');
    return value;
  }

  /** 0 where it is absent. */
  amount(name: string): number {
    return this.has(name) ? this.positive(name) : 0;
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.#value(name) ?? fallback;
    if (typeof value !== 'boolean') throw this.bad(name, 'true or false');
    return value;
  }

  text(name: string, fallback: string): string {
    const value = this.#value(name) ?? fallback;
    if (typeof value !== 'string') throw this.bad(name, 'a string');
    return value;
  }

  /** null where it is absent. */
  numbers(name: string): number[] | null {
    const value = this.#value(name);
    if (value === undefined) return null;
    if (!Array.isArray(value) || !value.every((x) => typeof x === 'number' && Number.isFinite(x)))
      throw this.bad(name, 'a list of numbers');
    return value;
  }

  /** null where it is absent. */
  texts(name: string): string[] | null {
    const value = this.#value(name);
    if (value === undefined) return null;
    if (!Array.isArray(value) || !value.every((x) => typeof x === 'string')) throw this.bad(name, 'a list of strings');
    return value;
  }

  /** null where it is absent. */
  child(name: string): Fields | null {
    const value = this.#value(name);
    if (value === undefined) return null;
    if (!isObject(value)) throw this.bad(name, 'an object');
    return new Fields(this.path, value, `${this.prefix}${name}.`);
  }
}
