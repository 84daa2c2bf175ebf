/** Random schemas of the supported kind, with random documents that should satisfy them. */

type Random = () => number;
type Schema = Record<string, unknown>;

export interface Sample {
  schema: Schema;
  /** A document that satisfies `schema`, its properties in the order of the schema. */
  document: (random: Random) => unknown;
}

const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random() * list.length)];
const int = (random: Random, lo: number, hi: number) => lo + Math.floor(random() * (hi - lo + 1));

const CHARS = [...'ab z"\\/\n\t\u0001<>{}[]:,0é東🏙\u007f\u2028'];
const randomText = (random: Random, min: number, max: number) =>
  Array.from({ length: int(random, min, max) }, () => pick(random, CHARS)).join('');

const PATTERNS: [string, (r: Random) => string][] = [
  ['^[a-c]{2,4}$', (r) => Array.from({ length: int(r, 2, 4) }, () => pick(r, [...'abc'])).join('')],
  ['^(foo|bar)-\\d+$', (r) => `${pick(r, ['foo', 'bar'])}-${int(r, 0, 999)}`],
  ['x', (r) => `${randomText(r, 0, 3)}x${randomText(r, 0, 3)}`],
  ['^[^"é]*$', (r) => randomText(r, 0, 5).replace(/["é]/gu, '')],
  ['^\\S+@\\S+$', (r) => `${pick(r, ['a', '東'])}@${pick(r, ['b', 'c.d'])}`],
];

function text(random: Random): Sample {
  const kind = random();
  if (kind < 0.3) return { schema: { type: 'string' }, document: (r) => randomText(r, 0, 8) };
  if (kind < 0.55) {
    const min = int(random, 0, 3);
    const max = min + int(random, 0, 4);
    return { schema: { type: 'string', minLength: min, maxLength: max }, document: (r) => randomText(r, min, max) };
  }
  if (kind < 0.8) {
    const [pattern, make] = pick(random, PATTERNS);
    return { schema: { type: 'string', pattern }, document: make };
  }
  const values = Array.from({ length: int(random, 1, 5) }, () => randomText(random, 0, 4));
  return { schema: { enum: [...new Set(values)] }, document: (r) => pick(r, values) };
}

function number(random: Random): Sample {
  const kind = random();
  if (kind < 0.2)
    return { schema: { type: 'number' }, document: (r) => pick(r, [0, -1, 1.5, 1e-7, 1e21, -2.25e-9, 123456]) };
  if (kind < 0.4) return { schema: { type: 'integer' }, document: (r) => int(r, -1e6, 1e6) };
  const lo = int(random, -200, 200);
  const hi = lo + int(random, 1, 400);
  if (kind < 0.7) {
    const exclusive = random() < 0.5;
    const bounds = exclusive ? { exclusiveMinimum: lo - 1, exclusiveMaximum: hi + 1 } : { minimum: lo, maximum: hi };
    return { schema: { type: 'integer', ...bounds }, document: (r) => int(r, lo, hi) };
  }
  const [a, b] = [lo / 8, hi / 8];
  const schema = random() < 0.5 ? { minimum: a, maximum: b } : { exclusiveMinimum: a, exclusiveMaximum: b };
  return { schema: { type: 'number', ...schema }, document: (r) => a + (b - a) * (0.25 + Math.round(r() * 64) / 128) };
}

function array(random: Random, depth: number): Sample {
  const min = int(random, 0, 2);
  const max = min + int(random, 0, 3);
  const item = sample(random, depth - 1);
  if (random() < 0.3) {
    const first = sample(random, depth - 1);
    return {
      schema: { type: 'array', prefixItems: [first.schema], items: item.schema, maxItems: max + 1 },
      document: (r) => {
        const n = int(r, 0, max);
        return n === 0 ? [] : [first.document(r), ...Array.from({ length: n - 1 }, () => item.document(r))];
      },
    };
  }
  return {
    schema: { type: 'array', items: item.schema, minItems: min, maxItems: max },
    document: (r) => Array.from({ length: int(r, min, max) }, () => item.document(r)),
  };
}

function object(random: Random, depth: number): Sample {
  const names = ['a', 'b', 'ab', 'k1', 'é', 'q"', ''].filter(() => random() < 0.5);
  const props = names.map((name) => ({ name, required: random() < 0.5, value: sample(random, depth - 1) }));
  const more = random() < 0.3 ? sample(random, depth - 1) : null;
  const schema: Schema = {
    type: 'object',
    properties: Object.fromEntries(props.map((p) => [p.name, p.value.schema])),
    required: props.filter((p) => p.required).map((p) => p.name),
  };
  if (more) schema.additionalProperties = more.schema;
  else if (random() < 0.5) schema.additionalProperties = false;
  return {
    schema,
    document: (r) => {
      const out: [string, unknown][] = [];
      for (const p of props) if (p.required || r() < 0.5) out.push([p.name, p.value.document(r)]);
      const n = more ? int(r, 0, 2) : 0;
      for (let i = 0; i < n; i++) out.push([`${pick(r, ['a', 'x', 'k', '"'])}-${i}`, more?.document(r)]);
      return Object.fromEntries(out);
    },
  };
}

function union(random: Random, depth: number): Sample {
  const parts = Array.from({ length: int(random, 2, 3) }, () => sample(random, depth - 1));
  return { schema: { anyOf: parts.map((p) => p.schema) }, document: (r) => pick(r, parts).document(r) };
}

function tagged(random: Random, depth: number): Sample {
  const parts = ['cat', 'dog', 'owl'].map((tag) => ({ tag, value: sample(random, depth - 1) }));
  const branch = (p: (typeof parts)[number]) => ({
    type: 'object',
    properties: { tag: { const: p.tag }, value: p.value.schema },
    required: ['tag', 'value'],
  });
  return {
    schema: { oneOf: parts.map(branch) },
    document: (r) => {
      const p = pick(r, parts);
      return { tag: p.tag, value: p.value.document(r) };
    },
  };
}

/** A random schema, nesting at most `depth`. */
export function sample(random: Random, depth: number): Sample {
  const kind = random();
  if (depth <= 0 || kind < 0.3) {
    const leaf = random();
    if (leaf < 0.4) return text(random);
    if (leaf < 0.75) return number(random);
    if (leaf < 0.85) return { schema: { type: ['boolean', 'null'] }, document: (r) => pick(r, [true, false, null]) };
    if (leaf < 0.93) return { schema: { const: { a: [1, 'x'], b: null } }, document: () => ({ a: [1, 'x'], b: null }) };
    return { schema: {}, document: (r) => pick(r, [1, 'x', [], {}, [{ a: [null] }], { q: { z: -1.5 } }]) };
  }
  if (kind < 0.55) return object(random, depth);
  if (kind < 0.75) return array(random, depth);
  return kind < 0.9 ? union(random, depth) : tagged(random, depth);
}
