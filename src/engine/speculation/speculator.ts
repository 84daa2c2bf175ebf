/**
 * Guesses for the sequences that decode, and what becomes of them. A step verifies a guess as more rows of the same sequence;
 * since a row's result depends on its own tokens alone and random numbers on (seed, position), what comes out is the same
 * with and without guesses, to the bit.
 */
import type { CacheManager } from '../../cache/types.js';
import type { LiveRequest } from '../request.js';
import type { Budget } from '../step-budget.js';
import { type Drafter, MAX_DRAFTING, type Want } from './drafter.js';
import { MAX_DRAFT, Pace } from './pace.js';
import { Repetition } from './repetition.js';
import { shareGuesses } from './share.js';

/** With more sequences in the batch a row costs about what it can save, and looking for guesses costs more than that. */
const MAX_SEQUENCES = 16;

/** So many last tokens of a prompt teach how far its matches can be trusted, as if they had been drawn. */
const REHEARSED = 256;

/** The draft model is tried again after so many tokens where it did not pay, with so many tokens. */
const RETRY = 64;
const PROBE = 4;

/** Of one request. */
interface Guessing {
  text: Repetition;
  /** Of the draft model's guesses. */
  draftPace: Pace;
  /** The draft model's guess for this moment or one before it; no token of it was wrong yet. */
  draft: Want | null;
  /** Tokens since the draft model was asked. */
  quiet: number;
  /** Tokens of the text's guess that this step should verify. */
  count: number;
  /** The last guess given out was the draft model's. */
  byModel: boolean;
}

/** The draft model's guesses are all of one class. */
const ONE_CLASS = () => 0;

export class Speculator {
  readonly #counters = { verified: 0, accepted: 0, byModel: { verified: 0, accepted: 0 } };
  #draftMs = 0;
  readonly #guessing = new WeakMap<LiveRequest, Guessing>();
  readonly #draft = new Int32Array(MAX_DRAFT);

  constructor(
    private readonly cache: CacheManager,
    private readonly budget: Pick<Budget, 'drawMs'>,
    private readonly model: Drafter | null = null,
    private readonly now: () => number = () => performance.now(),
  ) {}

