/**
 * Takes away from an alternative what oneOf and `not` forbid. Scalars are subtracted exactly; arrays and objects must be
 * proved disjoint, or the schema is refused.
 */
import { complement, isEmpty, matches } from './dfa.js';
import { both, type Conjunction, type Facets, isNone, type NumberFacet, type StringFacet } from './facets.js';
import { closedMax, closesUndeclared, declaredNames, itemAt, propertyAt } from './lookup.js';
import type { SchemaReader } from './reader.js';
import type { Alternative } from './schema.js';
import type { CompileOptions } from './types.js';

/** How deep a proof of disjointness looks into children. */
const PROOF_DEPTH = 6;

/** Alternatives without exclusions that allow exactly (or provably part of) the same values. */
export function settle(reader: SchemaReader, alternatives: Alternative[], options: CompileOptions): Facets[] {
  const out: Facets[] = [];
  for (const { facets, excluded } of alternatives) {
    let rest = facets;
    for (const e of excluded) {
      reader.budget.spend(10);
      rest = subtract(reader, rest, e.facets, e.path);
      const common = both(options.undeclared === 'open' ? rest : close(rest), e.facets);
      const open: Facets = { ...common, nothing: false, falsy: false, truthy: false, number: null, string: null };
      if (!provablyEmpty(reader, open, 0)) {
        throw reader.budget.unsupported(
          e.keyword,
          e.path.slice(0, e.path.lastIndexOf('/')),
          e.keyword === 'oneOf'
            ? 'some value may match two branches; make them disjoint (a required property with different constants) or use anyOf'
            : 'only what can be proved disjoint from the rest of the schema',
        );
      }
    }
    if (!isNone(rest)) out.push(rest);
  }
  return out;
}

/** What will really come out: see CompileOptions.undeclared. */
function close(f: Facets): Facets {
  const out = { ...f };
  if (f.object && closesUndeclared(f.object)) {
    const props = new Map(declaredNames(f.object).map((n): [string, Conjunction] => [n, []]));
    const patterns = f.object.specs.flatMap((s) => s.patterns.map((p) => ({ ...p, schemas: [] })));
    const spec = { props, patterns, additional: null, additionalImplied: false, declares: true };
    out.object = { ...f.object, specs: [...f.object.specs, spec] };
  }
  if (f.array) out.array = { ...f.array, max: closedMax(f.array) };
  return out;
}

function subtract(reader: SchemaReader, a: Facets, b: Facets, path: string): Facets {
  return {
    nothing: a.nothing && !b.nothing,
    falsy: a.falsy && !b.falsy,
    truthy: a.truthy && !b.truthy,
    number: a.number && b.number ? subtractNumber(reader, a.number, b.number, path) : a.number,
    string: a.string && b.string ? subtractString(reader, a.string, b.string, path) : a.string,
    array: b.array && b.array.specs.length === 0 && b.array.min === 0 && b.array.max === Infinity ? null : a.array,
    object: b.object && isAnyObject(b.object) ? null : a.object,
  };
}

function isAnyObject(o: NonNullable<Facets['object']>): boolean {
  return o.specs.length === 0 && o.required.size === 0 && o.min === 0 && o.max === Infinity && o.names.length === 0;
}

function subtractNumber(reader: SchemaReader, a: NumberFacet, b: NumberFacet, path: string): NumberFacet | null {
  if (a.values) {
    const values = a.values.filter((v) => !bothNumber({ ...a, values: [v] }, b));
    return values.length > 0 ? { ...a, values } : null;
  }
  const common = bothNumber(a, b);
  if (!common || emptyNumber(common)) return a;
  if (!b.values && (!b.integer || a.integer)) {
    // b is an interval: what is left may lie on one side of it
    const below = { ...a, max: b.min, maxExclusive: !b.minExclusive };
    const above = { ...a, min: b.max, minExclusive: !b.maxExclusive };
    const left = bothNumber(a, below);
    const right = bothNumber(a, above);
    const sides = [left, right].filter((s): s is NumberFacet => s !== null && !emptyNumber(s));
    if (sides.length === 0) return null;
    if (sides.length === 1) return sides[0];
  }
  const keyword = path.slice(path.lastIndexOf('/') + 1);
  throw reader.budget.unsupported(keyword, path.slice(0, path.lastIndexOf('/')), 'its numbers overlap with the rest');
}

