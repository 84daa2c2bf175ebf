/** Writes the normal form of a schema as rules of the byte automaton. */
import type { GrammarBuilder } from './builder.js';
import { type Dfa, dfaOfStrings } from './dfa.js';
import { type Budget, limits } from './errors.js';
import { settle } from './exclude.js';
import {
  type ArrayFacet,
  anything,
  type Conjunction,
  type Facets,
  type NumberFacet,
  none,
  type StringFacet,
} from './facets.js';
import { closedMax, itemAt, prefixLength } from './lookup.js';
import { isWellFormed, stringOf } from './lower.js';
import { numberStates } from './numbers.js';
import { objectStates, type Values } from './object.js';
import type { SchemaReader } from './reader.js';
import { buildShared, JSON_LITERALS, type Literals, type Shared } from './shared.js';
import type { CompileOptions } from './types.js';

export class Emitter implements Values {
  readonly shared: Shared;
  /** Rule of any JSON value, of any object. */
  readonly any: number;
  readonly anyObject: number;
  readonly sharedStates: number;
  private readonly rules = new Map<string, number>();
  private readonly todo: [rule: number, c: Conjunction][] = [];
  private readonly keys = new Map<string, number>();
  private readonly strings = new Map<Dfa, number>();
  private readonly whitespace = new Map<number, number>();

  constructor(
    readonly b: GrammarBuilder,
    readonly reader: SchemaReader,
    readonly budget: Budget,
    readonly options: CompileOptions,
    literals: Literals = JSON_LITERALS,
  ) {
    this.shared = buildShared(b, literals);
    // what is learned about states holds for grammars whose states spell the same
    this.sharedStates = literals === JSON_LITERALS ? b.states : 0;
    this.any = b.rule();
    this.rules.set('', this.any);
    this.alternatives(this.any, [anything()], '');
    const object = b.starts(this.any).at(-1);
    this.anyObject = b.rule();
    if (object) b.begin(this.anyObject, object.state);
  }

  /** The rule of values that satisfy all these schemas. Emitted by `run`. */
  value(c: Conjunction): number {
    const key = c.join();
    const known = this.rules.get(key);
    if (known !== undefined) return known;
    const rule = this.b.rule();
    this.rules.set(key, rule);
    this.todo.push([rule, c]);
    return rule;
  }

  run(): void {
    for (let item = this.todo.pop(); item; item = this.todo.pop()) {
      const [rule, c] = item;
      const facets = settle(this.reader, this.reader.expand(c), this.options);
      this.alternatives(rule, facets, this.reader.pathOf(c));
    }
  }

  /** A state that allows whitespace (one space, or a line break with indentation) and then behaves as `to`. */
  space(to: number): number {
    if (this.options.whitespace === 'compact') return to;
    const known = this.whitespace.get(to);
    if (known !== undefined) return known;
    const s = this.b.state(false, to);
    this.b.edge(s, 0x20, 0x20, to);
    this.b.call(s, this.shared.indent, to);
    this.whitespace.set(to, s);
    return s;
  }

  /** After a key: `:`, perhaps a space, a value, then `after`. */
  colon(value: number, after: number): number {
    const v = this.b.state();
    this.b.call(v, value, after);
    const s = this.b.state();
    if (this.options.whitespace === 'compact') this.b.edge(s, 0x3a, 0x3a, v);
    else {
      const spaced = this.b.state(false, v);
      this.b.edge(spaced, 0x20, 0x20, v);
      this.b.edge(s, 0x3a, 0x3a, spaced);
    }
    return s;
  }

  /** Lets `s` close with this bracket, perhaps after whitespace. */
  closing(s: number, bracket: number): void {
    const close = this.b.state();
    this.b.edge(close, bracket, bracket, this.shared.end);
    this.b.also(s, this.space(close));
  }

  /** The rule of a property name, spelled as JSON.stringify does. */
  key(name: string): number {
    const known = this.keys.get(name);
    if (known !== undefined) return known;
    const rule = this.b.rule();
    const start = this.b.state();
    this.b.spell(start, JSON.stringify(name), this.shared.end);
    this.b.begin(rule, start);
    this.keys.set(name, rule);
    return rule;
  }

  /** Start state of strings in this language. */
  stringIn(d: Dfa): number {
    const known = this.strings.get(d);
    if (known !== undefined) return known;
    const start = stringOf(this.b, this.shared, d);
    this.strings.set(d, start);
    return start;
  }

