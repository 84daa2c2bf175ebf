// npm run bench:peers [-- --help]
// Ours and node-llama-cpp's (and llama.cpp's, built for this machine) on the same files. Each side of a row is a process of
// its own; they take turns, `runs` times; medians, and the median of the ratios of neighbouring runs.
import '../../dist/bench/plain-errors.js';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { openLimitMeter } from '../../dist/bench/machine.js';
import { judge } from '../../dist/bench/targets.js';
import { resolveModel } from '../../dist/src/index.js';
import { writeRandomModel } from '../random-model.mjs';
import { shareOfLimit } from './limits.mjs';
import { Side } from './side.mjs';
import { head, line, markdown, targetOf } from './table.mjs';
import { works } from './works.mjs';

const { values: args } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    'no-fail': { type: 'boolean', default: false },
    prefill: { type: 'string', default: '0' },
    save: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    threads: { type: 'string', default: '2' },
    runs: { type: 'string', default: '5' },
    isa: { type: 'string', default: 'auto' },
    native: { type: 'string', default: '' },
    models: { type: 'string', default: path.join(os.tmpdir(), 'longmind-bench-models') },
    help: { type: 'boolean', default: false },
  },
});
if (args.help) {
  console.log(`usage: npm run bench:peers -- [options]
  --json           one JSON object instead of a table
  --markdown       the table once more as Markdown, at the end
  --save           write bench/results/peers[-ISA]-MACHINE.json, anew after each row
  --only TEXT      rows whose name contains TEXT
  --runs N         turns of each side in a row (5)
  --threads N      threads of each side (2)
  --isa ISA        our instruction set: avx512, avx2, portable (auto); other than auto, targets are not judged
  --native PYTHON  a Python that has llama-cpp-python, built natively: a second peer, and the maker of the Q4_K_M file
  --models DIR     where the random-weight models are kept
  --prefill N      our tokens of one step (0 = the default: as many as take 250 ms); other than 0 is said in the table
  --no-fail        a missed target is named, and the status is 0 all the same
  --quick          the real model only, 3 runs`);
  process.exit(0);
}
const here = path.dirname(new URL(import.meta.url).pathname);
if (!fs.existsSync(path.join(here, 'node_modules/node-llama-cpp'))) {
  console.error('the peer is not installed: run  npm ci --omit=optional --prefix bench/peers');
  process.exit(1);
}
const runs = args.quick ? 3 : Number(args.runs);

