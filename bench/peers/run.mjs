// npm run bench:peers [-- --json --quick --only TEXT --threads N --runs N --default-model FILE]
// Ours and node-llama-cpp's on the same files, runs interleaved, each in a process of its own; medians and their ratio.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { resolveModel } from '../../dist/src/index.js';
import { writeRandomModel } from '../random-model.mjs';
import { limits, shareOfLimit } from './limits.mjs';
import { works } from './works.mjs';

const { values: args } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    threads: { type: 'string', default: '2' },
    runs: { type: 'string', default: '5' },
    models: { type: 'string', default: path.join(os.tmpdir(), 'longmind-bench-models') },
    help: { type: 'boolean', default: false },
  },
});
if (args.help) {
  console.log(`usage: npm run bench:peers -- [options]
  --json           one JSON object instead of a table
  --save           also write bench/results/peers-MACHINE.json
  --only TEXT      rows whose name contains TEXT
  --runs N         interleaved runs of each side (5)
  --threads N      threads of each side (2)
  --models DIR     where the random-weight models are kept
  --quick          the real model only, 3 runs`);
  process.exit(0);
}
const here = path.dirname(new URL(import.meta.url).pathname);
if (!fs.existsSync(path.join(here, 'node_modules/node-llama-cpp'))) {
  console.error('the peer is not installed: run  npm ci --omit=optional --prefix bench/peers');
  process.exit(1);
}

const random = (type, shape) => {
  const file = path.join(args.models, `${shape}-${type}.gguf`);
  if (!fs.existsSync(file)) writeRandomModel(file, type, shape);
  return file;
};
const real = async () => (await resolveModel('default', {})).path;

/** name, model, work, target ratio (null: reported only). */
const rows = [
  ['SmolLM2-135M Q4_1: prefill 512', real, 'prefill512', 2.0],
  ['SmolLM2-135M Q4_1: decode 1', real, 'decode1', 2.5],
  ['SmolLM2-135M Q4_1: load to first token', real, 'load', 0.7],
  ['135M Q8_0: prefill 512', () => random('q8_0', '135m'), 'prefill512', null],
  ['135M Q8_0: decode 1', () => random('q8_0', '135m'), 'decode1', 2.5],
  ['135M Q8_0: decode 16', () => random('q8_0', '135m'), 'decode16', 5],
  ['135M Q4_0: prefill 512', () => random('q4_0', '135m'), 'prefill512', null],
  ['135M Q4_0: decode 1', () => random('q4_0', '135m'), 'decode1', 2.5],
  ['1B Q8_0: prefill 512', () => random('q8_0', '1b'), 'prefill512', 2.2],
  ['1B Q8_0: decode 1', () => random('q8_0', '1b'), 'decode1', 1.05],
  ['1B Q8_0: decode 16', () => random('q8_0', '1b'), 'decode16', 4],
  ['1B Q8_0: last 512 of 8192', () => random('q8_0', '1b'), 'deep', 2],
  ['1B Q4_0: prefill 512', () => random('q4_0', '1b'), 'prefill512', 1.9],
  ['1B Q4_0: decode 1', () => random('q4_0', '1b'), 'decode1', 1.25],
].filter(([name]) => name.includes(args.only) && (!args.quick || name.startsWith('SmolLM2')));

function once(script, model, work) {
  const r = spawnSync(process.execPath, [path.join(here, script), model, work, args.threads], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    cwd: here,
  });
  const line = r.stdout
    .trim()
    .split('\n')
    .findLast((l) => l.startsWith('{'));
  if (!line) throw new Error(`${script} ${work} failed (${r.status}):\n${r.stdout}\n${r.stderr}`);
  return JSON.parse(line);
}

const median = (a) => {
  const s = [...a].sort((x, y) => x - y);
  return s.length % 2 ? s[(s.length - 1) / 2] : (s[s.length / 2 - 1] + s[s.length / 2]) / 2;
};

const say = args.json ? () => {} : (line) => console.log(line);
const measured = await limits(Number(args.threads));
say(
  `${measured.machine}: ${measured.bandwidth.toFixed(1)} GB/s, ${measured.int8.toFixed(0)} int8 GOPS, ${args.threads} threads`,
);
say(
  `${'work'.padEnd(40)} ${'ours'.padStart(9)} ${'peer'.padStart(9)} unit   ratio  target  of limit  spread of the ratio`,
);
const out = [];
for (const [name, model, workName, target] of rows) {
  const file = await model();
  const ours = [];
  const peer = [];
  const ratios = [];
  let info = null;
  let rss = 0;
  const runs = workName === 'deep' ? Math.min(2, Number(args.runs)) : args.quick ? 3 : Number(args.runs);
  for (let run = 0; run < runs; run++) {
    const a = once('ours.mjs', file, workName);
    const b = once('peer.mjs', file, workName);
    info = a.info;
    rss = Math.max(rss, a.rss);
    ours.push(median(a.values));
    peer.push(median(b.values));
    ratios.push(ours.at(-1) / peer.at(-1));
  }
  const row = {
    work: name,
    ours: median(ours),
    peer: median(peer),
    unit: works[workName].unit,
    ratio: median(ratios),
    target,
    shareOfLimit: shareOfLimit(measured, info, works[workName], median(ours)),
    runs,
    ratioSpread: [Math.min(...ratios), Math.max(...ratios)],
    rssBytes: rss,
  };
  out.push(row);
  const met = target === null ? '' : (row.unit === 'ms' ? row.ratio <= target : row.ratio >= target) ? ' ok' : ' !!';
  const share = row.shareOfLimit === null ? '-' : `${(100 * row.shareOfLimit).toFixed(0)}%`;
  say(
    `${name.padEnd(40)} ${row.ours.toFixed(1).padStart(9)} ${row.peer.toFixed(1).padStart(9)} ${row.unit.padEnd(6)} ` +
      `${row.ratio.toFixed(2).padStart(5)}  ${String(target ?? '-').padStart(6)} ${share.padStart(9)}` +
      `  ${row.ratioSpread.map((x) => x.toFixed(2)).join('…')}${met}`,
  );
}
const result = {
  machine: measured,
  threads: Number(args.threads),
  date: new Date().toISOString().slice(0, 10),
  rows: out,
};
if (args.json) console.log(JSON.stringify(result));
if (args.save) {
  const file = path.join(here, '..', 'results', `peers-${measured.machine.replace(/[^\w]+/g, '-')}.json`);
  fs.writeFileSync(file, `${JSON.stringify(result, null, 1)}\n`);
  say(`saved ${path.relative(process.cwd(), file)}`);
}