  /** The rule of arrays and objects among these values, or null. */
  containers(all: readonly Facets[], path: string): number | null {
    const those = all.filter((f) => f.array || f.object);
    if (those.length === 0) return null;
    const rule = this.b.rule();
    this.alternatives(
      rule,
      those.map(({ array, object }) => ({ ...none(), array, object })),
      path,
    );
    return rule;
  }

  private alternatives(rule: number, all: readonly Facets[], path: string): void {
    const { b, shared } = this;
    if (all.some((f) => f.nothing)) b.begin(rule, shared.nothing);
    if (all.some((f) => f.truthy)) b.begin(rule, shared.truthy);
    if (all.some((f) => f.falsy)) b.begin(rule, shared.falsy);
    this.numbers(
      rule,
      all.flatMap((f) => f.number ?? []),
      path,
    );
    this.texts(
      rule,
      all.flatMap((f) => f.string ?? []),
      path,
    );
    for (const f of all) if (f.array) b.begin(rule, this.array(f.array, path));
    for (const f of all) if (f.object) b.begin(rule, objectStates(this, f.object));
  }

  private numbers(rule: number, all: readonly NumberFacet[], path: string): void {
    const { b, shared } = this;
    const free = all.filter((n) => !n.values && n.min === -Infinity && n.max === Infinity);
    if (free.length > 0) {
      b.begin(rule, free.some((n) => !n.integer) ? shared.numberStart : shared.integerStart);
      if (free.some((n) => !n.integer)) return;
    }
    const values = new Set(all.flatMap((n) => n.values ?? []));
    if (values.size > 0) {
      const start = b.state();
      for (const v of values) b.spell(start, JSON.stringify(v), shared.end);
      b.begin(rule, start);
    }
    for (const n of all) if (!n.values && !free.includes(n)) b.begin(rule, numberStates(b, n, this.budget, path));
  }

  private texts(rule: number, all: readonly StringFacet[], path: string): void {
    const { b, shared } = this;
    const plain = all.filter((s) => !s.values && s.languages.length === 0);
    if (plain.some((s) => s.minLength === 0 && s.maxLength === Infinity)) {
      b.begin(rule, shared.stringStart);
      return;
    }
    for (const s of plain) {
      const max = s.maxLength === Infinity ? 0x7ffffffe : Math.min(s.maxLength, 0x7ffffffe);
      if (s.minLength <= max) b.begin(rule, shared.counted, s.minLength, max);
    }
    const single = new Set<string>();
    for (const s of all) {
      if (s.values && s.languages.length === 0) {
        for (const v of s.values) {
          const n = [...v].length;
          if (n >= s.minLength && n <= s.maxLength) single.add(v);
        }
      } else if (s.languages.length > 0) {
        const one = s.languages.length === 1 && !s.values && s.minLength === 0 && s.maxLength === Infinity;
        b.begin(rule, this.stringIn(one ? s.languages[0] : this.reader.stringLanguage(s, path)));
      }
    }
    if (single.size > 0) {
      for (const v of single) {
        if (!isWellFormed(v)) throw this.budget.unsupported('enum', path, 'a string holds half a surrogate pair');
      }
      b.begin(rule, this.stringIn(dfaOfStrings(single, this.budget)));
    }
  }

  private array(f: ArrayFacet, path: string): number {
    const { b } = this;
    if (f.min > limits.items) throw this.budget.unsupported('minItems', path, `it is above ${limits.items}`);
    const closed = this.options.undeclared === 'open' ? f.max : closedMax(f);
    // counting further than this would cost states; fewer items are still valid
    const max = closed === Infinity ? Infinity : Math.min(closed, Math.max(f.min, limits.items));
    // from here on all positions look the same
    const steady = max === Infinity ? Math.max(prefixLength(f), f.min) : max;
    const after: number[] = [];
    for (let n = 0; n <= steady; n++) after.push(b.state());
    const more = (n: number): number => {
      const item = n < max ? itemAt(f, n) : null;
      if (item === null) return -1;
      const s = b.state();
      b.call(s, this.value(item), after[Math.min(n + 1, steady)]);
      return s;
    };
    let first = -1;
    for (let n = 0; n <= steady; n++) {
      const item = more(n);
      if (n === 0) first = item;
      if (n >= f.min) this.closing(after[n], 0x5d);
      if (item >= 0) b.edge(after[n], 0x2c, 0x2c, this.space(item));
    }
    const start = b.state();
    const inside = b.state(false, first);
    if (f.min === 0) b.edge(inside, 0x5d, 0x5d, this.shared.end);
    b.edge(start, 0x5b, 0x5b, this.space(inside));
    return start;
  }
}
