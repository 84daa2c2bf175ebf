/**
 * Watches generated tokens for stop strings, inside the engine, where the decision to end is made with the step. It works
 * on bytes (as latin-1 strings), so it needs no decoder: UTF-8 never finds a string inside another character.
 */

import type { TokenBytes } from '../types.js';
import { StopScanner } from './stop-scanner.js';

export class StopDetector {
  readonly #scanner: StopScanner;
  readonly #stops: string[];

  constructor(
    stops: string[],
    private readonly table: TokenBytes,
  ) {
    this.#stops = stops;
    this.#scanner = new StopScanner(stops.map((s) => Buffer.from(s, 'utf8').toString('latin1')));
  }

  /** The stop string that this token completed, or null. Special tokens are not text. `early`: none counts yet. */
  push(tokenId: number, early = false): string | null {
    if (this.table.special[tokenId]) return null;
    const { bytes, offsets } = this.table;
    this.#scanner.push(Buffer.from(bytes.subarray(offsets[tokenId], offsets[tokenId + 1])).toString('latin1'), early);
    const found = this.#scanner.found;
    return found === null
      ? null
      : (this.#stops.find((s) => Buffer.from(s, 'utf8').toString('latin1') === found) ?? null);
  }
}
