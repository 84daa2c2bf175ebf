/** What the children of an array or object must be, over all the specs that hold for it. */
import { matches } from './dfa.js';
import type { ArrayFacet, Conjunction, ObjectFacet, ObjectSpec } from './facets.js';

function join(parts: readonly Conjunction[]): Conjunction {
  return [...new Set(parts.flat())].sort((a, b) => a - b);
}

/** Schemas of item `index`, or null if there may be none. */
export function itemAt(f: ArrayFacet, index: number): Conjunction | null {
  const parts: Conjunction[] = [];
  for (const spec of f.specs) {
    const part = index < spec.prefix.length ? spec.prefix[index] : spec.rest;
    if (part === null) return null;
    parts.push(part);
  }
  return join(parts);
}

export function prefixLength(f: ArrayFacet): number {
  return f.specs.reduce((n, s) => Math.max(n, s.prefix.length), 0);
}

/** Longest array that should come out: what the schema leaves undeclared is left out unless it must be there. */
export function closedMax(f: ArrayFacet): number {
  const implied = f.specs.filter((s) => s.restImplied && s.prefix.length > 0);
  const explicit = f.specs.some((s) => !s.restImplied);
  return implied.length > 0 && !explicit ? Math.min(f.max, Math.max(f.min, prefixLength(f))) : f.max;
}

/** Schemas of a property with this name, or null if it must not be there. */
export function propertyAt(f: ObjectFacet, name: string): Conjunction | null {
  if (!f.names.every((l) => matches(l, name))) return null;
  return combine(f.specs, (spec) => {
    const parts: Conjunction[] = [];
    const own = spec.props.get(name);
    if (own) parts.push(own);
    for (const p of spec.patterns) if (matches(p.language, name)) parts.push(p.schemas);
    return parts;
  });
}

/** Schemas of a property that no spec declares and that matches exactly these patterns. */
export function undeclaredAt(f: ObjectFacet, matching: ReadonlySet<string>): Conjunction | null {
  return combine(f.specs, (spec) => spec.patterns.filter((p) => matching.has(p.source)).map((p) => p.schemas));
}

function combine(specs: readonly ObjectSpec[], parts: (spec: ObjectSpec) => Conjunction[]): Conjunction | null {
  const all: Conjunction[] = [];
  for (const spec of specs) {
    const found = parts(spec);
    if (found.length === 0) {
      if (spec.additional === null) return null;
      all.push(spec.additional);
    } else all.push(...found);
  }
  return join(all);
}

/** Names that some spec declares or requires, in the order of the schema. */
export function declaredNames(f: ObjectFacet): string[] {
  return [...new Set([...f.specs.flatMap((s) => [...s.props.keys()]), ...f.required])];
}

/** Nothing but declared names (and names that match patterns) should come out. */
export function closesUndeclared(f: ObjectFacet): boolean {
  return f.specs.some((s) => s.declares) && f.specs.every((s) => s.additionalImplied);
}
