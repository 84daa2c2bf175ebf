/** Matchers of constrained requests. Masks are kept with a grammar, so an equal one of an earlier request is used again. */
import { errors } from '../errors.js';
import { createMatcher, type Grammar, type Matcher } from '../grammar/index.js';
import type { Admission } from './admission.js';
import type { EngineRequest } from './request.js';

/** Each may hold 8 MiB of masks. */
const GRAMMARS_KEPT = 16;

export class Matchers {
  /** The last used grammars by id, the latest last. */
  readonly #grammars = new Map<number, Grammar>();

  constructor(private readonly vocabulary: Pick<Admission, 'tokenBytes' | 'endOfTurn'>) {}

  /** Null for a request that may say anything. */
  open({ grammar, limits }: EngineRequest): Matcher | null {
    if (!grammar) return null;
    if (limits.ignoreEos) throw errors.invalidRequest('a constrained answer ends by itself: ignoreEos must be off');
    const known = this.#grammars.get(grammar.id) ?? grammar.data;
    this.#grammars.delete(grammar.id);
    this.#grammars.set(grammar.id, known);
    for (const oldest of this.#grammars.keys()) {
      if (this.#grammars.size <= GRAMMARS_KEPT) break;
      this.#grammars.delete(oldest);
    }
    const { tokenBytes, endOfTurn } = this.vocabulary;
    return createMatcher(known, tokenBytes, [...endOfTurn]);
  }
}
