/**
 * Guesses for the sequences that decode, and what becomes of them. A step verifies a guess as more rows of the same sequence;
 * since a row's result depends on its own tokens alone and random numbers on (seed, position), what comes out is the same
 * with and without guesses, to the bit.
 */
import type { CacheManager } from '../../cache/types.js';
import type { LiveRequest } from '../request.js';
import type { Budget } from '../step-budget.js';
import { Lookup } from './lookup.js';
import { MAX_DRAFT, Pace } from './pace.js';

/** With more sequences in the batch a row costs about what it can save, and looking for guesses costs more than that. */
const MAX_SEQUENCES = 16;

/** Of one request. */
interface Guessing {
  lookup: Lookup;
  pace: Pace;
  /** Length of the match that the guess was made with, 0: there is none. */
  match: number;
  /** Its first token. */
  next: number;
}

export class Speculator {
  readonly counters = { drafted: 0, accepted: 0 };
  readonly #guessing = new WeakMap<LiveRequest, Guessing>();
  readonly #draft = new Int32Array(MAX_DRAFT);
  readonly #first = new Int32Array(1);

  constructor(
    private readonly cache: CacheManager,
    private readonly budget: Pick<Budget, 'rowMs' | 'fixedMs'>,
  ) {}

  /**
   * Tokens that probably follow what is known of a sequence that decodes, at most `max`: as many as are worth their rows
   * while `decoding` sequences share a step. What a grammar forbids is left out. Valid until the next call.
   */
  guess(r: LiveRequest, decoding: number, max: number): Int32Array {
    if (decoding > MAX_SEQUENCES || max <= 0) return this.#draft.subarray(0, 0);
    const g = this.#of(r);
    if (g.match === 0) return this.#draft.subarray(0, 0);
    const row = this.budget.rowMs(r.known);
    const wanted = g.pace.length(g.match, row, this.budget.fixedMs() / decoding + row);
    const count = g.lookup.propose(Math.min(wanted, max), this.#draft, 0);
    return this.#draft.subarray(0, allowed(r, this.#draft, count));
  }

  /** The next token of a request was drawn; `known` says so already. */
  drawn(r: LiveRequest, token: number): void {
    const g = this.#guessing.get(r);
    // one that fell behind (the batch was too large to guess) begins anew when it is asked for a guess
    if (!g || g.lookup.length !== r.known - 1) return;
    if (g.match > 0) g.pace.learn(g.match, g.next === token);
    g.lookup.append([token]);
    this.#look(g);
  }

  #of(r: LiveRequest): Guessing {
    let g = this.#guessing.get(r);
    if (!g) {
      g = { lookup: new Lookup(), pace: new Pace(), match: 0, next: -1 };
      this.#guessing.set(r, g);
    }
    const from = g.lookup.length;
    if (from < r.known) {
      const ids = new Int32Array(r.known - from);
      this.cache.readTokens(r.sequence, from, r.known, ids, 0);
      g.lookup.append(ids);
      this.#look(g);
    }
    return g;
  }

  #look(g: Guessing): void {
    g.match = g.lookup.find();
    if (g.match > 0) g.lookup.propose(1, this.#first, 0);
    g.next = this.#first[0]!;
  }
}

/** How many of the tokens the request's grammar lets come. */
function allowed(r: LiveRequest, draft: Int32Array, count: number): number {
  if (!r.matcher || count === 0) return count;
  const matcher = r.matcher.clone();
  let n = 0;
  while (n < count && matcher.accept(draft[n]!) && !matcher.isEnded()) n++;
  return n;
}
