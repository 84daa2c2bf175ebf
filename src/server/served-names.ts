/** By which names clients may ask for the model. */
import { errors } from '../index.js';

/** In the option: every name there is. */
const ANY = '*';

export class ServedNames {
  /** As the option has them, without '*'; at least one. */
  readonly names: readonly string[];
  readonly #any: boolean;

  constructor(given: readonly string[], otherwise: string) {
    const names = [...new Set(given)].filter((name) => name !== ANY);
    this.names = names.length > 0 ? names : [otherwise];
    this.#any = given.includes(ANY);
  }

  get first(): string {
    return this.names[0]!;
  }

  /** The name to answer with: the one that was asked for. @throws LongmindError model_not_found */
  resolve(asked: string | null | undefined): string {
    if (asked === null || asked === undefined) return this.first;
    if (this.#any || this.names.includes(asked)) return asked;
    throw errors.unknownModel(asked, this.names);
  }
}
