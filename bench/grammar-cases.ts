/** Schemas and documents as requests bring them, for the benchmarks of constrained decoding. */
import type { ToolSpec } from 'longmind-grammar';

/** One kind of request: what may be generated, and documents of that kind. */
export interface GrammarCase {
  name: string;
  /** A JSON Schema; 'object': any JSON object; or functions to call, as the Hermes template writes them. */
  source: { schema: unknown } | 'object' | { tools: ToolSpec[] };
  documents: string[];
}

const person = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 60 },
    email: { type: 'string', format: 'email' },
    age: { type: 'integer', minimum: 0, maximum: 130 },
    born: { type: 'string', format: 'date' },
    tags: { type: 'array', items: { enum: ['customer', 'supplier', 'employee', 'friend'] }, maxItems: 4 },
    address: {
      type: 'object',
      properties: {
        street: { type: 'string' },
        city: { type: 'string' },
        zip: { type: 'string', pattern: '^[0-9]{5}$' },
      },
      required: ['street', 'city'],
    },
  },
  required: ['name', 'age'],
};
const tree = {
  $ref: '#/$defs/node',
  $defs: {
    node: {
      type: 'object',
      properties: {
        label: { type: 'string' },
        weight: { type: 'number' },
        children: { type: 'array', items: { $ref: '#/$defs/node' } },
      },
      required: ['label', 'children'],
    },
  },
};
const union = {
  type: 'object',
  properties: {
    events: {
      type: 'array',
      items: {
        oneOf: [
          {
            type: 'object',
            properties: { kind: { const: 'click' }, x: { type: 'number' }, y: { type: 'number' } },
            required: ['kind', 'x', 'y'],
          },
          {
            type: 'object',
            properties: { kind: { const: 'key' }, key: { type: 'string', minLength: 1, maxLength: 10 } },
            required: ['kind', 'key'],
          },
          {
            type: 'object',
            properties: { kind: { const: 'note' }, text: { anyOf: [{ type: 'string' }, { type: 'null' }] } },
            required: ['kind', 'text'],
          },
        ],
      },
    },
  },
  required: ['events'],
};
const countries = Array.from({ length: 2000 }, (_, i) => `place ${(i * 7919) % 2003} of ${i % 97}`);
const tools = ['get_weather', 'search_web', 'send_mail'].map((name) => ({ name, parameters: person }));
const aPerson = (i: number) =>
  JSON.stringify({
    name: `Zoë "the ${i}th" Müller-Łukasiewicz`,
    email: `zoe.m${i}@mail.example.org`,
    age: 20 + i,
    born: `19${70 + i}-0${1 + (i % 9)}-1${i % 10}`,
    tags: ['customer', 'friend'],
    address: { street: `Rua das Flores, ${i * 37}\nandar ${i}`, city: '東京 / São Paulo 🏙️', zip: `${12345 + i}` },
  });
const several = (make: (i: number) => string) => Array.from({ length: 8 }, (_, i) => make(i));
const prose = (i: number) =>
  `The quick "brown" fox number ${i} jumps over the lazy dog; naïve café, 数字 ${i * 31}, and\tthen it sleeps. `.repeat(
    3,
  );

export const grammarCases: GrammarCase[] = [
  { name: 'person', source: { schema: person }, documents: several(aPerson) },
  {
    name: 'person, indented',
    source: { schema: person },
    documents: several((i) => JSON.stringify(JSON.parse(aPerson(i)), null, 2)),
  },
  {
    name: 'recursive tree',
    source: { schema: tree },
    documents: several((i) => {
      let node: object = { label: prose(i), weight: i / 7, children: [] };
      for (let d = 0; d < 6; d++)
        node = { label: `level ${d} of ${i}`, children: [node, { label: 'x', children: [] }] };
      return JSON.stringify(node);
    }),
  },
  {
    name: 'oneOf events',
    source: { schema: union },
    documents: several((i) =>
      JSON.stringify({
        events: [
          { kind: 'click', x: i * 1.25, y: -3 },
          { kind: 'key', key: `Enter${i}` },
          { kind: 'note', text: prose(i) },
          { kind: 'note', text: null },
        ],
      }),
    ),
  },
  {
    name: 'enum of 2,000',
    source: { schema: { type: 'array', items: { enum: countries } } },
    documents: several((i) => JSON.stringify(countries.slice(i * 40, i * 40 + 20))),
  },
  {
    name: 'maxLength 500',
    source: { schema: { type: 'string', minLength: 10, maxLength: 500 } },
    documents: several((i) => JSON.stringify(prose(i).padEnd(490, 'word '))),
  },
  {
    name: 'json_object',
    source: 'object',
    documents: several((i) => JSON.stringify({ a: aPerson(i), b: [i, 1e-7 * i, { c: prose(i) }], d: {} }, null, 1)),
  },
  {
    name: 'tools (hermes, auto)',
    source: { tools },
    documents: several(
      (i) => `${prose(i)}\n<tool_call>\n{"name": "search_web", "arguments": ${aPerson(i)}}\n</tool_call>`,
    ),
  },
];
