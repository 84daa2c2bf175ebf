/** Masks of arguments that stand between tags: `<parameter=NAME>`, a line break, the value, a line break, `</parameter>`. */
import type { Compilation } from './compile.js';
import { complement, type Dfa, dfaOfStrings, Explorer, intersect, isEmpty, matches } from './dfa.js';
import type { Budget } from './errors.js';
import { settle } from './exclude.js';
import type { Conjunction, Facets, NumberFacet, StringFacet } from './facets.js';
import { characterEdges } from './lower.js';
import type { ObjectStyle, Values } from './object.js';
import { negate, type Range } from './ranges.js';
import { PARAMETER_END } from './tool-formats.js';
import { argumentKinds, type Kinds, shapesOf } from './tool-kinds.js';
import { EDGE_CHAR, EDGE_CLOSE, EDGE_PLAIN, type ToolSpec, UNCOUNTED } from './types.js';

/** Tags take the place of braces and commas: each of them begins with `<`, and the closing one goes on with `/`. */
export const TAGS: ObjectStyle = { open: 0x3c, comma: 0x3c, close: 0x2f, extras: false };

const PYTHON = { nothing: 'None', truthy: 'True', falsy: 'False' } as const;
const JSON_WORDS = { nothing: 'null', truthy: 'true', falsy: 'false' } as const;

/** Nobody writes a number of so many characters. */
const LONG = 256;

/** A number where a string may stand too. */
const NUMBER = '^-?(?:0|[1-9][0-9]{0,15})(?:\\.[0-9]{1,15})?$';
const INTEGER = '^-?(?:0|[1-9][0-9]{0,15})$';

/** Values between tags. Strings stand as they are, all else as JSON does; also the literals of Python, which templates write. */
export function xmlValues(c: Compilation, tool: ToolSpec): Values {
  const { emitter: e, builder: b, reader, budget } = c;
  const writer = new BareWriter(c);
  const colon = (value: number, after: number): number => {
    const v = b.state();
    const line = b.state();
    b.call(v, value, line);
    b.edge(line, 0x0a, 0x0a, after);
    return v;
  };
  const key = (name: string): number => {
    if (!/^[^<>\n]+$/.test(name))
      throw budget.unsupported('properties', '', `the model writes calls in tags, where '${name}' names no argument`);
    const start = b.state();
    b.spell(start, `parameter=${name}>`, e.shared.end);
    const rule = b.rule();
    b.begin(rule, start);
    return rule;
  };
  return {
    ...{ b, reader, budget, options: c.options, shared: e.shared, key, colon },
    value: (schemas, name) => writer.value(schemas, argumentKinds(tool, name ?? '')),
    space: (to) => to,
    closing: (s, slash) => {
      const close = b.state();
      b.edge(s, 0x3c, 0x3c, close);
      b.edge(close, slash, slash, e.shared.end);
    },
    stringIn: (d) => e.stringIn(d),
  };
}

class BareWriter {
  /** Rules of values, from the line break before them (no rule begins with another) to their closing tag. */
  private readonly rules = new Map<string, number>();
  private readonly open: Dfa;

  constructor(private readonly c: Compilation) {
    this.open = withoutEnd(c.budget);
  }

  value(schemas: Conjunction, kinds: Kinds): number {
    const id = `${schemas.join()} ${[...kinds].join()}`;
    const known = this.rules.get(id);
    if (known !== undefined) return known;
    const rule = this.c.builder.rule();
    this.rules.set(id, rule);
    const { reader, options } = this.c;
    const facets = settle(reader, reader.expand(schemas), options);
    if (kinds.has('string')) this.texts(rule, facets, kinds, reader.pathOf(schemas));
    else this.json(rule, facets, this.c.emitter.value(schemas));
    return rule;
  }

  private json(rule: number, facets: readonly Facets[], value: number): void {
    const { builder: b, emitter } = this.c;
    const start = b.state();
    const end = b.state();
    b.call(start, value, end);
    b.spell(end, PARAMETER_END, emitter.shared.end);
    for (const word of words(facets, PYTHON)) b.spell(start, word, end);
    this.begin(rule, start);
  }