const random = (type, shape) => () => {
  const file = path.join(args.models, `${shape}-${type}.gguf`);
  if (!fs.existsSync(file)) writeRandomModel(file, type, shape);
  return file;
};
/** Made by llama.cpp's quantiser from random f16 weights; null where there is none. */
const quantised = (type, shape) => () => {
  const file = path.join(args.models, `${shape}-${type}.gguf`);
  if (fs.existsSync(file) || !args.native) return fs.existsSync(file) ? file : null;
  const source = random('f16', shape)();
  const r = spawnSync(args.native, [path.join(here, 'quantise.py'), source, file, type], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (r.status !== 0) throw new Error(`${args.native} quantise.py failed`);
  fs.rmSync(source);
  return file;
};
const real = async () => (await resolveModel('default', {})).path;

/** name, model, work, target ratio (null: reported only), aim against the native build. */
const rows = [
  ['SmolLM2-135M Q4_1: prefill 512', real, 'prefill512', 2.0, 1.5],
  ['SmolLM2-135M Q4_1: decode 1', real, 'decode1', 2.5, 1.3],
  ['SmolLM2-135M Q4_1: load to first token', real, 'load', 0.7, null],
  ['135M Q8_0: prefill 512', random('q8_0', '135m'), 'prefill512', null, 1.5],
  ['135M Q8_0: decode 1', random('q8_0', '135m'), 'decode1', 2.5, 1.3],
  ['135M Q8_0: decode 16', random('q8_0', '135m'), 'decode16', 5, 2],
  ['135M Q4_0: prefill 512', random('q4_0', '135m'), 'prefill512', null, 1.5],
  ['135M Q4_0: decode 1', random('q4_0', '135m'), 'decode1', 2.5, 1.3],
  ['1B Q8_0: prefill 512', random('q8_0', '1b'), 'prefill512', 2.2, 1.5],
  ['1B Q8_0: decode 1', random('q8_0', '1b'), 'decode1', 1.05, 1.0],
  ['1B Q8_0: decode 16', random('q8_0', '1b'), 'decode16', 4, 2],
  ['1B Q8_0: last 512 of 8192', random('q8_0', '1b'), 'deep', 2, 1.5],
  ['1B Q4_0: prefill 512', random('q4_0', '1b'), 'prefill512', 1.9, 1.5],
  ['1B Q4_0: decode 1', random('q4_0', '1b'), 'decode1', 1.25, 1.0],
  ['1B Q4_K_M: prefill 512', quantised('q4_k_m', '1b'), 'prefill512', 1.5, 1.5],
  ['1B Q4_K_M: decode 1', quantised('q4_k_m', '1b'), 'decode1', 1.05, 1.0],
].filter(([name]) => name.includes(args.only) && (!args.quick || name.startsWith('SmolLM2')));

const median = (a) => {
  const s = [...a].sort((x, y) => x - y);
  return s.length % 2 ? s[(s.length - 1) / 2] : (s[s.length / 2 - 1] + s[s.length / 2]) / 2;
};

function startSides(file, workName) {
  const ours = JSON.stringify({ isa: args.isa, maxPrefillTokenNum: Number(args.prefill) });
  const sides = [
    () => new Side(process.execPath, [path.join(here, 'ours.mjs'), file, workName, args.threads, ours]),
    () => new Side(process.execPath, [path.join(here, 'peer.mjs'), file, workName, args.threads]),
  ];
  const work = JSON.stringify(works[workName]);
  if (args.native)
    sides.push(() => new Side(args.native, [path.join(here, 'native-peer.py'), file, work, args.threads]));
  return sides;
}

/** values[side][run], limits[run], and what our side tells. Turns go ours, peer, native, ours, … */
async function takeTurns(starters, work) {
  const values = starters.map(() => []);
  const limits = [];
  let info = null;
  let rss = 0;
  const fresh = work.kind === 'load';
  let sides = [];
  try {
    // one after the other: two that prepare at once would disturb nobody, but take as long
    for (const start of fresh ? [] : starters) {
      sides.push(start());
      const about = await sides.at(-1).ready();
      info ??= about.info;
    }
    for (let run = 0; run < runs; run++) {
      limits.push(meter.measure());
      for (const [i, start] of starters.entries()) {
        const side = fresh ? start() : sides[i];
        if (fresh) {
          sides = [side];
          const about = await side.ready();
          info ??= about.info;
        }
        values[i].push(await side.measure());
        if (fresh) await side.end();
        if (fresh && i === 0) rss = Math.max(rss, side.rss);
      }
    }
    for (const side of fresh ? [] : sides) await side.end();
    if (!fresh) rss = sides[0].rss;
  } finally {
    for (const side of sides) side.kill();
  }
  return { values, limits, info, rss };
}

async function measureRow([name, model, workName, target, nativeAim]) {
  const work = works[workName];
  const file = await model();
  if (!file) return { work: name, missing: 'not measured: the file is made with --native PYTHON' };
  const { values, limits: all, info, rss } = await takeTurns(startSides(file, workName), work);
  const [ours, peer, native] = values;
  const ratios = ours.map((v, i) => v / peer[i]);
  const limits = { bandwidth: median(all.map((l) => l.bandwidth)), int8: median(all.map((l) => l.int8)) };
  return {
    work: name,
    ours: median(ours),
    peer: median(peer),
    unit: work.unit,
    ratio: median(ratios),
    ratioSpread: [Math.min(...ratios), Math.max(...ratios)],
    target: args.isa === 'auto' ? target : null,
    limitName: work.kind === 'prefill' ? 'int8' : 'bandwidth',
    limits,
    share: shareOfLimit(limits, info, work, median(ours)),
    ...(native && { native: median(native), nativeRatio: median(ours.map((v, i) => v / native[i])), nativeAim }),
    values: { ours, peer, native },
    rssBytes: rss,
  };
}

const meter = openLimitMeter(Number(args.threads), args.isa);
const say = args.json ? () => {} : (text) => console.log(text);
const first = meter.measure();
say(`${meter.machine}: ${first.bandwidth.toFixed(1)} GB/s, ${first.int8.toFixed(0)} int8 GOPS; ${runs} runs`);
say(
  `ours: defaults, but for room that fits the work${args.prefill === '0' ? '' : ` and ${args.prefill} tokens a step`}`,
);
say(head);
const result = {
  machine: meter.machine,
  runs,
  maxPrefillTokenNum: Number(args.prefill),
  date: new Date().toISOString().slice(0, 10),
  rows: [],
};
const stem = `peers${args.isa === 'auto' ? '' : `-${args.isa}`}-${meter.machine.split(',')[0].replace(/[^\w]+/g, '-')}`;
const saved = path.join(here, '..', 'results', `${stem}-${args.threads}-threads.json`);
for (const definition of rows) {
  const row = await measureRow(definition);
  result.rows.push(row);
  say(line(row));
  if (args.save) fs.writeFileSync(saved, `${JSON.stringify(result, null, 1)}\n`);
}
meter.close();
if (args.json) console.log(JSON.stringify(result));
if (args.markdown) say(`\n${markdown(result.rows)}`);
if (args.save) say(`saved ${path.relative(process.cwd(), saved)}`);
judge(
  result.rows.flatMap((r) => targetOf(r) ?? []),
  args['no-fail'],
);
