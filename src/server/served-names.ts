/** By which names clients may ask for the model. */
import { errors } from '../index.js';

/** In the option: every name there is. */
const ANY = '*';

export class ServedNames {
  /** As the option has them, without '*'; at least one. */
  readonly names: readonly string[];
  /** Names of LoRA adapters: each of `names` with ':' and one of these is a name, too. */
  readonly adapters: readonly string[];
  readonly #any: boolean;

  constructor(given: readonly string[], otherwise: string, adapters: readonly string[] = []) {
    this.adapters = adapters;
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
    if (this.#any || this.names.includes(asked) || this.adapterOf(asked)) return asked;
    throw errors.unknownModel(asked, [...this.names, ...this.withAdapters().map((m) => m.id)]);
  }

  /** Of 'model:name'; null: the model alone; undefined: no model was asked for. */
  adapterOf(asked: string | null | undefined): string | null | undefined {
    if (asked === null || asked === undefined) return undefined;
    const at = asked.lastIndexOf(':');
    if (at < 0 || this.names.includes(asked)) return null;
    const adapter = asked.slice(at + 1);
    return this.adapters.includes(adapter) && (this.#any || this.names.includes(asked.slice(0, at))) ? adapter : null;
  }

  /** The names with an adapter, and the model that each is of. */
  withAdapters(): { id: string; parent: string }[] {
    return this.names.flatMap((parent) => this.adapters.map((a) => ({ id: `${parent}:${a}`, parent })));
  }
}
