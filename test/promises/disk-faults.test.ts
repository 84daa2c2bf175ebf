/**
 * On a real model, the whole engine over a disk that fails: the same ids and log-probabilities as without a disk, never an
 * error, no end of waiting, and the counters tell. The long form is bench:hit-miss --faults.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  faultVariants,
  firstDifference,
  type HitMissRun,
  runTwice,
  runVariant,
  variants,
} from '../../src/bench/hit-miss.js';
import { openModelFile } from '../support/model-file.js';

const load = { sessions: 4, turns: 3, said: [30, 90] as [number, number], answered: 8, seed: 5 };

/** What the counters of the first engine must say; the second one finds what it left. */
const told: Record<string, (t: NonNullable<HitMissRun['tiers']>, run: HitMissRun) => boolean> = {
  'torn writes': (t) => t.loadFailures > 0 && t.saveFailures === 0,
  'all writes torn, alone': (t, run) => t.loadFailures > 0 && run.tokensRestored === 0,
  'flipped bits': (t) => t.loadFailures > 0 && t.saveFailures === 0,
  'ENOSPC now and then': (t) => t.saveFailures > 0,
  'ENOSPC always': (t, run) => t.saveFailures > 0 && t.saves === 0 && run.tokensRestored === 0,
  'EIO always, alone': (t, run) => t.saveFailures > 0 && run.tokensRestored === 0,
  'away, and back': (t) => t.saves > 0 && t.saveFailures > 0,
};

test('a disk that fails in any way costs time alone', async (t) => {
  const model = await openModelFile();
  if (!model) return t.skip('no real model can be had here: neither the bundled one nor the default one');
  const base = await runVariant(model, variants(load)[0]!, load);
  const names = new Set<string>();
  for (const variant of faultVariants(load)) {
    const runs = await runTwice(model, variant, load);
    for (const [i, run] of runs.entries()) {
      assert.equal(firstDifference(base, run), -1, `${variant.name}, engine ${i + 1}`);
      const { saveFailures } = run.tiers!;
      const complained = run.problems.some((p) => /cannot be written/.test(p));
      assert.equal(complained, saveFailures > 0, `${variant.name}: ${saveFailures} failures, told: ${run.problems}`);
    }
    names.add(variant.name);
    const [first] = runs;
    assert.ok(told[variant.name]?.(first!.tiers!, first!) ?? true, `${variant.name}: ${JSON.stringify(first!.tiers)}`);
  }
  assert.deepEqual(
    Object.keys(told).filter((n) => !names.has(n)),
    [],
    'variants that are not there',
  );
});
