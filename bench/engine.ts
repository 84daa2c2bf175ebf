/** npm run bench:engine [-- --depth 2 --json --no-fail]: time in JavaScript per step (scheduler, cache manager, step, events) over the null device. */
import './plain-errors.js';
import { parseArgs } from 'node:util';
import { createCacheManager } from '../src/cache/index.js';
import { greedySampling } from '../src/config.js';
import { createNullDevice } from '../src/device/null/index.js';
import { PersistentBatch } from '../src/engine/batch.js';
import { judge } from './targets.js';

const { values: args } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    'no-fail': { type: 'boolean', default: false },
    depth: { type: 'string', default: '1' },
  },
});
/** Microseconds of JavaScript a step, median, by sequences. */
const TARGETS = new Map([
  [16, 60],
  [256, 250],
]);

function measure(sequences: number): { median: number; p99: number } {
  const sessionLen = 4096;
  const blockLen = 64;
  const blocks = sequences * 40;
  const limits = {
    maxTokens: 2048,
    maxRows: sequences,
    maxBlocksPerRow: sessionLen / blockLen,
    maxLogits: sequences,
    vocab: 49152,
  };
  const device = createNullDevice({ thorough: false, depth: Number(args.depth) });
  const kv = { layers: 1, kvHeads: 1, headDim: 16, blockLen, bits: 16 as const };
  const dims = {
    layers: 1,
    dim: 16,
    heads: 1,
    kvHeads: 1,
    headDim: 16,
    ffDim: 16,
    vocab: 49152,
    contextLength: sessionLen,
  };
  device.load({ dims, buffers: [], ops: [] }, { path: '', tensors: new Map() }, { limits, kv, maxBlocks: blocks });
  const cache = createCacheManager({
    blocks,
    blockLen,
    sessionLen,
    chunkSize: -1,
    policy: 'lru',
    prefixCaching: true,
    maxSequences: 1e5,
    maxTokens: 1e8,
    grow: (total) => device.growKv(total),
  });
  const table = { bytes: new Uint8Array(0), offsets: new Int32Array(49153), special: new Uint8Array(49152) };
  const batch = new PersistentBatch(
    device,
    cache,
    {
      limits,
      maxQueue: 1000,
      sessions: { max: 1000, shareAcrossOwners: true },
      budget: {
        tokens: () => 2048,
        observe: () => {},
        prefillMs: () => 0,
        rowMs: () => 0.1,
        fixedMs: () => 10,
        drawMs: (rows) => 10 + 0.1 * rows,
      },
      admission: { vocab: 49152, tokenBytes: table, endOfTurn: new Set() },
    },
    {
      token: () => {},
      finished: () => {},
      failed: (_, e) => {
        throw e;
      },
    },
  );
  for (let id = 1; id <= sequences; id++) {
    batch.submit({
      id,
      tokens: Int32Array.from({ length: 512 }, (_, i) => (i * 7919 + id * 131) % 49152),
      sampling: greedySampling,
      limits: { maxTokens: 1500, minTokens: 0, stop: [], stopTokens: [], ignoreEos: true },
      stopTokens: [2],
      sessionId: `s${id}`,
      continuation: null,
      priority: 0,
      owner: 0,
      grammar: null,
      forkOf: null,
    });
  }
  while (batch.waiting > 0) batch.step();
  for (let i = 0; i < 300; i++) batch.step();
  const times: number[] = [];
  for (let i = 0; i < 1000; i++) {
    batch.step();
    times.push(1e3 * batch.lastStepJsMs);
  }
  times.sort((a, b) => a - b);
  return { median: times[500]!, p99: times[990]! };
}

const rows = [1, 16, 64, 256].map((sequences) => ({ sequences, ...measure(sequences) }));
if (args.json) console.log(JSON.stringify({ depth: Number(args.depth), rows }));
else {
  console.log(
    `sequences  JavaScript per step, median    P99   (microseconds; ${[...TARGETS].map(([n, us]) => `${us} at ${n}`).join(', ')})`,
  );
  for (const r of rows)
    console.log(
      `${String(r.sequences).padStart(9)}  ${r.median.toFixed(1).padStart(27)}  ${r.p99.toFixed(1).padStart(6)}`,
    );
}
judge(
  rows
    .filter((r) => TARGETS.has(r.sequences))
    .map((r) => ({
      name: `JavaScript a step at ${r.sequences}`,
      value: r.median,
      target: TARGETS.get(r.sequences)!,
      better: 'less',
      unit: 'µs',
    })),
  args['no-fail'],
);
