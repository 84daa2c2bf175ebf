/**
 * `node dist/bench/sessions-virtual.js [--seeds N] [--turns N] [--clients N] [--policy lru] [--json]`: what sessions give
 * by the cost of a step instead of the clock (src/bench/sessions/virtual.ts); seconds on any machine, the same result on all.
 */
import './plain-errors.js';
import { parseArgs } from 'node:util';
import { SMOLLM2_STEP, type VirtualOptions, virtualComparison } from '../src/bench/sessions/virtual.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '6' },
    turns: { type: 'string', default: '5' },
    clients: { type: 'string', default: '4' },
    policy: { type: 'string', default: 'lru' },
    json: { type: 'boolean', default: false },
  },
});
const base: VirtualOptions = {
  sessions: 32,
  turns: Number(values.turns),
  arrivals: 'zipf',
  clients: Number(values.clients),
  rate: 0,
  said: [60, 120],
  answered: 64,
  seed: 1,
  sessionLen: 2048,
  share: 0.25,
  policy: values.policy as VirtualOptions['policy'],
  cost: SMOLLM2_STEP,
  budget: 384,
};
const loads = [
  ...Array.from({ length: Number(values.seeds) }, (_, s) => ({ ...base, seed: s + 1 })),
  { ...base, arrivals: 'uniform' as const },
  { ...base, arrivals: 'round-robin' as const },
];
const results = loads.map((o) => ({ arrivals: o.arrivals, seed: o.seed, ...virtualComparison(o) }));
if (values.json) console.log(JSON.stringify(results));
else {
  const round = (x: number) => Number(x.toFixed(3));
  console.table(
    results.map(({ arrivals, seed, seconds, prefillShare, rows, sameAnswers }) => {
      const [, all, prefix, few] = rows;
      return {
        load: `${arrivals}, seed ${seed}`,
        'stateless s': round(seconds),
        f: round(prefillShare),
        h: round(few!.hitRate),
        'a quarter': round(few!.speedup),
        'of ceiling': round(few!.shareOfCeiling),
        'prefix cache alone': round(prefix!.speedup),
        'room for all': round(all!.speedup),
        'of its ceiling': round(all!.shareOfCeiling),
        sameAnswers,
      };
    }),
  );
}
const others = results.filter((r) => !r.sameAnswers);
for (const r of others) console.error(`missed: ${r.arrivals}, seed ${r.seed}: other answers`);
if (others.length > 0) process.exitCode = 1;