function bothNumber(a: NumberFacet, b: NumberFacet): NumberFacet | null {
  const wrap = (number: NumberFacet): Facets => ({
    nothing: false,
    falsy: false,
    truthy: false,
    number,
    string: null,
    array: null,
    object: null,
  });
  return both(wrap(a), wrap(b)).number;
}

function emptyNumber(n: NumberFacet): boolean {
  if (n.values) return n.values.length === 0;
  if (n.min > n.max || (n.min === n.max && (n.minExclusive || n.maxExclusive))) return true;
  if (!n.integer) return false;
  const lo = Math.ceil(n.min) + (n.minExclusive && Number.isInteger(n.min) ? 1 : 0);
  const hi = Math.floor(n.max) - (n.maxExclusive && Number.isInteger(n.max) ? 1 : 0);
  return lo > hi;
}

function subtractString(reader: SchemaReader, a: StringFacet, b: StringFacet, path: string): StringFacet | null {
  const fits = (v: string) => {
    const length = [...v].length;
    if (length < b.minLength || length > b.maxLength || (b.values && !b.values.has(v))) return false;
    return b.languages.every((l) => matches(l, v));
  };
  if (a.values) {
    const values = new Set([...a.values].filter((v) => !fits(v)));
    return values.size > 0 ? { ...a, values } : null;
  }
  const any = !b.values && b.languages.length === 0 && b.minLength === 0 && b.maxLength === Infinity;
  if (any || a === b) return null;
  if (a.minLength > b.maxLength || a.maxLength < b.minLength) return a;
  const rest = reader.regular('oneOf', path, () => complement(reader.stringLanguage(b, path), reader.budget));
  return { ...a, languages: [...a.languages, rest] };
}

function provablyEmpty(reader: SchemaReader, f: Facets, depth: number): boolean {
  if (f.nothing || f.falsy || f.truthy) return false;
  if (f.number && !emptyNumber(f.number)) return false;
  if (f.string && !emptyString(reader, f.string)) return false;
  if (f.array && !emptyArray(reader, f.array, depth)) return false;
  return !f.object || emptyObject(reader, f.object, depth);
}

function emptyString(reader: SchemaReader, s: StringFacet): boolean {
  if (s.minLength > s.maxLength) return true;
  if (s.values) {
    return ![...s.values].some((v) => {
      const n = [...v].length;
      return n >= s.minLength && n <= s.maxLength && s.languages.every((l) => matches(l, v));
    });
  }
  return s.languages.length > 0 && isEmpty(reader.stringLanguage(s, ''));
}

function emptyArray(reader: SchemaReader, a: NonNullable<Facets['array']>, depth: number): boolean {
  if (a.min > a.max) return true;
  for (let i = 0; i < Math.min(a.min, 64); i++) {
    const item = itemAt(a, i);
    if (item === null || emptyConjunction(reader, item, depth + 1)) return true;
  }
  return false;
}

function emptyObject(reader: SchemaReader, o: NonNullable<Facets['object']>, depth: number): boolean {
  if (o.min > o.max || o.required.size > o.max) return true;
  for (const name of o.required) {
    const property = propertyAt(o, name);
    if (property === null || emptyConjunction(reader, property, depth + 1)) return true;
  }
  return false;
}

function emptyConjunction(reader: SchemaReader, c: Conjunction, depth: number): boolean {
  if (depth > PROOF_DEPTH || c.length === 0) return false;
  reader.budget.spend(20);
  // without exclusions there are only more values: a proof for more holds for less
  return reader.expand(c).every((a) => provablyEmpty(reader, a.facets, depth));
}
