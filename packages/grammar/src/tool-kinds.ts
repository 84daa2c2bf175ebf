/**
 * Arguments that are written bare, without the quotes of JSON: whether such a text is a string or another value depends on what its
 * schema may hold. Masks and parser both ask here, so that what is written for one value is read as that value.
 */
import { decodePointer, isRecord } from './schema.js';
import type { ToolSpec } from './types.js';

export type Kind = 'null' | 'boolean' | 'integer' | 'number' | 'string' | 'array' | 'object';
export type Kinds = ReadonlySet<Kind>;

const ALL: Kinds = new Set(['null', 'boolean', 'integer', 'number', 'string', 'array', 'object']);
/** Schemas that are visited for one argument; behind them, anything counts as possible. */
const MAX_VISITS = 200;

/** What the literals of Python, which chat templates write, are in JSON. */
const LITERALS: Readonly<Record<string, string>> = { None: 'null', True: 'true', False: 'false' };

/** Kinds of values that the argument may have, or more: never fewer than its schema allows. */
export function argumentKinds({ parameters }: Pick<ToolSpec, 'parameters'>, name: string): Kinds {
  const properties = isRecord(parameters) && isRecord(parameters.properties) ? parameters.properties : {};
  return Object.hasOwn(properties, name) ? kindsOf(properties[name], parameters, { visits: MAX_VISITS }) : ALL;
}

function kindsOf(schema: unknown, root: unknown, left: { visits: number }): Kinds {
  if (!isRecord(schema) || --left.visits < 0) return ALL;
  const sets: Kinds[] = [];
  const inner = (s: unknown): Kinds => kindsOf(s, root, left);
  if ('type' in schema) sets.push(kindsOfType(schema.type));
  if ('const' in schema) sets.push(new Set([kindOf(schema.const)]));
  if (Array.isArray(schema.enum)) sets.push(new Set(schema.enum.map(kindOf)));
  if (typeof schema.$ref === 'string') sets.push(inner(pointedAt(root, schema.$ref)));
  if (Array.isArray(schema.allOf)) sets.push(...schema.allOf.map(inner));
  for (const any of [schema.anyOf, schema.oneOf])
    if (Array.isArray(any)) sets.push(new Set(any.flatMap((s) => [...inner(s)])));
  return new Set([...ALL].filter((kind) => sets.every((set) => set.has(kind))));
}

function kindsOfType(type: unknown): Kinds {
  const names = new Set(Array.isArray(type) ? type : [type]);
  if (names.has('number')) names.add('integer');
  return names as Set<Kind>;
}

function kindOf(value: unknown): Kind {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value as Kind;
}

function pointedAt(root: unknown, ref: string): unknown {
  let at = root;
  for (const part of ref.split('/').slice(1)) {
    const name = decodePointer(part);
    at = typeof at === 'object' && at !== null ? Object.getOwnPropertyDescriptor(at, name)?.value : undefined;
  }
  return at;
}

/** What each kind looks like where a string may stand too: a text that looks so is no string. */
const SHAPES: Partial<Record<Kind, string>> = {
  null: '^(?:null|None)$',
  boolean: '^(?:true|false|True|False)$',
  integer: '^-?(?:0|[1-9][0-9]*)$',
  number: '^-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$',
  array: '^\\[',
  object: '^\\{',
};

/** Patterns of the texts that are no strings among values of these kinds. */
export const shapesOf = (kinds: Kinds): string[] => [...kinds].flatMap((kind) => SHAPES[kind] ?? []);

/** The JSON of an argument that was written bare. */
export function bareToJson(text: string, kinds: Kinds): string {
  const shaped = !kinds.has('string') || shapesOf(kinds).some((shape) => new RegExp(shape, 'u').test(text));
  const value = LITERALS[text] ?? text;
  return shaped && isJson(value) ? value : JSON.stringify(text);
}

/** What was written under other masks, or none, need not be. */
function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
