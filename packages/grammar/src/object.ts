/** Objects: declared properties in the order of the schema, optional ones left out at will, then undeclared ones. */
import type { GrammarBuilder } from './builder.js';
import { complement, type Dfa, dfaOfStrings, intersect, isEmpty } from './dfa.js';
import type { Budget } from './errors.js';
import type { Conjunction, ObjectFacet } from './facets.js';
import { closesUndeclared, declaredNames, propertyAt, undeclaredAt } from './lookup.js';
import { isWellFormed } from './lower.js';
import type { Shared } from './shared.js';
import type { CompileOptions } from './types.js';

/** What objects need of everything around them: `Emitter`, which see. */
export interface Values {
  readonly b: GrammarBuilder;
  readonly reader: { regular<T>(keyword: string, path: string, make: () => T): T };
  readonly budget: Budget;
  readonly options: CompileOptions;
  readonly shared: Shared;
  /** `name`: of the property, where it is a declared one. */
  value(c: Conjunction, name?: string): number;
  space(to: number): number;
  colon(value: number, after: number): number;
  closing(s: number, bracket: number): void;
  key(name: string): number;
  stringIn(d: Dfa): number;
}

interface Property {
  name: string;
  value: number;
  required: boolean;
}

/** Undeclared names of one kind: a key rule and the rule of their values. */
interface Extra {
  key: number;
  value: number;
}

/** More sets of patterns than this that a name may match at once are refused. */
const MAX_PATTERNS = 4;

/** What stands around the properties, as bytes, and whether undeclared ones may come. */
export interface ObjectStyle {
  open: number;
  comma: number;
  close: number;
  extras: boolean;
}

const JSON_OBJECT: ObjectStyle = { open: 0x7b, comma: 0x2c, close: 0x7d, extras: true };

export function objectStates(e: Values, f: ObjectFacet, style: ObjectStyle = JSON_OBJECT): number {
  const { b } = e;
  const start = b.state();
  const declared: Property[] = [];
  for (const name of declaredNames(f)) {
    const schemas = propertyAt(f, name);
    const required = f.required.has(name);
    if (schemas !== null) {
      if (!isWellFormed(name)) throw e.budget.unsupported('properties', '', 'a name holds half a surrogate pair');
      declared.push({ name, value: e.value(schemas, name), required });
    } else if (required) return start; // leads nowhere
  }
  const writer = new ObjectWriter(e, f, declared, style.extras ? extras(e, f) : [], style);
  const inside = writer.inside();
  b.edge(start, style.open, style.open, e.space(inside));
  return start;
}

/** Kinds of undeclared names by the patterns they match. */
function extras(e: Values, f: ObjectFacet): Extra[] {
  const patterns = new Map(f.specs.flatMap((s) => s.patterns.map((p) => [p.source, p.language] as const)));
  if (patterns.size > MAX_PATTERNS) {
    throw e.budget.unsupported('patternProperties', '', `more than ${MAX_PATTERNS} patterns in one object`);
  }
  const closed = e.options.undeclared !== 'open' && closesUndeclared(f);
  const sources = [...patterns.keys()];
  const out: Extra[] = [];
  for (let bits = 0; bits < 1 << sources.length; bits++) {
    const matching = new Set(sources.filter((_, i) => bits & (1 << i)));
    if (closed && matching.size === 0) continue;
    const schemas = undeclaredAt(f, matching);
    if (schemas === null) continue;
    const key = keyRule(e, f, patterns, matching);
    if (key !== null) out.push({ key, value: e.value(schemas) });
  }
  return out;
}

function keyRule(e: Values, f: ObjectFacet, patterns: Map<string, Dfa>, matching: Set<string>): number | null {
  const names = declaredNames(f);
  if (names.length === 0 && patterns.size === 0 && f.names.length === 0) return e.shared.string;
  const language = e.reader.regular('properties', '', () => {
    const parts = [...f.names];
    if (names.length > 0) {
      parts.push(complement(dfaOfStrings(names.filter(isWellFormed), e.budget), e.budget));
    }
    for (const [source, d] of patterns) parts.push(matching.has(source) ? d : complement(d, e.budget));
    return parts.reduce((a, d) => intersect(a, d, e.budget));
  });
  if (isEmpty(language)) return null;
  const rule = e.b.rule();
  e.b.begin(rule, e.stringIn(language));
  return rule;
}

/** Where an object stands: next declared property, properties written (both 0 where nobody counts). */
interface Place {
  next: number;
  declared: number;
  extra: number;
}

class ObjectWriter {
  private readonly ids = new Map<string, number>();
  private readonly todo: (() => void)[] = [];
  /** First index from which nothing is required any more. */
  private readonly freeFrom: number;
  private readonly counts: boolean;

  constructor(
    private readonly e: Values,
    private readonly f: ObjectFacet,
    private readonly props: readonly Property[],
    private readonly extras: readonly Extra[],
    private readonly style: ObjectStyle,
  ) {
    this.freeFrom = props.reduce((n, p, i) => (p.required ? i + 1 : n), 0);
    const required = props.filter((p) => p.required).length;
    const most = extras.length > 0 ? Infinity : props.length;
    this.counts = f.min > required || f.max < most;
  }

  /** State after `{`. */
  inside(): number {
    const { b, shared } = this.e;
    const begin = { next: 0, declared: 0, extra: 0 };
    const s = b.state(false, this.choose(begin));
    if (this.mayClose(begin)) b.edge(s, this.style.close, this.style.close, shared.end);
    for (let task = this.todo.pop(); task; task = this.todo.pop()) task();
    return s;
  }

  private mayClose(p: Place): boolean {
    if (p.next < this.freeFrom) return false;
    // undeclared names may repeat, so they count as one towards the minimum
    return !this.counts || p.declared + Math.min(p.extra, 1) >= this.f.min;
  }

  /** A state whose work is done later; the same place gives the same state. */
  private once(kind: string, p: Place, make: (s: number) => void): number {
    const key = `${kind}${p.next},${p.declared},${p.extra}`;
    const known = this.ids.get(key);
    if (known !== undefined) return known;
    const s = this.e.b.state();
    this.ids.set(key, s);
    this.todo.push(() => make(s));
    return s;
  }

  /** A key must come. */
  private choose(p: Place): number {
    return this.once('k', p, (s) => {
      const { b } = this.e;
      this.e.budget.spend(1);
      if (this.counts && p.declared + p.extra >= this.f.max) return;
      if (p.next >= this.props.length) {
        const after = this.after({ ...p, extra: this.countExtra(p) });
        for (const x of this.extras) b.call(s, x.key, this.e.colon(x.value, after));
        return;
      }
      const { name, value, required } = this.props[p.next];
      const after = this.after({ ...p, next: p.next + 1, declared: p.declared + (this.counts ? 1 : 0) });
      b.call(s, this.e.key(name), this.e.colon(value, after));
      if (!required) b.also(s, this.choose({ ...p, next: p.next + 1 }));
    });
  }

  private countExtra(p: Place): number {
    if (!this.counts) return 0;
    return this.f.max === Infinity ? 1 : p.extra + 1;
  }

  /** A value is complete. */
  private after(p: Place): number {
    return this.once('a', p, (s) => {
      if (p.next < this.props.length || this.extras.length > 0) {
        const { comma } = this.style;
        this.e.b.edge(s, comma, comma, this.e.space(this.choose(p)));
      }
      if (this.mayClose(p)) this.e.closing(s, this.style.close);
    });
  }
}
