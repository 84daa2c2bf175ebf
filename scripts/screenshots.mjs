// Makes the pictures of docs/dashboard.md and README with a real model: npm run build && node scripts/screenshots.mjs [OUT]
// Needs /usr/bin/chromium; about a minute on an idle machine, whose speed the pictures show.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { createEngine } from '../dist/src/index.js';
import { createServer } from '../dist/src/server/index.js';

const out = path.resolve(process.argv[2] ?? fileURLToPath(new URL('../docs/img', import.meta.url)));
mkdirSync(out, { recursive: true });

const WIDE = { width: 1440, height: 940 };
const PHONE = { width: 390, height: 844 };
const PATIENCE_MS = 300_000;

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--headless', '--no-sandbox', '--disable-gpu'],
});
const scratch = mkdtempSync(path.join(tmpdir(), 'longmind-pictures-'));

/** A server, and its page. */
async function withPage(options, servedModelName, work) {
  const engine = await createEngine({ ...options, onProgress: () => {} });
  const server = await createServer(engine, { serverPort: 0, logLevel: 'silent', servedModelName });
  const context = await browser.newContext({ viewport: WIDE, colorScheme: 'light' });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const shot = (name, of = page) => of.screenshot({ path: path.join(out, `dashboard-${name}.png`) });
  await work({ page, url: server.url, shot });
  await context.close();
  await server.close({ drainMs: 0 });
  await engine.close();
}

async function chatAndEngine({ page, url, shot }) {
  const answered = () => page.locator('.turn').last().locator('.answer:not([data-state="running"])').waitFor();
  const say = async (text) => {
    await page.getByLabel('Message', { exact: true }).fill(text);
    await page.keyboard.press('Enter');
    await answered();
  };
  await page.goto(url);
  // greedy, so that the same words come again
  await page.getByLabel('Settings', { exact: true }).click();
  await page.getByLabel('Temperature').fill('0');
  await page.getByLabel('Longest answer').fill('96');
  await page.getByRole('button', { name: 'Use for new ones' }).click();
  await page.getByLabel('Settings', { exact: true }).click();
  await say('What is the capital of France, and what is it known for?');
  await page.getByRole('button', { name: 'New conversation' }).click();
  await say('Explain in three sentences what a cache is.');
  await say('Give me a Python function that computes the mean of a list.');
  await page.waitForTimeout(1000);
  await shot('chat');

  await page.getByRole('button', { name: 'Pressure' }).click();
  await page.locator('.pressure[data-phase="return"], .pressure[data-phase="done"]').first().waitFor();
  await page.waitForTimeout(400);
  await shot('pressure');
  await page.locator('.pressure[data-phase="done"]').waitFor();
  await page.getByLabel('Dark colours').click();
  await page.getByRole('button', { name: 'Regenerate' }).last().click();
  await answered();
  await page.waitForTimeout(1000);
  await page.locator('.map canvas').hover({ position: { x: 210, y: 55 } });
  await shot('dark');
  await page.locator('section.memory').scrollIntoViewIfNeeded();
  await page.waitForTimeout(500);
  await shot('charts', page.locator('section.engine'));

  await page.setViewportSize(PHONE);
  await page.getByRole('button', { name: 'Engine', exact: true }).click();
  await page.locator('.map canvas').scrollIntoViewIfNeeded();
  await page.evaluate('document.querySelector("section.engine").scrollTo(0, 0)');
  await page.waitForTimeout(1000);
  await shot('phone');
}

/** Sessions of other clients than the page, in a small cache with a disk below. */
async function sessionsAndRequests({ page, url, shot }) {
  const post = async (place, body) => {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(url + place, { method: 'POST', headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${place}: ${response.status} ${await response.text()}`);
  };
  const say = (session, ...turns) =>
    turns.reduce(async (before, content) => {
      await before;
      const messages = [{ role: 'user', content }];
      await post('/v1/chat/completions', { session_id: session, session_append: true, temperature: 0, messages });
    }, Promise.resolve());
  await say('anna', 'My name is Anna and I live in Vilnius. I have 2 cats.', 'My locker code is 48213.');
  await post('/v1/sessions/anna/fork', { id: 'anna-2' });
  await say('anna-2', 'Actually, my locker code is 99001.');
  await post('/v1/sessions/anna-2/fork', { id: 'anna-2-idea', length: 40 });
  await say('anna-2-idea', 'Where do I live?');
  await say('agent/refactor', 'My name is Ben and I live in Lisbon.', 'What is my name?');
  await say('support-4711', 'My name is Clara and I live in Oslo.', 'My locker code is 30117.', 'Where do I live?');
  await say('anna', 'What is my locker code?');
  await post('/v1/completions', { prompt: 'My name is', n: 3, max_tokens: 8, seed: 1 });
  await say('support-4711', 'What is my locker code?');

  const open = async (view, item, picture) => {
    await page.getByRole('button', { name: view, exact: true }).click();
    await page.locator('.item .line', { hasText: item }).first().click();
    await page.waitForTimeout(1000);
    await shot(picture);
  };
  await page.goto(url);
  await open('Sessions', 'anna-2', 'sessions');
  await page.getByLabel('Dark colours').click();
  await open('Requests', 'no session', 'requests');
}

await withPage({ model: 'smollm2', cacheMaxEntryCount: 64 }, ['smollm2'], chatAndEngine);
const small = { model: 'memo', cacheMaxEntryCount: 14, cacheBlockSeqLen: 16, cacheDisk: `${scratch}:8MiB` };
await withPage(small, ['memo'], sessionsAndRequests);
await browser.close();
rmSync(scratch, { recursive: true, force: true });
