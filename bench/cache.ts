/**
 * `node dist/bench/cache.js [--blocks N,…] [--sessions N] [--json | --markdown] [--chart FILE.svg] [--no-fail]`: see
 * src/bench/cache.ts. `--markdown` prints the rows of the tables in docs/cache.md.
 */
import './plain-errors.js';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type CacheBenchResult, type CacheBenchRow, runCacheBench } from '../src/bench/cache.js';
import { lineChart } from './svg.js';
import { judge } from './targets.js';

/** With lru and a pool of a million blocks. */
const TARGETS = [
  { field: 'reserveRelease', target: 60, unit: 'ns a block' },
  { field: 'commit', target: 300, unit: 'ns a block' },
  { field: 'match', target: 400, unit: 'ns a block' },
  { field: 'resume', target: 3, unit: 'µs' },
] as const;

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    blocks: { type: 'string', default: '1000,10000,100000,1000000' },
    sessions: { type: 'string', default: '1000000' },
    chart: { type: 'string' },
    'no-fail': { type: 'boolean', default: false },
  },
});
const result = runCacheBench({
  blocks: values.blocks.split(',').map(Number),
  sessions: Number(values.sessions),
});

if (values.json) console.log(JSON.stringify(result));
else if (values.markdown) console.log(markdown(result));
else {
  const { rows, ...rest } = result;
  const rounded = (v: unknown) => (typeof v === 'number' ? Number(v.toFixed(2)) : v);
  console.table(rows.map((r) => Object.fromEntries(Object.entries(r).map(([k, v]) => [k, rounded(v)]))));
  console.log(rest);
}
const largest = result.rows.filter((r) => r.policy === 'lru' && r.blocks === 1e6);
judge(
  largest.flatMap((r) =>
    TARGETS.map(({ field, target, unit }) => ({
      name: `lru 1,000,000: ${field}`,
      value: r[field],
      target,
      better: 'less' as const,
      unit,
    })),
  ),
  values['no-fail'],
);
if (values.chart) writeFileSync(values.chart, chart(result.rows.filter((r) => r.policy === 'lru')));

function markdown({ rows, randomReadNs, evictedSessions: e }: CacheBenchResult): string {
  const row = (r: CacheBenchRow) => {
    const costs = [r.reserveRelease, r.commit, r.match, r.evict, r.fork].map((ns) => ns.toFixed(0));
    return `| ${r.policy} ${r.blocks.toLocaleString('en')} | ${costs.join(' | ')} | ${r.resume.toFixed(1)} |`;
  };
  const bytes = rows.map((r) => `${r.policy} ${r.blocks}: ${r.bytesPerBlock.toFixed(1)}`).join(', ');
  return [
    ...rows.map(row),
    `random read ${randomReadNs.toFixed(0)} ns; bytes a block: ${bytes}; bytes a token ${rows[0]!.bytesPerToken.toFixed(2)}`,
    `${e.sessions} evicted sessions of ${e.tokens} tokens: ${e.bytesPerSession.toFixed(0)} bytes each, ` +
      `resident set +${e.rssGrowthMB.toFixed(0)} MB (peak ${e.peakRssGrowthMB.toFixed(0)})`,
  ].join('\n');
}

function chart(rows: CacheBenchRow[]): string {
  const series = (['reserveRelease', 'commit', 'match', 'evict', 'fork'] as const).map((name) => ({
    name,
    points: rows.map((r): [number, number] => [r.blocks, r[name]]),
  }));
  const title = 'Cost of the cache manager, policy lru';
  return lineChart({ title, x: 'blocks of 64 tokens', y: 'ns a block', logX: true, series });
}
