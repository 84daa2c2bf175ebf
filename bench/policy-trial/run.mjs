/**
 * `node bench/policy-trial/run.mjs FOLDER [TRACE,…]`: prefix hits in % of accesses under each rule, after `npm run build`.
 * FOLDER holds mooncake_conversation_trace.jsonl, mooncake_synthetic_trace.jsonl, azure2023_conv.csv and
 * claude_code_sessions.jsonl.xz. Constants of the rules were chosen by eye on all but `robin`, `scans` and `code-*`.
 */
import { belady } from '../../dist/src/bench/belady.js';
import { createCacheManager } from '../../dist/src/cache/index.js';
import { make3 } from './density.mjs';
import { gdsf, lru2, queues } from './queues.mjs';
import { make } from './rate-age.mjs';
import { makers } from './traces.mjs';

const density = { max: true, freshAt: [4, 16, 64], slots: 1024 };
const rules = {
  lru: 'lru',
  adaptive: 'adaptive',
  'frequency² ÷ age': make({ cls: 'freq', alpha: 'fixed', power: 2, C: 16 }),
  'GDSF, cost by position': gdsf,
  'LRU-2': lru2,
  'S3-FIFO': queues(false),
  ARC: queues(true),
  'rate ÷ age': make(),
  'rate ÷ age, strong prior': make({ prior: 4 }),
  density: make3(density),
  'density, guarded': make3({ ...density, guard: 1e-4 }),
};

function replay(trace, policy, capacity) {
  const longest = trace.requests.reduce((n, r) => Math.max(n, r.keep + r.ids.length), 0) + 1;
  const cache = createCacheManager({
    blocks: capacity,
    blockLen: 1,
    sessionLen: longest,
    chunkSize: -1,
    policy,
    prefixCaching: true,
    maxSequences: trace.chains + 1,
    maxTokens: 2 ** 31,
    grow: () => true,
  });
  const chains = new Float64Array(trace.chains).fill(-1);
  let hits = 0;
  for (const r of trace.requests) {
    const seq = r.chain === -1 || chains[r.chain] === -1 ? cache.create() : chains[r.chain];
    cache.truncate(seq, r.keep);
    cache.append(seq, r.ids);
    const blocks = cache.known(seq);
    cache.appendOne(seq, 0x7fffffff);
    const h = cache.match(seq);
    const served = Math.min(blocks, capacity);
    if (served > h) {
      if (!cache.reserve(seq, served)) throw new Error('no');
      cache.commit(seq, served);
    }
    hits += h;
    cache.release(seq, r.chain === -1 ? 'drop' : 'keep');
    if (r.chain !== -1) chains[r.chain] = seq;
  }
  return hits / trace.accesses;
}

for (const name of (process.argv[3] ?? Object.keys(makers).join()).split(',')) {
  const trace = makers[name]();
  for (const share of [0.3, 1, 3, 10, 30]) {
    const capacity = Math.max(8, Math.round((trace.blocks * share) / 100));
    const row = { trace: name, share, capacity, min: belady(trace, capacity).hits / trace.accesses };
    for (const [rule, policy] of Object.entries(rules)) row[rule] = replay(trace, policy, capacity);
    console.log(JSON.stringify(row));
  }
}
