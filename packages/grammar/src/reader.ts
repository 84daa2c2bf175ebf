/** Reads JSON Schema (2020-12 and what older drafts share with it) into the normal form of facets.ts. */
import { type Dfa, dfaOfLength, dfaOfStrings, intersect } from './dfa.js';
import { type Budget, limits } from './errors.js';
import { anything, both, type Conjunction, type Facets, isNone, none, type StringFacet } from './facets.js';
import { arrayKeywords, numberKeywords, objectKeywords, stringKeywords, typeKeyword } from './keywords.js';
import { dfaOfPattern } from './pattern.js';
import { PatternError, parsePattern } from './regex.js';
import {
  type Alternative,
  decodePointer,
  escapePointer,
  isRecord,
  type Location,
  type RawSchema,
  type Schemas,
} from './schema.js';

/** Says something about the schema, restricts nothing. */
const ANNOTATIONS = new Set(
  '$comment $defs $schema default definitions deprecated description example examples readOnly title writeOnly'.split(
    ' ',
  ),
);
/** Keywords that this file or keywords.ts enforces. */
const ENFORCED = new Set(
  (
    '$ref additionalItems additionalProperties allOf anyOf const dependentRequired enum exclusiveMaximum exclusiveMinimum ' +
    'format items maxItems maxLength maxProperties maximum minItems minLength minProperties minimum multipleOf not oneOf ' +
    'pattern patternProperties prefixItems properties propertyNames required type uniqueItems'
  ).split(' '),
);

export class SchemaReader implements Schemas {
  private readonly locations: Location[] = [];
  private readonly ids = new Map<object, number>();
  private readonly expanded = new Map<number, Alternative[]>();
  private readonly conjunctions = new Map<string, Alternative[]>();
  private readonly open = new Set<number>();
  private readonly languages = new Map<string, Dfa>();
  private never = -1;

  constructor(readonly budget: Budget) {}

  /** Registers a schema; `path` names it in errors. */
  add(raw: unknown, path: string, root: unknown): Conjunction {
    if (raw === true) return [];
    if (raw === false) {
      if (this.never < 0) this.never = this.locations.push({ raw: false, path, root }) - 1;
      return [this.never];
    }
    if (!isRecord(raw)) throw this.budget.invalid(path, 'a schema is an object or a boolean');
    if (path.split('/').length > limits.depth * 2) {
      throw this.budget.tooLarge(`it nests deeper than ${limits.depth} levels`, '');
    }
    const known = this.ids.get(raw);
    if (known !== undefined) return this.isTrivial(raw) ? [] : [known];
    if (this.locations.length >= limits.schemas) {
      throw this.budget.tooLarge(`it has more than ${limits.schemas} schemas`, path);
    }
    const id = this.locations.push({ raw, path, root }) - 1;
    this.ids.set(raw, id);
    this.checkKeywords(raw, path, root);
    return this.isTrivial(raw) ? [] : [id];
  }

  private isTrivial(raw: RawSchema): boolean {
    return Object.keys(raw).every((k) => !ENFORCED.has(k));
  }

  private checkKeywords(raw: RawSchema, path: string, root: unknown): void {
    for (const key of Object.keys(raw)) {
      if (ENFORCED.has(key) || ANNOTATIONS.has(key) || key.startsWith('x-')) continue;
      if (key === '$id' && raw === root) continue;
      throw this.budget.unsupported(key, path);
    }
  }

  /** The language of a pattern; the same pattern gives the same object. */
  language(pattern: string, keyword: string, path: string): Dfa {
    const known = this.languages.get(pattern);
    if (known) return known;
    const made = this.regular(keyword, path, () => dfaOfPattern(parsePattern(pattern), this.budget));
    this.languages.set(pattern, made);
    return made;
  }

  /** Turns the reasons of regular-expression code into errors that name the keyword. */
  regular<T>(keyword: string, path: string, make: () => T): T {
    try {
      return make();
    } catch (e) {
      if (e instanceof PatternError) throw this.budget.unsupported(keyword, path, e.message);
      throw e;
    }
  }

  /** The language of a string facet. */
  stringLanguage(f: StringFacet, path: string): Dfa {
    return this.regular('pattern', path, () => {
      const parts = [...f.languages];
      if (f.values) parts.push(dfaOfStrings(f.values, this.budget));
      if (f.minLength > 0 || f.maxLength !== Number.POSITIVE_INFINITY || parts.length === 0) {
        parts.push(dfaOfLength(f.minLength, f.maxLength, this.budget));
      }
      return parts.reduce((a, b) => intersect(a, b, this.budget));
    });
  }

