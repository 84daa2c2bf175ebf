import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { command, config, run } from './commands.js';
import { World } from './world.js';

const RUNS = 8000;
const COMMANDS = 80;

test('100,000 random commands over every operation and policy keep every invariant and every token', () => {
  let count = 0;
  const property = fc.property(
    config,
    fc.array(command, { maxLength: COMMANDS, size: 'max' }),
    ({ shape, ...c }, commands) => {
      const world = new World({ ...c, blockLen: shape[0]!, sessionLen: shape[1]! });
      for (const each of commands) {
        run(world, each);
        world.check();
        count++;
      }
    },
  );
  fc.assert(property, { numRuns: RUNS, seed: 20260303, includeErrorInReport: true });
  assert.ok(count >= 100_000, `${count} commands`);
});
