import assert from 'node:assert/strict';
import { it } from 'node:test';
import { fuzzModels } from './fuzz.js';

// many more: node dist/bench/model-fuzz.js
it('mutated files of models are read or refused with a typed error, soon, and without much memory', () => {
  const { failures, targets } = fuzzModels(1020, 1);
  assert.deepEqual(failures, []);
  for (const [name, { read, refused }] of Object.entries(targets))
    assert.ok(read > 0 && refused > 0, `${name}: ${read} read, ${refused} refused`);
});
