import { DrawCost } from './draw-cost.js';
import { StepCost } from './step-cost.js';

/** Tokens of the first prefill step. */
const FIRST = 16;
/** The second step may be so many times as large as the first, … */
const SECOND = 4;
/** … and later ones as the largest that was measured. */
const GROWTH = 2.5;
/** Beyond the largest step measured, the cost may be underestimated by this share of its cost for each time its size. */
const CAUTION = 0.1;
/** Of the target, what is aimed at: times vary. */
const AIM = 0.98;
/** Of the target, what the rows themselves may take at least, however long reading the weights takes. */
const LEAST = 0.2;
/** Multiples of it suit the kernels' tiles. */
const TILE = 16;

/** What a step may hold, and what computing costs. */
export type Budget = Pick<StepBudget, 'tokens' | 'observe' | 'prefillMs' | 'rowMs' | 'fixedMs' | 'drawMs'>;

/** The caller says how many tokens a step may hold; what they cost is measured all the same. */
export function fixedBudget(tokens: number): Budget {
  return new StepBudget(tokens, Number.POSITIVE_INFINITY, tokens);
}

/**
 * How many tokens a step may hold so that it takes at most about `targetMs`. What a step costs is learned from those that
 * ran (StepCost); the first ones are small, and grow while they stay well below the target. The budget changes speed only,
 * never a result.
 */
export class StepBudget {
  readonly #cost = new StepCost();
  readonly #draws = new DrawCost();

  constructor(
    private readonly max: number,
    private readonly targetMs: number,
    /** Never below: the batch's decode rows must fit. */
    private readonly min: number,
  ) {}

  /** A step of `tokens` tokens, whose mean position (in its sequence) was `context`, took `ms`; so many of them drew. */
  observe(tokens: number, context: number, ms: number, drew = 0): void {
    this.#cost.observe(tokens, context, ms);
    if (drew === tokens) this.#draws.observe(tokens, ms);
  }

  /** Tokens for a step whose prefill would begin at this context. */
  tokens(context: number): number {
    return Math.max(this.min, Math.min(this.max, this.#wanted(context)));
  }

  /** Milliseconds that computing so many tokens behind a context takes; Infinity before anything was measured. */
  prefillMs(tokens: number, context: number): number {
    const row = this.rowMs(context + tokens / 2);
    if (Number.isNaN(row)) return Number.POSITIVE_INFINITY;
    return this.#cost.fixed * Math.ceil(tokens / this.tokens(context)) + tokens * row;
  }

  /** Milliseconds of one row more at this context; NaN before steps tell. */
  rowMs(context: number): number {
    const ms = this.#cost.rowMs(context);
    return ms > 0 ? ms : Number.NaN;
  }

  /** Milliseconds of a step with hardly any rows; 0 before steps of different sizes, or small ones, ran. */
  fixedMs(): number {
    return this.#cost.fixed;
  }

  /** Milliseconds of a step of so many rows that all draw, at this context; NaN before steps tell. */
  drawMs(rows: number, context: number): number {
    return this.#draws.ms(rows, this.rowMs(context));
  }

  #wanted(context: number): number {
    const { largest, known } = this.#cost;
    if (largest < FIRST / 2) return FIRST;
    if (!known) return this.#second(context);
    const most = Math.min(this.max, Math.max(FIRST, GROWTH * largest));
    let n = most - (most % TILE);
    while (n >= TILE && !this.#fits(n, context)) n -= TILE;
    if (n < TILE) for (n = Math.min(most, TILE - 1); n > 1 && !this.#fits(n, context); ) n--;
    return n;
  }

  /** Steps of one size ran: a larger one if it surely is short enough, else a smaller one, so that the cost becomes known. */
  #second(context: number): number {
    const { largest } = this.#cost;
    const share = (AIM * this.targetMs) / this.#cost.stepMs(largest, context + largest / 2);
    if (share < 2) return Math.max(1, Math.floor(largest / 2));
    const n = Math.min(SECOND, share) * largest;
    return Math.floor(n - (n % TILE));
  }

  #fits(n: number, context: number): boolean {
    const { largest, fixed } = this.#cost;
    const ms = this.#cost.stepMs(n, context + n / 2);
    const beyond = Math.max(0, n / largest - 1) * CAUTION * ms;
    return ms + beyond <= AIM * this.targetMs || ms + beyond - fixed <= LEAST * this.targetMs;
  }
}
