/**
 * Charts of a capacity sweep: `longmind bench sessions --sweep --json > SWEEP.json`, then
 * `node dist/bench/sessions-chart.js SWEEP.json [FOLDER]` writes sessions-capacity.svg and sessions-ttft.svg there (docs).
 */
import './plain-errors.js';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type * as bench from '../src/bench/index.js';
import { lineChart } from './svg.js';

const [file, folder = 'docs'] = process.argv.slice(2);
if (!file) {
  console.error('usage: node dist/bench/sessions-chart.js SWEEP.json [FOLDER]');
  process.exit(2);
}
const { points, load } = JSON.parse(readFileSync(file, 'utf8')) as bench.SweepResult;
type Point = (typeof points)[number];

const line = (name: string, of: (p: Point) => number, dashed = false) => ({
  name,
  dashed,
  points: points.map((p): [number, number] => [p.percent, of(p)]),
});
const x = 'KV cache, % of what holds all sessions';
const about = `${load.sessions} sessions, ${load.arrivals}`;
const charts = {
  'sessions-capacity.svg': lineChart({
    title: `Less KV cache, slower, the same answers (${about})`,
    x,
    y: '%',
    logX: true,
    series: [
      line('throughput', (p) => 100 * p.relative),
      line('prompt tokens cached', (p) => 100 * p.run.hitRate, true),
    ],
  }),
  'sessions-ttft.svg': lineChart({
    title: `Time to the first token (${about})`,
    x,
    y: 'ms',
    logX: true,
    series: [
      line('hits, median', (p) => p.run.ttftHit.p50),
      line('misses, median', (p) => p.run.ttftMiss.p50),
      line('turn 5+, median', (p) => p.run.ttftLate.p50),
      line('turn 5+, P95', (p) => p.run.ttftLate.p95, true),
    ].map((s) => ({ ...s, points: s.points.filter(([, ms]) => ms > 0) })),
  }),
};
for (const [name, svg] of Object.entries(charts)) {
  writeFileSync(path.join(folder, name), svg);
  console.log(path.join(folder, name));
}
