/** The live view in a real browser, over the real batch and cache manager (null device). */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Page } from 'playwright-core';
import type { Engine } from '../../src/types.js';
import { answered, cachedOf, openPage, say, textOf, type Watched, skip as withoutBrowser } from './browser.js';
import { nullEngine, withoutModel } from './null-engine.js';

const BLOCKS = 96;
const skip = withoutBrowser || withoutModel;

async function open(t: TestContext, expected?: RegExp): Promise<Watched & { engine: Engine }> {
  const engine = await nullEngine(BLOCKS);
  const watched = await openPage(t, engine, { expected });
  await watched.page.locator('.dot.live').waitFor();
  return { ...watched, engine };
}

async function pressure(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Pressure' }).click();
  await page.locator('.pressure[data-phase="done"]').waitFor({ timeout: 60_000 });
}

/** Temperature 0 and short answers. */
async function greedy(page: Page): Promise<void> {
  await page.getByLabel('Settings', { exact: true }).click();
  await page.getByLabel('Temperature').fill('0');
  await page.getByLabel('Longest answer').fill('40');
}

test('pressure fills the cache: eviction, recompute, and the same answer as before', { skip }, async (t) => {
  const { page, engine } = await open(t);
  await pressure(page);
  const result = page.locator('.pressure [data-same]');
  assert.equal(await result.getAttribute('data-same'), 'true');
  const [cached, prompt] = [
    Number(await result.getAttribute('data-cached')),
    Number(await result.getAttribute('data-prompt')),
  ];
  assert.ok(prompt > 200 && cached < prompt / 4, `${cached} of ${prompt} tokens were left`);
  for (const kind of ['evict', 'recompute']) await page.locator(`.feed [data-kind="${kind}"]`).first().waitFor();
  const { cache } = (await engine.snapshot()).stats;
  assert.ok(cache.blocksEvicted > 0 && cache.tokensRecomputed > 0);
  const shown = page.locator('.tiles li', { hasText: 'evicted' }).locator('b');
  // the page shows the engine's own count, a quarter second later at most
  await shown.and(page.getByText(cache.blocksEvicted.toLocaleString('en'), { exact: true })).waitFor();
  await engine.check();
});

test('every cell of the map is the manager’s', { skip }, async (t) => {
  const { page, engine } = await open(t);
  await pressure(page);
  await page.waitForTimeout(600);
  const snapshot = await engine.snapshot();
  const canvas = page.locator('.map canvas');
  assert.match((await canvas.getAttribute('aria-label'))!, new RegExp(`${BLOCKS} blocks of 16 tokens`));
  await canvas.focus();
  await page.keyboard.press('ArrowRight');
  const line = page.locator('.block-line');
  let named = 0;
  for (let block = 0; block < BLOCKS; block++) {
    const words = await textOf(line);
    assert.ok(words.startsWith(`Block ${block}`), words);
    if (snapshot.state[block] === 1) assert.match(words, /free/);
    else assert.match(words, new RegExp(`${snapshot.fill[block]} of 16 tokens`));
    const order = snapshot.evictionOrder.indexOf(block);
    if (order >= 0) assert.match(words, new RegExp(`number ${order + 1} to be evicted`));
    const holder = snapshot.sequences.find((s) => s.sequence === snapshot.sequence[block]);
    if (holder?.sessionId) {
      named++;
      assert.ok(words.includes(holder.sessionId), words);
    }
    await page.keyboard.press('ArrowRight');
  }
  assert.ok(named > BLOCKS / 2, `${named} blocks have a session that is named`);
});

test('a conversation that was evicted goes on: few tokens cached, the right answer', { skip }, async (t) => {
  const { page } = await open(t);
  await greedy(page);
  await say(page, 'a question that is long enough to fill more than a few blocks of the cache. '.repeat(5));
  const first = await answered(page);
  await pressure(page);
  await page.getByText(/^evicted 0\//).waitFor();
  await page.getByRole('button', { name: 'Regenerate' }).click();
  await page.getByText('2/2').waitFor();
  assert.equal(await answered(page), first, 'greedy: the context was computed again as it was');
  const [cached, prompt] = await cachedOf(page);
  assert.ok(prompt > 60 && cached < 16, `${cached} of ${prompt}`);
  await page
    .getByText(/^(cached|active) \d+\//)
    .first()
    .waitFor();
});

test('the map moves while something runs, and says nothing new while nothing does', { skip }, async (t) => {
  const { page } = await open(t);
  const label = () => page.locator('.map canvas').getAttribute('aria-label');
  const before = await label();
  await page.waitForTimeout(700);
  assert.equal(await label(), before);
  await say(page, 'take some blocks');
  await answered(page);
  // a picture may still show the blocks as active: the one after it shows them cached
  await page.locator('.map canvas[aria-label*=" cached"]:not([aria-label*=" 0 cached"])').waitFor();
  assert.notEqual(await label(), before);
});

test('pressure can be stopped, and cleared', { skip }, async (t) => {
  // a session whose request was cut off is busy for a moment (409: the page tries again), or was never made (404)
  const { page, engine } = await open(t, /status of (404|409)/);
  await page.getByRole('button', { name: 'Pressure' }).click();
  const stop = page.locator('.pressure').getByRole('button', { name: 'Stop' });
  await stop.click({ timeout: 3_000 }).catch(() => {});
  await page.locator('.pressure[data-phase="stopped"], .pressure[data-phase="done"]').waitFor();
  await page.getByRole('button', { name: 'Clear' }).click();
  await page.locator('.pressure[data-phase="idle"]').waitFor();
  for (let left = 1, tries = 0; left > 0; tries++) {
    await page.waitForTimeout(100);
    left = (await engine.sessions.list()).length;
    assert.ok(tries < 50, `${left} sessions are still there`);
  }
});

test('the view comes back when the server does', { skip }, async (t) => {
  const { page, server, engine } = await open(t, /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE/);
  const { createServer } = await import('../../src/server/index.js');
  await server.close({ drainMs: 0 });
  await page.locator('.dot.lost').waitFor();
  const again = await createServer(engine, { serverPort: server.port, logLevel: 'silent' });
  t.after(() => again.close({ drainMs: 0 }));
  await page.locator('.dot.live').waitFor({ timeout: 20_000 });
});