  /** Strings, and what does not look like one. */
  private texts(rule: number, facets: readonly Facets[], kinds: Kinds, path: string): void {
    const { builder: b, emitter, reader, budget } = this.c;
    const shapes = shapesOf(kinds).map((shape) => reader.language(shape, 'type', path));
    const strings = shapes.map((d) => complement(d, budget)).reduce((x, y) => intersect(x, y, budget), this.open);
    for (const f of facets) if (f.string) this.strings(rule, f.string, strings, shapes.length > 0, path);
    const others = [...words(facets, PYTHON), ...words(facets, JSON_WORDS)];
    for (const { number } of facets) {
      if (number?.values) others.push(...number.values.map((v) => JSON.stringify(v)));
      else if (number && isFree(number))
        this.language(rule, reader.language(number.integer ? INTEGER : NUMBER, 'type', path));
    }
    if (others.length > 0) this.language(rule, dfaOfStrings(others, budget));
    const containers = emitter.containers(facets, path);
    if (containers === null) return;
    const start = b.state();
    const end = b.state();
    b.call(start, containers, end);
    b.spell(end, PARAMETER_END, emitter.shared.end);
    this.begin(rule, start);
  }

  /** `allowed`: strings that are read as such and do not hold the closing tag; `shaped`: and not all others. */
  private strings(rule: number, f: StringFacet, allowed: Dfa, shaped: boolean, path: string): void {
    const { reader, budget } = this.c;
    const whole = f.minLength === 0 && f.maxLength === Infinity;
    // what would be read as another value must not be all that still fits: short strings are multiplied out
    const counted = whole || !shaped || (f.maxLength > LONG && f.maxLength < Infinity);
    if (f.values && f.languages.length === 0) {
      const fits = (v: string) => {
        const length = [...v].length;
        return length >= f.minLength && length <= f.maxLength && matches(allowed, v);
      };
      this.language(rule, dfaOfStrings([...f.values].filter(fits), budget));
      return;
    }
    if (f.languages.length === 0 && counted) {
      this.text(rule, allowed, whole ? null : f);
      return;
    }
    this.language(
      rule,
      reader.regular('pattern', path, () => intersect(reader.stringLanguage(f, path), allowed, budget)),
    );
  }

  private language(rule: number, d: Dfa): void {
    if (!isEmpty(d)) this.text(rule, d, null);
  }

  /** A text of this language and the closing tag. `counted`: with so many characters. */
  private text(rule: number, d: Dfa, counted: StringFacet | null): void {
    const { builder: b, emitter } = this.c;
    const [character, last] = counted ? [EDGE_CHAR, EDGE_CLOSE] : [EDGE_PLAIN, EDGE_PLAIN];
    const line = b.state();
    const tag = b.state();
    b.edge(line, 0x3c, 0x3c, tag);
    b.spell(tag, PARAMETER_END.slice(2), emitter.shared.end);
    const edges = characterEdges(b);
    const ids = d.accept.map(() => b.state());
    d.next.forEach((row, s) => {
      for (const [lo, hi, to] of row) edges(ids[s], [lo, hi], ids[to], character);
      if (d.accept[s]) b.edge(ids[s], 0x0a, 0x0a, line, last);
    });
    // nothing: the line break behind the opening tag is the one before the closing tag too
    const start = b.state(false, ids[0]);
    if (d.accept[0]) b.edge(start, 0x3c, 0x3c, tag, last);
    const most = counted ? Math.min(counted.maxLength, UNCOUNTED - 1) : UNCOUNTED;
    this.begin(rule, start, counted?.minLength ?? 0, most);
  }

  private begin(rule: number, start: number, min?: number, max?: number): void {
    const line = this.c.builder.state();
    this.c.builder.edge(line, 0x0a, 0x0a, start);
    this.c.builder.begin(rule, line, min, max);
  }
}

function words(facets: readonly Facets[], spelled: Record<'nothing' | 'truthy' | 'falsy', string>): string[] {
  return (['nothing', 'truthy', 'falsy'] as const).filter((k) => facets.some((f) => f[k])).map((k) => spelled[k]);
}

const isFree = (n: NumberFacet): boolean => n.min === -Infinity && n.max === Infinity;

/** Texts behind a line break in which the closing tag does not appear. */
function withoutEnd(budget: Budget): Dfa {
  const end = [...PARAMETER_END].map((c) => c.codePointAt(0)!);
  // how much of the tag was just read: only its first character is a line break
  const explorer = new Explorer<number>(budget, String, end.length + 1);
  return explorer.run(
    1,
    () => true,
    (read) => {
      const begins: [number, number, number] = [0x0a, 0x0a, 1];
      const wanted = end[read]!;
      const taken: Range[] = [[0x0a, 0x0a]];
      const moves = [begins];
      if (read > 0) {
        taken.push([wanted, wanted]);
        if (read + 1 < end.length) moves.push([wanted, wanted, read + 1]);
      }
      for (const [lo, hi] of negate(taken)) moves.push([lo, hi, 0]);
      return moves.sort((a, b) => a[0] - b[0]);
    },
  );
}
