/** The keywords that restrict one JSON type each. */
import type { Dfa } from './dfa.js';
import { anything, type Conjunction, type Facets, none } from './facets.js';
import { formats } from './formats.js';
import { escapePointer, isRecord, type Location, type RawSchema, type Schemas } from './schema.js';

const TYPES = new Set(['null', 'boolean', 'integer', 'number', 'string', 'array', 'object']);

export function typeKeyword(reader: Schemas, at: Location, raw: RawSchema): Facets {
  if (!('type' in raw)) return anything();
  const list = Array.isArray(raw.type) ? raw.type : [raw.type];
  const all = anything();
  const out = none();
  for (const t of list) {
    if (typeof t !== 'string' || !TYPES.has(t))
      throw reader.budget.invalid(`${at.path}/type`, `there is no type '${t}'`);
    if (t === 'null') out.nothing = true;
    else if (t === 'boolean') {
      out.falsy = true;
      out.truthy = true;
    } else if (t === 'number') out.number = all.number;
    else if (t === 'integer') out.number ??= all.number && { ...all.number, integer: true };
    else if (t === 'string') out.string = all.string;
    else if (t === 'array') out.array = all.array;
    else out.object = all.object;
  }
  return out;
}

/** A keyword's number, or undefined if it is not there. */
function count(reader: Schemas, at: Location, raw: RawSchema, key: string): number | undefined {
  if (!(key in raw)) return undefined;
  const v = raw[key];
  if (typeof v !== 'number' || !Number.isInteger(v) || v < 0) {
    throw reader.budget.invalid(`${at.path}/${key}`, `${key} is an integer of at least 0`);
  }
  return v;
}

export function numberKeywords(reader: Schemas, at: Location, raw: RawSchema, own: Facets): void {
  const bound = (key: string): number | undefined => {
    if (!(key in raw)) return undefined;
    const v = raw[key];
    if (typeof v !== 'number' || !Number.isFinite(v))
      throw reader.budget.invalid(`${at.path}/${key}`, `${key} is a number`);
    return v;
  };
  const min = bound('minimum');
  const max = bound('maximum');
  const above = bound('exclusiveMinimum');
  const below = bound('exclusiveMaximum');
  const multiple = bound('multipleOf');
  const n = own.number;
  if (!n) return;
  if (multiple !== undefined) {
    if (multiple !== 1) throw reader.budget.unsupported('multipleOf', at.path, 'only 1 (integers) is');
    n.integer = true;
  }
  if (min !== undefined) n.min = min;
  if (max !== undefined) n.max = max;
  if (above !== undefined && above >= n.min) {
    n.min = above;
    n.minExclusive = true;
  }
  if (below !== undefined && below <= n.max) {
    n.max = below;
    n.maxExclusive = true;
  }
  if (n.min > n.max || (n.min === n.max && (n.minExclusive || n.maxExclusive))) own.number = null;
}

export function stringKeywords(reader: Schemas, at: Location, raw: RawSchema, own: Facets): void {
  const minLength = count(reader, at, raw, 'minLength') ?? 0;
  const maxLength = count(reader, at, raw, 'maxLength') ?? Number.POSITIVE_INFINITY;
  const languages: Dfa[] = [];
  if ('pattern' in raw) {
    if (typeof raw.pattern !== 'string') throw reader.budget.invalid(`${at.path}/pattern`, 'pattern is a string');
    languages.push(reader.language(raw.pattern, 'pattern', at.path));
  }
  if ('format' in raw) {
    const pattern = Object.hasOwn(formats, String(raw.format)) ? formats[String(raw.format)] : undefined;
    if (pattern === undefined) {
      const known = Object.keys(formats).join(', ');
      throw reader.budget.unsupported('format', at.path, `'${raw.format}' is none of ${known}`);
    }
    languages.push(reader.language(pattern, 'format', at.path));
  }
  if (own.string) own.string = minLength > maxLength ? null : { minLength, maxLength, languages, values: null };
}

