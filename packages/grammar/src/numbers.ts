/** Numbers between bounds as automata over decimal digits: compared digit by digit, so nothing is rounded. */
import type { GrammarBuilder } from './builder.js';
import type { Budget } from './errors.js';
import type { NumberFacet } from './facets.js';

/** Digits before and after the point. No endless numbers, and none that a double cannot hold. */
const MAX_INTEGER_DIGITS = 24;
const MAX_FRACTION_DIGITS = 24;
/** Decimals of so many digits are distinct doubles: x > bound as decimals means x > bound as doubles. */
const EXACT_DIGITS = 15;

/** A bound of a magnitude: whole.fraction, no needless zeros. */
interface Bound {
  whole: string;
  fraction: string;
  exclusive: boolean;
}

interface Shape {
  lower: Bound | null;
  upper: Bound | null;
  integer: boolean;
  /** Digits before the point, and in all. */
  maxWhole: number;
  maxTotal: number;
}

/** Where the reader of digits stands. Comparisons: -1 below the bound, 0 equal so far, 1 above. */
interface Place {
  phase: 'first' | 'zero' | 'whole' | 'point' | 'fraction';
  whole: number;
  fraction: number;
  lower: number;
  upper: number;
}

/** State from which exactly the numbers of `f` (which has no `values`) are spelled, ending in states that are final. */
export function numberStates(b: GrammarBuilder, f: NumberFacet, budget: Budget, path: string): number {
  const { min, max } = f.integer ? integerBounds(f, budget, path) : realBounds(f, budget, path);
  const exclusive = (min?.exclusive || max?.exclusive) && !f.integer;
  const limits = {
    integer: f.integer,
    maxWhole: exclusive ? EXACT_DIGITS : MAX_INTEGER_DIGITS,
    maxTotal: exclusive ? EXACT_DIGITS : MAX_INTEGER_DIGITS + MAX_FRACTION_DIGITS,
  };
  const start = b.state();
  // x ≥ 0: max(min, 0) ≤ x ≤ max;   x = -m: max(-max, 0) ≤ m ≤ -min
  if (!max || max.sign >= 0) {
    const lower = min && min.sign > 0 ? min : min && min.sign === 0 && min.exclusive ? min : null;
    b.also(start, magnitude(b, { ...limits, lower, upper: max }, budget));
  }
  if (!min || min.sign <= 0) {
    const lower = max && (max.sign < 0 || (max.sign === 0 && max.exclusive)) ? max : null;
    b.edge(start, 0x2d, 0x2d, magnitude(b, { ...limits, lower, upper: min }, budget));
  }
  return start;
}

type Signed = Bound & { sign: number };

function integerBounds(f: NumberFacet, budget: Budget, path: string): { min: Signed | null; max: Signed | null } {
  const whole = (v: number, exclusive: boolean, step: 1 | -1): Signed | null => {
    if (!Number.isFinite(v)) return null;
    let n = BigInt(step > 0 ? Math.ceil(v) : Math.floor(v));
    if (exclusive && Number.isInteger(v)) {
      if (!Number.isSafeInteger(v)) {
        throw budget.unsupported(
          step > 0 ? 'exclusiveMinimum' : 'exclusiveMaximum',
          path,
          'integers above 2^53 are not exact',
        );
      }
      n += BigInt(step);
    }
    const sign = n > 0n ? 1 : n < 0n ? -1 : 0;
    return { whole: (n < 0n ? -n : n).toString(), fraction: '', exclusive: false, sign };
  };
  return { min: whole(f.min, f.minExclusive, 1), max: whole(f.max, f.maxExclusive, -1) };
}

function realBounds(f: NumberFacet, budget: Budget, path: string): { min: Signed | null; max: Signed | null } {
  const real = (v: number, exclusive: boolean, keyword: string): Signed | null => {
    if (!Number.isFinite(v)) return null;
    const { whole, fraction, digits } = decimal(Math.abs(v));
    if (exclusive && digits > EXACT_DIGITS) {
      throw budget.unsupported(keyword, path, `${v} has more than ${EXACT_DIGITS} digits, so it is not exact`);
    }
    return { whole, fraction, exclusive, sign: Math.sign(v) };
  };
  return {
    min: real(f.min, f.minExclusive, 'exclusiveMinimum'),
    max: real(f.max, f.maxExclusive, 'exclusiveMaximum'),
  };
}

