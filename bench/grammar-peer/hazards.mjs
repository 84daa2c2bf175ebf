// Schemas that a server must survive: typing errors, contradictions, and sizes that somebody sends on purpose.

const nested = (depth, wrap) => {
  let schema = { type: 'integer' };
  for (let i = 0; i < depth; i++) schema = wrap(schema);
  return schema;
};
const object = (count, required) => ({
  type: 'object',
  properties: Object.fromEntries(Array.from({ length: count }, (_, i) => [`p${i}`, { type: 'integer' }])),
  ...(required ? { required: Array.from({ length: count }, (_, i) => `p${i}`) } : {}),
});

/** `none`: no document satisfies it, so that compiling it is wrong too. */
export const hazards = [
  { name: 'a type that does not exist', schema: { type: 'text' } },
  { name: 'a keyword spelled wrong (`minLenght`)', schema: { type: 'string', minLenght: 3 } },
  { name: '`$ref` to nowhere', schema: { $ref: '#/$defs/none' } },
  { name: 'a pattern that is not closed', schema: { type: 'string', pattern: '(' } },
  { name: 'a pattern with look-ahead', schema: { type: 'string', pattern: '^(?=a)b' } },
  { name: '`false`', schema: false, none: true },
  { name: 'minimum 5, maximum 3', schema: { type: 'integer', minimum: 5, maximum: 3 }, none: true },
  { name: 'minLength 5, maxLength 3', schema: { type: 'string', minLength: 5, maxLength: 3 }, none: true },
  { name: '`$ref` to itself', schema: { $ref: '#' } },
  { name: '`uniqueItems`', schema: { type: 'array', uniqueItems: true } },
  { name: 'arrays in arrays, 100 deep', schema: nested(100, (items) => ({ type: 'array', items })) },
  { name: 'arrays in arrays, 1,500 deep', schema: nested(1_500, (items) => ({ type: 'array', items })) },
  { name: 'maxLength 1,000,000', schema: { type: 'string', maxLength: 1_000_000 } },
  {
    name: 'maxLength 20,000 of a property',
    schema: { type: 'object', properties: { a: { type: 'string', maxLength: 20_000 } } },
  },
  { name: 'minItems 100,000', schema: { type: 'array', items: { type: 'integer' }, minItems: 100_000 } },
  {
    name: 'enum of 20,000 strings',
    schema: { enum: Array.from({ length: 20_000 }, (_, i) => `value ${(i * 7919) % 20011}`) },
  },
  { name: '2,000 optional properties', schema: object(2_000, false) },
  { name: '2,000 required properties', schema: object(2_000, true) },
  { name: 'pattern `^(a{1,200}){1,200}$`', schema: { type: 'string', pattern: '^(a{1,200}){1,200}$' } },
  { name: 'pattern `(a|b)*a(a|b){14}`', schema: { type: 'string', pattern: '^(a|b)*a(a|b){14}$' } },
  {
    name: 'anyOf of 8 in allOf of 8',
    schema: {
      allOf: Array.from({ length: 8 }, (_, i) => ({
        anyOf: Array.from({ length: 8 }, (_, k) => ({ properties: { [`p${i}`]: { const: k } } })),
      })),
    },
  },
];

/** Milliseconds that a schema may take; as in the server. */
const MOST_MS = 20_000;

export async function runHazards(sides) {
  const rows = [];
  for (const { name, schema, none } of hazards) {
    const row = { name, none: none === true };
    for (const { name: engine, side } of sides) {
      const { outcome, message, compileMs, rssMiB } = await side.ask({ schema, documents: [], draws: 0 }, MOST_MS);
      row[engine] = { outcome, message, compileMs, rssMiB };
    }
    rows.push(row);
  }
  for (const { side } of sides) side.close();
  return rows;
}
