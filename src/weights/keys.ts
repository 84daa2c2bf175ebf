/** Reads an architecture's metadata (`llama.block_count` …) with checks; errors name the key and what it held. */
import { errors } from '../errors.js';
import type { GgufFile, GgufValue } from './gguf.js';
import { StringList } from './string-list.js';

export class Keys {
  constructor(
    private readonly gguf: GgufFile,
    private readonly prefix: string,
  ) {}

  #bad(name: string, value: GgufValue | undefined, expected: string): Error {
    const shown = value === undefined ? 'missing' : typeof value === 'object' ? 'an array' : `'${String(value)}'`;
    return errors.badGguf(this.gguf.path, `metadata '${this.prefix}.${name}' is ${shown}, it must be ${expected}`);
  }

  /** A number; a per-layer array counts if all its values are the same. */
  #number(name: string): number | undefined {
    const value = this.gguf.metadata.get(`${this.prefix}.${name}`);
    if (value === undefined || typeof value === 'number') return value;
    if (typeof value === 'object' && !(value instanceof StringList) && value.length > 0) {
      const first = Number(value[0]);
      for (const x of value) {
        if (Number(x) !== first) throw errors.unsupportedModel(`'${this.prefix}.${name}' differs from layer to layer`);
      }
      return first;
    }
    throw this.#bad(name, value, 'a number');
  }

  number(name: string, fallback: number): number {
    return this.#number(name) ?? fallback;
  }

  /** An integer in [min, max]; required if there is no fallback. */
  integer(name: string, fallback?: number, min = 1, max = 2 ** 31 - 1): number {
    const value = this.#number(name) ?? fallback;
    if (value === undefined || !Number.isInteger(value) || value < min || value > max)
      throw this.#bad(name, value, `an integer from ${min} to ${max}`);
    return value;
  }

  positive(name: string, fallback?: number): number {
    const value = this.#number(name) ?? fallback;
    if (value === undefined || !(value > 0) || !Number.isFinite(value))
      throw this.#bad(name, value, 'a positive number');
    return value;
  }

  text(name: string, fallback: string): string {
    const value = this.gguf.metadata.get(`${this.prefix}.${name}`) ?? fallback;
    if (typeof value !== 'string') throw this.#bad(name, value, 'a string');
    return value;
  }
}
