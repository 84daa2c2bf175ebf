import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { command, config, OPERATIONS, run } from './commands.js';
import { World } from './world.js';

const RUNS = 1200;
const COMMANDS = 300;
/** What README and docs promise of every run. The real number is printed. */
const MORE_THAN = 100_000;

test(`${MORE_THAN.toLocaleString('en')} random commands over every operation and policy keep every invariant and every token`, (t) => {
  let count = 0;
  const tally = new Map<string, number>();
  const add = (name: string, n: number) => tally.set(name, (tally.get(name) ?? 0) + n);
  const property = fc.property(
    config,
    fc.array(command, { minLength: COMMANDS / 3, maxLength: COMMANDS, size: 'max' }),
    ({ shape, ...c }, commands) => {
      const world = new World({ ...c, blockLen: shape[0]!, sessionLen: shape[1]! });
      for (const each of commands) {
        run(world, each);
        world.check();
        count++;
        add(`${c.policy} ${each.op}`, 1);
      }
      const s = world.manager.stats();
      const { hits, partialHits, misses, forks, copies, blocksEvicted, growRefusals, sequencesDropped } = s;
      const { refusedReserves, followers, restores, refusedRestores } = world;
      const seen = { hits, partialHits, misses, forks, copies, blocksEvicted, growRefusals, sequencesDropped };
      for (const [name, n] of Object.entries({ ...seen, refusedReserves, followers })) add(`${c.policy} ${name}`, n);
      if (s.tiers === null) return;
      const { saves, demotions, hostLoads, diskLoads, hostEvicted, diskEvicted, saveFailures, loadFailures } = s.tiers;
      const below = { saves, demotions, hostLoads, diskLoads, hostEvicted, diskEvicted, saveFailures, loadFailures };
      const { savesCancelled } = s.tiers;
      const { tokensRestored } = s;
      const all = { ...below, savesCancelled, tokensRestored, restores, refusedRestores };
      for (const [name, n] of Object.entries(all)) add(`${c.policy} ${name}`, n);
    },
  );
  fc.assert(property, { numRuns: RUNS, seed: 20260303, includeErrorInReport: true });
  t.diagnostic(`${count.toLocaleString('en')} random commands`);
  assert.ok(count > MORE_THAN, `${count} commands`);
  // nothing that is to be tested is left out
  for (const op of OPERATIONS) assert.ok(tally.get(`lru ${op}`)! >= 3000, `${op}: too few`);
  for (const [name, n] of tally) assert.ok(n >= 100, `${name}: only ${n}`);
});
