/** The page over the real engine and a real model on the CPU: the small one that comes with the package. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createEngine } from '../../src/index.js';
import { answered, openPage, say, skip, textOf } from './browser.js';

const folder = fileURLToPath(new URL('../../../models/memo/', import.meta.url));
const model = existsSync(folder) ? readdirSync(folder).find((f) => f.endsWith('.gguf')) : undefined;
const without = model ? skip : 'models/memo has no .gguf: the page is NOT tested over a real model';
if (without) console.warn(without);

test('a real model under pressure: evicted, computed again, the same words', { skip: without }, async (t) => {
  const engine = await createEngine({
    model: path.join(folder, model!),
    cacheMaxEntryCount: 48,
    cacheBlockSeqLen: 16,
  });
  const { page } = await openPage(t, engine);
  await page.getByLabel('Settings').click();
  await page.getByRole('spinbutton').fill('24');
  await say(page, 'hello');
  await answered(page);
  assert.ok((await page.locator('.answer').getAttribute('data-state')) !== 'failed');
  await page.getByRole('button', { name: 'Pressure' }).click();
  await page.locator('.pressure[data-phase="done"]').waitFor({ timeout: 150_000 });
  const result = page.locator('.pressure [data-same]');
  assert.equal(await result.getAttribute('data-same'), 'true', await textOf(result));
  const { cache } = (await engine.snapshot()).stats;
  assert.ok(cache.blocksEvicted > 0 && cache.tokensRecomputed > 0);
  await engine.check();
});
