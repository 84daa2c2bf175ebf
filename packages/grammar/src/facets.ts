/**
 * The normal form of a schema: a list of alternatives, each a product over the JSON types. Child schemas stay references
 * (numbers of schema locations, meaning all of them at once), so that recursion is finite.
 */
import type { Dfa } from './dfa.js';

/** Numbers of schema locations that must all hold; [] = anything. */
export type Conjunction = readonly number[];

export interface NumberFacet {
  integer: boolean;
  min: number;
  minExclusive: boolean;
  max: number;
  maxExclusive: boolean;
  /** Only these values, or null = any. They already satisfy the other fields. */
  values: number[] | null;
}

export interface StringFacet {
  /** In Unicode characters. */
  minLength: number;
  maxLength: number;
  /** All must accept. */
  languages: Dfa[];
  values: Set<string> | null;
}

export interface ArraySpec {
  prefix: Conjunction[];
  /** null = nothing may follow the prefix. */
  rest: Conjunction | null;
  /** The schema does not say what follows. */
  restImplied: boolean;
}

export interface ArrayFacet {
  specs: ArraySpec[];
  min: number;
  max: number;
}

export interface ObjectSpec {
  props: ReadonlyMap<string, Conjunction>;
  patterns: { source: string; language: Dfa; schemas: Conjunction }[];
  /** For names that are neither in `props` nor match a pattern; null = no such name. */
  additional: Conjunction | null;
  additionalImplied: boolean;
  /** The keyword `properties` is there, perhaps empty. */
  declares: boolean;
}

export interface ObjectFacet {
  specs: ObjectSpec[];
  required: Set<string>;
  min: number;
  max: number;
  /** All property names must be in these languages. */
  names: Dfa[];
}

export interface Facets {
  nothing: boolean;
  falsy: boolean;
  truthy: boolean;
  number: NumberFacet | null;
  string: StringFacet | null;
  array: ArrayFacet | null;
  object: ObjectFacet | null;
}

const anyNumber = (): NumberFacet => ({
  integer: false,
  min: Number.NEGATIVE_INFINITY,
  minExclusive: false,
  max: Number.POSITIVE_INFINITY,
  maxExclusive: false,
  values: null,
});
const anyString = (): StringFacet => ({
  minLength: 0,
  maxLength: Number.POSITIVE_INFINITY,
  languages: [],
  values: null,
});
const anyArray = (): ArrayFacet => ({ specs: [], min: 0, max: Number.POSITIVE_INFINITY });
export const anyObject = (): ObjectFacet => ({
  specs: [],
  required: new Set(),
  min: 0,
  max: Number.POSITIVE_INFINITY,
  names: [],
});

/** Every JSON value. */
export const anything = (): Facets => ({
  nothing: true,
  falsy: true,
  truthy: true,
  number: anyNumber(),
  string: anyString(),
  array: anyArray(),
  object: anyObject(),
});

/** No JSON value. */
export const none = (): Facets => ({
  nothing: false,
  falsy: false,
  truthy: false,
  number: null,
  string: null,
  array: null,
  object: null,
});

export function isNone(f: Facets): boolean {
  return !(f.nothing || f.falsy || f.truthy || f.number || f.string || f.array || f.object);
}

/** Values that both allow. Array and object parts keep all their specs; children are combined when they are looked up. */
export function both(a: Facets, b: Facets): Facets {
  return {
    nothing: a.nothing && b.nothing,
    falsy: a.falsy && b.falsy,
    truthy: a.truthy && b.truthy,
    number: a.number && b.number && bothNumbers(a.number, b.number),
    string: a.string && b.string && bothStrings(a.string, b.string),
    array: a.array && b.array && bothArrays(a.array, b.array),
    object: a.object && b.object && bothObjects(a.object, b.object),
  };
}

function bothNumbers(a: NumberFacet, b: NumberFacet): NumberFacet | null {
  const [lower, lowerEx] =
    a.min === b.min
      ? [a.min, a.minExclusive || b.minExclusive]
      : a.min > b.min
        ? [a.min, a.minExclusive]
        : [b.min, b.minExclusive];
  const [upper, upperEx] =
    a.max === b.max
      ? [a.max, a.maxExclusive || b.maxExclusive]
      : a.max < b.max
        ? [a.max, a.maxExclusive]
        : [b.max, b.maxExclusive];
  const out: NumberFacet = {
    integer: a.integer || b.integer,
    min: lower,
    minExclusive: lowerEx,
    max: upper,
    maxExclusive: upperEx,
    values: null,
  };
  const values = a.values && b.values ? a.values.filter((v) => b.values?.includes(v)) : (a.values ?? b.values);
  if (values) {
    out.values = values.filter((v) => holds(out, v));
    if (out.values.length === 0) return null;
  }
  if (lower > upper || (lower === upper && (lowerEx || upperEx))) return null;
  return out;
}

function holds(f: NumberFacet, v: number): boolean {
  if (f.integer && !Number.isInteger(v)) return false;
  return (f.minExclusive ? v > f.min : v >= f.min) && (f.maxExclusive ? v < f.max : v <= f.max);
}

function bothStrings(a: StringFacet, b: StringFacet): StringFacet | null {
  const minLength = Math.max(a.minLength, b.minLength);
  const maxLength = Math.min(a.maxLength, b.maxLength);
  const languages = [...a.languages, ...b.languages.filter((l) => !a.languages.includes(l))];
  let values = a.values ?? b.values;
  if (a.values && b.values) values = new Set([...a.values].filter((v) => b.values?.has(v)));
  if (minLength > maxLength || values?.size === 0) return null;
  return { minLength, maxLength, languages, values };
}

function bothArrays(a: ArrayFacet, b: ArrayFacet): ArrayFacet | null {
  const min = Math.max(a.min, b.min);
  const max = Math.min(a.max, b.max);
  return min > max ? null : { specs: [...a.specs, ...b.specs], min, max };
}

function bothObjects(a: ObjectFacet, b: ObjectFacet): ObjectFacet | null {
  const min = Math.max(a.min, b.min);
  const max = Math.min(a.max, b.max);
  const names = [...a.names, ...b.names.filter((l) => !a.names.includes(l))];
  if (min > max) return null;
  return { specs: [...a.specs, ...b.specs], required: new Set([...a.required, ...b.required]), min, max, names };
}