export function arrayKeywords(reader: Schemas, at: Location, raw: RawSchema, own: Facets): void {
  const min = count(reader, at, raw, 'minItems') ?? 0;
  const max = count(reader, at, raw, 'maxItems') ?? Number.POSITIVE_INFINITY;
  if ('uniqueItems' in raw && raw.uniqueItems !== false) throw reader.budget.unsupported('uniqueItems', at.path);
  let prefix: Conjunction[] = [];
  let rest: Conjunction | null | undefined;
  const list = (key: string, value: unknown): Conjunction[] => {
    if (!Array.isArray(value)) throw reader.budget.invalid(`${at.path}/${key}`, `${key} is a list of schemas`);
    return value.map((s, i) => reader.add(s, `${at.path}/${key}/${i}`, at.root));
  };
  const restOf = (key: string) => (raw[key] === false ? null : reader.add(raw[key], `${at.path}/${key}`, at.root));
  if ('prefixItems' in raw) prefix = list('prefixItems', raw.prefixItems);
  if (Array.isArray(raw.items)) {
    if (prefix.length > 0)
      throw reader.budget.invalid(`${at.path}/items`, 'items is one schema where prefixItems is given');
    prefix = list('items', raw.items);
    if ('additionalItems' in raw) rest = restOf('additionalItems');
  } else {
    if ('additionalItems' in raw) {
      throw reader.budget.unsupported('additionalItems', at.path, 'it means something only beside a list in items');
    }
    if ('items' in raw) rest = restOf('items');
  }
  if (!own.array) return;
  const specs =
    prefix.length > 0 || rest !== undefined
      ? [{ prefix, rest: rest === undefined ? [] : rest, restImplied: rest === undefined }]
      : [];
  own.array = min > max ? null : { specs, min, max };
}

export function objectKeywords(reader: Schemas, at: Location, raw: RawSchema, own: Facets): void {
  const min = count(reader, at, raw, 'minProperties') ?? 0;
  const max = count(reader, at, raw, 'maxProperties') ?? Number.POSITIVE_INFINITY;
  const entries = (key: string): [string, Conjunction][] => {
    if (!(key in raw)) return [];
    const value = raw[key];
    if (!isRecord(value)) throw reader.budget.invalid(`${at.path}/${key}`, `${key} is an object of schemas`);
    return Object.keys(value).map((n) => [n, reader.add(value[n], `${at.path}/${key}/${escapePointer(n)}`, at.root)]);
  };
  const props = new Map(entries('properties'));
  const patterns = entries('patternProperties').map(([source, schemas]) => ({
    source,
    language: reader.language(source, 'patternProperties', at.path),
    schemas,
  }));
  const required = raw.required ?? [];
  if (!Array.isArray(required) || !required.every((n) => typeof n === 'string')) {
    throw reader.budget.invalid(`${at.path}/required`, 'required is a list of names');
  }
  const implied = !('additionalProperties' in raw);
  const path = `${at.path}/additionalProperties`;
  const additional = implied
    ? []
    : raw.additionalProperties === false
      ? null
      : reader.add(raw.additionalProperties, path, at.root);
  const names = 'propertyNames' in raw ? nameLanguage(reader, at, raw) : [];
  if (!own.object) return;
  const declares = 'properties' in raw;
  const specs =
    declares || patterns.length > 0 || !implied
      ? [{ props, patterns, additional, additionalImplied: implied, declares }]
      : [];
  own.object =
    min > max ? null : { specs, required: new Set(required), min, max: names === null ? 0 : max, names: names ?? [] };
  if (own.object && own.object.min > own.object.max) own.object = null;
}

/** Languages that all property names must be in; null = there is no good name. */
function nameLanguage(reader: Schemas, at: Location, raw: RawSchema): Dfa[] | null {
  const path = `${at.path}/propertyNames`;
  const alternatives = reader.expand(reader.add(raw.propertyNames, path, at.root)).filter((a) => a.facets.string);
  if (alternatives.length === 0) return null;
  const [{ facets, excluded }] = alternatives;
  if (alternatives.length > 1 || excluded.length > 0 || !facets.string) {
    throw reader.budget.unsupported('propertyNames', at.path, 'only without anyOf, oneOf and not');
  }
  const s = facets.string;
  const free = s.languages.length === 0 && !s.values && s.minLength === 0 && s.maxLength === Number.POSITIVE_INFINITY;
  return free ? [] : [reader.stringLanguage(s, path)];
}
