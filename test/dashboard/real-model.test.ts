/** The page over the real engine and a real model on the CPU. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createEngine } from '../../src/index.js';
import { answered, openPage, say, skip, textOf } from './browser.js';
import { modelPath, withoutModel } from './null-engine.js';

test('a real model under pressure: evicted, computed again, the same words', {
  skip: skip || withoutModel,
}, async (t) => {
  const engine = await createEngine({ model: modelPath!, cacheMaxEntryCount: 48, cacheBlockSeqLen: 16 });
  const { page } = await openPage(t, engine);
  await page.getByLabel('Settings', { exact: true }).click();
  await page.getByLabel('Longest answer').fill('24');
  await say(page, 'hello');
  await answered(page);
  assert.notEqual(await page.locator('.answer').getAttribute('data-state'), 'failed');
  await page.getByRole('button', { name: 'Pressure' }).click();
  await page.locator('.pressure[data-phase="done"]').waitFor({ timeout: 150_000 });
  const result = page.locator('.pressure [data-same]');
  assert.equal(await result.getAttribute('data-same'), 'true', await textOf(result));
  const { cache } = (await engine.snapshot()).stats;
  assert.ok(cache.blocksEvicted > 0 && cache.tokensRecomputed > 0);
  await engine.check();
});
