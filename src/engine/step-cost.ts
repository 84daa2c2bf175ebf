/**
 * What a step costs, learned from the steps that ran:
 *
 *     ms = fixed + tokens × (perToken + perContext × context)
 *
 * All three are fitted at once to steps of different sizes, so `fixed` (reading the weights) is known also where no small
 * step ever ran, and does not depend on what sizes the budget chose. Steps are remembered by size class, each class with its
 * own slow forgetting: thousands of decode steps do not make it forget what a prefill costs. Near a class that was measured
 * its own mean corrects the fit, since no kernel's time is a straight line.
 */

/** Weight that what was known of a class keeps when a step of it ran. */
const KEEP = 0.9;
/** A step that took so many times what was expected says so only: something else may have had the processor. */
const OUTLIER = 1.5;
/** Sizes differ enough to tell fixed from the rest. */
const SPREAD = 1.4;
/** After so many larger-than-decode steps below its size a class is measured anew. */
const STALE = 32;
/** Steps of fewer tokens are no prefills. */
const SMALL = 8;
/** Share of the evidence that says, before any other does, that the context costs nothing. */
const DOUBT = 0.003;
/** A class counts in the fit by so much less than the next larger one: the budget is about large steps. */
const FADE = 0.25;
/** Contexts are counted in so many tokens, that the unknowns are of one size. */
const CONTEXT = 1024;

/** Sums over the steps of one size class, each weighted by 1 ÷ ms²: what counts is the error in per cent. */
interface SizeClass {
  /** Of (1, n, n × context): the products 11, 12, 13, 22, 23, 33. */
  readonly products: Float64Array;
  /** The same times ms. */
  readonly times: Float64Array;
  /** Steps since, of smaller classes. */
  idle: number;
}

export class StepCost {
  /** By ⌊log2(tokens)⌋. */
  readonly #classes: (SizeClass | undefined)[] = [];
  /** fixed, perToken, perContext. */
  readonly #fit = new Float64Array(3);
  #smallest = Number.POSITIVE_INFINITY;
  #largest = 0;

  /** Tokens of the largest step that is remembered; 0: of none. */
  get largest(): number {
    return this.#largest;
  }

  /** Whether steps of different sizes ran, so that fixed cost and cost of a token can be told apart. */
  get known(): boolean {
    return this.#largest >= SPREAD * this.#smallest;
  }

  /** Of a step with hardly any rows. */
  get fixed(): number {
    if (!this.known) return this.#fit[0]!;
    return Math.max(0, this.stepMs(1, 0) - this.rowMs(0));
  }

  /** Of one row more. */
  rowMs(context: number): number {
    return this.#fit[1]! + (this.#fit[2]! * context) / CONTEXT;
  }

  /** Of a step of so many tokens (> 0) with this mean context. */
  stepMs(tokens: number, context: number): number {
    const fit = this.#fit[0]! + tokens * this.rowMs(context);
    const near = this.#nearest(classOf(tokens));
    return near ? fit * this.#bias(near) : fit;
  }

  /** A step of `tokens` tokens, whose mean context was `context`, took `ms`. */
  observe(tokens: number, context: number, ms: number): void {
    if (tokens <= 0 || !(ms > 0)) return;
    const k = classOf(tokens);
    const expected = this.known ? this.stepMs(tokens, context) : ms;
    this.#learn(this.#classOf(k), tokens, context, Math.min(ms, OUTLIER * Math.max(expected, 1e-3)));
    if (tokens >= SMALL) this.#age(k);
    this.#smallest = Number.POSITIVE_INFINITY;
    this.#largest = 0;
    for (const c of this.#classes) if (c) this.#span(c.products[1]! / c.products[0]!);
    this.#solve();
  }

  #classOf(k: number): SizeClass {
    this.#classes[k] ??= { products: new Float64Array(6), times: new Float64Array(3), idle: 0 };
    return this.#classes[k];
  }

