import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { NumberSet } from '../../src/cache/memory.js';

test('property: a set of numbers gives its smallest, whatever was added and taken, at every size', () => {
  const bound = fc.constantFrom(1, 31, 32, 33, 1024, 1025, 40_000);
  // a number above 0 (modulo the bound) is added, or taken out if it is there; 0 takes the smallest out
  const commands = fc.array(fc.oneof(fc.constant(0), fc.nat(1 << 20)), { maxLength: 200 });
  fc.assert(
    fc.property(bound, commands, (n, list) => {
      const set = new NumberSet(n);
      const reference = new Set<number>();
      for (const c of list) {
        if (c > 0 && !reference.has(c % n)) {
          set.add(c % n);
          reference.add(c % n);
        } else if (c > 0) {
          set.delete(c % n);
          reference.delete(c % n);
          assert.equal(set.has(c % n), false);
        } else if (reference.size > 0) {
          const smallest = Math.min(...reference);
          assert.equal(set.takeSmallest(), smallest);
          reference.delete(smallest);
          assert.equal(set.has(smallest), false);
        }
        assert.equal(set.size, reference.size);
      }
      for (const x of reference) assert.ok(set.has(x));
      for (const smallest of [...reference].sort((a, b) => a - b)) assert.equal(set.takeSmallest(), smallest);
    }),
    { numRuns: 300, seed: 7 },
  );
});
