/** Tiny models of every family, from folders and from GGUF files, compute what transformers computes. */
import { describe, it } from 'node:test';
import {
  agrees,
  KV_ROUNDED,
  logitsOf,
  logitsThroughEviction,
  mostlyAgrees,
  referenceLogits,
  spreadOf,
} from './agreement.js';
import { hasGguf, writeGgufOf } from './gguf.js';
import { type Fixture, fixtureNames, readFixture, writeFolder } from './tiny.js';

/**
 * Rounding also decides between two experts that score nearly alike, which no gap of the logits tells. Measured: the median
 * position is as near as in models without experts, the farthest is four times as far, also in the f64 forward pass.
 */
const hasExperts = (f: Fixture): boolean => f.config.num_experts_per_tok !== undefined;

for (const name of fixtureNames()) {
  const f = readFixture(name);
  describe(name, () => {
    const folder = writeFolder(f);
    it('agrees with transformers in the reference forward pass', () => agrees(f, referenceLogits(f, folder), 1e-4));
    it('agrees with transformers, read from safetensors, also with the KV thrown away half-way', () =>
      agrees(f, logitsThroughEviction(f, folder), KV_ROUNDED));
    it('chooses the same tokens with weights of 8 bits', () => {
      mostlyAgrees(f, logitsOf(f, folder, 'q8'), 0.25 * spreadOf(f.logits[0]!), hasExperts(f) ? 0.95 : 0.99);
    });
    if (hasGguf(f))
      it('agrees with transformers, read from GGUF, also with the KV thrown away half-way', () =>
        agrees(f, logitsThroughEviction(f, writeGgufOf(f)), KV_ROUNDED));
  });
}