  counts() {
    return { ...this.#counters, byModel: { ...this.#counters.byModel } };
  }

  /** Milliseconds spent in the draft model since this was asked. */
  takeDraftMs(): number {
    const ms = this.#draftMs;
    this.#draftMs = 0;
    return ms;
  }

  /**
   * Before a step: decides how much is guessed for whom, and lets the draft model guess for the sequences where it promises
   * most. `rows`: guesses that a step may hold.
   */
  prepare(running: readonly LiveRequest[], rows: number): void {
    if (running.length === 0 || running.length > MAX_SEQUENCES || rows <= 0) return;
    const decoding = running.filter((r) => r.length - r.scheduled === 1 && r.drawing === 0);
    if (this.model && running.length <= MAX_DRAFTING) this.#askModel(this.model, decoding, running.length, rows);
    this.#shareRows(decoding, running.length, rows);
  }

  #askModel(model: Drafter, decoding: readonly LiveRequest[], sequences: number, rows: number): void {
    const wants: Want[] = [];
    for (const r of decoding) {
      const g = this.#of(r);
      if (g.draft?.known === r.known && g.draft.done) continue;
      const count = Math.min(mostOf(r), Math.floor(rows / sequences), this.#worth(r, g, sequences));
      if (count <= 0) continue;
      g.quiet = 0;
      g.draft = { r, count, known: r.known, tokens: [], done: false };
      wants.push(g.draft);
    }
    const begun = this.now();
    model.propose(wants, (r) => this.#read(r, 0));
    this.#draftMs += this.now() - begun;
  }

  /** The rows of guesses go where they promise most; the draft model's guesses have theirs. */
  #shareRows(decoding: readonly LiveRequest[], sequences: number, rows: number): void {
    let taken = 0;
    let tokens = sequences;
    const texts: { r: LiveRequest; g: Guessing }[] = [];
    for (const r of decoding) {
      const g = this.#of(r);
      g.count = 0;
      if (!hasDraft(r, g)) {
        if (g.text.chance(0) > 0) texts.push({ r, g });
        continue;
      }
      const count = g.draft!.tokens.length;
      taken += count;
      tokens += g.draftPace.expected(ONE_CLASS, count);
    }
    if (texts.length === 0) return;
    const chains = texts.map(({ r, g }) => ({ most: mostOf(r), chance: (k: number) => g.text.chance(k) }));
    const context = texts[0]!.r.known;
    const ms = (guesses: number) => this.budget.drawMs(sequences + taken + guesses, context);
    const counts = shareGuesses(chains, rows - taken, tokens, ms);
    texts.forEach(({ g }, i) => {
      g.count = counts[i]!;
    });
  }

  /** So many guessed tokens of a request were verified. */
  verified(r: LiveRequest, count: number): void {
    this.#counters.verified += count;
    if (this.#guessing.get(r)?.byModel) this.#counters.byModel.verified += count;
  }

  /** One of them was right. */
  accepted(r: LiveRequest): void {
    this.#counters.accepted++;
    if (this.#guessing.get(r)?.byModel) this.#counters.byModel.accepted++;
  }

  /**
   * Tokens that probably follow what is known of a sequence that decodes, at most `max`: as many as `prepare` found worth
   * their rows. What a grammar forbids is left out. Valid until the next call.
   */
  guess(r: LiveRequest, sequences: number, max: number): Int32Array {
    const g = sequences > MAX_SEQUENCES || max <= 0 ? undefined : this.#guessing.get(r);
    if (!g || g.text.length !== r.known) return this.#draft.subarray(0, 0);
    return this.#draft.subarray(0, allowed(r, this.#draft, this.#fill(r, g, max)));
  }

  /** The next token of a request was drawn; `known` says so already. */
  drawn(r: LiveRequest, token: number): void {
    const g = this.#guessing.get(r);
    // one that fell behind (the batch was too large to guess) begins anew when it is asked for a guess
    if (!g || g.text.length !== r.known - 1) return;
    g.quiet++;
    this.#learnDraft(g, r.known - 1, token);
    g.text.follow(token);
  }

  #fill(r: LiveRequest, g: Guessing, max: number): number {
    g.byModel = hasDraft(r, g);
    if (!g.byModel) return g.text.propose(Math.min(g.count, max), this.#draft);
    const { tokens } = g.draft!;
    const count = Math.min(tokens.length, max);
    for (let i = 0; i < count; i++) this.#draft[i] = tokens[i]!;
    return count;
  }

  /** Tokens that the draft model should guess: 0 where it does not pay, or what stands in the text promises more. */
  #worth(r: LiveRequest, g: Guessing, decoding: number): number {
    const { tokenMs } = this.model!;
    const ms = this.#msOf(r, decoding);
    const drafted = (guesses: number) => ms(guesses) + guesses * tokenMs;
    const count = g.draftPace.length(ONE_CLASS, drafted);
    const found = g.text.worth(ms);
    if (count > 0 && g.draftPace.rate(ONE_CLASS, count, drafted) > g.text.rate(found, ms))
      return tokenMs === 0 ? Math.min(count, PROBE) : count;
    return found === 0 && g.quiet >= RETRY ? PROBE : 0;
  }

  /** Milliseconds of a step by the guesses that each of the sequences in it verifies. */
  #msOf(r: LiveRequest, decoding: number): (guesses: number) => number {
    return (guesses) => this.budget.drawMs(decoding * (1 + guesses), r.known);
  }

  /** The token at `index` was drawn: was it what the draft model said? */
  #learnDraft(g: Guessing, index: number, token: number): void {
    const said = g.draft?.tokens[index - g.draft.known];
    if (said === undefined) return;
    const right = said === token;
    g.draftPace.learn(0, right);
    this.model!.learn(right);
    if (!right) g.draft = null;
  }

  /** Known tokens from `from` on. */
  #read(r: LiveRequest, from: number): Int32Array {
    const ids = new Int32Array(r.known - from);
    this.cache.readTokens(r.sequence, from, r.known, ids, 0);
    return ids;
  }

  #of(r: LiveRequest): Guessing {
    let g = this.#guessing.get(r);
    if (!g) {
      const draftPace = new Pace([this.model?.chance ?? 0]);
      g = { text: new Repetition(), draftPace, draft: null, quiet: 0, count: 0, byModel: false };
      this.#guessing.set(r, g);
    }
    const from = g.text.length;
    if (from < r.known) {
      const tokens = this.#read(r, from);
      g.text.append(tokens, from === 0 ? Math.max(0, tokens.length - REHEARSED) : tokens.length);
    }
    return g;
  }
}

/** Tokens that may be guessed: the last one of a request is drawn. */
const mostOf = (r: LiveRequest) => Math.min(r.maxTokens - r.generated - 1, MAX_DRAFT);

/** The draft model's guess is for this moment. */
const hasDraft = (r: LiveRequest, g: Guessing) => g.draft?.known === r.known && g.draft.done;

/** How many of the tokens the request's grammar lets come. */
function allowed(r: LiveRequest, draft: Int32Array, count: number): number {
  if (!r.matcher || count === 0) return count;
  const matcher = r.matcher.clone();
  let n = 0;
  while (n < count && matcher.accept(draft[n]!) && !matcher.isEnded()) n++;
  return n;
}
