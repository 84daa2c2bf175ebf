import assert from 'node:assert/strict';
import { it } from 'node:test';
import { fuzzModels } from './fuzz.js';

// many more: node dist/bench/model-fuzz.js
it('mutated files of models are read or refused with a typed error, soon, and without much memory', () => {
  const { failures, read, refused } = fuzzModels(1500, 1);
  assert.deepEqual(failures, []);
  for (const target of ['safetensors', 'index', 'config.json', 'tokenizer.json', 'gguf'])
    assert.ok(read[target]! > 0 && refused[target]! > 0, `${target}: ${read[target]} read, ${refused[target]} refused`);
});
