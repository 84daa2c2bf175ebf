/** `node dist/bench/cache.js [--json] [--blocks N,…] [--sessions N] [--chart FILE.svg]`: see src/bench/cache.ts. */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { runCacheBench } from '../src/bench/cache.js';
import { lineChart } from './svg.js';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    blocks: { type: 'string', default: '1000,10000,100000,1000000' },
    sessions: { type: 'string', default: '1000000' },
    chart: { type: 'string' },
  },
});
const result = runCacheBench({ blocks: values.blocks.split(',').map(Number), sessions: Number(values.sessions) });

if (values.json) console.log(JSON.stringify(result));
else {
  const { rows, ...rest } = result;
  const rounded = (v: unknown) => (typeof v === 'number' ? Number(v.toFixed(2)) : v);
  console.table(rows.map((r) => Object.fromEntries(Object.entries(r).map(([k, v]) => [k, rounded(v)]))));
  console.log(rest);
}
if (values.chart) {
  const rows = result.rows.filter((r) => r.policy === 'lru');
  const series = (['reserveRelease', 'commit', 'match', 'evict', 'fork'] as const).map((name) => ({
    name,
    points: rows.map((r): [number, number] => [r.blocks, r[name]]),
  }));
  const title = 'Cost of the cache manager, policy lru';
  writeFileSync(values.chart, lineChart({ title, x: 'blocks of 64 tokens', y: 'ns a block', logX: true, series }));
}
