/**
 * npm run build && node dist/bench/grammar.js MODEL.gguf [--rows 16] [--json]
 * Time of constrained decoding with the vocabulary of a real model: compiling, first masks, masks after warm-up.
 * Documents are tokenised with the model's own tokenizer and followed token by token in ROWS interleaved rows.
 */
import './plain-errors.js';
import { parseArgs } from 'node:util';
import {
  compileJsonObject,
  compileJsonSchema,
  compileToolCalls,
  createMatcher,
  type Grammar,
  prepareVocabulary,
} from 'longmind-grammar';
import { createTokenizer } from '../src/tokenizer/tokenizer.js';
import type { TokenBytes } from '../src/types.js';
import { readGguf } from '../src/weights/index.js';

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: { rows: { type: 'string', default: '16' }, json: { type: 'boolean', default: false } },
});

interface Case {
  name: string;
  compile: () => Grammar;
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

const cases: Case[] = [
  { name: 'person', compile: () => compileJsonSchema(person), documents: several(aPerson) },
  {
    name: 'person, indented',
    compile: () => compileJsonSchema(person),
    documents: several((i) => JSON.stringify(JSON.parse(aPerson(i)), null, 2)),
  },
  {
    name: 'recursive tree',
    compile: () => compileJsonSchema(tree),
    documents: several((i) => {
      let node: object = { label: prose(i), weight: i / 7, children: [] };
      for (let d = 0; d < 6; d++)
        node = { label: `level ${d} of ${i}`, children: [node, { label: 'x', children: [] }] };
      return JSON.stringify(node);
    }),
  },
  {
    name: 'oneOf events',
    compile: () => compileJsonSchema(union),
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
    compile: () => compileJsonSchema({ type: 'array', items: { enum: countries } }),
    documents: several((i) => JSON.stringify(countries.slice(i * 40, i * 40 + 20))),
  },
  {
    name: 'maxLength 500',
    compile: () => compileJsonSchema({ type: 'string', minLength: 10, maxLength: 500 }),
    documents: several((i) => JSON.stringify(prose(i).padEnd(490, 'word '))),
  },
  {
    name: 'json_object',
    compile: () => compileJsonObject(),
    documents: several((i) => JSON.stringify({ a: aPerson(i), b: [i, 1e-7 * i, { c: prose(i) }], d: {} }, null, 1)),
  },
  {
    name: 'tools (hermes, auto)',
    compile: () => compileToolCalls(tools, { choice: 'auto', format: 'hermes' }),
    documents: several(
      (i) => `${prose(i)}\n<tool_call>\n{"name": "search_web", "arguments": ${aPerson(i)}}\n</tool_call>`,
    ),
  },
];

interface Result {
  name: string;
  states: number;
  compileMs: number;
  tokens: number;
  coldMaxUs: number;
  coldP99Us: number;
  p50Us: number;
  p99Us: number;
  maxUs: number;
  /** Of a single run, with everything that the machine did beside. */
  onceP99Us: number;
}

/** Microseconds of this process on any processor: what others do at the same time does not count. */
const cpuTime = () => {
  const { user, system } = process.cpuUsage();
  return user + system;
};
const wallTime = () => performance.now() * 1000;

/** Microseconds of each mask and accept, in order. */
function follow(
  grammar: Grammar,
  table: TokenBytes,
  ends: readonly number[],
  documents: Int32Array[],
  rows: number,
  clock: () => number = wallTime,
): number[] {
  const words = Math.ceil((table.offsets.length - 1) / 32);
  const masks = new Int32Array(rows * words);
  const times: number[] = [];
  const row = (r: number) => ({
    matcher: createMatcher(grammar, table, ends),
    ids: documents[r % documents.length],
    at: 0,
  });
  const active = Array.from({ length: rows }, (_, r) => row(r));
  for (let running = rows; running > 0; ) {
    running = 0;
    active.forEach((a, r) => {
      if (a.at > a.ids.length) return;
      running++;
      const t0 = clock();
      a.matcher.fillMask(masks, r * words);
      const ok = a.at < a.ids.length ? a.matcher.accept(a.ids[a.at]) : a.matcher.isComplete();
      times.push(clock() - t0);
      if (!ok) throw new Error(`row ${r} is refused at token ${a.at}`);
      a.at++;
    });
  }
  return times;
}

/** The same work several times; of each piece the shortest time, so that what the machine does beside is left out. */
function shortest(runs: number, run: () => number[]): number[] {
  let best = run();
  for (let i = 1; i < runs; i++) {
    const times = run();
    best = best.map((t, k) => Math.min(t, times[k]));
  }
  return best.sort((a, b) => a - b);
}

const at = (sorted: number[], q: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];

function main(path: string): void {
  const rows = Number(args.rows);
  const tokenizer = createTokenizer(readGguf(path).metadata);
  const table = tokenizer.tokenBytes;
  const ends = tokenizer.endTokens;
  const started = performance.now();
  prepareVocabulary(table);
  const trieMs = performance.now() - started;
  const results = cases.map(({ name, compile, documents }): Result => {
    const compileUs = shortest(3, () => {
      const t0 = cpuTime();
      compile();
      return [cpuTime() - t0];
    })[0];
    const ids = documents.map((d) => Int32Array.from(tokenizer.encode(d, { special: false })));
    const grammar = compile();
    const cold = shortest(4, () => follow(compile(), table, ends, ids, rows, cpuTime));
    follow(grammar, table, ends, ids, rows);
    const all = follow(grammar, table, ends, ids, rows).sort((a, b) => a - b);
    const warm = shortest(4, () => follow(grammar, table, ends, ids, rows));
    return {
      name,
      states: grammar.alt.length,
      compileMs: compileUs / 1000,
      tokens: cold.length,
      coldMaxUs: at(cold, 1),
      coldP99Us: at(cold, 0.99),
      p50Us: at(warm, 0.5),
      p99Us: at(warm, 0.99),
      maxUs: at(warm, 1),
      onceP99Us: at(all, 0.99),
    };
  });
  const mb = process.memoryUsage().heapUsed / 2 ** 20;
  if (args.json) {
    console.log(JSON.stringify({ vocab: tokenizer.vocabSize, rows, trieMs, results }));
    return;
  }
  console.log(
    `vocabulary ${tokenizer.vocabSize} tokens, prepared in ${trieMs.toFixed(0)} ms, ${rows} rows, heap ${mb.toFixed(0)} MiB at the end`,
  );
  console.log(
    'One mask and one accept, microseconds. "first" = a fresh grammar, "warm" = the same documents again; of each',
  );
  console.log(
    'token the shortest of four runs, "one run" = of a single one. "first" and "compile" are processor time.',
  );
  console.log(
    '| schema | states | compile ms | tokens | first P99 | first max | warm P50 | warm P99 | warm max | one run P99 |',
  );
  console.log('|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|');
  for (const r of results) {
    const us = [r.coldP99Us, r.coldMaxUs, r.p50Us, r.p99Us, r.maxUs, r.onceP99Us].map((x) => x.toFixed(0)).join(' | ');
    console.log(`| ${r.name} | ${r.states} | ${r.compileMs.toFixed(1)} | ${r.tokens} | ${us} |`);
  }
}

if (!positionals[0]) throw new Error('usage: node dist/bench/grammar.js MODEL.gguf [--rows N] [--json]');
main(positionals[0]);