  #learn(c: SizeClass, tokens: number, context: number, ms: number): void {
    const w = 1 / (ms * ms);
    const x = [1, tokens, (tokens * context) / CONTEXT] as const;
    let at = 0;
    for (let i = 0; i < 3; i++) {
      for (let j = i; j < 3; j++, at++) c.products[at] = KEEP * c.products[at]! + w * x[i]! * x[j]!;
      c.times[i] = KEEP * c.times[i]! + w * x[i]! * ms;
    }
    c.idle = 0;
  }

  #age(k: number): void {
    for (let i = k + 1; i < this.#classes.length; i++) {
      const c = this.#classes[i];
      if (c && ++c.idle > STALE) this.#classes[i] = undefined;
    }
  }

  #span(tokens: number): void {
    this.#smallest = Math.min(this.#smallest, tokens);
    this.#largest = Math.max(this.#largest, tokens);
  }

  #nearest(k: number): SizeClass | undefined {
    for (let d = 0; d < this.#classes.length || k - d >= 0; d++) {
      const c = this.#classes[k - d] ?? this.#classes[k + d];
      if (c) return c;
    }
    return undefined;
  }

  /** What the class took ÷ what the fit says of it. */
  #bias({ products, times }: SizeClass): number {
    const [fixed, perToken, perContext] = this.#fit as unknown as [number, number, number];
    const said = fixed * products[0]! + perToken * products[1]! + perContext * products[2]!;
    return said > 0 ? times[0]! / said : 1;
  }

  /** Least squares over all classes, none of the three below 0. */
  #solve(): void {
    const a = new Float64Array(6);
    const b = new Float64Array(3);
    const last = this.#classes.findLastIndex((c) => c !== undefined);
    for (const [k, c] of this.#classes.entries()) {
      if (!c) continue;
      const weight = FADE ** (last - k);
      for (let i = 0; i < 6; i++) a[i]! += weight * c.products[i]!;
      for (let i = 0; i < 3; i++) b[i]! += weight * c.times[i]!;
    }
    a[5]! += DOUBT * a[3]!;
    this.#fit.fill(0);
    // one size only: all of it is taken for the tokens' cost, which errs on the safe side; or, of decode steps, for fixed
    const candidates = this.known ? [7, 6, 5, 3, 4, 2, 1] : [this.#largest < SMALL ? 1 : 2];
    let best = 0;
    for (const used of candidates) {
      const x = solveFor(used, a, b);
      if (!x || x.some((v) => v < 0)) continue;
      const explained = x[0]! * b[0]! + x[1]! * b[1]! + x[2]! * b[2]!;
      if (explained <= best) continue;
      best = explained;
      this.#fit.set(x);
    }
  }
}

const classOf = (tokens: number): number => 31 - Math.clz32(tokens);

/** Where in the six products that of unknowns i and j is. */
const AT = [0, 1, 2, 1, 3, 4, 2, 4, 5];

/** Solves the normal equations for the unknowns in the bit set `used`, the others 0, by elimination; null: singular. */
function solveFor(used: number, a: Float64Array, b: Float64Array): number[] | null {
  const ids = [0, 1, 2].filter((i) => (used >> i) & 1);
  const rows = ids.map((i) => [...ids.map((j) => a[AT[3 * i + j]!]!), b[i]!]);
  const x = [0, 0, 0];
  for (let p = 0; p < ids.length; p++) {
    const pivot = rows[p]![p]!;
    if (!(pivot > 1e-9 * a[AT[4 * ids[p]!]!]!)) return null;
    for (let r = p + 1; r < ids.length; r++) {
      const f = rows[r]![p]! / pivot;
      for (let c = p; c <= ids.length; c++) rows[r]![c]! -= f * rows[p]![c]!;
    }
  }
  for (let p = ids.length - 1; p >= 0; p--) {
    let v = rows[p]![ids.length]!;
    for (let c = p + 1; c < ids.length; c++) v -= rows[p]![c]! * x[ids[c]!]!;
    x[ids[p]!] = v / rows[p]![p]!;
  }
  return x;
}
