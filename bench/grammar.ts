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
import { type GrammarCase, grammarCases } from './grammar-cases.js';

const { values: args, positionals } = parseArgs({
  allowPositionals: true,
  options: { rows: { type: 'string', default: '16' }, json: { type: 'boolean', default: false } },
});

function compile(source: GrammarCase['source']): Grammar {
  if (source === 'object') return compileJsonObject();
  if ('tools' in source) return compileToolCalls(source.tools, { choice: 'auto', format: 'hermes' });
  return compileJsonSchema(source.schema);
}

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
  const results = grammarCases.map(({ name, source, documents }): Result => {
    const compileUs = shortest(3, () => {
      const t0 = cpuTime();
      compile(source);
      return [cpuTime() - t0];
    })[0];
    const ids = documents.map((d) => Int32Array.from(tokenizer.encode(d, { special: false })));
    const grammar = compile(source);
    const cold = shortest(4, () => follow(compile(source), table, ends, ids, rows, cpuTime));
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
