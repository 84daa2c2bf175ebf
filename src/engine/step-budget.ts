/** Tokens of the first prefill step. */
const FIRST = 32;
/** Steps of fewer tokens tell the fixed cost. */
const SMALL = 8;

/** What a step may hold, and what computing costs. */
export type Budget = Pick<StepBudget, 'tokens' | 'observe' | 'prefillMs' | 'rowMs' | 'fixedMs'>;

/** The caller says how many tokens a step may hold; what they cost is measured all the same. */
export function fixedBudget(tokens: number): Budget {
  const measured = new StepBudget(tokens, Number.POSITIVE_INFINITY, tokens);
  return {
    tokens: () => tokens,
    observe: (...step) => measured.observe(...step),
    prefillMs: (n, context) => measured.prefillMs(n, context),
    rowMs: (context) => measured.rowMs(context),
    fixedMs: () => measured.fixedMs(),
  };
}

/**
 * How many tokens a step may hold so that it takes about `targetMs`. The cost of a step is modelled as
 *
 *     ms = fixed + tokens × (perToken + perContext × context)
 *
 * `fixed` (reading the weights once) is the time of the smallest steps seen, 0 until one was: then the cost of a token is
 * overestimated, which is safe. The other two are fitted to the larger steps as they run, by recursive least squares that
 * forgets slowly. The first step is a small one, to measure by. The budget changes speed only, never a result.
 */
export class StepBudget {
  #fixed = 0;
  #perToken = 0;
  #perContext = 0;
  // information matrix and vector of the fit
  #a11 = 0;
  #a12 = 0;
  #a22 = 0;
  #b1 = 0;
  #b2 = 0;
  #samples = 0;

  constructor(
    private readonly max: number,
    private readonly targetMs: number,
    /** Never below: the batch's decode rows must fit. */
    private readonly min: number,
  ) {}

  /** A step of `tokens` tokens, whose mean context was `context`, took `ms`. */
  observe(tokens: number, context: number, ms: number): void {
    if (tokens <= 0) return;
    if (tokens < SMALL) {
      this.#fixed = this.#fixed === 0 ? ms : Math.min(this.#fixed * 1.001, ms);
      return;
    }
    const keep = 0.95;
    const perToken = Math.max(0, ms - this.#fixed) / tokens;
    const c = context / 1024; // scaled, so that both unknowns are of one size
    this.#a11 = keep * this.#a11 + 1;
    this.#a12 = keep * this.#a12 + c;
    this.#a22 = keep * this.#a22 + c * c;
    this.#b1 = keep * this.#b1 + perToken;
    this.#b2 = keep * this.#b2 + c * perToken;
    this.#samples++;
    this.#solve();
  }

  /** Tokens for a step whose prefill would run at this context. */
  tokens(context: number): number {
    if (this.#samples === 0) return Math.max(this.min, Math.min(this.max, FIRST));
    const each = Math.max(1e-6, this.#perToken + (this.#perContext * context) / 1024);
    const n = Math.max(0.2 * this.targetMs, 0.85 * this.targetMs - this.#fixed) / each;
    // multiples of 16 suit the kernels' tiles
    return Math.max(this.min, Math.min(this.max, n >= 16 ? Math.floor(n / 16) * 16 : Math.floor(n)));
  }

  /** Milliseconds that computing so many tokens behind a context takes; Infinity before anything was measured. */
  prefillMs(tokens: number, context: number): number {
    if (this.#samples === 0) return Number.POSITIVE_INFINITY;
    const each = this.#perToken + (this.#perContext * (context + tokens / 2)) / 1024;
    return this.#fixed * Math.ceil(tokens / this.tokens(context)) + tokens * each;
  }

  /** Milliseconds of one row more at this context; NaN before anything was measured. */
  rowMs(context: number): number {
    return this.#samples === 0 ? Number.NaN : this.#perToken + (this.#perContext * context) / 1024;
  }

  /** Milliseconds of a step with hardly any rows; 0 before one was seen. */
  fixedMs(): number {
    return this.#fixed;
  }

  #solve(): void {
    const det = this.#a11 * this.#a22 - this.#a12 * this.#a12;
    const mean = this.#b1 / this.#a11;
    if (det < 1e-3 * this.#a11 * this.#a22 || det <= 0) {
      // one context only: it explains all
      this.#perToken = Math.max(0, mean - (this.#perContext * this.#a12) / this.#a11);
      return;
    }
    const slope = (this.#a11 * this.#b2 - this.#a12 * this.#b1) / det;
    this.#perContext = Math.max(0, slope);
    this.#perToken = Math.max(0, mean - (this.#perContext * this.#a12) / this.#a11);
  }
}
