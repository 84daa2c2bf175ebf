// npm run bench:tiers [-- --json --shape 1b --tokens 4000 --conversations 4 --dir DIR --models DIR --no-fail]: what the disk tier
// gives. Long conversations that were evicted go on: their KV is computed again, or comes back from the disk; the same after a
// restart. Before each turn the system's page cache is dropped where that is allowed (root), so that the disk is really read.
// About 5 minutes for the 1 B shape on 2 cores, and some more the first time, for writing the model.
import '../dist/bench/plain-errors.js';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { judge } from '../dist/bench/targets.js';
import { createEngine } from '../dist/src/index.js';
import { writeRandomModel } from './random-model.mjs';

const { values: args } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    'no-fail': { type: 'boolean', default: false },
    shape: { type: 'string', default: '1b' },
    tokens: { type: 'string', default: '4000' },
    conversations: { type: 'string', default: '4' },
    threads: { type: 'string', default: '2' },
    dir: { type: 'string', default: os.tmpdir() },
    models: { type: 'string', default: path.join(os.tmpdir(), 'longmind-bench-models') },
  },
});
const TOKENS = Number(args.tokens);
const COUNT = Number(args.conversations);
const NEW = 32;
/** Recompute ÷ restore, time to first token. */
const TARGET = 15;
const AIM = 40;

const ids = (count, seed) => Array.from({ length: count }, (_, i) => 300 + ((i * 7919 + seed * 1543) % 40000));
const median = (a) => [...a].sort((x, y) => x - y)[a.length >> 1];

function dropPageCache() {
  try {
    fs.writeFileSync('/proc/sys/vm/drop_caches', '1');
    return true;
  } catch {
    return false;
  }
}

const model = path.join(args.models, `${args.shape}-q8_0.gguf`);
if (!fs.existsSync(model)) writeRandomModel(model, 'q8_0', args.shape);
const folder = fs.mkdtempSync(path.join(args.dir, 'longmind-tiers-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));

/** Blocks for one conversation and a little: the next one evicts it. */
const blocks = Math.ceil((TOKENS + 4 * (NEW + 8)) / 64) + 4;
const open = (store, disk) =>
  createEngine({
    model,
    threads: Number(args.threads),
    sessionLen: 8192,
    maxBatchSize: 4,
    cacheMaxEntryCount: blocks,
    sessionStore: path.join(folder, store),
    ...(disk ? { cacheDisk: `${path.join(folder, 'kv')}:8GiB` } : {}),
  });

const turn = async (engine, c, prompt) => {
  const r = await engine
    .complete({ prompt, sessionId: `c${c}`, sessionAppend: true, maxTokens: 8, temperature: 0, ignoreEos: true })
    .result();
  return { ids: r.tokenIds, ttft: r.timings.ttft };
};

/** Waits until what is to be saved is saved. */
async function settle(engine) {
  for (;;) {
    const { tiers } = (await engine.stats()).cache;
    if (!tiers || tiers.waiting + tiers.outstanding === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function begin(engine) {
  for (let c = 0; c < COUNT; c++) await turn(engine, c, ids(TOKENS, 10 * c));
  await settle(engine);
}

/** One more turn of each conversation, all of them evicted since. */
async function next(engine, round, cold) {
  const out = [];
  for (let c = 0; c < COUNT; c++) {
    if (cold) dropPageCache();
    out.push(await turn(engine, c, ids(NEW, 1000 + 10 * c + round)));
    await settle(engine);
  }
  return out;
}

const cold = dropPageCache();
let engine = await open('sessions', true);
await begin(engine);
const restored = await next(engine, 0, cold);
const { cache } = await engine.stats();
await engine.close();
// the same turn of the same conversations is computed again by another process without a disk
fs.cpSync(path.join(folder, 'sessions'), path.join(folder, 'sessions-plain'), { recursive: true });
engine = await open('sessions', true);
const afterRestart = await next(engine, 1, cold);
const { memory } = engine.info;
await engine.close();
engine = await open('sessions-plain', false);
const recomputed = await next(engine, 1, false);
await engine.close();

const ms = (a) => a.map((t) => t.ttft);
const base = median(ms(recomputed));
const row = (name, a, same) => {
  const ttftMs = median(ms(a));
  return { name, ttftMs, spread: [Math.min(...ms(a)), Math.max(...ms(a))], ratio: base / ttftMs, same };
};
const sameIds = afterRestart.every((t, i) => t.ids.every((id, k) => id === recomputed[i].ids[k]));
const rows = [
  row('computed again', recomputed, null),
  row('from the disk', restored, null),
  row('from the disk, after a restart', afterRestart, sameIds),
];
const result = {
  shape: `${args.shape} Q8_0`,
  tokens: TOKENS,
  pageCacheDropped: cold,
  kvBytes: TOKENS * memory.bytesPerToken,
  target: TARGET,
  aim: AIM,
  tiers: cache.tiers,
  rows,
};
if (args.json) console.log(JSON.stringify(result));
else {
  const mib = (result.kvBytes / 2 ** 20).toFixed(0);
  console.log(
    `${result.shape}: the next turn of a conversation of ${TOKENS} tokens (${mib} MiB of KV) that was evicted`,
  );
  console.log(
    `page cache ${cold ? 'dropped before each turn' : 'not dropped (not root): the disk may not have been read'}`,
  );
  console.log('                                  first token, ms   (spread)        ratio   target   same answer');
  for (const r of rows) {
    const spread = `(${r.spread.map((v) => v.toFixed(0)).join('–')})`;
    console.log(
      `${r.name.padEnd(34)} ${r.ttftMs.toFixed(0).padStart(14)}   ${spread.padEnd(14)} ${r.ratio.toFixed(1).padStart(6)}   ${r === rows[0] ? '     –' : `>= ${TARGET}`.padStart(6)}   ${r.same === null ? '–' : r.same ? 'yes' : 'NO'}`,
    );
  }
}
judge(
  rows.slice(1).map(({ name, ratio, same }) => ({
    name,
    value: ratio,
    target: TARGET,
    better: 'more',
    wrong: same === false ? 'another answer' : null,
  })),
  args['no-fail'],
);