  /** Alternatives of a conjunction, exclusions not yet applied. */
  expand(conjunction: Conjunction): Alternative[] {
    const key = conjunction.join();
    const known = this.conjunctions.get(key);
    if (known) return known;
    let alternatives: Alternative[] = [{ facets: anything(), excluded: [] }];
    for (const id of conjunction) alternatives = this.cross(alternatives, this.expandOne(id), this.locations[id].path);
    this.conjunctions.set(key, alternatives);
    return alternatives;
  }

  /** Where a conjunction comes from, for errors. */
  pathOf(conjunction: Conjunction): string {
    return conjunction.length > 0 ? this.locations[conjunction[0]].path : '';
  }

  private cross(a: Alternative[], b: Alternative[], path: string): Alternative[] {
    const out: Alternative[] = [];
    for (const x of a) {
      for (const y of b) {
        this.budget.spend(4);
        const facets = both(x.facets, y.facets);
        if (isNone(facets)) continue;
        out.push({ facets, excluded: y.excluded.length > 0 ? [...x.excluded, ...y.excluded] : x.excluded });
        if (out.length > limits.alternatives) {
          throw this.budget.tooLarge(`it has more than ${limits.alternatives} alternatives`, path);
        }
      }
    }
    return out;
  }

  private expandOne(id: number): Alternative[] {
    const known = this.expanded.get(id);
    if (known) return known;
    const location = this.locations[id];
    if (this.open.has(id)) {
      throw this.budget.unsupported('$ref', location.path, 'it leads back to itself without a value in between');
    }
    if (this.open.size > limits.depth) throw this.budget.tooLarge(`it nests deeper than ${limits.depth} levels`, '');
    this.open.add(id);
    const made = location.raw === false ? [] : this.read(location, location.raw);
    this.open.delete(id);
    this.expanded.set(id, made);
    return made;
  }

  private read(at: Location, raw: RawSchema): Alternative[] {
    const own = typeKeyword(this, at, raw);
    numberKeywords(this, at, raw, own);
    stringKeywords(this, at, raw, own);
    arrayKeywords(this, at, raw, own);
    objectKeywords(this, at, raw, own);
    let out: Alternative[] = isNone(own) ? [] : [{ facets: own, excluded: [] }];
    const and = (other: Alternative[]) => {
      out = this.cross(out, other, at.path);
    };
    if ('const' in raw) and(this.valueAlternatives([raw.const], `${at.path}/const`));
    if ('enum' in raw) {
      if (!Array.isArray(raw.enum)) throw this.budget.invalid(`${at.path}/enum`, 'enum is an array');
      and(this.valueAlternatives(raw.enum, `${at.path}/enum`));
    }
    if ('$ref' in raw) and(this.expand(this.resolve(at, raw.$ref)));
    for (const c of this.branches(at, raw, 'allOf')) and(this.expand(c));
    if ('anyOf' in raw) and(this.branches(at, raw, 'anyOf').flatMap((c) => this.expand(c)));
    if ('oneOf' in raw) and(this.oneOf(at, raw));
    if ('not' in raw) {
      const not = this.expand(this.add(raw.not, `${at.path}/not`, at.root));
      const excluded = this.exclusions(not, `${at.path}/not`, 'not');
      out = out.map((a) => ({ facets: a.facets, excluded: [...a.excluded, ...excluded] }));
    }
    if ('dependentRequired' in raw) this.dependentRequired(at, raw.dependentRequired).forEach(and);
    return out;
  }

  private branches(at: Location, raw: RawSchema, keyword: string): Conjunction[] {
    if (!(keyword in raw)) return [];
    const list = raw[keyword];
    if (!Array.isArray(list) || list.length === 0) {
      throw this.budget.invalid(`${at.path}/${keyword}`, `${keyword} is a list of schemas, not empty`);
    }
    return list.map((s, i) => this.add(s, `${at.path}/${keyword}/${i}`, at.root));
  }

  private oneOf(at: Location, raw: RawSchema): Alternative[] {
    const branches = this.branches(at, raw, 'oneOf').map((c) => this.expand(c));
    return branches.flatMap((mine, i) => {
      const others = branches.filter((_, j) => j !== i).flat();
      const excluded = this.exclusions(others, `${at.path}/oneOf`, 'oneOf');
      return mine.map((a) => ({ facets: a.facets, excluded: [...a.excluded, ...excluded] }));
    });
  }

