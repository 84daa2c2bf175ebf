/**
 * node dist/test/cache/fuzz.js [--minutes 10] [--seed N]: the long form of random.test.ts. Random commands over every operation,
 * policy and place below the device, with new seeds for so many minutes; every invariant is checked after each of them. What breaks
 * one is shrunk and printed with its seed, and the exit status is 1.
 */
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import { command, config, run } from './commands.js';
import { World } from './world.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
  },
});
/** Runs of one seed. */
const RUNS = 100;
const end = performance.now() + 60_000 * Number(values.minutes);
let count = 0;
let runs = 0;
const commands = fc.array(command, { minLength: 100, maxLength: 300, size: 'max' });
const property = fc.property(config, commands, ({ shape, ...c }, all) => {
  const world = new World({ ...c, blockLen: shape[0]!, sessionLen: shape[1]! });
  for (const each of all) {
    run(world, each);
    world.check();
    count++;
  }
});
let seed = Number(values.seed);
for (; performance.now() < end; seed++) {
  const result = fc.check(property, { numRuns: RUNS, seed, includeErrorInReport: true });
  runs += result.numRuns;
  if (!result.failed) continue;
  console.error(fc.defaultReportMessage(result));
  process.exitCode = 1;
  break;
}
console.log(
  `${count.toLocaleString('en')} random commands in ${runs.toLocaleString('en')} runs, seeds ${values.seed} to ${seed - 1}`,
);
