/** DESIGN §5 on a real model: a hit and a miss give the same bits. The long form is bench/hit-miss.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstDifference, runVariant, variants } from '../../src/bench/hit-miss.js';
import { openModelFile } from '../support/model-file.js';

const load = { sessions: 8, turns: 3, said: [30, 90] as [number, number], answered: 12, seed: 1 };

test('the same ids and log-probabilities, whatever the room, the company, the chunks, the blocks and the threads', async (t) => {
  const model = await openModelFile();
  if (!model) return t.skip('no real model can be had here: neither the bundled one nor the default one');
  const [first, ...others] = variants(load);
  const base = runVariant(model, first!, load);
  assert.equal(base.answers.length, load.sessions * load.turns);
  assert.ok(
    new Set(base.answers.map((a) => a.tokens.join())).size > load.turns,
    'the answers depend on the conversation',
  );
  let preemptions = 0;
  for (const variant of others) {
    const run = runVariant(model, variant, load);
    assert.equal(firstDifference(base, run), -1, variant.name);
    if (/for one|an eighth/.test(variant.name)) {
      assert.ok(run.blocksEvicted > 0, `${variant.name}: nothing was evicted`);
      assert.ok(run.tokensRecomputed > 0, `${variant.name}: nothing was recomputed`);
    }
    preemptions += run.preemptions;
  }
  assert.ok(preemptions > 0, 'nothing was preempted');
});