  private exclusions(alternatives: Alternative[], path: string, keyword: string): Alternative['excluded'] {
    // Leaving out what those alternatives exclude themselves means excluding more: still sound, but `not` would lie.
    if (keyword === 'not' && alternatives.some((a) => a.excluded.length > 0)) {
      throw this.budget.unsupported(
        keyword,
        path.slice(0, path.lastIndexOf('/')),
        'not of a schema that has not or oneOf',
      );
    }
    return alternatives.map((a) => ({ facets: a.facets, path, keyword }));
  }

  /** Exactly these JSON values. */
  private valueAlternatives(values: readonly unknown[], path: string): Alternative[] {
    const scalars = none();
    const numbers = new Set<number>();
    const strings = new Set<string>();
    const out: Facets[] = [];
    values.forEach((v, i) => {
      this.budget.spend(1);
      if (v === null) scalars.nothing = true;
      else if (typeof v === 'boolean') scalars[v ? 'truthy' : 'falsy'] = true;
      else if (typeof v === 'number' && Number.isFinite(v)) numbers.add(v);
      else if (typeof v === 'string') strings.add(v);
      else if (Array.isArray(v) || isRecord(v)) out.push(this.structure(v, `${path}/${i}`));
      else throw this.budget.invalid(`${path}/${i}`, 'it is not a JSON value');
    });
    const any = anything();
    if (numbers.size > 0 && any.number) scalars.number = { ...any.number, values: [...numbers] };
    if (strings.size > 0 && any.string) scalars.string = { ...any.string, values: strings };
    if (!isNone(scalars)) out.unshift(scalars);
    return out.map((facets) => ({ facets, excluded: [] }));
  }

  private structure(value: unknown[] | RawSchema, path: string): Facets {
    const child = (v: unknown, at: string): Conjunction => {
      const raw = { const: v };
      return this.add(raw, at, raw);
    };
    if (Array.isArray(value)) {
      const prefix = value.map((v, i) => child(v, `${path}/${i}`));
      const spec = { prefix, rest: null, restImplied: false };
      return { ...none(), array: { specs: [spec], min: prefix.length, max: prefix.length } };
    }
    const names = Object.keys(value);
    const props = new Map(names.map((n) => [n, child(value[n], `${path}/${escapePointer(n)}`)]));
    const spec = { props, patterns: [], additional: null, additionalImplied: false, declares: true };
    return {
      ...none(),
      object: { specs: [spec], required: new Set(names), min: 0, max: Number.POSITIVE_INFINITY, names: [] },
    };
  }

  /** For each rule: either the name is absent, or it and what it asks for are present. */
  private dependentRequired(at: Location, rules: unknown): Alternative[][] {
    const path = `${at.path}/dependentRequired`;
    if (!isRecord(rules)) throw this.budget.invalid(path, 'dependentRequired is an object');
    return Object.entries(rules).map(([name, needs]) => {
      if (!Array.isArray(needs) || !needs.every((n) => typeof n === 'string')) {
        throw this.budget.invalid(path, 'dependentRequired holds lists of names');
      }
      const absent = anything();
      const present = { ...none(), object: anything().object };
      absent.object?.specs.push({
        props: new Map([[name, this.add(false, path, at.root)]]),
        patterns: [],
        additional: [],
        additionalImplied: true,
        declares: false,
      });
      present.object?.required.add(name);
      for (const n of needs) present.object?.required.add(n);
      return [absent, present].map((facets) => ({ facets, excluded: [] }));
    });
  }

  private resolve(at: Location, ref: unknown): Conjunction {
    const path = `${at.path}/$ref`;
    if (typeof ref !== 'string') throw this.budget.invalid(path, '$ref is a string');
    if (ref !== '#' && !ref.startsWith('#/')) {
      throw this.budget.unsupported('$ref', at.path, `'${ref}' does not start with '#/'`);
    }
    let target = at.root;
    for (const part of ref.split('/').slice(1)) {
      const name = decodePointer(part);
      const next =
        Array.isArray(target) || isRecord(target) ? Object.getOwnPropertyDescriptor(target, name)?.value : undefined;
      if (next === undefined) throw this.budget.invalid(path, `there is nothing at '${ref}'`);
      target = next;
    }
    return this.add(target, ref, at.root);
  }
}
