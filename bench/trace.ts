/**
 * `node dist/bench/trace.js FILE --policy P --capacity-blocks N --json`: one replay.
 * `node dist/bench/trace.js FILE --sweep [--no-bound] [--chart FILE.svg]`: the policy at 0.3 … 30% of the blocks.
 */
import './plain-errors.js';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { runTraceBench, type TraceBenchOptions, type TraceBenchResult } from '../src/bench/trace.js';
import { readTrace } from '../src/bench/trace-formats.js';
import { lineChart } from './svg.js';

const SHARES = [0.3, 1, 3, 10, 30];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    policy: { type: 'string', default: 'lru' },
    'capacity-blocks': { type: 'string' },
    'capacity-percent': { type: 'string' },
    'window-hours': { type: 'string', default: '24' },
    seed: { type: 'string', default: '1' },
    'no-bound': { type: 'boolean', default: false },
    sweep: { type: 'boolean', default: false },
    chart: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const number = (s: string | undefined) => (s === undefined ? undefined : Number(s));
const file = positionals[0] ?? '';
const base: TraceBenchOptions = {
  file,
  policy: values.policy as 'lru',
  capacityBlocks: number(values['capacity-blocks']),
  capacityPercent: number(values['capacity-percent']),
  windowHours: Number(values['window-hours']),
  seed: Number(values.seed),
  bound: !values['no-bound'],
};

if (!values.sweep) show([runTraceBench(base)]);
else {
  const trace = readTrace(file, { windowHours: base.windowHours!, seed: base.seed! });
  const rows: TraceBenchResult[] = [];
  for (const capacityPercent of SHARES) {
    rows.push(runTraceBench({ ...base, capacityBlocks: undefined, capacityPercent }, trace));
  }
  show(rows);
  if (values.chart) writeFileSync(values.chart, chart(rows));
}

function show(rows: TraceBenchResult[]): void {
  if (values.json) console.log(JSON.stringify(rows.length === 1 ? rows[0] : rows));
  else console.table(rows.map(({ file: _, arrivals: __, ...r }) => r));
}

function chart(rows: TraceBenchResult[]): string {
  const share = (r: TraceBenchResult) => (100 * r.capacityBlocks) / r.uniqueBlocks;
  const line = (name: string, of: TraceBenchResult[], y: (r: TraceBenchResult) => number, dashed = false) => ({
    name,
    dashed,
    points: of.map((r): [number, number] => [+share(r).toFixed(2), 100 * y(r)]),
  });
  const lru = rows.filter((r) => r.policy === 'lru');
  const series = [line('lru', lru, (r) => r.hitRatio), line('infinite', lru, (r) => r.infiniteHitRatio, true)];
  if (lru[0]!.minHitRatio !== null) series.push(line('MIN', lru, (r) => r.minHitRatio!, true));
  const name = file
    .split('/')
    .pop()!
    .replace(/\.jsonl.*$/, '');
  return lineChart({ title: name, x: 'capacity, % of the different blocks', y: 'prefix hits, %', logX: true, series });
}