/** The shortest decimal of a double, written out. */
function decimal(v: number): { whole: string; fraction: string; digits: number } {
  const [mantissa, exponent] = v.toExponential().split('e');
  const digits = mantissa.replace('.', '');
  const point = Number(exponent) + 1;
  const whole = point > 0 ? digits.slice(0, point).padEnd(point, '0') : '0';
  const fraction = point > 0 ? digits.slice(point) : '0'.repeat(-point) + digits;
  return { whole, fraction: fraction.replace(/0+$/, ''), digits: digits.length };
}

/** States that read one magnitude. */
function magnitude(b: GrammarBuilder, shape: Shape, budget: Budget): number {
  const ids = new Map<string, number>();
  const todo: [Place, number][] = [];
  const state = (p: Place): number => {
    const inFraction = p.phase === 'point' || p.phase === 'fraction';
    const exact = shape.maxTotal === EXACT_DIGITS;
    const decided = inFraction && p.lower !== 0 && p.upper !== 0;
    const whole = !inFraction ? p.whole : exact ? p.whole + p.fraction : 0;
    const key = `${p.phase},${whole},${decided && exact ? 0 : p.fraction},${p.lower},${p.upper}`;
    const known = ids.get(key);
    if (known !== undefined) return known;
    const id = b.state(accepts(shape, p));
    ids.set(key, id);
    todo.push([p, id]);
    return id;
  };
  const start = state({ phase: 'first', whole: 0, fraction: 0, lower: 0, upper: 0 });
  for (let item = todo.pop(); item; item = todo.pop()) {
    const [p, id] = item;
    budget.spend(1);
    for (let d = 0; d < 10; d++) {
      const next = digit(shape, p, d);
      if (next) b.edge(id, 0x30 + d, 0x30 + d, state(next));
    }
    if ((p.phase === 'zero' || p.phase === 'whole') && !shape.integer && p.whole < shape.maxTotal) {
      const end = { lower: relation(shape.lower, p, p.lower), upper: relation(shape.upper, p, p.upper) };
      b.edge(id, 0x2e, 0x2e, state({ phase: 'point', whole: p.whole, fraction: 0, ...end }));
    }
  }
  return start;
}

function digit(shape: Shape, p: Place, d: number): Place | null {
  if (p.phase === 'zero') return null;
  if (p.phase === 'first' || p.phase === 'whole') {
    if (p.whole >= shape.maxWhole) return null;
    const compare = (bound: Bound | null, so: number) => {
      if (so !== 0 || !bound || p.whole >= bound.whole.length) return so;
      return Math.sign(d - Number(bound.whole[p.whole]));
    };
    return {
      phase: p.phase === 'first' && d === 0 ? 'zero' : 'whole',
      whole: p.whole + 1,
      fraction: 0,
      lower: compare(shape.lower, p.lower),
      upper: compare(shape.upper, p.upper),
    };
  }
  if (p.fraction >= MAX_FRACTION_DIGITS || p.whole + p.fraction >= shape.maxTotal) return null;
  const compare = (bound: Bound | null, so: number) =>
    so !== 0 || !bound ? so : Math.sign(d - Number(bound.fraction[p.fraction] ?? '0'));
  return {
    phase: 'fraction',
    whole: p.whole,
    fraction: p.fraction + 1,
    lower: compare(shape.lower, p.lower),
    upper: compare(shape.upper, p.upper),
  };
}

/** How the digits before the point compare with the bound's, once they are all there. */
function relation(bound: Bound | null, p: Place, so: number): number {
  if (!bound || p.whole === bound.whole.length) return so;
  return p.whole < bound.whole.length ? -1 : 1;
}

function accepts(shape: Shape, p: Place): boolean {
  if (p.phase === 'first' || p.phase === 'point') return false;
  const whole = p.phase === 'zero' || p.phase === 'whole';
  const compare = (bound: Bound, so: number): number => {
    const r = whole ? relation(bound, p, so) : so;
    return r === 0 && bound.fraction.length > p.fraction ? -1 : r;
  };
  const { lower, upper } = shape;
  if (lower) {
    const r = compare(lower, p.lower);
    if (r < 0 || (r === 0 && lower.exclusive)) return false;
  }
  if (upper) {
    const r = compare(upper, p.upper);
    if (r > 0 || (r === 0 && upper.exclusive)) return false;
  }
  return true;
}
